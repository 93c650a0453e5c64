"""csv and tsv with named columns, record by record; cells mean what cells.py says.

A quote that is never closed would take every later line into its cell. So a record that is no
csv is only its first line, and the lines after it are read again, as rows of their own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace

from bert_cls.data.cells import CellReader, column_names
from bert_cls.data.labels import SURROGATE
from bert_cls.data.problems import Problem, count
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.source import Source
from bert_cls.errors import DataError

LONGEST_CELL = (1 << 31) - 1
MOST_LINES = 100_000  # of one record: it is held in memory until it ends
# Lines that may be read again, besides as many as there are: quotes in disorder would cost N * N.
MOST_REREAD = 5_000_000
# A record of so many lines may be rows that a quote without an end has taken in.
MANY_LINES = 4
MANY_LINES_OF_NO_ROW = 3  # where its cells are too many or too few
QUOTE_HINT = 'every quote that opens a cell needs its closing ", and "" is a quote inside a cell'


def read_csv(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, row) of a comma-separated file, `line` being where the row begins."""
    return _read(source, options, ",")


def read_tsv(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, row) of a tab-separated file; cells may be quoted as in csv."""
    return _read(source, options, "\t")


class _Lines(Iterator[str]):
    """Lines for csv.reader, of which those of the record at hand can be read again.

    `number` is the line, from 1, where that record begins, and `taken` are its lines so far.
    """

    def __init__(self, source: Source) -> None:
        self.number = 1
        self.taken: list[str] = []
        self._source = source
        self._next_line = source.lines().__next__
        self._again: list[str] = []
        self._reread = 0

    def __next__(self) -> str:
        taken = self.taken
        if len(taken) == MOST_LINES:
            raise csv.Error(f"a quoted cell of over {MOST_LINES:,} lines begins here")
        if self._again:
            line = self._again.pop()
        else:
            line = self._next_line().decode(self._source.codec, "surrogateescape") + "\n"
        taken.append(line)
        return line

    def begin(self) -> None:
        """The next line begins a record."""
        self.number += len(self.taken)
        self.taken.clear()

    def give_back(self) -> None:
        """All lines of the record but the first are to be read again."""
        self._again += self.taken[:0:-1]
        self._reread += len(self.taken) - 1
        del self.taken[1:]
        if self._reread > MOST_REREAD + self.number + len(self._again):
            raise DataError(
                f"{self._source.name}: line {self.number}: too many quotes up to here open a cell "
                "that is not closed.",
                hint=QUOTE_HINT,
            )


def _read(source: Source, options: Options, delimiter: str) -> Iterator[RawRow]:
    # The module's own limit is 128 KiB a cell, and it is one for the whole process.
    csv.field_size_limit(LONGEST_CELL)
    lines = _Lines(source)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    names: list[str] | None = None
    table = CellReader(options, "line {number}")
    many_lines = _Noted()
    while True:
        lines.begin()
        fault = None
        try:
            cells = next(reader, None)
        except csv.Error as error:
            cells, fault = [], _malformed(error, lines)
        if cells is None:
            break
        if not cells and fault is None:
            continue
        if names is None:
            names = _header(cells, fault, lines, delimiter, source)
            continue
        row = fault or _row(names, cells, lines, source, table)
        many = MANY_LINES_OF_NO_ROW if isinstance(row, Fault) else MANY_LINES
        swallowed = len(lines.taken) >= many and _are_rows(lines.taken, names, delimiter)
        if isinstance(row, Fault):
            if fault or swallowed:
                lines.give_back()
            row = replace(row, raw="".join(lines.taken).removesuffix("\n"))
        elif swallowed:
            many_lines.add(lines.number)
        yield lines.number, row
    source.notes += table.notes(source.name)
    if many_lines.rows:
        source.notes.append(_many_lines_note(many_lines, source.name))


class _Noted:
    """Rows with something worth a note: how many, and the line of the first."""

    def __init__(self) -> None:
        self.rows = self.first = 0

    def add(self, line: int) -> None:
        self.rows += 1
        self.first = self.first or line


def _header(
    cells: list[str], fault: Fault | None, lines: _Lines, delimiter: str, source: Source
) -> list[str]:
    if fault is not None:
        raise DataError(f"{source.name}: line {lines.number}: {fault.message}", hint=fault.hint)
    if len(lines.taken) >= MANY_LINES:
        end = lines.number + len(lines.taken) - 1
        raise DataError(
            f"{source.name}: the names of the columns go from line {lines.number} to line {end}.",
            hint=QUOTE_HINT,
        )
    return column_names([cells[0].removeprefix("\ufeff"), *cells[1:]], source, delimiter)


def _row(
    names: list[str], cells: list[str], lines: _Lines, source: Source, table: CellReader
) -> dict[str, object] | Fault:
    if len(cells) != len(names):
        message = f"{count(len(cells), 'cell')} where the first line names {len(names)} columns"
        end = lines.number + len(lines.taken) - 1
        message += f" (lines {lines.number} to {end})." if end > lines.number else "."
        hint = 'a cell that holds the separator or a line break stands in quotes: "..."'
        return Fault("D05", message, hint)
    for cell in cells:
        if not cell.isprintable() and SURROGATE.search(cell):
            hint = "mend that place, or say what the file is with --encoding"
            return Fault("D02", f"a cell holds bytes that are not {source.codec}.", hint)
    return table.row(names, cells, lines.number)


def _malformed(error: csv.Error, lines: _Lines) -> Fault:
    end = lines.number + len(lines.taken) - 1
    if "unexpected end" in str(error):
        message = "the file ends inside a quoted cell that begins here"
        message += ": is it still being written?" if end == lines.number else "."
        return Fault("D04", message, QUOTE_HINT)
    if "new-line character" in str(error):
        message = "a carriage return stands outside of quotes."
        hint = "put the cell in quotes, or save the file with lines that end in LF or CRLF"
        return Fault("D05", message, hint)
    place = f" at line {end}" if end > lines.number else ""
    return Fault("D05", f"not csv: {error}{place}.", QUOTE_HINT)


def _are_rows(lines: list[str], names: list[str], delimiter: str) -> bool:
    """Whether most of the lines inside a record look like rows: a quote before may be too much."""
    if len(names) < 2:
        return False
    inner = lines[1:-1]
    rows = sum(_width(line, delimiter) == len(names) for line in inner)
    return rows > len(inner) / 2


def _width(line: str, delimiter: str) -> int:
    try:
        return len(next(csv.reader([line], delimiter=delimiter, strict=True)))
    except csv.Error:
        return 0


def _many_lines_note(noted: _Noted, file: str) -> Problem:
    message = (
        f"{count(noted.rows, 'row')} of many lines that look like rows of their own: read as one "
        "row each, for they stand in quotes."
    )
    return Problem("D05", file, f"line {noted.first}", None, message, "note", QUOTE_HINT)
