"""`bert-cls settings`: every setting."""

from __future__ import annotations

from typing import Annotated

import typer


def show_settings(
    losses: Annotated[
        bool, typer.Option("--losses", help="The losses instead, with options and sources.")
    ] = False,
) -> None:
    """Every setting with its default and what it does."""
    from bert_cls.config import describe_fields

    if losses:
        _show_losses()
        return
    for key, default, sentence in describe_fields():
        typer.echo(f"{key} = {default}\n    {' '.join(sentence.split())}")


def _show_losses() -> None:
    from bert_cls.losses import LOSSES

    for name, loss in LOSSES.items():
        typer.echo(f"{name}: {', '.join(sorted(loss.tasks))}\n    {' '.join(loss.source.split())}")
        for key, option in loss.options.items():
            within = (
                "" if isinstance(option.default, bool) else f" ({option.low:g}..{option.high:g})"
            )
            meaning = " ".join(option.meaning.split())
            typer.echo(f"    {key} = {str(option.default).lower()}{within}: {meaning}")
