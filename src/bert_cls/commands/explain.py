"""`bert-cls explain`: what in a text its labels rest on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bert_cls.commands import options
from bert_cls.commands.console import is_stdio, open_console, rows_compared, write_output
from bert_cls.errors import ConfigError
from bert_cls.quiet import quiet_hub
from bert_cls.ranges import LEAST

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from bert_cls.explain import Explanation, LabelWeights
    from bert_cls.nearest import Neighbour

_FAINTEST = 0.08


def explain(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    text: Annotated[str | None, typer.Argument(help="The text.")] = None,
    text_b: Annotated[str | None, typer.Option(help="The second text of a pair.")] = None,
    file: Annotated[Path | None, typer.Option(help="Rows to explain instead of one text.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="A label to explain, may be repeated; without it those the model gives."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="occlusion (any engine), or gradient (torch only)."),
    ] = "occlusion",
    passes: Annotated[
        int | None,
        typer.Option(
            min=LEAST["passes"], help="Hidden versions of a text at most (occlusion; 128)."
        ),
    ] = None,
    neighbours: Annotated[
        int, typer.Option(min=0, help="Training rows most like the text, so many.")
    ] = 0,
    train: Annotated[
        Path | None,
        typer.Option(help="The training data; without it from where the model was trained."),
    ] = None,
    numbers: Annotated[bool, typer.Option("--numbers", help="The weights as a table.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write JSON; - prints it instead.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="What computes logits; without it torch for gradients and neighbours, else the "
            "best there is."
        ),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """What in a text its labels rest on, and the training rows most like it."""
    quiet_hub()
    import orjson

    from bert_cls.classifier import Classifier
    from bert_cls.data import read
    from bert_cls.explain import PASSES
    from bert_cls.nearest import files_searched, nearest
    from bert_cls.overwriting import check_output
    from bert_cls.request import data_of

    _check_source(text, text_b, file, encoding)
    printed = is_stdio(json_file)
    _check_flags(train, passes, method, neighbours=neighbours, table=numbers and printed)
    searched = files_searched(model, train) if neighbours else []
    if not printed:
        check_output(json_file, file, model, *searched, trained_on=[data_of(model)])
    best = "torch" if method == "gradient" or neighbours else "auto"
    classifier = Classifier.load(model, engine=engine or best)
    seconds = [] if text_b is None else [text_b]
    examples = (
        options.typed_rows([text], seconds, pair=classifier.bundle.pair)
        if text is not None
        else read(str(file), encoding=encoding).examples
    )
    found = classifier.explain(examples, label, method=method, passes=passes or PASSES)
    alike: list[list[Neighbour]] = [[] for _ in examples]
    if neighbours:
        rows = rows_compared(classifier, train)
        alike = nearest(classifier, examples, rows, count=neighbours)
    content = [
        each.to_dict() | ({"neighbours": [n.to_dict() for n in near]} if neighbours else {})
        for each, near in zip(found, alike, strict=True)
    ]
    console = open_console(stderr=printed)
    if json_file is not None:
        dumped = orjson.dumps(content, option=orjson.OPT_INDENT_2)
        write_output(json_file, dumped, "as JSON", console)
    if printed:
        return
    for each, near in zip(found, alike, strict=True):
        _show(console, each, numbers=numbers or console.color_system is None)
        for row in near:
            console.print(f"  {row.similarity:.3f}  {_line(row)}", markup=False, highlight=False)
    console.print(
        "green speaks for the label, red against it; the deepest colour is the greatest weight",
        style="dim",
    )


def _check_source(
    text: str | None, text_b: str | None, file: Path | None, encoding: str | None
) -> None:
    """ConfigError unless there is one text or one file, with what belongs to it."""
    if (file is None) == (text is None):
        raise ConfigError("explain needs a TEXT or --file.", hint="bert-cls explain --help")
    if file is not None and text_b is not None:
        raise ConfigError("--text-b belongs to a TEXT; rows of --file have their own text_b.")
    options.check_encoding(encoding, file)


def _check_flags(
    train: Path | None, passes: int | None, method: str, *, neighbours: int, table: bool
) -> None:
    """ConfigError for a flag that could do nothing beside the others."""
    if table:
        raise ConfigError(
            "--numbers is a table for people, and --json - prints JSON alone.",
            hint="leave --numbers out: the JSON has all weights.",
        )
    if train is not None and not neighbours:
        raise ConfigError("--train is where --neighbours are looked for.", hint="--neighbours 3")
    if passes is not None and method == "gradient":
        raise ConfigError("--passes is how often occlusion hides parts; gradient hides none.")


def _show(console: Console, found: Explanation, *, numbers: bool) -> None:
    for holds, words in (
        (
            found.truncated,
            "the text is longer than the model reads; what it did not read has no weight",
        ),
        (found.abstained, "the model leaves this row undecided: it is not sure enough"),
    ):
        if holds:
            console.print(words, style="yellow", highlight=False)
    for each in found.labels:
        console.print(f"{each.label} {each.score:.3f}", style="bold", markup=False, highlight=False)
        console.print(_coloured(found, each), highlight=False)
        if numbers:
            console.print(_numbers(found, each))


def _coloured(found: Explanation, why: LabelWeights) -> Text:
    from rich.text import Text

    pieces = found.pieces(why.label)
    most = max((abs(weight) for _, weight in pieces), default=0.0) or 1.0
    line = Text("  ")
    for piece, weight in pieces:
        depth = abs(weight) / most
        if depth < _FAINTEST:
            line.append(piece)
            continue
        fade = round(235 - 160 * depth)
        colour = f"{fade},235,{fade}" if weight > 0 else f"255,{fade},{fade}"
        line.append(piece, style=f"black on rgb({colour})")
    return line


def _numbers(found: Explanation, why: LabelWeights) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2), header_style="bold")
    table.add_column("part", overflow="fold")
    table.add_column("weight", justify="right")
    shown = [(piece, weight) for piece, weight in found.pieces(why.label) if piece.strip()]
    for piece, weight in sorted(shown, key=lambda pair: -abs(pair[1]))[:20]:
        table.add_row(escape(piece), f"{weight:+.4f}")
    return table


def _line(row: Neighbour) -> str:
    label = row.example.label
    said = ", ".join(label) or "none" if isinstance(label, tuple) else str(label)
    second = f" | {row.example.text_b}" if row.example.text_b is not None else ""
    return f"[{said}] {row.example.text_a}{second}"
