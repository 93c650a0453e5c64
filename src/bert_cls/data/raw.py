"""What a reader gives: numbered raw rows, before anybody has looked at their keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bert_cls.data.example import Task
from bert_cls.data.source import Source

RawRow = tuple[int, object]  # line (or table row) from 1, and a dict or a Fault
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Options:
    """How rows are read: `coerce_numbers` D09, `fix_unicode` D14, `task` for cells and exports.

    `names`: declared label names, which stay whole in a cell that is split into several.
    `every_column`: of parquet the columns that nobody asks for have their values too.
    """

    coerce_numbers: bool = False
    fix_unicode: bool = False
    task: Task | None = None
    every_column: bool = False
    names: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that could not be read, instead of its value; the fields are those of Problem."""

    code: str
    message: str
    hint: str | None = None
    key: str | None = None
    raw: str | None = None


class NumberLiteral(str):
    """A JSON number as it was spelled, so that 1.50 can become the text "1.50"."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def spells_number(text: str) -> bool:
    """Whether `text` is a number by JSON's grammar, of however many digits."""
    return _NUMBER.fullmatch(text) is not None


def number(text: str) -> int | float | None:
    """The number that `text` spells by JSON's grammar, or None. ValueError past 4300 digits."""
    found = _NUMBER.fullmatch(text)
    if found is None:
        return None
    return float(text) if found[1] or found[2] else int(text)


Reader = Callable[[Source, Options], Iterator[RawRow]]
