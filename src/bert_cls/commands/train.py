"""`bert-cls train`: audit, train, tune thresholds, evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.commands import options
from bert_cls.commands.console import open_console
from bert_cls.errors import ConfigError
from bert_cls.quiet import quiet_hub
from bert_cls.signals import stoppable

if TYPE_CHECKING:
    from rich.console import Console

    from bert_cls.request import Request
    from bert_cls.training import Trained


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="A folder with train, dev, test files, or one file to be split."),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The model folder.")] = None,
    encoder: Annotated[
        str | None, typer.Option(help="Folder, hub id or built-in (see `encoders list`).")
    ] = None,
    preset: options.Preset = "balanced",
    task: Annotated[
        str | None, typer.Option(help="binary, multiclass, multilabel, regression.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="JSON list of label names.")] = None,
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    loss: Annotated[
        str | None, typer.Option(help="A loss by name; `bert-cls settings` says where they stand.")
    ] = None,
    leak: Annotated[
        str | None, typer.Option(help="Texts of train in dev or test: error, drop, allow.")
    ] = None,
    conflict: Annotated[
        str | None, typer.Option(help="Texts with different labels: keep, drop, error.")
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
    config: options.ConfigFile = None,
    settings: options.Settings = None,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="MODEL", help="Start from a trained model, its labels by name."),
    ] = None,
    rename_labels: Annotated[
        Path | None, typer.Option(help="JSON object {label of that model: its name now}.")
    ] = None,
    overwrite: options.Overwrite = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="Go on with the interrupted run there.")
    ] = None,
) -> None:
    """Train, tune, evaluate, and write a model folder."""

    def asked() -> Request:
        from bert_cls.request import requested

        if data is None or output is None:
            raise ConfigError("train needs DATA and -o MODEL.", hint="bert-cls train --help")
        flags = {
            "encoder.name": encoder,
            "data.task": task,
            "data.leak": leak,
            "data.conflict": conflict,
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
        return requested(
            data,
            output,
            preset=preset,
            file=config,
            settings=settings or (),
            flags=flags,
            labels=labels,
            init_from=init_from,
            renames=rename_labels,
        )

    run_shown(context, asked, resume=resume, overwrite=overwrite)


def run_shown(
    context: typer.Context, asked: Callable[[], Request], *, resume: Path | None, overwrite: bool
) -> None:
    """Train what is `asked` for, or go on with the run in `resume`, and show what came of it."""
    quiet_hub()
    early = ("stopped before training began: nothing is lost.", "give the same command again.")
    with stoppable(lambda: early):  # while torch is imported, which takes a while
        from bert_cls.request import resumed

        if resume is not None:
            options.check_alone(context, resume)
        request = asked() if resume is None else resumed(resume)
        from bert_cls.terminal import TerminalObserver
        from bert_cls.training.ranks import first
        from bert_cls.training.run import train as run

        console = open_console()
        observer = TerminalObserver(console)
        try:
            trained = run(request, observer, resume=resume is not None, overwrite=overwrite)
        finally:
            observer.close()
    if first():
        show_trained(console, trained)


def show_trained(console: Console, trained: Trained) -> None:
    """Settings with their origins, figures, labels, and where the model is."""
    from rich.markup import escape

    from bert_cls.terminal import (
        bullet_lines,
        figures_table,
        groups_line,
        label_table,
        lead_lines,
        reliability_table,
        settings_table,
        undecided_line,
    )

    details = trained.bundle.details
    console.print()
    console.print(settings_table(details["config"], details["origins"]))
    name = "test" if "test" in trained.evaluations else "dev"
    evaluation = trained.evaluations[name]
    console.print()
    # of numbers nothing is tuned, so there is nothing to cross-fit
    how = ", cross-fitted" if name == "dev" and evaluation.task != "regression" else ""
    title = f"{evaluation.rows} {name} rows, {evaluation.task}{how}"
    console.print(
        figures_table(title, evaluation, trained.bars.get(name), trained.teacher.get(name))
    )
    if evaluation.per_label:
        console.print()
        console.print(label_table(evaluation, trained.bundle.rule, rest="in evaluation.json"))
        if line := groups_line(evaluation):
            console.print(line, highlight=False)
    if evaluation.reliability:
        console.print()
        console.print(reliability_table(evaluation))
    if line := undecided_line(trained.bundle.rule):
        console.print(line, highlight=False)
    if notes := [*lead_lines(trained.bars.get(name)), *evaluation.notes]:
        console.print(bullet_lines(notes), highlight=False)
    console.print(f"\nmodel:  [bold]{escape(str(trained.bundle.folder))}[/bold]", highlight=False)
    report = trained.bundle.folder / "report.html"
    console.print(f"report: [bold]{escape(str(report))}[/bold]", highlight=False)
