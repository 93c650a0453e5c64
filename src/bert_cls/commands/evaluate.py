"""`bert-cls evaluate`: figures of a model on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bert_cls.commands.console import open_console, quiet_hub


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[Path, typer.Argument(help="Labelled rows.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all figures as JSON.")
    ] = None,
    abstain: Annotated[
        bool, typer.Option("--abstain", help="Accuracy of the most certain rows, by their share.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Write a page with charts and bad cases.")
    ] = None,
    texts: Annotated[
        bool | None,
        typer.Option("--texts/--no-texts", help="Texts of wrong rows in page and JSON."),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="In the report mark what in the worst rows spoke for a wrong label."
        ),
    ] = False,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples; 0 for none.")] = 1000,
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Figures of a model on labelled rows, with intervals."""
    quiet_hub()
    import orjson

    from bert_cls.classifier import Classifier
    from bert_cls.data import read
    from bert_cls.explain import weigher
    from bert_cls.folders import write_file
    from bert_cls.report import About, page, stored_bar
    from bert_cls.terminal import (
        bullet_lines,
        coverage_table,
        figures_table,
        label_table,
        lead_lines,
        reliability_table,
    )

    classifier = Classifier.load(model)
    rows = read(file, encoding=encoding, task=classifier.bundle.task)
    for problem in rows.problems:
        open_console().print(f"note   {problem}", highlight=False, markup=False)
    if texts is None:
        texts = classifier.bundle.details.get("config", {}).get("report", {}).get("texts", True)
    found = classifier.report(
        rows.examples,
        about=About.today(model, file, "file"),
        linear_bar=lambda evaluation: stored_bar(classifier.bundle, file, evaluation),
        texts=bool(texts),
        explain=weigher(classifier) if explain else None,
        resamples=resamples,
    )
    evaluation = found.evaluation
    console = open_console(stderr=False)
    title = f"{evaluation.rows} rows of {file.name}, {evaluation.task}"
    console.print(figures_table(title, evaluation, found.linear_bar))
    if evaluation.per_label:
        console.print()
        console.print(label_table(evaluation))
    if evaluation.reliability:
        console.print()
        console.print(reliability_table(evaluation))
    if abstain and evaluation.coverage:
        console.print()
        console.print(coverage_table(evaluation))
    least = classifier.bundle.rule.min_confidence
    if least is not None:
        console.print(
            f"this model leaves rows below confidence {least:.4f} undecided; the figures above "
            "count every row",
            highlight=False,
        )
    if notes := [*lead_lines(found.linear_bar), *evaluation.notes]:
        console.print(bullet_lines(notes), highlight=False)
    if output is not None:
        write_file(output, orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2))
    if report is not None:
        write_file(report, page(found).encode("utf-8"))
        console.print(f"report: {report}", markup=False, highlight=False)
