"""Which rows a step sees: a seeded shuffle, batches of similar length, micro-batches that fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_POOL = 50  # batches that are sorted by length together; fewer shuffles better, more pads less


def epoch_batches(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """The batches of one epoch as row numbers: a function of its arguments alone.

    Rows are shuffled, sorted by length within pools of 50 batches, cut into batches of
    `batch_size` rows (the last may be shorter), and the batches shuffled.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    pool = _POOL * batch_size
    batches = []
    for at in range(0, len(order), pool):
        rows = order[at : at + pool]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


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


def dealt(
    parts: Iterator[NDArray[np.int64]], *, rank: int, world: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """The (number, part)s that one rank computes: in turn, so that long and short ones mix.

    Where there are fewer parts than ranks, the largest are halved until each rank has one or every
    part is a single row.
    """
    if world == 1:
        yield from enumerate(parts)
        return
    every = list(parts)
    while len(every) < world and max(map(len, every), default=1) > 1:
        at = max(range(len(every)), key=lambda i: len(every[i]))
        middle = (len(every[at]) + 1) // 2
        every[at : at + 1] = [every[at][:middle], every[at][middle:]]
    yield from ((n, part) for n, part in enumerate(every) if n % world == rank)
