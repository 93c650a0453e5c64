"""A whole training run, from a data set to a model folder; interrupted runs go on from here."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

from bert_cls.data import write_quarantine
from bert_cls.errors import BundleError, ConfigError, Interrupted
from bert_cls.files import inside, read_object
from bert_cls.folders import MANIFEST, clean_orphans, read_manifest
from bert_cls.request import RUN, Request, remember
from bert_cls.training.checkpoint import (
    check_space,
    checkpoints,
    restore_newest,
    rotate,
    save_checkpoint,
)
from bert_cls.training.finish import REPORT, Trained, finish, static_files
from bert_cls.training.inherit import inherit
from bert_cls.training.loop import Keeper, Observer, Progress, Trainer
from bert_cls.training.prepare import Prepared, read_audited
from bert_cls.training.setup import make_trainer, set_up
from bert_cls.training.teaching import with_unlabelled

QUARANTINE = "quarantine.jsonl"


def train(
    request: Request,
    observer: Observer,
    *,
    resume: bool = False,
    overwrite: bool = False,
    prepared: Prepared | None = None,
) -> Trained:
    """Audit, train, tune, evaluate and write the model folder `request.output`.

    An error in the data is a DataError before the encoder is fetched or anything is written.
    `prepared` are the request's data where they were read and audited before.
    A non-empty output folder is a ConfigError unless it is to be resumed or overwritten, and
    overwriting removes only what a run of ours wrote. With `resume` the newest whole checkpoint
    goes on. Interrupted after SIGINT or SIGTERM, with a checkpoint saved.
    """
    request = inherit(request)
    config = request.config
    _claim(request.output, resume=resume, overwrite=overwrite)
    if prepared is None:
        observer.phase("reading data")
        prepared = read_audited(request.data, config, observer, labels=request.labels)
    if request.distillation is not None:
        further = with_unlabelled(prepared.dataset, request.distillation, config, observer)
        prepared = replace(prepared, dataset=further)
    if resume:
        _same_data(request.output, prepared.dataset.files)
    setup = set_up(request, prepared, observer)
    origins = {**request.origins, **{k: f"recipe: {v}" for k, v in setup.recipe.reasons.items()}}
    trainer = make_trainer(setup, config, observer)
    if resume:
        found = restore_newest(trainer, request.output, notice=observer.noticed)
        observer.noticed(f"going on from {found.name}")
    else:
        _clear(request.output)
        check_space(trainer, request.output, keep=setup.recipe.training.keep_checkpoints)
        remember(request, setup.dataset.files, static_files(setup))
    if config.data.on_bad_row == "quarantine":
        request.output.mkdir(parents=True, exist_ok=True)
        if count := write_quarantine(request.output / QUARANTINE, setup.dataset.problems):
            observer.noticed(f"{count} bad rows were left out: {request.output / QUARANTINE}")
    _run(trainer, request.output, setup.recipe.training.keep_checkpoints)
    return finish(request, setup, trainer, origins, observer)


def _claim(output: Path, *, resume: bool, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"output folder {output} is a file.", hint="give another folder.")
    clean_orphans(output)
    if resume or not output.exists() or not any(output.iterdir()):
        return
    if not overwrite:
        raise ConfigError(
            f"output folder {output} is not empty.",
            hint="give another folder, --overwrite, or --resume to go on with a run in it.",
        )


def _clear(output: Path) -> None:
    """Remove an earlier run of ours; only when the new one is sure to begin."""
    for name in _ours(output):
        path = output / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _ours(output: Path) -> list[str]:
    """What a run of ours wrote into a folder; everything else in it is left alone.

    The folder may be a stranger's: no name, and no link in it, leads out of the folder.
    """
    names = [folder.name for folder in checkpoints(output)]
    if (output / MANIFEST).is_file():
        names += [entry["name"] for entry in read_manifest(output)] + [MANIFEST]
    if (output / RUN).is_file():
        names += [QUARANTINE, REPORT]
        files = read_object(output / RUN, BundleError).get("files", [])
        names += [RUN, *(files if isinstance(files, list) else [])]
    return [name for name in names if inside(output, name)]


def _same_data(output: Path, files: dict[str, str]) -> None:
    before = read_object(output / RUN, BundleError).get("data_files")
    if not isinstance(before, dict):
        raise BundleError(f"{output / RUN} does not say which data the run was started with.")
    changed = sorted(name for name in before | files if before.get(name) != files.get(name))
    if changed:
        raise ConfigError(
            f"{changed} changed since the run was started, so it cannot go on exactly.",
            hint="restore the files, or train anew with --overwrite.",
        )


def _run(trainer: Trainer, output: Path, keep: int) -> None:
    with _signals() as received:

        def save(progress: Progress, best: bool) -> None:
            save_checkpoint(trainer, output)
            rotate(output, keep=keep, best_step=progress.best_step)

        trainer.run(Keeper(save=save, should_stop=lambda: bool(received)))
    if trainer.stopped:
        raise Interrupted(
            f"stopped after step {trainer.progress.step} of {trainer.steps}; checkpoint saved.",
            signal_number=received[0],
            hint=f"go on with: bert-cls train --resume {output}",
        )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them; outside the main thread do nothing."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, note)
    except ValueError:  # not the main thread
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
