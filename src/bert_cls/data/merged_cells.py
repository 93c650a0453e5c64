"""Merged cells of an Excel sheet: the first one of a range has its value, the others are empty.

They are read from the sheet's XML in constant memory but for the ranges themselves, of which
there is a limit, for openpyxl has them only where it holds whole sheets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from xml.parsers import expat

from bert_cls.data.layout import KNOWN_KEYS
from bert_cls.data.raw import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MOST_RANGES = 100_000
HINT = "unmerge the cells, and write the value into each row"
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """Cells from the first to the last row and column, counted from 1; `name` is such as B2:B4."""

    name: str
    first_column: int
    first_row: int
    last_column: int
    last_row: int


def merged_ranges(sheet: IO[bytes]) -> list[Range]:
    """The merged ranges of a sheet's XML. ValueError when it is no sheet, or there are too many."""
    from openpyxl.utils.cell import range_boundaries

    found: list[Range] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        if tag.rpartition(":")[2] != "mergeCell":
            return
        if len(found) == MOST_RANGES:
            raise ValueError(f"it has over {MOST_RANGES:,} merged ranges")
        name = attributes.get("ref", "")
        bounds = range_boundaries(name)
        if None in bounds:
            raise ValueError(f"the merged range {name!r} has no end")
        found.append(Range(name, *bounds))

    def doctype(*_: Any) -> None:
        raise ValueError("its XML declares a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = doctype
    try:
        while piece := sheet.read(_PIECE):
            parser.Parse(piece)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(str(error)) from None
    return sorted(found, key=lambda merged: merged.first_row)


class MergedCells:
    """Which cells of the named columns lost their value to a merged range; rows rise."""

    def __init__(self, ranges: Sequence[Range], title: str) -> None:
        self._title = title
        self._ranges = ranges
        self._begun = 0
        self._open: dict[int, Range] = {}

    def fault(self, row: Mapping[str, object], number: int, names: Sequence[str]) -> Fault | None:
        """What is wrong with a row of the sheet where a cell that is read is covered and empty."""
        columns = {place: name for place, name in enumerate(names, 1) if name in KNOWN_KEYS}
        self._begin(number, columns)
        for place, name in columns.items():
            merged = self._open.get(place)
            if merged is None or number > merged.last_row or row[name] not in (None, ""):
                continue
            if (number, place) != (merged.first_row, merged.first_column):
                message = f"{name} is empty, for it is one of the merged cells {merged.name} of "
                message += f"sheet {self._title!r}, of which only the first has the value."
                return Fault("D05", message, HINT, name)
        return None

    def _begin(self, number: int, columns: Mapping[int, str]) -> None:
        """Take in the ranges that begin up to a row; of each column the one that ends last."""
        while self._begun < len(self._ranges) and self._ranges[self._begun].first_row <= number:
            merged = self._ranges[self._begun]
            self._begun += 1
            for place in columns:
                if merged.first_column <= place <= merged.last_column:
                    before = self._open.get(place)
                    if before is None or before.last_row < merged.last_row:
                        self._open[place] = merged
