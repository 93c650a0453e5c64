"""Why the worst rows are wrong, right after training: what spoke for it, rows like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_cls.data import Example
from bert_cls.decision import Rule
from bert_cls.engines.gradients import STEPS, gradient_spans
from bert_cls.engines.likeness import most_alike
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import DataError
from bert_cls.explain import LONGEST, Explanation, Pieces, label_weights, whole_text
from bert_cls.judging import encode_texts
from bert_cls.report import Explain, Nearest
from bert_cls.tokens import Tokens
from bert_cls.training.loop import Trainer
from bert_cls.training.setup import Setup

MOST_TOKENS, MOST_ROWS = 4096, 4096
SHARE = 1 / 20
"""Of the training's passes through the network: what explaining may take."""
SLOWER = 3
"""How much longer a token takes here: in float32, and a row at a time."""


def affordable(trainer: Trainer) -> int:
    """Tokens of rows that can be explained in that share, and MOST_TOKENS at most.

    Backward takes about twice as long as forward, and half of that where weights get no gradients.
    """
    epochs = max(1, len(trainer.progress.history))
    trained = 3 * epochs * int(trainer.tokens.lengths.sum())
    return min(MOST_TOKENS, int(SHARE * trained / (SLOWER * 2 * STEPS)))


def nearest_by(engine: TorchEngine, setup: Setup, trainer: Trainer, count: int) -> Nearest:
    """The training rows most like rows, of as many as can be read in that share of the training.

    Where these are not all, they are drawn by a fixed seed; MOST_ROWS at most.
    """
    train = setup.splits["train"]
    epochs = max(1, len(trainer.progress.history))
    most = min(MOST_ROWS, len(train.examples), int(SHARE * 3 * epochs * len(train.examples)))

    def nearest(rows: Sequence[Example]) -> list[list[tuple[Example, float]]]:
        drawn = np.random.default_rng(0).permutation(len(train.examples))[:most]
        known = [train.examples[row] for row in sorted(drawn.tolist())]
        if not rows or not known or not count:
            return [[] for _ in rows]
        asked, there = (encode_texts(p, setup.dataset.pair, setup.text) for p in (rows, known))
        alike = most_alike(engine, asked, there, count=count, pad_id=setup.pad_id)
        return [[(known[row], similar) for row, similar in found] for found in alike]

    return nearest


def spoken_by(engine: TorchEngine, setup: Setup, trainer: Trainer, rule: Rule) -> Explain:
    """Integrated gradients of rows, the first ones as far as `affordable`; None for others.

    None too for rows that cannot be followed: read in several windows, of characters that
    normalising joins, or too long to be traced.
    """

    def spoken(rows: Sequence[tuple[Example, str]]) -> list[tuple[Pieces, Pieces] | None]:
        left = affordable(trainer)
        out: list[tuple[Pieces, Pieces] | None] = []
        for example, label in rows:
            row = encode_texts([example], setup.dataset.pair, setup.text)
            left -= int(row.lengths.sum())
            out.append(_pieces(engine, setup, example, row, label, rule) if left >= 0 else None)
        return out

    return spoken


def _pieces(
    engine: TorchEngine, setup: Setup, example: Example, row: Tokens, label: str, rule: Rule
) -> tuple[Pieces, Pieces] | None:
    if len(row.pieces) > 1 or max(len(example.text_a), len(example.text_b or "")) > LONGEST:
        return None
    place = setup.dataset.space.ids[label]
    try:
        [(spans, weights)] = gradient_spans(
            engine,
            setup.text,
            [example],
            row,
            [[place]],
            rule=rule,
            pad_id=setup.pad_id,
        )
    except DataError:
        return None
    why = label_weights([label], [0.0], *whole_text(example, spans, weights))
    return Explanation(example, "gradient", why, 0, bool(row.cut[0])).parts(label)
