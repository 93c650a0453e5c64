"""A whole training run, from a data set to a model folder; interrupted runs go on from here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from bert_cls.data import write_quarantine
from bert_cls.data.problems import count
from bert_cls.errors import BertClsError, ConfigError, Interrupted, TrainingError, in_shell
from bert_cls.files import at_home
from bert_cls.locks import Lock
from bert_cls.memory import enough_memory
from bert_cls.request import RUN, Request, anchored, is_same, read_run, remember
from bert_cls.run_rows import check_held_out
from bert_cls.signals import Explained, Signals, stoppable
from bert_cls.training.checkpoint import (
    check_space,
    checkpoint_bytes,
    checkpoints,
    rotate,
    save_checkpoint,
    writing,
)
from bert_cls.training.claim import (
    QUARANTINE,
    check_folder,
    check_in_place,
    claim,
    clear,
    ours,
    size,
)
from bert_cls.training.finish import Trained, finish
from bert_cls.training.inherit import inherit
from bert_cls.training.loop import Keeper, Observer, Silent, Trainer
from bert_cls.training.model_files import static_files
from bert_cls.training.prepare import Prepared, read_audited
from bert_cls.training.ranks import agree, local_device, open_ranks, restarted
from bert_cls.training.restore import put, read_checkpoint, restore_newest
from bert_cls.training.setup import Setup, make_trainer, set_up
from bert_cls.training.student import open_teacher
from bert_cls.training.teaching import with_unlabelled


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
    goes on, or the first step where there is none yet. Interrupted after SIGINT or SIGTERM, with a
    checkpoint saved once steps were made. Started by torchrun, all ranks train one model, and
    after a restart they go on with the run that is there.
    """
    stage = Stage(request.output, resume, anew=not (request.output / RUN).is_file())
    output = request.output
    with stoppable(stage.explain) as signals, open_ranks() as ranks, Lock(output) as lock:
        if ranks.rank:
            observer = Silent()
        asked = request
        request = inherit(request if resume else anchored(request))
        goes_on = resume or (restarted() and is_same(request))
        stage.resume = resume = bool(ranks.gather(goes_on)[0][0])  # as the first rank sees it
        if ranks.rank == 0:
            check_folder(output)
            if not resume:
                _check_sources(asked)
            claim(lock, resume=resume, overwrite=overwrite, notice=observer.noticed)
        agree(ranks, "the beginning of the run")
        prepared = _prepared(request, prepared, observer)
        if resume:
            _same(request.output, "data_files", prepared.dataset.files)
        setup = set_up(request, prepared, observer)
        if resume:
            _same(request.output, "inputs", setup.inputs)
        trainer = make_trainer(setup, observer, request, device=local_device(), ranks=ranks)
        if ranks.rank == 0:
            with writing(output, need=checkpoint_bytes(trainer)):
                output.mkdir(parents=True, exist_ok=True)
            claim(lock, resume=resume, overwrite=overwrite, notice=observer.noticed)
        _begin(request, setup, trainer, observer, resume=resume)
        stage.began = True
        _run(trainer, lock, setup.recipe.training.keep_checkpoints, signals)
        stage.trained = True
        reasons = {key: f"recipe: {why}" for key, why in setup.recipe.reasons.items()}
        origins = {**request.origins, **reasons}
        with enough_memory("after the last step", hint="free memory, and go on with --resume."):
            return finish(request, setup, trainer, origins, observer, lock)


def _prepared(request: Request, prepared: Prepared | None, observer: Observer) -> Prepared:
    """The audited data set, with the texts a student learns from besides."""
    config, student = request.config, request.distillation
    # a teacher that changed costs no reading of the data
    teacher = open_teacher(student) if student else None
    if prepared is None:
        observer.phase("reading data")
        prepared = read_audited(
            request.data,
            config,
            observer,
            labels=request.labels,
            teacher=student.teacher if student else None,
        )
    if student is None or teacher is None:
        return prepared
    check_held_out(request.data, prepared.dataset, teacher, observer.noticed)
    further = with_unlabelled(prepared.dataset, student, config, observer)
    return replace(prepared, dataset=further)


@dataclass(slots=True)
class Stage:
    """How far a run is: what a signal interrupts, and what is to be said then."""

    output: Path
    resume: bool = False
    anew: bool = True
    """no run was remembered there before: one that is remembered now is this one"""
    began: bool = False
    trained: bool = False

    def explain(self) -> Explained:
        """A message, and how to go on."""
        go_on = f"go on with: bert-cls train --resume {in_shell(self.output)}"
        if self.trained:
            return "stopped after the last step; its checkpoint is saved, not yet the model.", go_on
        if self.resume or self.began or (self.anew and (self.output / RUN).is_file()):
            return "stopped before another step; what was saved before is as it was.", go_on
        return (
            "stopped before the first step: nothing was trained, nothing is lost.",
            "start again with the same command.",
        )


def _check_sources(request: Request) -> None:
    """ConfigError when overwriting the output folder could remove what the run starts from."""
    sources: dict[str, Path | None] = {
        "--encoder": at_home(Path(request.config.encoder.name)),
        "--init-from": request.init_from,
    }
    if request.distillation is not None:
        sources["the teacher"] = request.distillation.teacher
    output = request.output.resolve()
    for said, source in sources.items():
        if source is None or not source.exists():
            continue
        place = source.resolve()
        if output in (place, *place.parents):
            where = "the same folder as" if place == output else "inside"
            raise ConfigError(f"{said} {source} is {where} -o {output}.", hint="give another -o.")
    _check_read(request, output)


def _check_read(request: Request, output: Path) -> None:
    """ConfigError when a file that the run reads is one that overwriting removes."""
    student, labels, renames = request.distillation, request.labels, request.renames
    read = {
        "DATA": request.data,
        "--labels": labels if isinstance(labels, Path) else None,
        "--merge-labels": request.config.data.merge_labels,
        "--rename-labels": renames if isinstance(renames, Path) else None,
        "--unlabelled": student.unlabelled if student else None,
    }
    removed = {(output / name).resolve() for name in ours(output)}
    for said, path in read.items():
        if path is not None and removed & {path.resolve(), *path.resolve().parents}:
            raise ConfigError(
                f"{said} {path} was written by the run in -o {request.output}, and would be "
                "removed with it.",
                hint="copy it elsewhere, or give another -o.",
            )


def _begin(
    request: Request, setup: Setup, trainer: Trainer, observer: Observer, *, resume: bool
) -> None:
    """Put the trainer where it starts or goes on, and the output folder into order."""
    output, ranks = request.output, trainer.ranks
    if ranks.rank == 0:
        if resume:
            found = restore_newest(trainer, output, notice=observer.noticed)
            where = found.name if found else "the first step: there is no checkpoint yet"
            observer.noticed(f"going on from {where}")
        keep = setup.recipe.training.keep_checkpoints
        files = static_files(setup)  # what fails here must not have cost an earlier model
        with writing(output, need=checkpoint_bytes(trainer)):
            if resume:
                check_space(trainer, output, keep=keep, there=len(checkpoints(output)))
            else:
                check_space(trainer, output, keep=keep, freed=size(output))
                clear(output)
            _prepare(request, setup, files, observer, resume=resume)
    step = int(ranks.gather(trainer.progress.step)[0][0])
    if ranks.rank and step:
        put(read_checkpoint(output / f"checkpoint-{step}", trainer), trainer)
    agree(ranks, "rows, steps or weights", len(trainer.tokens), trainer.steps, *_marks(trainer))


def _prepare(
    request: Request,
    setup: Setup,
    files: Mapping[str, bytes],
    observer: Observer,
    *,
    resume: bool,
) -> None:
    """What stands in the folder before the first step; again when it is not all there yet."""
    absent = [name for name in files if not (request.output / name).is_file()]
    if not resume or absent:
        remember(request, setup.dataset.files, setup.inputs, files)
    if request.config.data.on_bad_row == "quarantine":
        path = request.output / QUARANTINE
        if rows := write_quarantine(path, setup.dataset.problems):
            were = "was" if rows == 1 else "were"
            observer.noticed(f"{count(rows, 'bad row')} {were} left out: {path}")


def _marks(trainer: Trainer) -> tuple[float, float]:
    """Two sums over all weights that differ when a weight does; free for one process."""
    if trainer.ranks.world == 1:
        return 0.0, 0.0
    parts = [p.detach().double() for p in trainer.network.parameters()]
    return float(sum(p.sum() for p in parts)), float(sum(p.square().sum() for p in parts))


def _same(output: Path, what: str, files: Mapping[str, str]) -> None:
    """ConfigError unless the `files` by name are those that run.json remembers as `what`."""
    before = read_run(output).get(what, {})
    changed = sorted(name for name in before | files if before.get(name) != files.get(name))
    if changed:
        raise ConfigError(
            f"{changed} changed since the run was started, so it cannot go on exactly.",
            hint="restore the files, or train anew with --overwrite.",
        )


def _run(trainer: Trainer, lock: Lock, keep: int, signals: Signals) -> None:
    ranks = trainer.ranks

    def save() -> None:
        failure = _saved(trainer, lock, keep) if ranks.rank == 0 else None
        if any(failed for (failed,) in ranks.gather(failure is not None)):
            raise failure or TrainingError("the first rank could not save its checkpoint.")
        agree(ranks, f"the weights after step {trainer.progress.step}", *_marks(trainer))

    def should_stop() -> bool:
        return any(number for (number,) in ranks.gather(signals.received))

    # one rank alone must not leave an evaluation that the others take part in
    evaluating = signals.at_once if ranks.world == 1 else nullcontext
    with signals.noted():
        trainer.run(Keeper(save=save, should_stop=should_stop, evaluating=evaluating))
        if trainer.stopped:
            raise Interrupted(
                f"stopped after step {trainer.progress.step} of {trainer.steps}; checkpoint saved.",
                signal_number=int(max(number for (number,) in ranks.gather(signals.received))),
                hint=f"go on with: bert-cls train --resume {in_shell(lock.folder)}",
            )


def _saved(trainer: Trainer, lock: Lock, keep: int) -> BertClsError | None:
    """Save and rotate; what went wrong is handed back, so that all ranks hear of it."""
    try:
        with writing(lock.folder, need=0):
            check_in_place(lock)
        save_checkpoint(trainer, lock.folder)
        with writing(lock.folder, need=0):
            rotate(lock.folder, keep=keep, best_step=trainer.progress.best_step)
    except BertClsError as error:
        return error
    return None
