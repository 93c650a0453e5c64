"""Which rows a model sees as alike: those whose vectors before the head point the same way."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bert_cls.engines.engine import Engine
from bert_cls.text import Tokens, batches_by_length

_TOKENS_AT_ONCE = 4096
Vectors = NDArray[np.float32]


def unit_vectors(engine: Engine, tokens: Tokens, *, pad_id: int) -> Vectors:
    """float32 [rows, width] of length 1: what the head sees, of several windows pooled.

    Engines that give nothing but logits compare those: rows then are alike when the model answers
    alike.
    """
    pieces = tokens.pieces
    seen = getattr(engine, "pooled", engine.logits)
    parts: dict[int, Vectors] = {}
    for rows in batches_by_length(pieces.lengths, _TOKENS_AT_ONCE):
        found = seen(pieces.padded(rows, pad_id))
        parts |= dict(zip(rows.tolist(), found, strict=True))
    stacked = tokens.pooled(np.stack([parts[row] for row in range(len(pieces))]))
    length = np.linalg.norm(stacked, axis=1, keepdims=True)
    unit: Vectors = stacked / np.maximum(length, 1e-12)
    return unit


def most_alike(
    engine: Engine, asked: Tokens, known: Tokens, *, count: int, pad_id: int
) -> list[list[tuple[int, float]]]:
    """The rows of `known` most like each row of `asked`, with their cosines, the greatest first."""
    here, there = (unit_vectors(engine, part, pad_id=pad_id) for part in (asked, known))
    out = []
    for similar in here @ there.T:
        order = np.argsort(-similar, kind="stable")[:count].tolist()
        out.append([(row, float(similar[row])) for row in order])
    return out
