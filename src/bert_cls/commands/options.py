"""What the options of `train` and `distill` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bert_cls.errors import ConfigError

Preset = Annotated[str, typer.Option(help="fast, balanced or accurate.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the rows.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows of a step.")]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML or JSON file of settings.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.FIELD=VALUE",
        help="Any setting (`bert-cls settings` shows them); may be repeated.",
    ),
]
Overwrite = Annotated[bool, typer.Option(help="Replace an earlier run in the folder.")]


def check_alone(context: typer.Context, resume: Path) -> None:
    """ConfigError that names all that was given beside `--resume`, which could not apply."""
    given = [
        max(parameter.opts, key=len) if parameter.param_type_name == "option" else name.upper()
        for parameter in context.command.params
        if (name := str(parameter.name)) != "resume"
        and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise ConfigError(
            f"--resume takes everything from the run in {resume}; {', '.join(given)} cannot apply.",
            hint="leave them out; other settings need a run of their own.",
        )
