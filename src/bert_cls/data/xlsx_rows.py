"""xlsx: the first sheet, whose first row names the columns; cells mean what cells.py says."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from bert_cls.data.cells import CellReader, TableRow, column_names
from bert_cls.data.layout import KNOWN_KEYS, LABEL_KEYS
from bert_cls.data.merged_cells import MergedCells, merged_ranges
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.rows import as_written
from bert_cls.data.source import Source
from bert_cls.data.tables import missing, plain_file
from bert_cls.errors import DataError

if TYPE_CHECKING:
    from openpyxl.cell.read_only import ReadOnlyCell
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

MOST_ROWS = 1 << 20  # of a sheet, by Excel's own limit: a damaged row number would have us count on
# What openpyxl raises, besides its own, on a workbook that is damaged inside.
BROKEN = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)
FORMULA_HINT = "open the file in Excel or LibreOffice and save it: that stores the values"
BOOLEAN_HINT = "make the column a text column in Excel and type the word again"
ERROR_HINT = "mend the formula, or write what was meant"
# types of cells: an error; without a value: the text of a formula that is empty, and all else
ERROR, EMPTY_TEXT, MAYBE_FORMULA = "e", "str", "n"
Cells = Sequence["ReadOnlyCell"]


def read_xlsx(source: Source, options: Options) -> Iterator[RawRow]:
    """(sheet row, row) of the first sheet; a formula counts as the value stored with it."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise missing(source, "openpyxl") from None
    from zipfile import BadZipFile

    path = plain_file(source)
    # what it cannot keep when it writes; nothing is written here
    warnings.filterwarnings("ignore", category=UserWarning, module="openpyxl")
    try:
        with ExitStack() as books:

            def first_sheet(*, values: bool) -> ReadOnlyWorksheet:
                file = books.enter_context(path.open("rb"))  # which stays open when that fails
                book = load_workbook(file, read_only=True, data_only=values)
                books.enter_context(closing(book))
                if not book.worksheets:
                    raise ValueError("it has no sheet of cells")
                sheet = book.worksheets[0]
                others = [name for name in book.sheetnames if name != sheet.title]
                if others and values:
                    message = f"sheet {sheet.title!r} is read, and not {some(others)}."
                    source.notes.append(Problem("D39", source.name, "", None, message, "note"))
                sheet.reset_dimensions()  # some programs write a size that is too small
                return sheet

            sheet = first_sheet(values=True)
            with sheet._get_source() as content:
                merged = MergedCells(merged_ranges(content), sheet.title)
            formulas = _Formulas(lambda: first_sheet(values=False).iter_rows())
            yield from _rows(sheet.iter_rows(), formulas, merged, source, options)
    except (BadZipFile, InvalidFileException, *BROKEN) as error:
        raise DataError(
            f"{source.name}: cannot be read as xlsx: {error}",
            hint="open it in Excel or LibreOffice and save it anew, or as csv",
        ) from None


class _Formulas:
    """The cells of the sheet as they were typed, opened when a row is asked for; rows rise."""

    def __init__(self, cells: Callable[[], Iterator[Cells]]) -> None:
        self._open = cells
        self._rows: Iterator[Cells] | None = None
        self._number = 0

    def row(self, number: int) -> list[str | None]:
        """The formulas of a row, counted from 1; None where a cell has none."""
        if self._rows is None:
            self._rows = self._open()
        found = next(islice(self._rows, number - self._number - 1, None), ())
        self._number = number
        return [_formula(cell) if cell.data_type == "f" else None for cell in found]


def _formula(cell: ReadOnlyCell) -> str:
    value = cell.value
    # that of several cells is an object with a text, and what-if tables have none
    return value if isinstance(value, str) else getattr(value, "text", None) or "a what-if table"


def _rows(
    sheet: Iterator[Cells],
    formulas: _Formulas,
    merged: MergedCells,
    source: Source,
    options: Options,
) -> Iterator[RawRow]:
    names: list[str] | None = None
    table = CellReader(options, "row {number}")
    for number, cells in enumerate(sheet, 1):
        if number > MOST_ROWS:
            raise ValueError(f"a row has a number over {MOST_ROWS:,}")
        filled = max(
            (place for place, cell in enumerate(cells, 1) if cell.value is not None), default=0
        )
        if names is None:
            titles = ["" if cell.value is None else str(_value(cell)) for cell in cells[:filled]]
            names = column_names(titles, source) if titles else None
            continue
        width = max(len(names), filled)
        extra = [f"column {place}" for place in range(len(names) + 1, width + 1)]
        raw = partial(table.row, names + extra, number=number)
        row = _row(names + extra, cells[:width], partial(formulas.row, number), raw, options)
        fault = merged.fault(row, number, names) if isinstance(row, dict) else None
        if row is not None:
            yield number, row if fault is None else replace(fault, raw=as_written(row))
    source.notes += table.notes(source.name)


def _row(
    names: list[str],
    cells: Cells,
    formulas: Callable[[], list[str | None]],
    raw: Callable[[Sequence[object]], TableRow],
    options: Options,
) -> dict[str, object] | Fault | None:
    """The row; None for an empty one, a Fault for a cell that is read and has no text or number."""
    values = [_value(cell) for cell in cells] + [None] * (len(names) - len(cells))
    asked = [
        place
        for place, cell in enumerate(cells)
        if _may_be_formula(cell) and (names[place] in KNOWN_KEYS or options.every_column)
    ]
    typed = dict(enumerate(formulas())) if asked else {}
    without = {names[place]: typed[place] for place in asked if typed.get(place)}
    if not without and all(value is None for value in values):
        return None
    row = raw(values)
    row.update(without)
    errors = {names[place] for place, cell in enumerate(cells) if cell.data_type == ERROR}
    fault = _first_fault(row, without.keys(), errors)
    return row if fault is None else replace(fault, raw=as_written(row))


def _value(cell: ReadOnlyCell) -> object:
    """What a cell holds; characters that XML has not are written there as _x000D_."""
    from openpyxl.utils.escape import unescape

    if cell.value is None and cell.data_type == EMPTY_TEXT:
        return ""
    return unescape(cell.value) if isinstance(cell.value, str) else cell.value


def _may_be_formula(cell: ReadOnlyCell) -> bool:
    """Whether a cell without a value may have a formula; what is no cell at all has none."""
    return hasattr(cell, "row") and cell.value is None and cell.data_type == MAYBE_FORMULA


def _first_fault(row: dict[str, object], without: Set[str], errors: Set[str]) -> Fault | None:
    for name in row:
        if name not in KNOWN_KEYS:
            continue
        if name in without:
            message = f"{name} is a formula without a stored value: {row[name]}."
            return Fault("D05", message, FORMULA_HINT, name)
        if name in errors:
            return Fault("D05", f"{name} is the error {row[name]}, and no text.", ERROR_HINT, name)
        if isinstance(row[name], bool):
            message = f"{name} is the truth value {str(row[name]).upper()}, and no text."
            code = "D11" if name in LABEL_KEYS else "D09"
            return Fault(code, message, BOOLEAN_HINT, name)
    return None
