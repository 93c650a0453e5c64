"""`bert-cls predict`: labels and scores, a JSON line a row."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bert_cls.commands.console import open_console, quiet_hub
from bert_cls.errors import ConfigError


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
    engine: Annotated[
        str, typer.Option(help="auto: the fastest one exported that runs here; or its name.")
    ] = "auto",
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Labels and scores, one JSON line per row, in input order."""
    quiet_hub()
    from bert_cls.classifier import Classifier
    from bert_cls.data import Example, stream
    from bert_cls.outputs import write_predictions

    if (file is None) == (not text):
        raise ConfigError("predict needs a FILE or --text.", hint="bert-cls predict --help")
    classifier = Classifier.load(model, engine=engine)
    typer.echo(f"engine: {classifier.engine.name}", err=True)
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
        open_console().print(
            f"{written} rows"
            + (f", {errors} of them errors" if errors else "")
            + (f" -> {output}" if output != "-" else ""),
            highlight=False,
        )
    if errors:
        raise typer.Exit(1)
