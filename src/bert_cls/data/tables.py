"""parquet and xlsx, which need the extra `tables`; nothing is inferred from the values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bert_cls.data.cells import check_columns, row_of_cells
from bert_cls.data.layout import KNOWN_KEYS
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import Options, RawRow
from bert_cls.data.source import Source
from bert_cls.errors import DataError

BATCH_ROWS = 1024
# What openpyxl raises, besides its own, on a workbook that is damaged inside.
BROKEN = (KeyError, OSError, SyntaxError, TypeError, ValueError)
INSTALL = 'pip install "bert-cls[tables]"'


def read_parquet(source: Source, options: Options) -> Iterator[RawRow]:
    """(row from 1, row) in constant memory; list columns are lists of names."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise _missing(source, "pyarrow") from None
    try:
        with parquet.ParquetFile(_path(source)) as file:
            names = file.schema_arrow.names
            check_columns(names, source.name)
            # Other columns may hold what Python has no value for; their names are enough.
            known = [name for name in names if name in KNOWN_KEYS]
            blank = dict.fromkeys(names)
            number, rows = 0, max(1, file.metadata.num_rows)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=known):
                for row in batch.to_pylist():
                    number += 1
                    source.share = number / rows
                    yield number, {**blank, **row}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{source.name}: cannot be read as parquet: {error}") from None


def read_xlsx(source: Source, options: Options) -> Iterator[RawRow]:
    """(sheet row, row) of the first sheet, whose first row names the columns."""
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise _missing(source, "openpyxl") from None
    from zipfile import BadZipFile

    try:
        with closing(load_workbook(_path(source), read_only=True, data_only=True)) as book:
            sheet, *others = book.sheetnames
            if others:
                message = f"sheet {sheet!r} is read, and not {some(others)}."
                source.notes.append(Problem("D39", source.name, "", None, message, "note"))
            yield from _sheet_rows(book[sheet].iter_rows(values_only=True), source, options)
    except (BadZipFile, InvalidFileException, *BROKEN) as error:
        raise DataError(f"{source.name}: cannot be read as xlsx: {error}") from None


def _sheet_rows(
    sheet: Iterator[tuple[object, ...]], source: Source, options: Options
) -> Iterator[RawRow]:
    names: list[str] | None = None
    for number, cells in enumerate(sheet, 1):
        while cells and cells[-1] is None:
            cells = cells[:-1]
        if not cells:
            continue
        if names is None:
            names = [str(cell or "") for cell in cells]
            check_columns(names, source.name)
            continue
        width = max(len(names), len(cells))
        padded = cells + (None,) * (width - len(cells))
        extra = [f"column {place}" for place in range(len(names) + 1, width + 1)]
        yield number, row_of_cells(names + extra, padded, options.task)


def _path(source: Source) -> Path:
    if source.path is None or source.path.suffix.lower() == ".gz":
        raise DataError(f"{source.name}: parquet and xlsx are read from plain files only.")
    return source.path


def _missing(source: Source, module: str) -> DataError:
    return DataError(
        f"{source.name}: reading {source.suffix[1:]} needs {module}, which is not installed.",
        hint=INSTALL,
    )
