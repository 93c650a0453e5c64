"""One pass over a data file that keeps a few numbers a row, and a second one for chosen rows."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from bert_cls.data.duplicates import bands
from bert_cls.data.example import Example, Label
from bert_cls.data.exports import adapt
from bert_cls.data.findings import Occurrence, excerpt, plain
from bert_cls.data.label_tally import LabelTally
from bert_cls.data.lengths import TextLengths
from bert_cls.data.problem_tally import ProblemTally
from bert_cls.data.problems import Problem
from bert_cls.data.raw import Options
from bert_cls.data.read import find_format
from bert_cls.data.row_numbers import RowNumbers
from bert_cls.data.rows import Keyless, RowChecker
from bert_cls.data.source import Source, opened
from bert_cls.data.split import text_key
from bert_cls.data.task import merged
from bert_cls.errors import DataError

HUGE_CHARACTERS = 100_000
WINDOW_ROWS = 1024
WINDOW_CHARACTERS = 1 << 17
UNLABELLED = 0
_TAKEN = ("position", "text", "folded", "raw", "label", "index")
_FULL_WIDTH = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uff9d]")


@dataclass(frozen=True, slots=True)
class DataFile:
    """Where a split is, and how its rows are read."""

    split: str
    path: Path
    options: Options
    encoding: str | None
    merges: Mapping[str, str]

    @property
    def is_table(self) -> bool:
        """Whether its labels stand in cells (cells.py)."""
        name = self.path.name.lower().removesuffix(".gz")
        return name.endswith((".csv", ".tsv", ".xlsx"))

    @property
    def name(self) -> str:
        """The file's name, fit to be shown."""
        return plain(self.path.name)


@dataclass(slots=True)
class Spotted:
    """Rows with some quality: how many, the largest of them in characters, and the first ones."""

    shown: int
    rows: int = 0
    largest: int = 0
    examples: list[Occurrence] = field(default_factory=list)

    def add(self, size: int, describe: Callable[[], Occurrence]) -> None:
        """Count one; it is described only when it is among the first."""
        self.rows += 1
        self.largest = max(self.largest, size)
        if len(self.examples) < self.shown:
            self.examples.append(describe())


class Survey:
    """What a pass over one file leaves: counts, and for each good row the `numbers` of COLUMNS.

    `position` says which row of the file it was. 64-bit hashes: `text` of the key that makes two
    rows the same text, `folded` of the key without case, `raw` of the texts as they stand, `label`
    (UNLABELLED without one), `index`. `length` and `unknown` count tokens; then the LSH bands.
    """

    def __init__(self, file: DataFile, *, shown: int) -> None:
        self.file = file
        self.labels = LabelTally(shown)
        self.huge = Spotted(shown)
        self.full_width = Spotted(shown)
        self.refused = self.tokens_read = 0
        self.keyless: Keyless | None = None
        self.numbers = RowNumbers()
        self._columns = {name: array("q") for name in _TAKEN}

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, example: Example, key: tuple[str, str], position: int) -> None:
        """Remember the numbers of a row that need no window."""
        columns = self._columns
        columns["position"].append(position)
        columns["text"].append(hash(key))
        columns["folded"].append(hash((key[0].casefold(), key[1].casefold())))
        columns["raw"].append(hash((example.text_a, example.text_b)))
        # repr, because Python's hashes of -1 and -2 are the same
        columns["index"].append(hash(repr(example.index)))
        columns["label"].append(_label_hash(example.label))

    def measure(self, window: list[tuple[Example, tuple[str, str]]], lengths: TextLengths) -> None:
        """Remember the numbers of the rows that were taken since: lengths and LSH bands too."""
        if not window:
            return
        first = [example.text_a for example, _ in window]
        second = [example.text_b or "" for example, _ in window]
        measured = lengths.measure(first, second if any(second) else None)
        self.tokens_read += int(measured.read.sum())
        found = bands([key[0] for _, key in window], [key[1] for _, key in window])
        self.numbers.add(
            {name: np.frombuffer(column, np.int64) for name, column in self._columns.items()}
            | {"length": measured.lengths, "unknown": measured.unknown}
            | {f"band {number}": band for number, band in enumerate(found)}
        )
        self._columns = {name: array("q") for name in _TAKEN}


class CheckedRows(Protocol):
    """The checked rows of a file, labels merged; what is wrong with it is told elsewhere."""

    merger: Merger
    """What merges the labels of rows, with its counts so far."""

    @property
    def keyless(self) -> Keyless | None:
        """Rows so far that lack the key label, where others have it."""

    def place(self, position: int, number: int) -> str:
        """Where the row at `position` (from 0) is; `number` is its line or table row."""

    def all(self) -> Iterator[tuple[int, int, Example | list[Problem]]]:
        """Every row as (position, number, the example or its problems)."""

    def at(self, positions: Sequence[int]) -> Iterator[tuple[int, int, Example]]:
        """The good rows at some positions, which rise."""


OpenRows = Callable[[DataFile, ProblemTally], CheckedRows]


class FileRows:
    """The rows of a file, read anew each time; what is wrong with it goes to `problems`."""

    def __init__(self, file: DataFile, problems: ProblemTally) -> None:
        self.merger = Merger(file.merges)
        self._file = file
        self._problems = problems
        self._checker: RowChecker | None = None

    @property
    def keyless(self) -> Keyless | None:
        """Rows so far that lack the key label, where others have it."""
        return self._checker.keyless() if self._checker else None

    def place(self, position: int, number: int) -> str:
        """Where the row at `position` (from 0) is; `number` is its line or table row."""
        return self._checker.place(position, number) if self._checker else ""

    def all(self) -> Iterator[tuple[int, int, Example | list[Problem]]]:
        """Every row as (position, number, the example or its problems)."""
        for checker, position, number, raw in self._raw():
            item = checker.check(raw, position, number)
            yield position, number, self.merger(item) if isinstance(item, Example) else item

    def at(self, positions: Sequence[int]) -> Iterator[tuple[int, int, Example]]:
        """The good rows at some positions, which rise; nothing is read past the last of them."""
        left = iter(positions)
        wanted = next(left, None)
        for checker, position, number, raw in self._raw() if wanted is not None else ():
            if position != wanted:
                continue
            item = checker.check(raw, position, number)
            if isinstance(item, Example):
                yield position, number, self.merger(item)
            wanted = next(left, None)
            if wanted is None:
                return

    def _raw(self) -> Iterator[tuple[RowChecker, int, int, object]]:
        try:
            with opened(self._file.path, encoding=self._file.encoding) as source:
                yield from self._of(source)
        except DataError as error:
            self._problems.broken(error, self._file.name)

    def _of(self, source: Source) -> Iterator[tuple[RowChecker, int, int, object]]:
        options = self._file.options
        checker: RowChecker | None = None
        try:
            found = find_format(source)
            checker = self._checker = RowChecker(source.name, found.place, options)
            position = -1
            rows = adapt(found.reader(source, options), source, options)
            for position, (number, raw) in enumerate(rows):
                yield checker, position, number, raw
            if position < 0:
                raise DataError(f"{source.name}: no rows.")
        finally:
            self._problems.noticed([*source.notes, *(checker.notes() if checker else ())])


class Merger:
    """Replaces label names of examples, and counts the `rows` and `names` that it changed."""

    def __init__(self, merges: Mapping[str, str]) -> None:
        self.rows = 0
        self.names: set[str] = set()
        self._merges = merges

    def __call__(self, example: Example) -> Example:
        """The example with its label names replaced; the same object when none is."""
        label = merged(example.label, self._merges) if self._merges else example.label
        if label == example.label:
            return example
        self.rows += 1
        names = example.label if isinstance(example.label, tuple) else (example.label,)
        self.names.update(name for name in names if isinstance(name, str) and name in self._merges)
        return replace(example, label=label)


def survey(
    file: DataFile,
    lengths: TextLengths,
    problems: ProblemTally,
    *,
    open_rows: OpenRows,
    shown: int,
) -> Survey:
    """Go through a file once, keeping a few numbers a row."""
    found = Survey(file, shown=shown)
    rows = open_rows(file, problems)
    window: list[tuple[Example, tuple[str, str]]] = []
    characters = 0
    for position, number, item in rows.all():
        if not isinstance(item, Example):
            problems.refused(item)
            found.refused += 1
            continue
        key = text_key(item)
        window.append((item, key))
        found.take(item, key, position)
        size = _spot_all(found, item, partial(_described, file, rows, item, (position, number)))
        characters += size
        if len(window) >= WINDOW_ROWS or characters >= WINDOW_CHARACTERS:
            found.measure(window, lengths)
            window, characters = [], 0
    found.measure(window, lengths)
    found.labels.merged, found.labels.merged_names = rows.merger.rows, rows.merger.names
    found.keyless = rows.keyless
    if found.refused and not len(found):
        problems.broken(DataError(f"{file.name}: no rows that can be read."), file.name)
    return found


def spot(file: DataFile, place: str, example: Example, detail: str = "") -> Occurrence:
    """A row as an example of a finding."""
    return Occurrence(file.name, place, excerpt(example.text_a), detail)


def _described(
    file: DataFile, rows: CheckedRows, example: Example, at: tuple[int, int]
) -> Occurrence:
    return spot(file, rows.place(*at), example)


def _spot_all(found: Survey, example: Example, describe: Callable[[], Occurrence]) -> int:
    """Count what can be told from the row alone; gives its characters."""
    text_b = example.text_b or ""
    size = len(example.text_a) + len(text_b)
    found.labels.add(example, describe)
    if size > HUGE_CHARACTERS:
        found.huge.add(size, describe)
    if _FULL_WIDTH.search(example.text_a) or (text_b and _FULL_WIDTH.search(text_b)):
        found.full_width.add(size, describe)
    return size


def _label_hash(label: Label | None) -> int:
    if label is None:
        return UNLABELLED
    if isinstance(label, tuple):
        return hash(tuple(sorted(label)))
    return hash(label if isinstance(label, str) else repr(float(label)))
