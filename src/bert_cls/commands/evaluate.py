"""`bert-cls evaluate`: figures of a model on labelled rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.commands import options
from bert_cls.commands.console import is_stdio, open_console, rows_compared, write_output
from bert_cls.errors import ConfigError, DataError
from bert_cls.quiet import quiet_hub
from bert_cls.ranges import LEAST

if TYPE_CHECKING:
    from rich.console import Console

    from bert_cls.bundle import Bundle
    from bert_cls.data import Example
    from bert_cls.decision import Rule
    from bert_cls.report import ReportData


def evaluate(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    file: Annotated[Path, typer.Argument(help="Labelled rows.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all figures as JSON; - prints it.")
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
    neighbours: Annotated[
        int, typer.Option(min=0, help="In the report, training rows most like the worst ones.")
    ] = 0,
    train: Annotated[
        Path | None,
        typer.Option(help="The training data; without it from where the model was trained."),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=LEAST["resamples"], help="Bootstrap resamples; 0 for none.")
    ] = 1000,
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Figures of a model on labelled rows, with intervals."""
    quiet_hub()
    import orjson

    from bert_cls.classifier import Classifier
    from bert_cls.explain import weigher
    from bert_cls.nearest import files_searched, finder
    from bert_cls.overwriting import check_output, refuse_same
    from bert_cls.report import About, page, seen_rows, stored_bar
    from bert_cls.request import data_of

    options.check_encoding(encoding, file)
    refuse_same(output, report)
    searched = files_searched(model, train) if neighbours else []
    printed = is_stdio(output) or is_stdio(report)
    for written in (output, report):
        if not is_stdio(written):
            check_output(written, file, model, *searched, trained_on=[data_of(model)])
    nothing = output is None and report is None
    _check_rows_shown(train, texts, explain=explain, neighbours=neighbours, nothing=nothing)
    classifier = Classifier.load(model)
    bundle = classifier.bundle
    if texts is None:
        texts = bool(bundle.details.get("config", {}).get("report", {}).get("texts", True))
    _check_flags(bundle.task, abstain=abstain, explain=explain, near=neighbours > 0, texts=texts)
    nearest = None
    if neighbours:
        known = rows_compared(classifier, train)
        seen = Classifier.load(model, engine="torch", check=False)  # others give logits alone
        nearest = finder(seen, known, count=neighbours)
    examples = _read(file, encoding, bundle)
    passed_over: list[str] = []
    found = classifier.report(
        examples,
        about=About.today(model, file, "file", seen_rows(bundle, file)),
        linear_bar=lambda evaluation: stored_bar(bundle, file, evaluation),
        texts=texts,
        explain=weigher(classifier, passed_over=passed_over.append) if explain else None,
        nearest=nearest,
        resamples=resamples,
    )
    console = open_console(stderr=printed)
    _show(console, found, bundle.rule, abstain=abstain, output=output)
    for reason in passed_over:
        console.print(f"- not explained: {reason}", markup=False, highlight=False)
    if output is not None:
        content = orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2)
        write_output(output, content, "as JSON", console)
    if report is not None:
        write_output(report, page(found).encode("utf-8"), "report", console)


def _check_rows_shown(
    train: Path | None, texts: bool | None, *, explain: bool, neighbours: int, nothing: bool
) -> None:
    """ConfigError for flags about the rows of page and JSON where they do nothing."""
    if (explain or neighbours) and nothing:
        said = "--explain marks" if explain else "--neighbours are shown beside"
        raise ConfigError(f"{said} rows in the report.", hint="give --report HTML, or -o.")
    if texts is not None and nothing:
        raise ConfigError(
            f"--{'' if texts else 'no-'}texts is about page and JSON, and neither is written.",
            hint="give --report HTML, or -o.",
        )
    if train is not None and not neighbours:
        raise ConfigError("--train is where --neighbours are looked for.", hint="--neighbours 2")


def _read(file: Path, encoding: str | None, bundle: Bundle) -> list[Example]:
    """The rows; DataError for labels that the model does not have (D25)."""
    from bert_cls.data import raise_errors, read, unknown_labels

    known = dict.fromkeys([*bundle.space.names, *bundle.merges], 0)
    rows = read(file, encoding=encoding, task=bundle.task, names=known)
    for problem in rows.problems:
        open_console().print(f"note   {problem}", highlight=False, markup=False)
    if bundle.space.names:
        raise_errors(unknown_labels(rows, known, "the model"))
    if all(example.label is None for example in rows.examples):
        raise DataError(f"{file}: no row has a label, so there is nothing to evaluate.")
    return rows.examples


def _check_flags(task: str, *, abstain: bool, explain: bool, near: bool, texts: bool) -> None:
    """ConfigError for a flag that could do nothing with this model."""
    if task == "regression" and (abstain or explain):
        raise ConfigError(
            f"{'--abstain' if abstain else '--explain'} is about labels. This model gives numbers."
        )
    if explain and not texts:
        raise ConfigError(
            "--explain marks characters of texts, which are left out.",
            hint="give --texts, or leave --explain out.",
        )
    if near and not texts:
        raise ConfigError(
            "--neighbours are texts, which are left out.",
            hint="give --texts, or leave --neighbours out.",
        )


def _show(
    console: Console, found: ReportData, rule: Rule, *, abstain: bool, output: Path | None
) -> None:
    """Figures, labels, how far scores can be believed, and what is to be said of them."""
    from bert_cls.metrics.collapse import ALARM
    from bert_cls.report import SEEN
    from bert_cls.terminal import (
        bullet_lines,
        coverage_table,
        figures_table,
        groups_line,
        label_table,
        lead_lines,
        reliability_table,
        undecided_line,
    )

    evaluation, seen = found.evaluation, found.about.seen
    title = f"{evaluation.rows} rows of {found.about.data}, {evaluation.task}"
    console.print(figures_table(title, evaluation, found.linear_bar))
    if evaluation.per_label:
        console.print()
        rest = "in the JSON" if is_stdio(output) else "written by -o FILE.json"
        rest = f"in {output}" if output and not is_stdio(output) else rest
        console.print(label_table(evaluation, rule, rest=rest))
    if line := groups_line(evaluation):
        console.print(line, highlight=False)
    if evaluation.reliability:
        console.print()
        console.print(reliability_table(evaluation))
    if abstain:
        console.print()
        console.print(coverage_table(evaluation))
    if line := undecided_line(rule):
        console.print(line, highlight=False)
    notes = [f"{ALARM}{SEEN[seen]}"] if seen else []
    if notes := [*notes, *lead_lines(found.linear_bar), *evaluation.notes]:
        console.print(bullet_lines(notes), highlight=False)
