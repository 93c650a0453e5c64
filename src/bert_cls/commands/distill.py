"""`bert-cls distill`: a shallower student of a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.commands import options
from bert_cls.commands.train import run_shown
from bert_cls.errors import ConfigError

if TYPE_CHECKING:
    from bert_cls.request import Request


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

    def asked() -> Request:
        if model is None or output is None or layers is None:
            raise ConfigError(
                "distill needs MODEL, --layers N and -o STUDENT.", hint="bert-cls distill --help"
            )
        from bert_cls.training.student import student_request

        return student_request(
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

    run_shown(context, asked, resume=resume, overwrite=overwrite)
