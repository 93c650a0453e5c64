"""Which rows a step sees: a seeded shuffle, batches of similar length, micro-batches that fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
