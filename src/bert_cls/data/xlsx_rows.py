"""xlsx: the first sheet, whose first row names the columns; cells mean what cells.py says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from itertools import islice

from bert_cls.data.cells import column_names, row_of_cells
from bert_cls.data.layout import KNOWN_KEYS, LABEL_KEYS
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.rows import as_written
from bert_cls.data.source import Source
from bert_cls.data.tables import missing, plain_file
from bert_cls.errors import DataError

# What openpyxl raises, besides its own, on a workbook that is damaged inside.
BROKEN = (KeyError, OSError, SyntaxError, TypeError, ValueError)
FORMULA_HINT = "open the file in Excel or LibreOffice and save it: that stores the values"
BOOLEAN_HINT = "make the column a text column in Excel and type the word again"
Cells = tuple[object, ...]


def read_xlsx(source: Source, options: Options) -> Iterator[RawRow]:
    """(sheet row, row) of the first sheet; a formula counts as the value stored with it."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise missing(source, "openpyxl") from None
    from zipfile import BadZipFile

    path = plain_file(source)
    try:
        with ExitStack() as books:

            def cells(*, values: bool) -> Iterator[Cells]:
                book = load_workbook(path, read_only=True, data_only=values)
                books.enter_context(closing(book))
                sheet, *others = book.sheetnames
                if others and values:
                    message = f"sheet {sheet!r} is read, and not {some(others)}."
                    source.notes.append(Problem("D39", source.name, "", None, message, "note"))
                found: Iterator[Cells] = book[sheet].iter_rows(values_only=True)
                return found

            formulas = _Formulas(lambda: cells(values=False))
            yield from _rows(cells(values=True), formulas, source, options)
    except (BadZipFile, InvalidFileException, *BROKEN) as error:
        raise DataError(f"{source.name}: cannot be read as xlsx: {error}") from None


class _Formulas:
    """The cells of the sheet as they were typed, opened when a row is asked for; rows rise."""

    def __init__(self, cells: Callable[[], Iterator[Cells]]) -> None:
        self._open = cells
        self._rows: Iterator[Cells] | None = None
        self._number = 0

    def row(self, number: int) -> Cells:
        """The cells of a row, counted from 1."""
        if self._rows is None:
            self._rows = self._open()
        found = next(islice(self._rows, number - self._number - 1, None), ())
        self._number = number
        return found


def _rows(
    sheet: Iterator[Cells], formulas: _Formulas, source: Source, options: Options
) -> Iterator[RawRow]:
    names: list[str] | None = None
    for number, cells in enumerate(sheet, 1):
        while cells and cells[-1] is None:
            cells = cells[:-1]
        if names is None:
            if cells:
                names = column_names([str(cell or "") for cell in cells], source)
            continue
        width = max(len(names), len(cells))
        padded = cells + (None,) * (width - len(cells))
        typed = formulas.row(number)[:width] if None in padded else ()
        if not cells and not any(typed):
            continue
        extra = [f"column {place}" for place in range(len(names) + 1, width + 1)]
        titles = names + extra
        without = [
            title
            for title, cell, formula in zip(titles, padded, typed, strict=False)
            if cell is None and formula is not None
        ]
        yield number, _row(titles, padded, without, typed, options)


def _row(
    names: list[str], cells: Cells, without: list[str], typed: Cells, options: Options
) -> dict[str, object] | Fault:
    """The row; a Fault where one of the columns `without` a value is one that is read."""
    row = row_of_cells(names, cells, options.task)
    formulas = dict(zip(names, map(str, typed), strict=False))
    for name in without:
        row[name] = formulas[name]
    fault = _first_fault(row, without)
    return row if fault is None else replace(fault, raw=as_written(row))


def _first_fault(row: dict[str, object], without: list[str]) -> Fault | None:
    for name in row:
        if name not in KNOWN_KEYS:
            continue
        if name in without:
            message = f"{name} is a formula without a stored value: {row[name]}."
            return Fault("D05", message, FORMULA_HINT, name)
        if isinstance(row[name], bool):
            message = f"{name} is the truth value {str(row[name]).upper()}, and no text."
            code = "D11" if name in LABEL_KEYS else "D09"
            return Fault(code, message, BOOLEAN_HINT, name)
    return None
