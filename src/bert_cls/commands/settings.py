"""`bert-cls settings`: every setting."""

from __future__ import annotations

import typer


def show_settings() -> None:
    """Every setting with its default and what it does."""
    from bert_cls.config import describe_fields

    for key, default, sentence in describe_fields():
        typer.echo(f"{key} = {default}\n    {' '.join(sentence.split())}")
