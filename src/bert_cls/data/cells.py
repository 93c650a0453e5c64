"""What a cell of a table means: the rules that csv, tsv and xlsx share.

An empty cell is null, save in the text column. A label cell that is a JSON list is a list of
names. In a column named `labels`, or when the task is multilabel, every other cell is split at
"|", or where it has none at ";". In a column named `label` any other cell is one name as it
stands, and a number when the task is regression. Nothing else is inferred: "007" stays "007".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain, count

from bert_cls.data.example import Task
from bert_cls.data.layout import LABEL_KEYS, LIST_KEY, TEXT_KEYS, find_layout
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import NumberLiteral, spells_number
from bert_cls.data.source import Source
from bert_cls.errors import DataError

SEPARATORS = ("|", ";")
DELIMITERS = {
    ",": "name the file .csv",
    "\t": "name the file .tsv",
    ";": "save it with commas, or as .tsv with tabs",
    "|": "save it with commas, or as .tsv with tabs",
}
PLAIN_COLUMNS = frozenset(("index", "id", "text_b"))


class TableRow(dict[str, object]):
    """A raw row of a table; `cells` are its label cells as they stand there, by column."""

    __slots__ = ("cells",)
    cells: dict[str, str]


def column_names(names: Sequence[str], source: Source, delimiter: str | None = None) -> list[str]:
    """The names of the columns; several without one are called by their place, said in a note.

    DataError unless they are distinct and one of them is the text. `delimiter` is what stood
    between them, in a file of lines.
    """
    named = list(names)
    blank = [place for place, name in enumerate(names) if not name]
    if len(blank) > 1:
        for place in blank:
            named[place] = _free(f"column {place + 1}", names)
        message = f"columns without a name are called {some(named[place] for place in blank)}."
        source.notes.append(Problem("D21", source.name, "", None, message, "note"))
    if repeated := sorted({name for name in named if named.count(name) > 1}):
        raise DataError(f"{source.name}: columns are named twice: {some(repeated)}.")
    if not set(named) & set(TEXT_KEYS):
        raise DataError(
            f"{source.name}: the first line must name the columns, and text_a is missing. "
            f"Got {some(named)} instead.",
            hint=_other_delimiter(named, delimiter) or _misspelt(named),
        )
    return named


def _free(name: str, taken: Sequence[str]) -> str:
    others = (f"{name} ({number})" for number in count(2))
    return next(other for other in chain([name], others) if other not in taken)


def _other_delimiter(names: Sequence[str], delimiter: str | None) -> str | None:
    """What to do with a file whose cells are separated by something else."""
    if delimiter is None or len(names) > 1:
        return None
    for other, remedy in DELIMITERS.items():
        if other != delimiter and set(TEXT_KEYS) & set(names[0].split(other)):
            return f"the cells are separated by {other!r}: {remedy}"
    return None


def _misspelt(names: Sequence[str]) -> str:
    misspelt = [fault.message for fault in find_layout(names).faults if fault.code == "D08"]
    return misspelt[0] if misspelt else 'for example: "text_a", or with labels "text_a,label"'


def row_of_cells(names: Sequence[str], cells: Sequence[object], task: Task | None) -> TableRow:
    """A raw row from the cells under the named columns."""
    row = TableRow(zip(names, cells, strict=True))
    row.cells = {}
    for key in LABEL_KEYS:
        cell = row.get(key)
        if isinstance(cell, str):
            row.cells[key] = cell
            row[key] = _label(cell, split=key == LIST_KEY or task == "multilabel", task=task)
    for key in row.keys() & PLAIN_COLUMNS:
        row[key] = None if row[key] == "" else row[key]
    return row


def _label(cell: str, *, split: bool, task: Task | None) -> object:
    if not cell.strip():
        return None
    if cell.lstrip().startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            pass  # a name such as "[PAD]", or a list that check_label names as such
    if split:
        separator = next((s for s in SEPARATORS if s in cell), None)
        return [part.strip() for part in cell.split(separator)] if separator else [cell]
    if task == "regression":
        spelled = cell.strip()
        return NumberLiteral(spelled) if spells_number(spelled) else cell
    return cell
