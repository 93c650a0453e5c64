"""Which label was given in place of which."""

from __future__ import annotations

import numpy as np

from bert_cls.metrics.outcome import Bools, Ints

CELLS_AT_ONCE = 8_000_000


def replacements(truth: Bools, predicted: Bools, counted: Ints) -> Ints:
    """int64 [counted + 1, counted + 1]: rows of data that lack label i and were given j in error.

    truth and predicted are bool [rows, labels], `counted` are the labels that i and j are of. The
    last column counts rows that lack i and were given nothing at all in error, the last row those
    that were given j in error and lack nothing; the corner is 0. A row with several mistakes counts
    in several cells.
    """
    labels = len(counted)
    out = np.zeros((labels + 1, labels + 1), dtype=np.int64)
    step = max(1, CELLS_AT_ONCE // truth.shape[1])
    for start in range(0, len(truth), step):
        part = slice(start, start + step)
        missed, extra = truth[part] & ~predicted[part], predicted[part] & ~truth[part]
        lacking, burdened = missed.any(axis=1), extra.any(axis=1)
        missed, extra = missed[:, counted], extra[:, counted]
        both = lacking & burdened
        # whole numbers below 2 ** 24 are exact in float32
        pairs = missed[both].T.astype(np.float32) @ extra[both].astype(np.float32)
        out[:labels, :labels] += pairs.astype(np.int64)
        out[:labels, labels] += np.count_nonzero(missed[~burdened], axis=0)
        out[labels, :labels] += np.count_nonzero(extra[~lacking], axis=0)
    return out


def largest_pairs(table: Ints, most: int) -> list[tuple[int, int]]:
    """Up to `most` (row, column) places off the diagonal with the largest values above 0.

    Largest first, equal values in row and column order.
    """
    values = table.copy()
    np.fill_diagonal(values, 0)
    flat = values.ravel()
    order = np.argsort(-flat, kind="stable")[:most]
    return [divmod(int(place), len(values)) for place in order if flat[place] > 0]
