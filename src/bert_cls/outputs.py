"""Where predictions go: JSON Lines, CSV or Parquet by suffix; "-" is standard output."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import orjson

from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import replacing

Rows = Iterable[Mapping[str, Any]]
_COLUMNS = ("index", "labels", "score", "scores", "error", "abstained", "out_of_domain")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_predictions(rows: Rows, path: str) -> tuple[int, int]:
    """Write all rows; gives how many were written and how many of them are errors.

    A file appears under its name only when it is complete. ConfigError for an unknown suffix.
    """
    counted = _Counted(rows)
    if path == "-":
        _jsonl(counted, sys.stdout)
        return counted.rows, counted.errors
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise ConfigError(
            f"the output's suffix must be one of {sorted(WRITERS)}, or - for standard output. "
            f"Got {suffix!r} instead."
        )
    with replacing(Path(path)) as scratch:
        WRITERS[suffix](counted, scratch)
    return counted.rows, counted.errors


class _Counted:
    def __init__(self, rows: Rows) -> None:
        self._source = rows
        self.rows = 0
        self.errors = 0

    def __iter__(self) -> Any:
        for row in self._source:
            self.rows += 1
            self.errors += "error" in row
            yield row


def _jsonl(rows: Rows, stream: TextIO) -> None:
    for row in rows:
        stream.write(orjson.dumps(row).decode() + "\n")
    with suppress(BrokenPipeError):
        stream.flush()


def _jsonl_file(rows: Rows, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        _jsonl(rows, stream)


def _csv_file(rows: Rows, path: Path) -> None:
    # utf-8-sig: Excel takes a CSV without the mark for the system's own encoding
    with path.open("w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*_COLUMNS])
        for row in rows:
            writer.writerow([_cell(value) for value in _columns(row)])


def _columns(row: Mapping[str, Any]) -> list[Any]:
    labels, scores = row.get("labels"), row.get("scores")
    return [
        row.get("index"),
        None if labels is None else "|".join(labels),
        row.get("score"),
        None if scores is None else json.dumps(scores, ensure_ascii=False),
        row.get("error"),
        "true" if row.get("abstained") else None,
        row.get("out_of_domain"),
    ]


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return "'" + value
    return "" if value is None else value


def _parquet_file(rows: Rows, path: Path) -> None:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DataError(
            "writing Parquet needs pyarrow.", hint="pip install 'bert-cls[tables]'"
        ) from error
    schema = pa.schema(
        [
            ("index", pa.string()),
            ("labels", pa.list_(pa.string())),
            ("score", pa.float64()),
            ("scores", pa.string()),
            ("error", pa.string()),
            ("abstained", pa.bool_()),
            ("out_of_domain", pa.float64()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            index, _, score, scores, failure, _, strange = _columns(row)
            batch.append(
                {
                    "index": None if index is None else str(index),
                    "labels": row.get("labels"),
                    "score": score,
                    "scores": scores,
                    "error": failure,
                    "abstained": bool(row.get("abstained")),
                    "out_of_domain": strange,
                }
            )
            if len(batch) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(pa.Table.from_pylist(batch, schema=schema))


_ROW_GROUP = 8192
WRITERS: dict[str, Callable[[Rows, Path], None]] = {
    ".jsonl": _jsonl_file,
    ".json": _jsonl_file,
    ".csv": _csv_file,
    ".parquet": _parquet_file,
}
