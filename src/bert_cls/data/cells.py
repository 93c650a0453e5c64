"""What a cell of a table means: the rules that csv, tsv and xlsx share.

An empty cell is null, save in the text column. A label cell that is a JSON list is a list of
names. In a column named `labels`, or when the task is multilabel, every other cell is split at
"|", or where it has none at ";". In a column named `label` any other cell is one name as it
stands, and a number when the task is regression. Nothing else is inferred: "007" stays "007".
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from bert_cls.data.example import Task
from bert_cls.data.layout import LABEL_KEYS, LIST_KEY, TEXT_KEYS, find_layout
from bert_cls.data.problems import some
from bert_cls.data.raw import NumberLiteral, spells_number
from bert_cls.errors import DataError

SEPARATORS = ("|", ";")
PLAIN_COLUMNS = frozenset(("index", "id", "text_b"))


class TableRow(dict[str, object]):
    """A raw row of a table; `cells` are its label cells as they stand there, by column."""

    __slots__ = ("cells",)
    cells: dict[str, str]


def check_columns(names: Sequence[str], file: str) -> None:
    """DataError unless the names are distinct and one of them is the text."""
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise DataError(f"{file}: the first line names the columns {some(repeated)} twice.")
    if not set(names) & set(TEXT_KEYS):
        misspelt = [fault.message for fault in find_layout(names).faults if fault.code == "D08"]
        raise DataError(
            f"{file}: the first line must name the columns, and text_a is missing. "
            f"Got {some(names)} instead.",
            hint=misspelt[0] if misspelt else 'for example: "text_a,label"',
        )


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
