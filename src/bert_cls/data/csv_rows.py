"""csv and tsv with named columns, in constant memory; cells mean what cells.py says."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from bert_cls.data.cells import SEPARATORS, check_columns, row_of_cells
from bert_cls.data.labels import SURROGATE
from bert_cls.data.layout import LABEL_KEYS
from bert_cls.data.problems import Problem, count
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.source import Source

LONGEST_CELL = (1 << 31) - 1


def read_csv(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, row) of a comma-separated file, `line` being where the row begins."""
    return _read(source, options, ",")


def read_tsv(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, row) of a tab-separated file; cells may be quoted as in csv."""
    return _read(source, options, "\t")


def _read(source: Source, options: Options, delimiter: str) -> Iterator[RawRow]:
    # The module's own limit is 128 KiB a cell, and it is one for the whole process.
    csv.field_size_limit(LONGEST_CELL)
    reader = csv.reader(_text_lines(source), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    joined, first_joined = 0, 0
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield line, _malformed(error, source)
            continue
        if cells is None:
            break
        if not cells:
            continue
        if names is None:
            names = [name.removeprefix("\ufeff") for name in cells]
            check_columns(names, source.name)
            continue
        row = _row(names, cells, source, options)
        if isinstance(row, dict) and _looks_joined(row):
            joined, first_joined = joined + 1, first_joined or line
        yield line, row
    if joined:
        source.notes.append(_joined_note(joined, f"line {first_joined}", source.name))


def _text_lines(source: Source) -> Iterator[str]:
    for line in source.lines():
        yield line.decode(source.codec, "surrogateescape") + "\n"


def _row(
    names: list[str], cells: list[str], source: Source, options: Options
) -> dict[str, object] | Fault:
    if len(cells) != len(names):
        message = f"{count(len(cells), 'cell')} where the first line names {len(names)} columns."
        hint = 'a cell that holds the separator or a line break stands in quotes: "..."'
        return Fault("D05", message, hint, raw=str(cells))
    for cell in cells:
        if not cell.isprintable() and SURROGATE.search(cell):
            hint = "mend that place, or say what the file is with --encoding"
            return Fault("D02", f"a cell holds bytes that are not {source.codec}.", hint)
    return row_of_cells(names, cells, options.task)


def _malformed(error: csv.Error, source: Source) -> Fault:
    if "unexpected end" in str(error):
        message = "the file ends inside a quoted cell: is it still being written?"
        return Fault("D04", message, 'every quote that opens a cell needs its closing "')
    hint = 'a quote inside a quoted cell is written twice: ""'
    return Fault("D05", f"not csv: {error}.", hint)


def _looks_joined(row: dict[str, object]) -> bool:
    label = next((row[key] for key in LABEL_KEYS if key in row), None)
    return isinstance(label, str) and any(separator in label for separator in SEPARATORS)


def _joined_note(n: int, place: str, file: str) -> Problem:
    message = f"{count(n, 'label')} with | or ; in it: each is read as one name."
    hint = "several labels a row are in a column named labels, or of the task multilabel"
    return Problem("D32", file, place, "label", message, "note", hint)
