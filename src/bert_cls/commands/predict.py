"""`bert-cls predict`: labels and scores, a JSON line a row."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bert_cls.commands import options
from bert_cls.commands.console import STDIO, open_console, said_place, terminable
from bert_cls.errors import ConfigError, printable
from bert_cls.quiet import quiet_hub
from bert_cls.ranges import LEAST

if TYPE_CHECKING:
    from bert_cls.classifier import Classifier
    from bert_cls.data import Example, Problem, RowStream
    from bert_cls.outputs import Counts

_NOTES_SHOWN = 10


def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[
        str | None, typer.Argument(help="Rows to predict; - reads JSON Lines from standard input.")
    ] = None,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            help=".jsonl (a line a row), .json (one list), .csv or .parquet; - is standard output.",
        ),
    ] = STDIO,
    text: Annotated[
        list[str] | None, typer.Option(help="A text to predict; may be repeated.")
    ] = None,
    text_b: Annotated[
        list[str] | None,
        typer.Option(help="The second text of a pair; repeated as often as --text."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="One cut for all labels (multilabel, binary)."),
    ] = None,
    min_labels: Annotated[int | None, typer.Option(min=0, help="At least so many a row.")] = None,
    max_labels: Annotated[int | None, typer.Option(min=1, help="At most so many a row.")] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave rows undecided that the model is less sure of."),
    ] = None,
    out_of_domain: Annotated[
        bool, typer.Option("--out-of-domain", help="Add how strange each row is, 0 to 1.")
    ] = False,
    top: Annotated[
        int | None,
        typer.Option(min=LEAST["top"], help="Only the highest scores a row, and the labels'."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="auto: what is exported and runs here, int8 before float32, else torch; or a name."
        ),
    ] = "auto",
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
    plain_csv: Annotated[
        bool,
        typer.Option(
            "--plain-csv",
            help="CSV cells as they are, without the ' before what a spreadsheet calculates.",
        ),
    ] = False,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume", help="Go on with an interrupted job, or begin it again."
        ),
    ] = None,
) -> None:
    """Labels and scores, one JSON line per row, in input order.

    A .jsonl, .json or .csv output grows as OUT.part and gets its name when it is complete.
    Interrupted in any way, the same command with --resume goes on with it.
    """
    quiet_hub()
    from bert_cls.classifier import Classifier
    from bert_cls.cuts import most_read
    from bert_cls.data import stream
    from bert_cls.outputs import write_predictions
    from bert_cls.resumable import can_resume

    _check_input(file, text, text_b)
    options.check_encoding(encoding, file)
    resumable = can_resume(output) and file not in (None, STDIO)
    if resume and not resumable:
        raise ConfigError(
            "--resume needs rows from a file and an output file in .jsonl, .json or .csv.",
            hint="standard input cannot be read again, what a pipe was given not taken back, and "
            "Parquet is written in one piece.",
        )
    if plain_csv and Path(output).suffix.lower() != ".csv":
        raise ConfigError("--plain-csv needs an output in .csv.")
    _check_output(model, file, output, resumable=resumable)
    place = said_place(Path(output))
    classifier = Classifier.load(model, engine=engine)
    typer.echo(f"engine: {classifier.engine.name}", err=True)
    limits = {"--min-labels": min_labels, "--max-labels": max_labels}
    _check_flags(
        classifier.bundle.task, limits, {"--top": top, "--out-of-domain": out_of_domain or None}
    )
    classifier, changed = _ruled(classifier, threshold, min_labels, max_labels, min_confidence)
    notes: list[Problem] = []
    if resumable and file is not None:
        given = {"top": top, "encoding": encoding, **changed}
        given |= {"out_of_domain": out_of_domain or None, "plain_csv": plain_csv or None}
        job = _job(classifier, Path(file), {k: v for k, v in given.items() if v is not None})
        answered: dict[str, Any] = {"top": top, "out_of_domain": out_of_domain}
        counts = _write_resumable(
            classifier,
            Path(file),
            Path(output),
            job,
            answered,
            encoding=encoding,
            plain_csv=plain_csv,
            resume=resume,
            notes=notes,
        )
    else:
        rows: Any = (
            stream(file, encoding=encoding)
            if file is not None
            else options.typed_rows(text or [], text_b or [], pair=classifier.bundle.pair)
        )
        shown = file is not None and not (output == STDIO and sys.stdout.isatty())
        with _progress(rows) if shown else nullcontext(_unseen) as computed:
            answers = classifier.predict_stream(
                _noting(rows, notes), top=top, out_of_domain=out_of_domain, computed=computed
            )
            with closing(answers):
                counts = write_predictions(answers, output, plain_csv=plain_csv)
    _say_notes(notes)
    if output != STDIO or counts.errors or counts.truncated:
        cut = f"{counts.truncated} longer than {most_read(classifier.bundle.text)} and cut"
        open_console().print(
            f"{counts.rows} rows"
            + (f", {counts.errors} of them errors" if counts.errors else "")
            + (f", {cut}" if counts.truncated else "")
            + (f" -> {place}" if output != STDIO else ""),
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
    if counts.errors:
        raise typer.Exit(1)


def _noting(rows: Iterable[Example | Problem], notes: list[Problem]) -> Iterator[Example | Problem]:
    """The rows; what was repaired or ignored on the way is kept to be said at the end."""
    from bert_cls.data import Problem

    for row in rows:
        if isinstance(row, Problem) and row.severity == "note":
            notes.append(row)
        yield row


def _say_notes(notes: Sequence[Problem]) -> None:
    for note in notes[:_NOTES_SHOWN]:
        typer.echo(printable(f"note   {note}"), err=True)
    if len(notes) > _NOTES_SHOWN:
        typer.echo(f"note   and {len(notes) - _NOTES_SHOWN:,} more like these", err=True)


def _check_input(file: str | None, text: list[str] | None, text_b: list[str] | None) -> None:
    """ConfigError unless there is a file or texts, not both."""
    if (file is None) == (not text):
        said = "takes a FILE or --text, not both" if text else "needs a FILE or --text"
        raise ConfigError(f"predict {said}.", hint="bert-cls predict --help")
    if text_b and not text:
        raise ConfigError("--text-b belongs to --text; rows of a file have their own text_b.")


def _check_flags(task: str, limits: dict[str, Any], of_labels: dict[str, Any]) -> None:
    """ConfigError for a flag that could do nothing with this model."""
    for flag, value in of_labels.items():
        if value is not None and task == "regression":
            raise ConfigError(
                f"{flag} is about labels and their scores. This model gives one number a row.",
                hint=f"leave {flag} out.",
            )
    for flag, value in limits.items():
        if value is not None and task != "multilabel":
            raise ConfigError(
                f"{flag} is for models of label sets (multilabel). This one is {task}.",
                hint=f"leave {flag} out.",
            )


def _ruled(
    classifier: Classifier,
    threshold: float | None,
    min_labels: int | None,
    max_labels: int | None,
    min_confidence: float | None,
) -> tuple[Classifier, dict[str, Any]]:
    """The model with what was asked of its rule, and which of that its own rule did not say."""
    limits = {"min_labels": min_labels, "max_labels": max_labels, "min_confidence": min_confidence}
    asked: dict[str, Any] = {key: value for key, value in limits.items() if value is not None}
    if threshold is not None:
        asked["thresholds"] = (threshold,) * _cuts(classifier)
    own = classifier.bundle.rule
    changes = {key: value for key, value in asked.items() if value != getattr(own, key)}
    if changes:
        classifier = classifier.with_rule(**changes)
    if "thresholds" in changes:
        changes = {key: value for key, value in changes.items() if key != "thresholds"}
        changes["threshold"] = threshold
    return classifier, changes


def _check_output(model: Path, file: str | None, output: str, *, resumable: bool) -> None:
    """ConfigError when the output, or what a job keeps beside it, is read."""
    from bert_cls.overwriting import check_output
    from bert_cls.request import data_of
    from bert_cls.resumable import part_of, state_of

    if output == STDIO:
        return
    target = Path(output)
    read = [model] if file in (None, STDIO) else [model, Path(str(file))]
    for written in (target, part_of(target), state_of(target)) if resumable else (target,):
        check_output(written, *read, trained_on=[data_of(model)])


def _cuts(classifier: Classifier) -> int:
    """How many thresholds decide."""
    bundle = classifier.bundle
    if bundle.task not in ("multilabel", "binary"):
        raise ConfigError(
            f"--threshold is for multilabel and binary models. This one is {bundle.task}.",
            hint="--min-confidence leaves rows undecided that the model is less sure of.",
        )
    return len(bundle.space) if bundle.task == "multilabel" else 1


def _unseen(_rows: float) -> None:
    """For answers that a terminal shows by themselves."""


@contextmanager
def _progress(rows: RowStream, *, done: int = 0) -> Iterator[Callable[[float], None]]:
    from bert_cls.terminal import PredictionProgress

    with PredictionProgress(open_console(), rows, done=done) as progress:
        yield progress.computed


def _job(classifier: Classifier, file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for a job to be gone on with."""
    from bert_cls import __version__
    from bert_cls.classifier import WINDOW
    from bert_cls.data.source import check_is_file
    from bert_cls.folders import MANIFEST, sha256

    check_is_file(file)
    return {
        "input": {"bytes": file.stat().st_size, "sha256": sha256(file)},
        "model": {"sha256": sha256(classifier.bundle.folder / MANIFEST)},
        "engine": classifier.engine.name,
        "settings": settings,
        "window": WINDOW,
        "version": __version__,
    }


def _write_resumable(
    classifier: Classifier,
    file: Path,
    output: Path,
    job: dict[str, Any],
    options: dict[str, Any],
    *,
    encoding: str | None,
    plain_csv: bool,
    resume: bool | None,
    notes: list[Problem],
) -> Counts:
    from bert_cls.data import stream
    from bert_cls.errors import Interrupted
    from bert_cls.resumable import begin, part_of, write

    part, begun = part_of(output), None
    try:
        with terminable(), begin(output, job, resume=resume) as begun:
            if resume:
                said = (
                    f"going on after row {begun.rows:,}" if begun.rows else "nothing to go on with"
                )
                open_console().print(f"{said}: {part}", highlight=False, markup=False)
            rows = stream(file, encoding=encoding)
            with _progress(rows, done=begun.rows) as computed:
                answers = classifier.predict_stream(
                    _noting(rows, notes), skip=begun.rows, computed=computed, **options
                )
                with closing(answers):
                    written = write(answers, begun, plain_csv=plain_csv)
    except KeyboardInterrupt as stop:
        if part.exists():
            said, hint = f"the rows so far are in {part}", "with --resume goes on"
        elif begun is not None and begun.rows:
            said, hint = f"{output} was complete already", "begins again"
        else:
            said, hint = "no row was written", "begins again"
        raise Interrupted(
            f"stopped; {said}.",
            signal_number=stop.args[0] if stop.args else signal.SIGINT,
            hint=f"the same command {hint}.",
        ) from None
    return written.counts
