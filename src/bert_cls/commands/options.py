"""What options of several commands have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.errors import ConfigError

if TYPE_CHECKING:
    from bert_cls.data import Example

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
_WITH_ENCODING = (".parquet", ".xlsx")


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


def check_encoding(encoding: str | None, file: str | Path | None) -> None:
    """ConfigError where `--encoding` could do nothing: no file, or one that says its own."""
    if encoding is None:
        return
    if file is None:
        raise ConfigError(
            "--encoding is that of a file, and there is none: texts of the command line have the "
            "terminal's.",
            hint="leave --encoding out.",
        )
    if (suffix := Path(file).suffix.lower()) in _WITH_ENCODING:
        raise ConfigError(
            f"--encoding can do nothing for {file}: a {suffix} file says itself how its texts are "
            "encoded.",
            hint="leave --encoding out.",
        )


def typed_rows(texts: Sequence[str], seconds: Sequence[str], *, pair: bool) -> list[Example]:
    """Rows of texts that were given as arguments; ConfigError unless `seconds` fit the model.

    `pair`: the model reads pairs, and each text needs its second one.
    """
    from bert_cls.data import Example

    if pair and len(seconds) != len(texts):
        raise ConfigError(
            f"this model reads pairs of texts. Got {len(texts)} of the first and {len(seconds)} of "
            "the second.",
            hint="give --text-b, the second text, once for each first one.",
        )
    if seconds and not pair:
        raise ConfigError(
            "--text-b is the second text of a pair. This model reads single texts.",
            hint="leave --text-b out.",
        )
    if not pair:
        return [Example(i, text) for i, text in enumerate(texts)]
    return [Example(i, a, b) for i, (a, b) in enumerate(zip(texts, seconds, strict=True))]
