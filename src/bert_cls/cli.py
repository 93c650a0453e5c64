"""The command line: a table of commands; the only place that prints."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bert_cls.errors import BertClsError, ConfigError, DataError, Interrupted, exit_code

if TYPE_CHECKING:
    from rich.console import Console

    from bert_cls.training import Trained

app = typer.Typer(
    name="bert-cls",
    help="Turns a labelled JSON file into a BERT text classifier.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
encoders_app = typer.Typer(help="Base encoders: list, fetch, trim.", no_args_is_help=True)
app.add_typer(encoders_app, name="encoders")

Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting; may be repeated."),
]


@app.command()
def train(
    data: Annotated[
        Path | None,
        typer.Argument(help="A folder with train, dev, test files, or one file to be split."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The model folder.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Folder, hub id or built-in (see `encoders list`).")
    ] = None,
    preset: Annotated[str, typer.Option(help="fast, balanced or accurate.")] = "balanced",
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass, multilabel, regression.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="JSON list of label names.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the rows.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of a step.")] = None,
    loss: Annotated[str | None, typer.Option(help="A loss by name.")] = None,
    leak: Annotated[
        str | None, typer.Option(help="Texts of train in dev or test: error, drop, allow.")
    ] = None,
    on_bad_row: Annotated[
        str | None, typer.Option(help="fail, or quarantine: bad rows go to a file, and on.")
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The files' text encoding.")] = None,
    coerce_numbers: Annotated[
        bool | None, typer.Option("--coerce-numbers", help="Take numbers for the texts they are.")
    ] = None,
    fix_unicode: Annotated[
        bool | None, typer.Option("--fix-unicode", help="Replace broken characters by U+FFFD.")
    ] = None,
    merge_labels: Annotated[
        Path | None, typer.Option(help="JSON object {label: label it is merged into}.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds split, order, dropout, head.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML or JSON file of settings.")] = None,
    settings: Settings = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier run in the folder.")] = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Go on with the interrupted run there.")
    ] = None,
) -> None:
    """Train, tune, evaluate, and write a model folder."""
    _quiet_hub()
    from bert_cls.config import resolve_config
    from bert_cls.request import Request, resumed

    if resume is not None:
        if data is not None or output is not None:
            raise ConfigError("--resume takes everything from the run; give no DATA and no -o.")
        request = resumed(resume)
    else:
        if data is None or output is None:
            raise ConfigError("train needs DATA and -o MODEL.", hint="bert-cls train --help")
        flags = {
            "encoder.name": encoder,
            "data.task": task,
            "data.leak": leak,
            "data.on_bad_row": on_bad_row,
            "data.encoding": encoding,
            "data.coerce_numbers": coerce_numbers,
            "data.fix_unicode": fix_unicode,
            "data.merge_labels": merge_labels,
            "training.epochs": epochs,
            "training.learning_rate": learning_rate,
            "training.batch_size": batch_size,
            "training.seed": seed,
            "loss.name": loss,
        }
        resolved, origins = resolve_config(
            preset=preset, file=config, settings=settings or (), flags=flags
        )
        if not data.exists():
            raise DataError(f"there is no data {data}.", hint="give a folder or a file.")
        request = Request(data, output, resolved, origins, preset, labels)
    from bert_cls.terminal import TerminalObserver
    from bert_cls.training.run import train as run

    console = _console()
    observer = TerminalObserver(console)
    try:
        trained = run(request, observer, resume=resume is not None, overwrite=overwrite)
    finally:
        observer.close()
    _show_trained(console, trained)


def _show_trained(console: Console, trained: Trained) -> None:
    from rich.markup import escape

    from bert_cls.terminal import figures_table, label_table, settings_table

    details = trained.bundle.details
    console.print()
    console.print(settings_table(details["config"], details["origins"]))
    name = "test" if "test" in trained.evaluations else "dev"
    evaluation = trained.evaluations[name]
    console.print()
    title = f"{evaluation.rows} {name} rows, {evaluation.task}"
    console.print(figures_table(title, evaluation, trained.bars.get(name)))
    if evaluation.per_label:
        console.print()
        console.print(label_table(evaluation))
    for note in evaluation.notes:
        console.print(f"- {escape(note)}", highlight=False)
    console.print(f"\nmodel: [bold]{escape(str(trained.bundle.folder))}[/bold]", highlight=False)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[Path, typer.Argument(help="Labelled rows.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all figures as JSON.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples; 0 for none.")] = 1000,
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Figures of a model on labelled rows, with intervals."""
    _quiet_hub()
    import orjson

    from bert_cls.classifier import Classifier
    from bert_cls.data import read
    from bert_cls.folders import write_file
    from bert_cls.terminal import bullet_lines, figures_table, label_table

    classifier = Classifier.load(model)
    rows = read(file, encoding=encoding, task=classifier.bundle.task)
    for problem in rows.problems:
        _console().print(f"note   {problem}", highlight=False, markup=False)
    evaluation = classifier.evaluate(rows.examples, resamples=resamples)
    console = _console(stderr=False)
    title = f"{evaluation.rows} rows of {file.name}, {evaluation.task}"
    console.print(figures_table(title, evaluation))
    if evaluation.per_label:
        console.print()
        console.print(label_table(evaluation))
    if evaluation.notes:
        console.print(bullet_lines(evaluation.notes), highlight=False)
    if output is not None:
        content = orjson.dumps(evaluation.to_dict(), option=orjson.OPT_INDENT_2)
        write_file(output, content)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[
        str | None, typer.Argument(help="Rows to predict; - reads JSON Lines from standard input.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help=".jsonl, .csv or .parquet; - is standard output.")
    ] = "-",
    text: Annotated[
        list[str] | None, typer.Option(help="A text to predict; may be repeated.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="One cut for all labels (multilabel).")
    ] = None,
    min_labels: Annotated[int | None, typer.Option(min=0, help="At least so many a row.")] = None,
    max_labels: Annotated[int | None, typer.Option(min=1, help="At most so many a row.")] = None,
    top: Annotated[
        int | None, typer.Option(min=1, help="Only the highest scores a row, and the labels'.")
    ] = None,
    engine: Annotated[str, typer.Option(help="torch or torch-bfloat16.")] = "torch",
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Labels and scores, one JSON line per row, in input order."""
    _quiet_hub()
    from bert_cls.classifier import Classifier
    from bert_cls.data import Example, stream
    from bert_cls.outputs import write_predictions

    if (file is None) == (not text):
        raise ConfigError("predict needs a FILE or --text.", hint="bert-cls predict --help")
    classifier = Classifier.load(model, engine=engine)
    changes: dict[str, Any] = {"min_labels": min_labels, "max_labels": max_labels}
    changes = {key: value for key, value in changes.items() if value is not None}
    if threshold is not None:
        changes["thresholds"] = (threshold,) * len(classifier.bundle.rule.thresholds)
    if changes:
        classifier = classifier.with_rule(**changes)
    rows: Any = (
        stream(file, encoding=encoding)
        if file is not None
        else [Example(i, content) for i, content in enumerate(text or [])]
    )
    written, errors = write_predictions(classifier.predict_stream(rows, top=top), output)
    if output != "-" or errors:
        _console().print(
            f"{written} rows"
            + (f", {errors} of them errors" if errors else "")
            + (f" -> {output}" if output != "-" else ""),
            highlight=False,
        )
    if errors:
        raise typer.Exit(1)


@encoders_app.command("list")
def list_encoders() -> None:
    """The built-in encoders; folders and hub ids work as well."""
    from rich.table import Table

    from bert_cls.encoders import BUILT_IN, DEFAULT, cache_folder

    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("encoder", "what it is", "licence", "from PyPI", "here"):
        table.add_column(column, overflow="fold")
    for name, built_in in BUILT_IN.items():
        here = (cache_folder() / "encoders" / name / "config.json").is_file()
        table.add_row(
            f"{name}{' (default)' if name == DEFAULT else ''}",
            built_in.summary,
            built_in.licence,
            built_in.requirement,
            "yes" if here else "",
        )
    _console(stderr=False).print(table)


@encoders_app.command("fetch")
def fetch_encoder(
    name: Annotated[str, typer.Argument(help="A built-in or a hub id.")],
) -> None:
    """Fetch an encoder and print its folder."""
    from bert_cls.encoders import resolve

    console = _console()
    folder = resolve(name, notify=lambda line: console.print(line, highlight=False))
    typer.echo(folder)


@encoders_app.command("trim")
def trim_encoder(
    name: Annotated[str, typer.Argument(help="Folder, hub id or built-in.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new encoder folder.")],
    script: Annotated[
        str | None, typer.Option(help="Keep the pieces of a script: chinese or english.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Keep the pieces that occur in this data file.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Keep these layers, for example 0,2,4,7,9,11.")
    ] = None,
) -> None:
    """Make an encoder smaller: fewer vocabulary pieces, fewer layers."""
    import orjson

    from bert_cls.data import Example, stream
    from bert_cls.encoders import open_tokenizer, pieces_of_script, pieces_of_texts, resolve
    from bert_cls.encoders import trim as run

    if script is None and texts is None and layers is None:
        raise ConfigError("trim needs --script, --texts or --layers.")
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"output folder {output} is not empty.")
    console = _console()
    source = resolve(name, notify=lambda line: console.print(line, highlight=False))
    sample = []
    if texts is not None:
        rows = (row for row in stream(texts) if isinstance(row, Example))
        sample = [part for row in rows for part in (row.text_a, row.text_b) if part]
    keep: set[str] | None = None
    if script is not None:
        keep = pieces_of_script(orjson.loads((source / "tokenizer.json").read_bytes()), script)
    if texts is not None:
        keep = (keep or set()) | pieces_of_texts(open_tokenizer(source), sample)
    report = run(source, output, keep=keep, layers=_numbers(layers), sample=sample)
    lines = [
        f"pieces      {report.pieces_before:>12,} -> {report.pieces_after:,}",
        f"parameters  {report.parameters_before:>12,} -> {report.parameters_after:,}",
        f"layers      {report.layers_before:>12,} -> {report.layers_after:,}",
    ]
    if report.unknown_before is not None and report.unknown_after is not None:
        lines.append(f"unknown     {report.unknown_before:>12.4%} -> {report.unknown_after:.4%}")
    typer.echo("\n".join([*lines, str(output)]))


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--layers takes numbers such as 0,2,4. Got {text!r} instead.") from None


@app.command("settings")
def show_settings() -> None:
    """Every setting with its default and what it does."""
    from bert_cls.config import describe_fields

    for key, default, sentence in describe_fields():
        typer.echo(f"{key} = {default}\n    {' '.join(sentence.split())}")


def _console(*, stderr: bool = True) -> Console:
    from rich.console import Console

    width = None if os.environ.get("COLUMNS") or sys.stderr.isatty() else 120
    return Console(stderr=stderr, width=width)


def _quiet_hub() -> None:
    """No library may phone home, and none may talk over our own output."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def main() -> None:
    """Run a command; errors of ours become a message and an exit code, never a traceback."""
    try:
        app()
    except BertClsError as error:
        label = "stopped" if isinstance(error, Interrupted) else "error"
        typer.echo(f"{label}: {error}", err=True)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


if __name__ == "__main__":
    main()
