"""Rows as token ids: side by side, in windows, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from bert_cls.windows import Windows, join


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of rows, one after the other, nothing padded.

    `ids` int32 and `types` int8 [tokens]; `starts` int64 [rows + 1]; `full_lengths` int32 [rows]:
    how many tokens a row would have had uncut (of texts so long that only their ends were tokenised
    the tokens of the ends, more than the row has in any case). With `windows` a row is made of one
    or more of them, and `starts` is int64 [windows + 1].
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int8]
    starts: NDArray[np.int64]
    full_lengths: NDArray[np.int32]
    windows: Windows | None = None

    def __len__(self) -> int:
        return len(self.full_lengths)

    @property
    def row_starts(self) -> NDArray[np.int64]:
        """int64 [rows + 1]: where the tokens of each row begin."""
        return self.starts if self.windows is None else self.starts[self.windows.first]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [rows]: tokens of each row, special ones included, in all its windows together."""
        return np.diff(self.row_starts)

    @property
    def cut(self) -> NDArray[np.bool_]:
        """Bool [rows]: rows of which tokens are lost; under windows those that are in none."""
        return self.full_lengths > self.lengths if self.windows is None else self.windows.cut

    @property
    def pieces(self) -> Tokens:
        """What a network reads at once, each window as a row of its own."""
        if self.windows is None:
            return self
        return Tokens(self.ids, self.types, self.starts, np.diff(self.starts).astype(np.int32))

    def first_alike(self) -> NDArray[np.int64]:
        """int64 [pieces]: the number of the first piece with the same tokens, for each."""
        known: dict[bytes, int] = {}
        ends = zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)
        keys = (self.ids[at:end].tobytes() + self.types[at:end].tobytes() for at, end in ends)
        found = (known.setdefault(key, row) for row, key in enumerate(keys))
        return np.fromiter(found, np.int64)

    def pooled(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [pieces, outputs] become float32 [rows, outputs]."""
        return logits if self.windows is None else self.windows.pooled(logits)

    def padded(
        self, rows: Sequence[int] | NDArray[np.int64], pad_id: int, *, width: int = 1
    ) -> PaddedBatch:
        """Rows (all windows of each) side by side, padded to the longest of them, or wider."""
        if self.windows is not None:
            return self.pieces.padded(self.windows.of(rows), pad_id, width=width)
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=width))
        ids = np.full((len(rows), width), pad_id, dtype=np.int64)
        types = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.arange(width)[None, :] < lengths[:, None]
        for place, row in enumerate(rows):
            start, end = self.starts[row], self.starts[row + 1]
            ids[place, : end - start] = self.ids[start:end]
            types[place, : end - start] = self.types[start:end]
        return PaddedBatch(ids, types, mask)


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """`ids` and `types` int64 [rows, tokens], `mask` bool [rows, tokens] (False is padding)."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    mask: NDArray[np.bool_]


def joined(
    rows: list[tuple[list[int], int]],
    full: NDArray[np.int32],
    second_type: int,
    windows: Windows | None = None,
) -> Tokens:
    """Rows given as ids and the place where the second text begins (their end without one)."""
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids, _ in rows], out=starts[1:])
    ids = np.fromiter(chain.from_iterable(ids for ids, _ in rows), np.int32, int(starts[-1]))
    types = np.zeros(len(ids), dtype=np.int8)
    if second_type:
        for (_, second), start, end in zip(rows, starts[:-1], starts[1:], strict=True):
            types[start + second : end] = second_type
    return Tokens(ids, types, starts, full, windows)


def subset(tokens: Tokens, rows: NDArray[np.int64]) -> Tokens:
    """Some of the rows, in the order given, each with all its windows."""
    if tokens.windows is not None:
        windows = tokens.windows.subset(rows)
        pieces = subset(tokens.pieces, tokens.windows.of(rows))
        return replace(pieces, full_lengths=tokens.full_lengths[rows], windows=windows)
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(tokens.lengths[rows], out=starts[1:])
    places = np.concatenate(
        [np.arange(tokens.starts[r], tokens.starts[r + 1]) for r in rows] or [np.zeros(0, np.int64)]
    )
    return Tokens(tokens.ids[places], tokens.types[places], starts, tokens.full_lengths[rows])


def concatenated(parts: Sequence[Tokens]) -> Tokens:
    """Rows that follow each other; `parts` is not empty and all of a kind."""
    offsets = np.cumsum([0] + [len(part.ids) for part in parts])
    windows = [part.windows for part in parts if part.windows is not None]
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        types=np.concatenate([part.types for part in parts]),
        starts=np.concatenate(
            [[0]] + [part.starts[1:] + at for part, at in zip(parts, offsets, strict=False)]
        ).astype(np.int64),
        full_lengths=np.concatenate([part.full_lengths for part in parts]),
        windows=join(windows) if windows else None,
    )


def batches_by_length(
    lengths: NDArray[np.int64], max_tokens: int, *, max_rows: int = 1024, step: int = 1
) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of similar length, longest first, each at most `max_tokens` padded.

    A row longer than `max_tokens` makes a batch of its own. Batches of more rows than `step` have a
    multiple of it, but for the last one.
    """
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        size = max(1, min(max_rows, max_tokens // max(1, int(lengths[order[at]]))))
        size -= size % step if size > step else 0
        yield order[at : at + size]
        at += size
