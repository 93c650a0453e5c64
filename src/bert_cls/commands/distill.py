"""`bert-cls distill`: a shallower student of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bert_cls.commands import options
from bert_cls.commands.console import open_console, quiet_hub
from bert_cls.commands.train import show_trained
from bert_cls.errors import ConfigError


def distill(
    context: typer.Context,
    model: Annotated[Path | None, typer.Argument(help="The teacher: a model folder.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The student's model folder.")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="How many of the teacher's layers the student keeps.")
    ] = None,
    unlabelled: Annotated[
        Path | None, typer.Option(help="A file of further texts, labelled by the teacher alone.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Labelled rows; without it those of the teacher.")
    ] = None,
    preset: options.Preset = "balanced",
    epochs: options.Epochs = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    seed: Annotated[int | None, typer.Option(help="Seeds order and dropout.")] = None,
    config: options.ConfigFile = None,
    settings: options.Settings = None,
    overwrite: options.Overwrite = False,
    resume: Annotated[
        Path | None, typer.Option(metavar="STUDENT", help="Go on with the interrupted run there.")
    ] = None,
) -> None:
    """Train a shallower student on a model's answers, tune, evaluate, write a model folder."""
    quiet_hub()
    from bert_cls.request import resumed
    from bert_cls.training.run import train as run
    from bert_cls.training.student import student_request

    if resume is not None:
        options.check_alone(context, resume)
        request = resumed(resume)
    else:
        if model is None or output is None or layers is None:
            raise ConfigError(
                "distill needs MODEL, --layers N and -o STUDENT.", hint="bert-cls distill --help"
            )
        request = student_request(
            model,
            output,
            layers=layers,
            data=data,
            unlabelled=unlabelled,
            preset=preset,
            file=config,
            settings=settings or (),
            flags={
                "training.epochs": epochs,
                "training.learning_rate": learning_rate,
                "training.batch_size": batch_size,
                "training.seed": seed,
            },
        )
    from bert_cls.terminal import TerminalObserver

    console = open_console()
    observer = TerminalObserver(console)
    try:
        trained = run(request, observer, resume=resume is not None, overwrite=overwrite)
    finally:
        observer.close()
    show_trained(console, trained)
