"""Checkpoints: everything a run needs to go on bit for bit, in a folder that is whole or absent.

    checkpoint-120/
        model.safetensors        the weights, under Hugging Face's names
        optimizer.safetensors    AdamW's moments and step counts, by parameter name
        progress.json            step, epoch, batch within the epoch, best score, history, which run
                             it is of (`request.identity`), and the circumstances: versions, device,
                             precision, threads, processes
        MANIFEST.json            sizes and sha256, written last

No generator state is needed: every draw is a function of (seed, epoch) or (seed, step).
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from bert_cls.errors import BundleError, TrainingError
from bert_cls.files import read_object
from bert_cls.folders import listed, nearest_folder, remove_folder, verify, write_folder
from bert_cls.memory import enough_memory, is_shortage
from bert_cls.network import tensors_by_name
from bert_cls.request import RUN
from bert_cls.training.loop import Trainer

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
PROGRESS = "progress.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def save_checkpoint(trainer: Trainer, parent: Path) -> Path:
    """Write `checkpoint-<step>` below `parent`; TrainingError when the disk does not take it."""
    target = parent / f"checkpoint-{trainer.progress.step}"

    def write(folder: Path) -> None:
        save_file(tensors_by_name(trainer.network), folder / "model.safetensors")
        save_file(moments_by_name(trainer), folder / "optimizer.safetensors")
        progress = asdict(trainer.progress) | {
            "run": trainer.identity,
            "micro_tokens": trainer.micro_tokens,
            "circumstances": circumstances(trainer),
        }
        (folder / PROGRESS).write_bytes(orjson.dumps(progress, option=orjson.OPT_INDENT_2))

    doing, hint = f"while {target} was written", "free memory, and go on with --resume."
    with enough_memory(doing, hint=hint), writing(target, need=checkpoint_bytes(trainer)):
        write_folder(target, write)
    return target


@contextmanager
def writing(target: Path, *, need: int) -> Iterator[None]:
    """What the disk refuses becomes a TrainingError: the path, the bytes needed and those free.

    Only where a run was begun is there something to go on with.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        if is_shortage(error):
            raise
        begun = any((folder / RUN).is_file() for folder in (target, target.parent))
        free = shutil.disk_usage(nearest_folder(target)).free
        room = f" {need / 1e6:.3g} MB are needed, {free / 1e6:.3g} MB are free." if need else ""
        untouched = " Older checkpoints are untouched." if begun else ""
        go_on = "then go on with --resume" if begun else "or give another folder"
        raise TrainingError(
            f"{target} could not be written: {error}.{room}{untouched}",
            hint=f"make it writable or free some space, {go_on}.",
        ) from error


def checkpoint_bytes(trainer: Trainer) -> int:
    """What one checkpoint takes: the weights and two moments of each."""
    return 3 * sum(t.numel() * t.element_size() for t in trainer.network.parameters())


def check_space(
    trainer: Trainer, parent: Path, *, keep: int, there: int = 0, freed: int = 0
) -> None:
    """TrainingError when `keep` checkpoints, the best, one more and the model cannot all fit.

    With `keep` 0 all that the run will write must fit. Of those `there` are as many already, and no
    more are needed than the run has still to write; `freed` bytes are about to be cleared.
    """
    more = _planned(trainer)
    more = min(more, max(1, keep + 2 - there)) if keep else more
    need = checkpoint_bytes(trainer) * more + checkpoint_bytes(trainer) // 3
    parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(parent).free + freed
    if need > free:
        raise TrainingError(
            f"{parent} has {free / 1e6:.3g} MB free. Checkpoints and model need {need / 1e6:.3g}.",
            hint="free some space, choose another folder, or lower training.keep_checkpoints.",
        )


def _planned(trainer: Trainer) -> int:
    """Checkpoints that a run has still to write: every `save_steps` steps, and after each epoch."""
    if not trainer.goes_on():
        return 0
    settings, progress = trainer.settings, trainer.progress
    epochs = math.ceil(trainer.steps / math.ceil(len(trainer.tokens) / settings.batch_size))
    every = settings.save_steps or trainer.steps + 1
    return epochs - progress.epoch + trainer.steps // every - progress.step // every


def checkpoints(parent: Path) -> list[Path]:
    """The checkpoint folders below `parent`, oldest step first."""
    return sorted(filter(is_checkpoint, parent.glob("checkpoint-*")), key=step_of)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is recognisably a checkpoint of ours, be it damaged.

    The name is not enough: a manifest has to list the other files, or `progress.json` to be what it
    is in ours. Others call their folders checkpoint-500, too.
    """
    if step_of(path) < 0 or path.is_symlink() or not path.is_dir():
        return False
    with suppress(BundleError):
        return PROGRESS in listed(path)
    with suppress(BundleError):
        return {"step", "micro_tokens"} <= set(read_object(path / PROGRESS, BundleError))
    return False


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    match = _NAME.fullmatch(folder.name)
    return int(match[1]) if match else -1


def rotate(parent: Path, *, keep: int, best_step: int | None) -> None:
    """Delete all but the newest `keep` checkpoints and the best one, oldest first; 0 keeps all.

    Newest by the step in the name, whatever the files' times. Nothing is deleted before the newest
    has been read back and found whole: BundleError when it is not.
    """
    every = checkpoints(parent)
    old = [folder for folder in every[:-keep] if step_of(folder) != best_step] if keep else []
    if old:
        verify(every[-1])
    for folder in old:
        remove_folder(folder)


def moments_by_name(trainer: Trainer) -> dict[str, Tensor]:
    """AdamW's state, named "<parameter>.<kind>"."""
    out: dict[str, Tensor] = {}
    for name, parameter in trainer.network.named_parameters():
        state: dict[str, Any] = trainer.optimiser.state.get(parameter, {})
        for kind in MOMENTS:
            if kind in state:
                out[f"{name}.{kind}"] = torch.as_tensor(state[kind]).detach().clone().contiguous()
    return out


def circumstances(trainer: Trainer) -> dict[str, Any]:
    """What else the bits of a step depend on; a resumed run says where it is another."""
    return {
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "device": trainer.device.type,
        "precision": trainer.precision,
        "threads": torch.get_num_threads(),
        "processes": trainer.ranks.world,
    }
