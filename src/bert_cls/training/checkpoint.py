"""Checkpoints: everything a run needs to go on bit for bit, in a folder that is whole or absent.

    checkpoint-120/
        model.safetensors        the weights, under Hugging Face's names
        optimizer.safetensors    AdamW's moments and step counts, by parameter name
        progress.json            step, epoch, batch within the epoch, best score, history
        MANIFEST.json            sizes and sha256, written last

No generator state is needed: every draw is a function of (seed, epoch) or (seed, step).
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bert_cls.errors import BundleError, TrainingError
from bert_cls.folders import clean_orphans, verify, write_folder
from bert_cls.network import load_tensors, tensors_by_name
from bert_cls.training.loop import EpochResult, Progress, Trainer

_NAME = re.compile(r"checkpoint-(\d+)")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(trainer: Trainer, parent: Path) -> Path:
    """Write `checkpoint-<step>` below `parent`; TrainingError when the disk does not take it."""
    target = parent / f"checkpoint-{trainer.progress.step}"

    def write(folder: Path) -> None:
        save_file(tensors_by_name(trainer.network), folder / "model.safetensors")
        save_file(_moments(trainer), folder / "optimizer.safetensors")
        progress = asdict(trainer.progress) | {"micro_tokens": trainer.micro_tokens}
        (folder / "progress.json").write_bytes(orjson.dumps(progress, option=orjson.OPT_INDENT_2))

    try:
        write_folder(target, write)
    except OSError as error:
        need, free = checkpoint_bytes(trainer), shutil.disk_usage(parent).free
        raise TrainingError(
            f"checkpoint {target} could not be written: {error}. It needs about "
            f"{need / 1e6:.0f} MB; {free / 1e6:.0f} MB are free. Older checkpoints are untouched.",
            hint="free some space, then go on with --resume.",
        ) from error
    return target


def checkpoint_bytes(trainer: Trainer) -> int:
    """What one checkpoint takes: the weights and two moments of each."""
    return 3 * sum(t.numel() * t.element_size() for t in trainer.network.parameters())


def check_space(trainer: Trainer, parent: Path, *, keep: int) -> None:
    """TrainingError when `keep` checkpoints, the best, one more and the model cannot all fit.

    With `keep` 0 all that the run will write must fit.
    """
    kept = keep + 2 if keep else _planned(trainer)
    need = checkpoint_bytes(trainer) * kept + checkpoint_bytes(trainer) // 3
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free
    if need > free:
        raise TrainingError(
            f"{parent} has {free / 1e6:.0f} MB free. Checkpoints and model need {need / 1e6:.0f}.",
            hint="choose another folder, or lower training.keep_checkpoints.",
        )


def _planned(trainer: Trainer) -> int:
    """Checkpoints a whole run writes: every `save_steps` steps, and after each epoch."""
    settings = trainer.settings
    epochs = math.ceil(trainer.steps / math.ceil(len(trainer.tokens) / settings.batch_size))
    return epochs + (trainer.steps // settings.save_steps if settings.save_steps else 0)


def checkpoints(parent: Path) -> list[Path]:
    """The checkpoint folders below `parent`, oldest step first."""
    found = [p for p in parent.glob("checkpoint-*") if _NAME.fullmatch(p.name) and p.is_dir()]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def rotate(parent: Path, *, keep: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, oldest first; 0 keeps all."""
    if keep == 0:
        return
    for folder in checkpoints(parent)[:-keep]:
        if step_of(folder) != best_step:
            shutil.rmtree(folder)


def restore_newest(
    trainer: Trainer, parent: Path, *, notice: Callable[[str], None] = lambda _: None
) -> Path:
    """Put the trainer where the newest whole checkpoint left it.

    A damaged checkpoint is named through `notice` and the one before it used. The best epoch's
    weights come back from its own checkpoint. BundleError when none is whole.
    """
    for name in clean_orphans(parent):
        notice(f"removed {name}, left by an interrupted write")
    for folder in reversed(checkpoints(parent)):
        try:
            verify(folder)
            _restore(trainer, folder)
            _restore_best(trainer, parent)
        except BundleError as error:
            notice(f"{folder.name} is damaged and was not used: {error.message}")
        else:
            return folder
    raise BundleError(f"{parent} has no whole checkpoint to go on from.")


def _restore(trainer: Trainer, folder: Path) -> None:
    content = orjson.loads((folder / "progress.json").read_bytes())
    trainer.micro_tokens = content.pop("micro_tokens")
    history = [EpochResult(**result) for result in content.pop("history")]
    trainer.progress = Progress(**content, history=history)
    load_tensors(trainer.network, load_file(folder / "model.safetensors"))
    moments = load_file(folder / "optimizer.safetensors")
    for name, parameter in trainer.network.named_parameters():
        state = {
            kind: moments[f"{name}.{kind}"] for kind in _MOMENTS if f"{name}.{kind}" in moments
        }
        if state:
            trainer.optimiser.state[parameter] = {
                kind: tensor.to(parameter.device) for kind, tensor in state.items()
            }


def _restore_best(trainer: Trainer, parent: Path) -> None:
    best = trainer.progress.best_step
    if best is None:
        return
    folder = parent / f"checkpoint-{best}"
    verify(folder)
    current = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    load_tensors(trainer.network, load_file(folder / "model.safetensors"))
    trainer.best_weights = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer.network.load_state_dict(current)


def _moments(trainer: Trainer) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, parameter in trainer.network.named_parameters():
        state: dict[str, Any] = trainer.optimiser.state.get(parameter, {})
        for kind in _MOMENTS:
            if kind in state:
                out[f"{name}.{kind}"] = torch.as_tensor(state[kind]).detach().clone().contiguous()
    return out
