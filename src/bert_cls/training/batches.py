"""Which rows a step sees: a seeded shuffle, batches of similar length, micro-batches that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.text import Tokens

_POOL = 50  # batches that are sorted by length together; fewer shuffles better, more pads less


def epoch_batches(
    lengths: NDArray[np.int64],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    weights: NDArray[np.float64] | None = None,
) -> list[NDArray[np.int64]]:
    """The batches of one epoch as row numbers: a function of its arguments alone.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches of
    `batch_size` rows (the last may be shorter), and the batches shuffled. With `weights`, float64
    [rows] that sum to 1, as many rows are drawn with these chances instead, with replacement.
    """
    generator = np.random.default_rng([seed, epoch])
    if weights is None:
        order = generator.permutation(len(lengths))
    else:
        order = generator.choice(len(lengths), size=len(lengths), p=weights)
    pool = _POOL * batch_size
    batches = []
    for at in range(0, len(order), pool):
        rows = order[at : at + pool]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def balanced_weights(truth: NDArray[Any], labels: int) -> NDArray[np.float64]:
    """Chances of the rows, float64 [rows], that make all classes equally frequent in the mean.

    truth int64 [rows], or bool [rows, labels]: of label sets a row's rarest label counts, and rows
    without a label are a label of their own.
    """
    if truth.ndim == 1:
        share = 1.0 / np.maximum(np.bincount(truth, minlength=labels), 1)[truth]
    else:
        cells = np.column_stack([truth, ~truth.any(axis=1)])
        rarity = 1.0 / np.maximum(cells.sum(axis=0), 1)
        share = (cells * rarity).max(axis=1)
    weights: NDArray[np.float64] = share / share.sum()
    return weights


def micro_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], max_tokens: int
) -> Iterator[NDArray[np.int64]]:
    """Consecutive parts of a batch, each at most `max_tokens` padded tokens or a single row."""
    at = 0
    while at < len(rows):
        widest, end = 0, at
        while end < len(rows):
            widest_with = max(widest, int(lengths[rows[end]]))
            if end > at and widest_with * (end + 1 - at) > max_tokens:
                break
            widest, end = widest_with, end + 1
        yield rows[at:end]
        at = end


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Rows to compute at once: a micro-batch, or some of it.

    `start` is the place in the step of the first of them.
    """

    rows: NDArray[np.int64]
    start: int


def placed(parts: Iterable[NDArray[np.int64]]) -> Iterator[Part]:
    """The micro-batches of a step with their places."""
    start = 0
    for rows in parts:
        yield Part(rows, start)
        start += len(rows)


def dealt(parts: Iterable[NDArray[np.int64]], *, rank: int, world: int) -> Iterator[Part]:
    """The micro-batches that one rank computes: in turn, so that long and short ones mix.

    Where there are fewer than ranks, the largest are halved until each rank has a part or every
    part is a single row.
    """
    every = placed(parts)
    yield from islice(every if world == 1 else _halved(list(every), world), rank, None, world)


def _halved(parts: list[Part], wanted: int) -> Iterator[Part]:
    while len(parts) < wanted and max((len(part.rows) for part in parts), default=1) > 1:
        at = max(range(len(parts)), key=lambda i: len(parts[i].rows))
        part, middle = parts[at], (len(parts[at].rows) + 1) // 2
        parts[at : at + 1] = [
            replace(part, rows=part.rows[:middle]),
            replace(part, rows=part.rows[middle:], start=part.start + middle),
        ]
    return iter(parts)


def places(part: Part, tokens: Tokens) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    """(Row of the step, window of the row) of all that a network reads of a part, and lengths."""
    windows = tokens.windows
    if windows is None:
        return [(part.start + i, 0) for i in range(len(part.rows))], tokens.lengths[part.rows]
    counts = enumerate(windows.counts(part.rows).tolist(), start=part.start)
    found = [(row, window) for row, count in counts for window in range(count)]
    return found, tokens.pieces.lengths[windows.of(part.rows)]
