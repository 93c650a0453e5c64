"""Exact tests of two models on the same rows, and their correction for being many.

Rows on which the two models agree cannot tell them apart. Were the models equally good, each other
row could as well have its two decisions swapped (approximate randomisation, Noreen 1989, here
without drawing).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from bert_cls.errors import DataError
from bert_cls.metrics.counts import ratio
from bert_cls.metrics.outcome import Bools, Floats, Ints

# further from the mean than this many standard deviations a binomial has less than 1e-22 left
_TAIL = 10.0
_CELLS_AT_ONCE = 4_000_000
_LEAST = sys.float_info.min  # no p value is 0: what was seen is one of the ways


@dataclass(frozen=True, slots=True)
class McNemar:
    """Rows that only one of two models gets right, and the chance of a split so uneven."""

    only_a: int
    only_b: int
    p_value: float


def mcnemar_exact(a_correct: Bools, b_correct: Bools) -> McNemar:
    """Exact two-sided McNemar test; a_correct and b_correct are bool [rows] of the same rows.

    Whole-number arithmetic, so the p value is exact to the last bit at any number of rows. For
    correctness of rows only (top-1, exact match), not for F1. DataError when the shapes differ.
    """
    if a_correct.shape != b_correct.shape or a_correct.ndim != 1:
        raise DataError(
            "a_correct and b_correct must be bool [rows] of the same rows. "
            f"Got {list(a_correct.shape)} and {list(b_correct.shape)} instead."
        )
    only_a = int(np.count_nonzero(a_correct & ~b_correct))
    only_b = int(np.count_nonzero(b_correct & ~a_correct))
    return McNemar(only_a, only_b, _uneven(min(only_a, only_b), only_a + only_b))


@lru_cache(16)
def _uneven(fewer: int, flips: int) -> float:
    """How often so many fair coins fall at least so unevenly."""
    ways = term = 1
    for i in range(fewer):
        term = term * (flips - i) // (i + 1)
        ways += term
    return min(1.0, max(float(2 * ways / 2**flips), _LEAST))


def swap_test(truth: Bools, a: Bools, b: Bools) -> float:
    """Exact two-sided p value of a difference in F1 between two sets of decisions, bool [rows].

    Over all ways to swap the two decisions of the rows where they differ, the share in which the
    F1 values are at least as far apart as they are.
    """
    differ, both = a != b, a & b
    true = int(np.count_nonzero(truth))
    agreed_tp, agreed = np.count_nonzero(both & truth), np.count_nonzero(both)
    positives, negatives = np.count_nonzero(differ & truth), np.count_nonzero(differ & ~truth)
    hits, p_hits = _binomial(int(positives))
    alarms, p_alarms = _binomial(int(negatives))

    def gap(hit: Ints, alarm: Ints) -> Floats:
        # of the rows that differ, one model has what the other has not
        f1 = ratio(2 * (agreed_tp + hit), true + agreed + hit + alarm)
        other_hit, other_alarm = positives - hit, negatives - alarm
        other = ratio(2 * (agreed_tp + other_hit), true + agreed + other_hit + other_alarm)
        return np.abs(f1 - other)

    seen = gap(
        np.asarray(np.count_nonzero(a & differ & truth)),
        np.asarray(np.count_nonzero(a & differ & ~truth)),
    )
    step = max(1, _CELLS_AT_ONCE // len(alarms))
    p = 0.0
    for at in range(0, len(hits), step):
        part = slice(at, at + step)
        as_far = gap(hits[part, None], alarms[None, :]) >= seen - 1e-12
        p += float(p_hits[part] @ as_far @ p_alarms)
    return min(1.0, max(p, _LEAST))


def _binomial(n: int) -> tuple[Ints, Floats]:
    """Outcomes of n fair coins that can happen, int64 [k], and their chances, float64 [k]."""
    reach = _TAIL * math.sqrt(n) / 2 + 1
    low, high = max(0, math.floor(n / 2 - reach)), min(n, math.ceil(n / 2 + reach))
    outcomes = np.arange(low, high + 1)
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2)
        for k in outcomes.tolist()
    ]
    return outcomes, np.exp(np.array(logs))


def holm(p_values: Sequence[float]) -> list[float]:
    """P values adjusted for there being so many of them (Holm 1979).

    At or below 0.05 holds for all such labels together: the chance that any of them is a false
    alarm is at most 5 %.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - place) * p_values[i]))
        adjusted[i] = highest
    return adjusted
