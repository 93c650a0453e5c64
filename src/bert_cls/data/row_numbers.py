"""A few numbers for each row of a file, kept out of memory once there are many."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import BANDS
from bert_cls.errors import BertClsError

IN_MEMORY_BYTES = 16 << 20


class RowNumbers:
    """Columns of numbers, written and read back a window of rows at a time.

    Up to 16 MiB stay in memory, about 100,000 rows; what is more is in a temporary file that goes
    away with this object.
    """

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._windows: list[int] = []

    def __len__(self) -> int:
        return sum(self._windows)

    def add(self, window: Mapping[str, NDArray[Any]]) -> None:
        """The numbers of some more rows, for every one of COLUMNS.

        BertClsError when the temporary folder is full.
        """
        self._file.seek(0, os.SEEK_END)
        try:
            for name, kind in COLUMNS.items():
                self._file.write(np.ascontiguousarray(window[name], kind).tobytes())
            self._file.flush()
        except OSError as error:
            raise BertClsError(
                f"no room for the numbers of {len(self):,} rows in the temporary folder "
                f"{gettempdir()}: {error.strerror}.",
                hint="name a folder with more room: TMPDIR=FOLDER bert-cls check ...",
            ) from error
        self._windows.append(len(window["text"]))

    def chunks(self, *names: str) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Some columns, a window of rows at a time: its first row, and [rows] of each."""
        width = sum(each.itemsize for each in COLUMNS.values())
        offsets = [_bytes_before(name) for name in names]
        begin = row = 0
        for rows in self._windows:
            found = []
            for name, offset in zip(names, offsets, strict=True):
                self._file.seek(begin + offset * rows)
                data = self._file.read(rows * COLUMNS[name].itemsize)
                found.append(np.frombuffer(data, COLUMNS[name]))
            yield row, found
            begin, row = begin + width * rows, row + rows

    def close(self) -> None:
        """Let go of the memory and the file."""
        self._file.close()


def _bytes_before(name: str) -> int:
    """Bytes of a row in the columns before this one."""
    names = list(COLUMNS)
    return sum(COLUMNS[other].itemsize for other in names[: names.index(name)])


_INT64, _INT32, _UINT32 = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint32)
COLUMNS: dict[str, np.dtype[Any]] = {
    **dict.fromkeys(("position", "text", "folded", "raw", "label", "index"), _INT64),
    **dict.fromkeys(("length", "unknown"), _INT32),
    **{f"band {number}": _UINT32 for number in range(BANDS)},
}
