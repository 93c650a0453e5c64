"""Rows without an index are numbered by their place, which may be another row's index."""

from __future__ import annotations

_DIGITS = 18  # more are no number of a row


class Numbering:
    """The least and the greatest number given to rows, and of the indices that others have.

    Not all of them: a stream of rows is read in constant memory.
    """

    def __init__(self) -> None:
        self._first: int | None = None
        self._last = 0
        self._lowest: int | None = None
        self._highest = 0

    def numbered(self, position: int) -> int:
        """The index of a row that has none."""
        if self._first is None:
            self._first = position
        self._last = position
        return position

    def given(self, index: int | str) -> None:
        """An index that a row has; "1" counts as 1, for tables and CSV do not tell them apart."""
        if isinstance(index, str):
            if not (index.isascii() and index.isdecimal() and len(index) <= _DIGITS):
                return
            index = int(index)
        if self._lowest is None:
            self._lowest = self._highest = index
        elif index < self._lowest:
            self._lowest = index
        elif index > self._highest:
            self._highest = index

    def warning(self) -> str | None:
        """What to say when a number may also be an index of the file."""
        if self._first is None or self._lowest is None:
            return None
        if self._lowest > self._last or self._highest < self._first:
            return None
        return (
            f"rows without an index are numbered from {self._first} to {self._last}, and other "
            f"rows have indices from {self._lowest} to {self._highest}: two rows may have the same."
        )
