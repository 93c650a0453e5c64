"""Token arrays for measuring: made-up rows of one length."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bert_cls.text import Tokens

_PAST_SPECIAL = 10


def synthetic(
    rows: int, length: int, *, vocabulary: int, outputs: int
) -> tuple[Tokens, NDArray[np.bool_]]:
    """Rows of exactly `length` random tokens, and random labels (a tenth of the cells)."""
    generator = np.random.default_rng(0)
    ids = generator.integers(_PAST_SPECIAL, vocabulary, rows * length).astype(np.int32)
    starts = np.arange(rows + 1, dtype=np.int64) * length
    truth = generator.random((rows, outputs)) < 0.1
    return Tokens(ids, np.zeros(len(ids), np.int8), starts, np.full(rows, length, np.int32)), truth
