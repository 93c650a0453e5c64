"""Where predictions go: JSON Lines, a JSON list, CSV or Parquet by suffix; "-": standard output."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import followed, replacing

Row = Mapping[str, Any]
Rows = Iterable[Row]
# what makes a spreadsheet read a text as a formula, full-width forms included; and the apostrophe
# itself, so that removing one leading apostrophe gives back every text
_FORMULA_STARTS = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r", "\n", "'")
_COLUMNS = (
    "index",
    "labels",
    "score",
    "scores",
    "error",
    "truncated",
    "abstained",
    "out_of_domain",
)
_ROW_GROUP = 8192


@dataclass(frozen=True, slots=True)
class Lines:
    """A format that is written row after row: how the file begins, and the bytes of a row.

    What stands between two rows and after the last is empty where each row is a line of its own.
    """

    head: bytes
    row: Callable[[Row], bytes]
    between: bytes = b""
    tail: bytes = b""

    def next_row(self, row: Row, before: int) -> bytes:
        """The bytes of a row after so many others."""
        return (self.between if before else b"") + self.row(row)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows written, how many of them are errors, and how many were too long to be read whole."""

    rows: int = 0
    errors: int = 0
    truncated: int = 0

    def plus(self, row: Row) -> Counts:
        """These and one row more."""
        truncated = self.truncated + bool(row.get("truncated"))
        return Counts(self.rows + 1, self.errors + ("error" in row), truncated)


def write_predictions(rows: Rows, path: str, *, plain_csv: bool = False) -> Counts:
    """Write all rows, and count them.

    Cells of CSV that a spreadsheet would take for formulas are defused unless `plain_csv`. A file
    appears under its name only when it is complete; what a link leads to is written, and a pipe or
    device gets the rows as they come. ConfigError for an unknown suffix, DataError when the file
    cannot be written, BrokenPipeError when nobody reads standard output any more.
    """
    counted = _Counted(rows)
    if path == "-":
        for row in counted:
            with _printing():
                sys.stdout.write(_json_line(row).decode())
        with _printing():
            sys.stdout.flush()
        return counted.counts
    suffix = check_suffix(path)
    with writing(path), replacing(followed(Path(path))) as scratch, scratch.open("wb") as file:
        if suffix in LINES:
            lines = lines_of(path, plain_csv=plain_csv)
            file.write(lines.head)
            file.writelines(lines.next_row(row, i) for i, row in enumerate(counted))
            file.write(lines.tail)
        else:
            _write_parquet(counted, _Told(file))
    return counted.counts


def check_suffix(path: str) -> str:
    """The suffix of an output file in lower case. ConfigError when nothing is written so."""
    suffix = Path(path).suffix.lower()
    if suffix not in (*LINES, ".parquet"):
        raise ConfigError(
            f"the output's suffix must be one of {sorted([*LINES, '.parquet'])}, or - for standard "
            f"output. Got {suffix!r} instead."
        )
    return suffix


def lines_of(path: str, *, plain_csv: bool = False) -> Lines:
    """How the rows of an output file are written, by its suffix, which is one of LINES."""
    lines = LINES[check_suffix(path)]
    return replace(lines, row=_plain_csv_line) if plain_csv and lines.row is _csv_line else lines


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """DataError instead of what the system says when a file cannot be written."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _printing() -> Iterator[None]:
    try:
        with writing("standard output"):
            yield
    except DataError as error:
        if isinstance(error.__cause__, BrokenPipeError):
            raise error.__cause__ from None
        raise


class _Counted:
    def __init__(self, rows: Rows) -> None:
        self._source = rows
        self.counts = Counts()

    def __iter__(self) -> Iterator[Row]:
        for row in self._source:
            self.counts = self.counts.plus(row)
            yield row


def _json_line(row: Row) -> bytes:
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _csv_line(row: Row) -> bytes:
    return _csv([_cell(value) for value in _columns(row)])


def _plain_csv_line(row: Row) -> bytes:
    return _csv(_columns(row))


def _csv(cells: Iterable[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _columns(row: Row) -> list[Any]:
    labels, scores = row.get("labels"), row.get("scores")
    return [
        row.get("index"),
        None if labels is None else "|".join(labels),
        row.get("score"),
        None if scores is None else json.dumps(scores, ensure_ascii=False),
        row.get("error"),
        row.get("truncated"),
        row.get("abstained"),
        row.get("out_of_domain"),
    ]


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe in front.

    Numbers are left alone.
    """
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return value


class _Told(io.RawIOBase):
    """A file that knows how far it is by what it was given: a pipe cannot be asked."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        written = self._file.write(content)
        self._at += written
        return written

    def tell(self) -> int:
        return self._at


def _write_parquet(rows: Rows, file: io.RawIOBase) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            "writing Parquet needs pyarrow.", hint="pip install 'bert-cls[tables]'"
        ) from error
    text = pa.string()
    kinds = (text, pa.list_(text), pa.float64(), text, text, pa.bool_(), pa.bool_(), pa.float64())
    schema = pa.schema(list(zip(_COLUMNS, kinds, strict=True)))
    with pq.ParquetWriter(file, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            index, _, *others = _columns(row)
            cells = (None if index is None else str(index), row.get("labels"), *others)
            batch.append(dict(zip(_COLUMNS, cells, strict=True)))
            if len(batch) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))


# CSV begins with a byte order mark: Excel takes a CSV without one for the system's own encoding
LINES: dict[str, Lines] = {
    ".jsonl": Lines(b"", _json_line),
    ".json": Lines(b"[\n", orjson.dumps, b",\n", b"\n]\n"),
    ".csv": Lines("\ufeff".encode() + _csv(_COLUMNS), _csv_line),
}
