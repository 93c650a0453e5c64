"""Labelled rows together with what a model said of them: what a report is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bert_cls.data import Example
from bert_cls.decision import Rule
from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome
from bert_cls.text import Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Rows in one order, n of each: examples, truth with scores and decisions, and lengths."""

    examples: Sequence[Example]
    outcome: Outcome
    uncalibrated: Floats | None
    """scores without temperature and offset, shaped as the outcome's; None where they are equal"""
    lengths: Ints
    """int64 [rows]: tokens each row would have uncut"""
    cut: Bools
    """bool [rows]: rows that lost tokens to the maximum length"""
    notes: tuple[str, ...] = ()
    """what is to be said of the rows, such as how many were left out"""


def judge(
    rule: Rule,
    examples: Sequence[Example],
    tokens: Tokens,
    truth: NDArray[Any],
    logits: ArrayLike,
    *,
    outcome: Outcome | None = None,
) -> Judged:
    """Put a rule to the logits [rows, outputs] of labelled examples.

    `outcome` has scores and decisions that were made otherwise, such as cross-fitted ones; None
    scores and decides by the rule. DataError when the arrays do not fit together.
    """
    if outcome is None:
        scores = rule.scores(logits)
        outcome = Outcome(rule.task, truth, scores, np.asarray(rule.decide(scores)))
    plain = replace(rule, temperature=1.0, bias=0.0, power=1.0, slopes=(), offsets=())
    changed = rule.task != "regression" and plain != rule
    return Judged(
        examples=examples,
        outcome=outcome,
        uncalibrated=plain.scores(logits) if changed else None,
        lengths=tokens.full_lengths.astype(np.int64),
        cut=tokens.cut,
    )
