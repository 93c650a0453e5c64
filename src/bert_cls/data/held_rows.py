"""Rows that were read already, for an audit that need not read them again."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import groupby

from bert_cls.data.example import Example
from bert_cls.data.problem_tally import ProblemTally
from bert_cls.data.problems import Problem
from bert_cls.data.rows import Keyless, Rows
from bert_cls.data.survey import DataFile, Merger
from bert_cls.errors import DataError


class HeldRows:
    """What `survey.FileRows` gives of a file, out of what `read.collect` made of it.

    The refused rows come first, and rows that use an index again are among them.
    """

    def __init__(self, file: DataFile, problems: ProblemTally, read: Rows | DataError) -> None:
        self.merger = Merger(file.merges)
        self._file = file
        self._problems = problems
        self._read = read

    @property
    def keyless(self) -> Keyless | None:
        """Rows that lack the key label, where others have it."""
        return None if isinstance(self._read, DataError) else self._read.keyless

    def place(self, position: int, number: int) -> str:
        """Where the row at `position` (from 0) is; `number` is its line or table row."""
        if isinstance(self._read, DataError):
            return ""
        return self._read.place_format.format(number=number, row=position + 1)

    def all(self) -> Iterator[tuple[int, int, Example | list[Problem]]]:
        """Every row as (position, number, the example or its problems)."""
        read = self._read
        if isinstance(read, DataError):
            self._problems.broken(read, self._file.name)
            return
        self._problems.noticed(p for p in read.problems if p.severity == "note")
        errors = (problem for problem in read.problems if problem.severity == "error")
        for _, of_row in groupby(errors, key=lambda problem: problem.row):
            yield 0, 0, list(of_row)
        for i, example in enumerate(read.examples):
            yield read.positions[i], read.numbers[i], self.merger(example)

    def at(self, positions: Sequence[int]) -> Iterator[tuple[int, int, Example]]:
        """The good rows at some positions, which rise."""
        read = self._read
        if isinstance(read, DataError):
            return
        for position in positions:
            i = bisect_left(read.positions, position)
            yield position, read.numbers[i], self.merger(read.examples[i])
