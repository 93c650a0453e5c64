"""Options that `train` and `distill` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Preset = Annotated[str, typer.Option(help="fast, balanced or accurate.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the rows.")]
LearningRate = Annotated[float | None, typer.Option(help="Peak rate.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows of a step.")]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML or JSON file of settings.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Any setting; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option(help="Replace an earlier run in the folder.")]
