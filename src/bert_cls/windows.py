"""Long texts as overlapping windows: where they lie, and how their logits become the row's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WindowPooling = Literal["mean", "max", "logsumexp"]
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Windows:
    """Which windows are which row's.

    `first` int64 [rows + 1]: those of row r are first[r] up to first[r + 1]; `cut` bool [rows]:
    some tokens of the row are in no window; `pooling` makes one logit of a row's many.
    """

    first: NDArray[np.int64]
    cut: NDArray[np.bool_]
    pooling: WindowPooling

    def counts(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [rows]: how many windows each of these rows has, 1 at least."""
        return np.diff(self.first)[rows]

    def of(self, rows: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
        """int64 [windows]: the windows of these rows, row after row."""
        counts = self.counts(rows)
        ends = np.cumsum(counts)
        inside = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
        return np.repeat(self.first[rows], counts) + inside

    def subset(self, rows: NDArray[np.int64]) -> Windows:
        """The windows of some of the rows, in the order given, as if there were no others."""
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts(rows))])
        return Windows(first, self.cut[rows], self.pooling)

    def pooled(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [windows, outputs] of all windows become float32 [rows, outputs].

        `logsumexp` is the smooth maximum log(mean(exp)), so a row of one window keeps its logits.
        """
        starts, counts = self.first[:-1], np.diff(self.first)[:, None]
        if not len(starts):
            return logits
        if self.pooling == "mean":
            out = np.add.reduceat(logits, starts, axis=0) / counts
        elif self.pooling == "max":
            out = np.maximum.reduceat(logits, starts, axis=0)
        else:
            out = np.logaddexp.reduceat(logits, starts, axis=0) - np.log(counts)
        return out.astype(np.float32)


def spans(length: int, room: int, *, overlap: float, most: int) -> tuple[list[Span], bool]:
    """Where the windows of `length` tokens begin and end, and whether tokens are in none of them.

    Windows of a longer text are all `room` tokens long and spread evenly from the first token to
    the last, so many that each shares `overlap` (0 to 1) of its tokens with the next, but `most`
    at most. Where these do not cover the text they are its first tokens and its last.
    """
    if length <= room:
        return [(0, length)], False
    step = max(1, room - int(room * overlap))
    count = min(most, 1 - (room - length) // step)
    lost = count * room < length
    if lost:
        starts = [*(i * room for i in range(most - 1)), length - room]
    else:
        starts = [i * (length - room) // (count - 1) for i in range(count)]
    return [(start, start + room) for start in starts], lost


def pair_spans(
    first: int, second: int, room: int, *, overlap: float, most: int
) -> tuple[list[tuple[Span, Span]], bool]:
    """`spans` of pairs: over the longer text, each window beside the shorter one.

    Where both do not fit the shorter one has half of a window at most.
    """
    shorter, longer = min(first, second), max(first, second)
    kept = shorter if first + second <= room else min(shorter, room // 2)
    places, lost = spans(longer, room - kept, overlap=overlap, most=most)
    beside = (0, kept)
    pairs = [(place, beside) if first > second else (beside, place) for place in places]
    return pairs, lost or kept < shorter


def join(parts: Sequence[Windows]) -> Windows:
    """Windows of rows that follow each other; `parts` is not empty."""
    offsets = np.cumsum([0] + [int(part.first[-1]) for part in parts])
    first = [part.first[1:] + at for part, at in zip(parts, offsets, strict=False)]
    return Windows(
        np.concatenate([np.zeros(1, np.int64), *first]),
        np.concatenate([part.cut for part in parts]),
        parts[0].pooling,
    )
