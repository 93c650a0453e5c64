"""`bert-cls compare`: models, or their predictions, on the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bert_cls.commands import options
from bert_cls.commands.console import is_stdio, open_console, write_output
from bert_cls.errors import ConfigError
from bert_cls.quiet import quiet_hub

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bert_cls.comparison import Compared
    from bert_cls.metrics import Comparison, LabelChange

_LABELS = 10
_SHORT, _HEADING = 16, 6  # as long as a metric's name, and as a figure: longer ones are folded
_STYLES = {"better": "green", "gained": "green", "worse": "red", "lost": "red"}


def compare(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Model folders, or .jsonl or .json files that `predict` wrote; each is compared "
            "with the first."
        ),
    ],
    file: Annotated[Path, typer.Argument(help="Labelled rows.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="What prediction files hold: binary, multiclass, multilabel, regression; without "
            "it as the labels of the rows look."
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, help="Fixed and broken rows to show, of each.")
    ] = 5,
    labels: Annotated[
        int | None, typer.Option(min=0, help="Labels to show, by size of change; without it 10.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Bootstrap resamples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the resamples.")] = 0,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write everything as JSON; - prints it."),
    ] = None,
    encoding: Annotated[str | None, typer.Option(help="The file's text encoding.")] = None,
) -> None:
    """Whether a model is better than another on the same rows, and on which labels and rows."""
    quiet_hub()
    import orjson

    from bert_cls.comparison import compare as run
    from bert_cls.overwriting import check_output
    from bert_cls.request import data_of

    options.check_encoding(encoding, file)
    printed = is_stdio(json_file)
    if not printed:
        check_output(json_file, file, *models, trained_on=map(data_of, models))
    drawn: dict[str, int] = {"resamples": resamples, "seed": seed}
    compared = run(models, file, task=task, encoding=encoding, **drawn)
    if labels is not None and compared.task == "regression":
        raise ConfigError(
            "--labels is how many labels to show. These models give numbers.",
            hint="leave --labels out.",
        )
    console = open_console(stderr=printed)
    shown = _LABELS if labels is None else labels
    for at in range(len(compared.others)):
        _show(console, compared, at, examples=examples, labels=shown)
    for note in compared.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    if json_file is not None:
        content = orjson.dumps(compared.to_dict(), option=orjson.OPT_INDENT_2)
        write_output(json_file, content, "as JSON", console)


def _show(console: Console, compared: Compared, at: int, *, examples: int, labels: int) -> None:
    found, base, other = compared.comparisons[at], compared.base.name, compared.others[at].name
    console.print(
        f"{other} against {base}, {len(compared.examples)} rows of {compared.file}, "
        f"{compared.task}",
        style="bold",
        markup=False,
        highlight=False,
    )
    console.print(_metrics(found, base, other))
    resamples = max((each.resamples for each in found.differences), default=0)
    _say(
        console,
        f"change: {other} less {base}; intervals over {resamples} paired resamples "
        "of rows; p: swap test, not corrected; not established: the interval includes 0, or p is "
        "above 0.05",
    )
    console.print(_rows_line(compared, found, base, other), markup=False, highlight=False)
    if found.labels and labels:
        console.print()
        console.print(_labels(found, base, other, labels))
        of_all = " of all comparisons" if len(compared.others) > 1 else ""
        sure = sum(row.verdict != "not established" for row in found.labels)
        tested = sum(row.p_holm is not None for row in found.labels)
        _say(
            console,
            f"{sure} of {tested} labels changed beyond doubt; p: exact swap test of F1, "
            f"Holm-corrected for all labels{of_all}; not established: p above 0.05",
        )
    for title, rows in (("fixed", found.fixed), ("broken", found.broken)):
        if not len(rows) or not examples:
            continue
        closer = {"fixed": f"{other} is closer", "broken": f"{base} is closer"}
        title = closer[title] if compared.task == "regression" else title
        console.print(f"\n{title}: {min(examples, len(rows))} of {len(rows)}", markup=False)
        for row in compared.changed(at, rows.tolist()[:examples]):
            console.print(
                f"  {_words(row['index'])}  {_words(row['text'])}\n"
                f"      truth {_words(row['truth'])}; {base} {_words(row['before'])}; "
                f"{other} {_words(row['after'])}",
                markup=False,
                highlight=False,
            )
    for note in found.notes:
        console.print(f"- {note}", markup=False, highlight=False)
    console.print()


def _metrics(found: Comparison, base: str, other: str) -> Table:
    from bert_cls.terminal import figure, signed

    return _table(
        ["", base, other, "change", "95 % interval", "p"],
        [
            [
                each.metric,
                figure(each.b),
                figure(each.a),
                signed(each.difference),
                f"{signed(each.low)} to {signed(each.high)}",
                f"{each.p_value:.2g}",
                each.verdict,
            ]
            for each in found.differences
        ],
    )


def _rows_line(compared: Compared, found: Comparison, base: str, other: str) -> str:
    test = found.rows_test
    what = "closer to the truth in" if compared.task == "regression" else "right where it was wrong"
    sure = "established" if test.p_value <= 0.05 else "not established"
    name = "sign test" if compared.task == "regression" else "McNemar"
    if compared.task == "regression":
        said = f"rows {what}: {other} {test.only_a}, {base} {test.only_b}"
    else:
        said = f"rows: {test.only_a} fixed, {test.only_b} broken by {other}"
    return f"{said}; exact {name} p = {test.p_value:.4g} ({sure} at 5 %)"


def _labels(found: Comparison, base: str, other: str, shown: int) -> Table:
    return _table(
        ["F1 of label", base, other, "change", "95 % interval", "rows", "p"],
        [
            [
                row.name,
                f"{row.b:.4f}",
                f"{row.a:.4f}",
                f"{row.difference:+.4f}",
                f"{row.low:+.4f} to {row.high:+.4f}",
                str(row.support),
                "" if row.p_holm is None else f"{row.p_holm:.2g}",
                row.verdict,
            ]
            for row in sorted(found.labels, key=_surest_first)[:shown]
        ],
    )


def _surest_first(row: LabelChange) -> tuple[bool, float, float]:
    return row.p_holm is None, row.p_holm or 0.0, -abs(row.difference)


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    """Names, numbers and a verdict; in 80 columns names and headings fold, numbers do not."""
    from rich.cells import cell_len
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    widest = max(cell_len(name) for name in (columns[0], *(row[0] for row in rows)))
    table.add_column(escape(columns[0]), overflow="fold", no_wrap=widest <= _SHORT)
    for i, column in enumerate(columns[1:], start=1):
        whole = max(min(len(column), _HEADING), *(len(row[i]) for row in rows), 0)
        table.add_column(escape(column), justify="right", overflow="fold", width=whole)
    table.add_column("")
    for *cells, verdict in rows:
        style = _STYLES.get(verdict, "dim")
        table.add_row(*map(escape, cells), f"[{style}]{verdict}[/]")
    return table


def _say(console: Console, line: str) -> None:
    console.print(line, style="dim", markup=False, highlight=False)


def _words(value: object) -> str:
    said = ", ".join(value) or "none" if isinstance(value, list) else str(value)
    return " ".join(said.splitlines())  # one line a row, whatever is in it
