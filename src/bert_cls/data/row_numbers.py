"""A few numbers for each row of a file, kept out of memory once there are many."""

from __future__ import annotations

from collections.abc import Mapping
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import BANDS

IN_MEMORY_BYTES = 16 << 20


class RowNumbers:
    """Columns of numbers, written a window of rows at a time and read back a column at a time.

    Up to 16 MiB stay in memory, about 100,000 rows; what is more is in a temporary file that goes
    away with this object.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._windows: list[int] = []

    def __len__(self) -> int:
        return sum(self._windows)

    def add(self, window: Mapping[str, NDArray[Any]]) -> None:
        """The numbers of some more rows, for every one of COLUMNS."""
        for name, kind in COLUMNS.items():
            self._file.write(np.ascontiguousarray(window[name], kind).tobytes())
        self._windows.append(len(window["text"]))

    def column(self, name: str) -> NDArray[Any]:
        """[rows] of one column."""
        names = list(COLUMNS)
        before = sum(COLUMNS[other].itemsize for other in names[: names.index(name)])
        kind, width = COLUMNS[name], sum(each.itemsize for each in COLUMNS.values())
        out = np.empty(len(self), kind)
        begin = filled = 0
        for rows in self._windows:
            self._file.seek(begin + before * rows)
            data = self._file.read(rows * kind.itemsize)
            out[filled : filled + rows] = np.frombuffer(data, kind)
            begin, filled = begin + width * rows, filled + rows
        self._file.seek(begin)
        return out

    def close(self) -> None:
        """Let go of the memory and the file."""
        self._file.close()


_INT64, _INT32, _UINT32 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint32)
COLUMNS: dict[str, np.dtype[Any]] = {
    **dict.fromkeys(("position", "text", "folded", "raw", "label", "index"), _INT64),
    **dict.fromkeys(("length", "unknown"), _INT32),
    **{f"band {number}": _UINT32 for number in range(BANDS)},
}
