"""Going on from a checkpoint: everything is read and checked before anything of it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bert_cls.errors import BundleError, ConfigError
from bert_cls.files import read_object
from bert_cls.folders import listed, remove_folder, sha256, verify
from bert_cls.network import load_tensors, tensors_by_name
from bert_cls.training.checkpoint import MOMENTS, PROGRESS, checkpoints, circumstances
from bert_cls.training.loop import EpochResult, Progress, Trainer

_FILES = ("model.safetensors", "optimizer.safetensors", PROGRESS)


@dataclass(frozen=True, slots=True)
class Saved:
    """What a checkpoint holds; `best` are the weights of the best epoch so far."""

    progress: Progress
    micro_tokens: int
    circumstances: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]
    best: Mapping[str, Tensor] | None


def restore_newest(
    trainer: Trainer, parent: Path, *, notice: Callable[[str], None] = lambda _: None
) -> Path | None:
    """Put the trainer where the newest usable checkpoint left it; None when there is none at all.

    Usable: whole, and the best epoch's checkpoint that it names is whole too. One that is not is
    named through `notice`, the one before it used, and then removed, so that it is not taken for
    the newest again: the steps done anew make it again, bit for bit. BundleError, with nothing
    removed, when none of several is usable; ConfigError when one is another run's.
    """
    for folder in checkpoints(parent):
        _check_run(folder, trainer)
    damaged = []
    for folder in reversed(checkpoints(parent)):
        try:
            saved = read_checkpoint(folder, trainer)
        except BundleError as error:
            notice(f"{folder.name} is damaged and was not used: {error.message}")
            damaged.append(folder)
            continue
        for worthless in damaged:
            remove_folder(worthless)
            notice(f"removed {worthless.name}; its steps are done again")
        put(saved, trainer, notice=notice)
        return folder
    if damaged:
        raise BundleError(
            f"{parent} has no whole checkpoint to go on from.",
            hint="check the disk, then train anew with --overwrite: the model will be the same.",
        )
    return None


def _check_run(folder: Path, trainer: Trainer) -> None:
    """ConfigError when a checkpoint says that it is another run's; a damaged one says nothing."""
    path = folder / PROGRESS
    try:
        if listed(folder).get(PROGRESS) != sha256(path):
            return
        run = read_object(path, BundleError).get("run")
    except (BundleError, OSError):
        return
    if run != trainer.identity:
        raise ConfigError(
            f"{folder} is a checkpoint of another run: other data, settings, seed or encoder.",
            hint="move it away; it was neither used nor removed.",
        )


def read_checkpoint(folder: Path, trainer: Trainer) -> Saved:
    """A checkpoint of a run like the trainer's. BundleError names the file that is at fault."""
    weights = _weights(folder, trainer)
    progress, micro_tokens, made = _progress(folder)
    moments = _moments(folder, trainer)
    best = None
    if progress.best_step is not None:
        try:
            best = _weights(folder.parent / f"checkpoint-{progress.best_step}", trainer)
        except BundleError as error:
            raise BundleError(f"the best epoch's checkpoint is damaged: {error.message}") from error
    return Saved(progress, micro_tokens, made, weights, moments, best)


def put(saved: Saved, trainer: Trainer, *, notice: Callable[[str], None] = lambda _: None) -> None:
    """Give the trainer a checkpoint's state, and nothing but that."""
    trainer.micro_tokens = saved.micro_tokens
    trainer.progress = saved.progress
    trainer.best_weights = None
    if saved.best is not None:
        load_tensors(trainer.network, saved.best)
        trainer.best_weights = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    load_tensors(trainer.network, saved.weights)
    trainer.optimiser.state.clear()
    stepped = set(_stepped(saved.moments))
    for name, parameter in trainer.network.named_parameters():
        if name in stepped:
            trainer.optimiser.state[parameter] = {
                kind: saved.moments[f"{name}.{kind}"].to(parameter.device) for kind in MOMENTS
            }
    for what, now in circumstances(trainer).items():
        if (then := saved.circumstances.get(what)) != now:
            notice(f"{what} was {then} and is now {now}: going on, but not bit for bit")


def _stepped(moments: Mapping[str, Tensor]) -> list[str]:
    return [name.removesuffix(".step") for name in moments if name.endswith(".step")]


def _weights(folder: Path, trainer: Trainer) -> dict[str, Tensor]:
    verify(folder)
    if missing := sorted(set(_FILES) - set(listed(folder))):
        raise BundleError(f"{folder} does not list {missing[0]} in its manifest.")
    tensors = _tensors(folder / "model.safetensors")
    wanted = {n: tuple(t.shape) for n, t in tensors_by_name(trainer.network).items()}
    if {n: tuple(t.shape) for n, t in tensors.items()} != wanted:
        raise BundleError(f"{folder / 'model.safetensors'} is not of this network.")
    return tensors


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _moments(folder: Path, trainer: Trainer) -> dict[str, Tensor]:
    path = folder / "optimizer.safetensors"
    moments = _tensors(path)
    shapes = {name: tuple(p.shape) for name, p in trainer.network.named_parameters()}
    wanted = {
        f"{name}.{kind}": () if kind == "step" else shapes.get(name)
        for name in _stepped(moments)
        for kind in MOMENTS
    }
    if {name: tuple(tensor.shape) for name, tensor in moments.items()} != wanted:
        raise BundleError(f"{path} is not of this network.")
    return moments


def _progress(folder: Path) -> tuple[Progress, int, dict[str, Any]]:
    path = folder / PROGRESS
    try:
        content = orjson.loads(path.read_bytes())
        del content["run"]  # checked by `_check_run`
        history = [EpochResult(**result) for result in content.pop("history")]
        micro_tokens, made = int(content.pop("micro_tokens")), dict(content.pop("circumstances"))
        return Progress(**content, history=history), micro_tokens, made
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"{path} cannot be read: {error!r}") from error
