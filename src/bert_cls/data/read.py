"""Read rows from a file of any supported format: all of them checked, or one after another."""

from __future__ import annotations

import json
from array import array
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bert_cls.data.csv_rows import read_csv, read_tsv
from bert_cls.data.example import Example, Task
from bert_cls.data.exports import adapt
from bert_cls.data.json_array import read_json_array
from bert_cls.data.jsonl import read_jsonl
from bert_cls.data.layout import LABEL_KEYS, TEXT_KEYS
from bert_cls.data.parquet_rows import read_parquet
from bert_cls.data.problems import Problem, raise_errors
from bert_cls.data.raw import Options, Reader
from bert_cls.data.rows import KEYLESS_HINT, RowChecker, Rows, as_written
from bert_cls.data.source import Source, opened
from bert_cls.data.task import fit_labels
from bert_cls.data.xlsx_rows import read_xlsx
from bert_cls.errors import ConfigError, DataError

OnBadRow = Literal["fail", "quarantine"]
ON_BAD_ROW = ("fail", "quarantine")
JSON_BLANK = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Format:
    """A reader, and how to say where one of its rows is."""

    reader: Reader
    place: str


class RowStream(Iterator[Example | Problem]):
    """Rows of a file one after another (see `stream`)."""

    def __init__(self, path: str | Path, options: Options, *, encoding: str | None) -> None:
        self._source: Source | None = None
        self._rows = 0
        self._items = self._read(path, options, encoding)

    def __next__(self) -> Example | Problem:
        item = next(self._items)
        self._rows += isinstance(item, Example) or item.severity == "error"
        return item

    @property
    def expected(self) -> int | None:
        """About how many rows the file has, by those so far; None where that cannot be known."""
        share = None if self._source is None else self._source.share
        return round(self._rows / share) if share else None

    def close(self) -> None:
        """Close the file."""
        self._items.close()

    def _read(
        self, path: str | Path, options: Options, encoding: str | None
    ) -> Generator[Example | Problem]:
        with opened(path, encoding=encoding) as source:
            self._source = source
            found = find_format(source)
            checker = RowChecker(source.name, found.place, options)
            yield from _take(source.notes)
            for *_, item in _checked(source, found.reader, checker, options):
                yield item if isinstance(item, Example) else _one(item)
            yield from _take(source.notes)
            yield from checker.notes()


def stream(
    path: str | Path,
    *,
    encoding: str | None = None,
    task: Task | None = None,
    coerce_numbers: bool = False,
    fix_unicode: bool = False,
) -> RowStream:
    """Rows in file order, in constant memory save for JSON lists; "-" is standard input.

    Each row gives exactly one item: its Example, or its first Problem of severity "error" (which
    counts the others). Problems of severity "note" come in between and belong to no row. What
    needs the whole file, doubled indices and the task, is not checked here. DataError for what is
    wrong with the file itself, after the rows before that place.
    """
    options = Options(coerce_numbers=coerce_numbers, fix_unicode=fix_unicode, task=task)
    return RowStream(path, options, encoding=encoding)


def read(
    path: str | Path,
    *,
    encoding: str | None = None,
    task: Task | None = None,
    names: Iterable[str] = (),
    on_bad_row: OnBadRow = "fail",
    coerce_numbers: bool = False,
    fix_unicode: bool = False,
) -> Rows:
    """All rows of a file; with a `task`, DataError unless their labels fit it.

    A `task` also settles what cells of csv, tsv and xlsx mean and takes the one label out of the
    lists of exports. Integers become class names in class tasks. `names` are label names that stay
    whole in a cell of several labels.

    With on_bad_row="fail" any bad row is a DataError that lists them all; with "quarantine" they
    are left out and stand in `problems` with their raw text.
    """
    check_on_bad_row(on_bad_row)
    options = Options(coerce_numbers, fix_unicode, task, names=frozenset(names))
    rows = collect(path, options, encoding=encoding)
    check_any(rows)
    if on_bad_row == "fail":
        raise_errors(rows.problems)
    if task == "multilabel":
        rows = without_keyless(rows, on_bad_row)
    return rows if task is None else fit_labels(rows, task)


def without_keyless(rows: Rows, on_bad_row: OnBadRow) -> Rows:
    """The rows, for multilabel data, without those that lack the key label (D31).

    DataError with on_bad_row="fail"; with "quarantine" each is a problem of the rows that are left.
    """
    keyless = rows.keyless
    if keyless is None:
        return rows
    if on_bad_row == "fail":
        raise_errors([keyless.problem()])
    problems = [
        Problem(
            "D31",
            rows.file,
            rows.place(i),
            "label",
            "the key label is missing, which other rows have.",
            hint=KEYLESS_HINT,
            index=rows.examples[i].index,
            raw=raw,
        )
        for i, raw in keyless.examples
    ]
    left_out = {i for i, _ in keyless.examples}
    kept = rows.only([i for i in range(len(rows.examples)) if i not in left_out])
    return replace(kept, problems=[*rows.problems, *problems], keyless=None)


def check_on_bad_row(on_bad_row: str) -> None:
    """ConfigError unless it is "fail" or "quarantine"."""
    if on_bad_row not in ON_BAD_ROW:
        raise ConfigError(
            f"on_bad_row must be one of {list(ON_BAD_ROW)}. Got {on_bad_row!r} instead."
        )


def collect(path: str | Path, options: Options, *, encoding: str | None = None) -> Rows:
    """All good rows, be it none, and all problems of a file; DataError when it is broken."""
    with opened(path, encoding=encoding) as source:
        return _read_all(source, options)


def check_any(rows: Rows) -> None:
    """DataError with all problems when no row is good."""
    if not rows.examples:
        raise_errors(rows.problems)


def find_format(source: Source) -> Format:
    """The reader for an open file, by its suffix and, for JSON, by how it begins."""
    if source.suffix not in READERS:
        raise DataError(
            f"{source.name}: the suffix must be one of {sorted(READERS)}, "
            f"each of the text formats also with .gz. Got {source.suffix!r} instead."
        )
    if source.suffix not in JSON_SUFFIXES:
        return READERS[source.suffix]
    first, _, rest = source.peek().lstrip(JSON_BLANK).partition(b"\n")
    if source.path is None:
        _refuse_table(first, source)
    as_lines = source.suffix != ".json"
    if not as_lines and first.startswith(b"{") and rest.lstrip(JSON_BLANK).startswith(b"{"):
        as_lines = isinstance(_parsed(first), dict)
    elif as_lines and first.startswith(b"["):
        value = _parsed(first)
        as_lines = isinstance(value, list) and not any(isinstance(v, dict) for v in value)
    suffix = ".jsonl" if as_lines else ".json"
    if READERS[suffix].reader is not READERS[source.suffix].reader:
        message = f"read as {'JSON Lines' if as_lines else 'one JSON list'}, which it holds."
        source.notes.append(Problem("D21", source.name, "", None, message, "note"))
    return READERS[suffix]


def _refuse_table(first: bytes, source: Source) -> None:
    """DataError when the first line of standard input names the columns of a table."""
    line = first.decode(source.codec, "replace").strip("\ufeff\r")
    cells = [cell.strip(' "') for cell in line.replace("\t", ",").split(",")]
    if line[:1] not in ("{", "[") and not set(TEXT_KEYS).isdisjoint(cells):
        raise DataError(
            f"{source.name}: the first line names columns ({', '.join(cells[:5])}), as in CSV.",
            hint="standard input is read as JSON Lines: give the file by its name, in .csv or .tsv",
        )


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def _checked(
    source: Source, reader: Reader, checker: RowChecker, options: Options
) -> Iterator[tuple[int, int, object, Example | list[Problem]]]:
    """(position from 0, line or table row, the raw row, its example or what is wrong with it)."""
    position = -1
    for position, (number, raw) in enumerate(adapt(reader(source, options), source, options)):
        yield position, number, raw, checker.check(raw, position, number)
    if position < 0:
        raise DataError(f"{source.name}: no rows.")


def _read_all(source: Source, options: Options) -> Rows:
    found = find_format(source)
    checker = RowChecker(source.name, found.place, options)
    examples: list[Example] = []
    problems: list[Problem] = []
    numbers, positions = array("Q"), array("Q")
    seen: dict[int | str, tuple[int, int]] = {}
    lacking: list[tuple[int, str | None]] = []
    for position, number, raw, item in _checked(source, found.reader, checker, options):
        if not isinstance(item, Example):
            problems += item
        elif item.index in seen:
            first = checker.place(*seen[item.index])
            message = f"index {item.index!r} is used again; it is also at {first}."
            at, raw_text = checker.place(position, number), as_written(raw)
            problems.append(
                Problem("D13", source.name, at, "index", message, index=item.index, raw=raw_text)
            )
        else:
            if item.label is None and isinstance(raw, dict) and raw.keys().isdisjoint(LABEL_KEYS):
                lacking.append((len(examples), as_written(raw)))
            seen[item.index] = position, number
            examples.append(item)
            numbers.append(number)
            positions.append(position)
    notes = [*source.notes, *checker.notes()]
    said, keyless = notes + problems, checker.keyless()
    if keyless is not None:
        keyless = replace(keyless, examples=tuple(lacking))
    return Rows(examples, said, source.name, numbers, positions, found.place, keyless)


def _one(problems: list[Problem]) -> Problem:
    first, others = problems[0], len(problems) - 1
    if not others:
        return first
    more = "1 more problem" if others == 1 else f"{others} more problems"
    return replace(first, message=f"{first.message} ({more} in this row)")


def _take(notes: list[Problem]) -> list[Problem]:
    taken = notes.copy()
    notes.clear()
    return taken


LINE = "line {number}"
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
READERS: dict[str, Format] = {
    ".json": Format(read_json_array, "row {row} (line {number})"),
    ".jsonl": Format(read_jsonl, LINE),
    ".ndjson": Format(read_jsonl, LINE),
    ".csv": Format(read_csv, LINE),
    ".tsv": Format(read_tsv, LINE),
    ".parquet": Format(read_parquet, "row {number}"),
    ".xlsx": Format(read_xlsx, "row {number}"),
}
