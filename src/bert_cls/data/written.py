"""Rows written back as they were read: JSON lists, JSON Lines, csv and tsv."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from bert_cls.data.labels import SURROGATE
from bert_cls.data.raw import NumberLiteral

RawRows = Iterable[Mapping[str, object]]


def dumped(value: object) -> str:
    """JSON text of a parsed value; a NumberLiteral is a number again, half characters escapes."""
    if isinstance(value, NumberLiteral):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=SURROGATE.search(value) is not None)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{dumped(str(k))}: {dumped(v)}' for k, v in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(dumped, value))}]"
    return json.dumps(value, default=_as_text)


def _as_text(value: object) -> str:
    """Bytes in base64, and dates and the like as they are printed."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """A UTF-8 file to write, packed when its name ends in .gz."""
    if path.suffix.lower() != ".gz":
        with path.open("w", encoding="utf-8", newline="") as plain:
            yield plain
        return
    with (
        path.open("wb") as raw,
        # without a name and a time the same rows give the same bytes
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text


def _json_list(rows: RawRows, file: TextIO) -> None:
    before = "[\n"
    for row in rows:
        file.write(f"{before}{dumped(row)}")
        before = ",\n"
    file.write("\n]\n")


def _json_lines(rows: RawRows, file: TextIO) -> None:
    for row in rows:
        file.write(f"{dumped(row)}\n")


def _csv(rows: RawRows, file: TextIO, delimiter: str = ",") -> None:
    for place, row in enumerate(rows):
        if not place:
            file.write(_line(row, delimiter))
        file.write(_line(row.values(), delimiter))


def _tsv(rows: RawRows, file: TextIO) -> None:
    _csv(rows, file, "\t")


def _line(values: Iterable[object], delimiter: str) -> str:
    # not csv.writer: it leaves a lone carriage return unquoted, which csv.reader then refuses
    cells = ["" if value is None else _text(value) for value in values]
    special = (delimiter, QUOTE, "\r", "\n")
    quoted = [
        f'"{cell.replace(QUOTE, QUOTE * 2)}"' if any(c in cell for c in special) else cell
        for cell in cells
    ]
    return f"{delimiter.join(quoted) or QUOTE * 2}\n"


def _text(value: object) -> str:
    return value if isinstance(value, str) else dumped(value)


QUOTE = '"'
# suffix: the words for it, and what writes it
WRITERS: dict[str, tuple[str, Callable[[RawRows, TextIO], None]]] = {
    ".json": ("a JSON list in UTF-8", _json_list),
    ".jsonl": ("JSON Lines in UTF-8", _json_lines),
    ".ndjson": ("JSON Lines in UTF-8", _json_lines),
    ".csv": ("csv in UTF-8", _csv),
    ".tsv": ("tsv in UTF-8", _tsv),
}
OTHERWISE = ".jsonl"
