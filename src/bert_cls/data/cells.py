"""What a cell of a table means: the rules that csv, tsv and xlsx share.

An empty cell is null, save in the text column. A label cell that is a JSON list is a list of
names. In a column named `labels`, or when the task is multilabel, every other cell is split at the
first of SEPARATORS that it has; declared names are never split. In a column named `label` any other
cell is one name as it stands, and a number when the task is regression. Nothing else is inferred:
"007" stays "007".
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import chain, count

from bert_cls.data.layout import LABEL_KEYS, LIST_KEY, TEXT_KEYS, find_layout
from bert_cls.data.problems import Problem, some
from bert_cls.data.problems import count as counted
from bert_cls.data.raw import NumberLiteral, Options, spells_number
from bert_cls.data.source import Source
from bert_cls.errors import DataError

# No comma, full-width or not: names have commas in them.
SEPARATORS = ("|", ";", "\uff5c", "\uff1b", "、")
PLAIN_SEPARATORS = ("|", ";")  # a file with one of them alone is as docs/check.md has it: no note
_JOINED = re.compile("[|;\uff5c\uff1b]")
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
    if misspelt:
        return misspelt[0]
    labels = "" if set(LABEL_KEYS) & set(names) else ", that of labels, if there is one, to label"
    return f"rename the column that holds the text to text_a{labels}"


class CellReader:
    """Turns the cells of one table into raw rows, and counts what is worth a note.

    `place` says where a row is, from its `number`.
    """

    def __init__(self, options: Options, place: str) -> None:
        self._task = options.task
        self._names = options.names
        self._place = place
        self._joined: Counter[str] = Counter()  # by what was noticed: rows
        self._first: dict[str, int] = {}
        # parts of the declared name that has the separator most often
        self._longest = {
            s: max((name.count(s) for name in options.names), default=0) + 1 for s in SEPARATORS
        }

    def row(self, names: Sequence[str], cells: Sequence[object], number: int) -> TableRow:
        """A raw row from the cells under the named columns."""
        row = TableRow(zip(names, cells, strict=True))
        row.cells = {}
        for key in LABEL_KEYS:
            cell = row.get(key)
            if isinstance(cell, str):
                row.cells[key] = cell
                row[key] = self._label(cell, key, number)
        for key in row.keys() & PLAIN_COLUMNS:
            row[key] = None if row[key] == "" else row[key]
        return row

    def notes(self, file: str) -> list[Problem]:
        """What was noticed in the rows so far."""
        separators = [s for s in SEPARATORS if s in self._joined]
        if len(separators) == 1 and separators[0] in PLAIN_SEPARATORS:
            separators = []
        said = [(s, f"with labels separated by {s!r}.", SPLIT_HINT) for s in separators]
        said += [(what, *words) for what, words in NOTICED.items() if what in self._joined]
        return [
            Problem(
                "D32",
                file,
                self._place.format(number=self._first[what], row=self._first[what]),
                "label",
                f"{counted(self._joined[what], 'row')} {message}",
                "note",
                hint,
            )
            for what, message, hint in said
        ]

    def _label(self, cell: str, key: str, number: int) -> object:
        if not cell.strip():
            return None
        if cell.lstrip().startswith("["):
            try:
                return json.loads(cell)
            except (ValueError, RecursionError):
                pass  # a name such as "[PAD]", or a list that check_label names as such
        if key == LIST_KEY or self._task == "multilabel":
            return self._split(cell, number)
        if self._task == "regression":
            spelled = cell.strip()
            return NumberLiteral(spelled) if spells_number(spelled) else cell
        if _JOINED.search(cell) and cell not in self._names:
            self._notice("one name", number)
        return cell

    def _split(self, cell: str, number: int) -> list[str]:
        separator = next((s for s in SEPARATORS if s in cell), None)
        if separator is None or _LIST.match(cell):
            return [cell]
        parts = self._parts(cell, separator)
        if len(parts) > 1 and not parts[-1]:
            parts.pop()
            self._notice("at the end", number)
        if len(parts) > 1:
            self._notice(separator, number)
        return parts

    def _parts(self, cell: str, separator: str) -> list[str]:
        """The parts between separators; those that together are a declared name stay together."""
        parts = cell.split(separator)
        longest = self._longest[separator]
        if longest == 1:
            return [part.strip() for part in parts]
        found, begin = [], 0
        while begin < len(parts):
            ends = range(min(begin + longest, len(parts)), begin, -1)
            tried = ((end, separator.join(parts[begin:end]).strip()) for end in ends)
            end, name = next((e, n) for e, n in tried if n in self._names or e == begin + 1)
            found.append(name)
            begin = end
        return found

    def _notice(self, what: str, number: int) -> None:
        self._joined[what] += 1
        self._first.setdefault(what, number)


_LIST = re.compile(r"\s*\[\s*'.*'\s*\]\s*", re.DOTALL)  # as Python writes one: check_label says so
SPLIT_HINT = 'a name that contains it is written as a list, ["..."], or declared in labels.json'
# what is noticed besides separators: the words after the number of rows, and what to do
NOTICED = {
    "one name": (
        "with | or ; in the label: each is read as one name.",
        "several labels a row are in a column named labels, or of the task multilabel",
    ),
    "at the end": (
        "with a separator behind the last label: passed over.",
        "nothing, if no label is missing there",
    ),
}
