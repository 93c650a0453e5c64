"""Whether an exported network answers as the one it came from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.decision import Rule, confidence, margins, undecided
from bert_cls.engines.engine import Logits
from bert_cls.engines.second_look import Margins

CLOSE = 1e-3
"""a label that float32 itself decides by less than this counts as neither kept nor flipped"""
FLOAT_TOLERANCE = 1e-4
INT8_TOLERANCE = 0.2
REGRESSION_TOLERANCE = 0.1
"""of the standard deviation of the answers"""
MOST_SECOND_LOOKS = 0.5
_HEADROOM = 1.5
_SPREADS = 5.0
_NEAR = 0.2
_FEW = 30
"""errors near a decision: so many say what is usual there, fewer do not"""
_UNMEASURED = 0.1
"""the least margin where fewer do: few rows lie so close then, so it costs little"""
_OTHER_CUTS = np.linspace(0.05, 0.95, 19).tolist()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two engines' answers to the same rows compare."""

    rows: int
    agreement: float
    """share of rows with the same labels"""
    flips: int
    """rows with other labels though float32 decided them by more than CLOSE"""
    largest_difference: float
    """of a score; of regression in standard deviations of the answers"""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "rows": self.rows,
            "agreement": round(self.agreement, 6),
            "flips": self.flips,
            "largest_difference": float(f"{self.largest_difference:.3g}"),
        }


def compare(rule: Rule, wanted: Logits, given: Logits) -> Agreement:
    """Compare logits float32 [rows, outputs] by what the rule makes of them."""
    exact, other = rule.scores(wanted), rule.scores(given)
    difference = float(np.abs(exact - other).max(initial=0.0))
    if rule.task == "regression":
        spread = float(exact.std()) or 1.0
        return Agreement(len(exact), 1.0, 0, difference / spread)
    differ = other_labels(rule, exact, other)
    flips = int((differ & (margins(rule, wanted) > CLOSE)).sum())
    return Agreement(len(exact), 1 - float(differ.mean()), flips, difference)


def other_labels(rule: Rule, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Bool [rows]: where two arrays of scores lead to different labels, or one of them to none."""
    one, other = rule.decide(a), rule.decide(b)
    abstained = undecided(rule, a, one) != undecided(rule, b, other)
    differ = np.asarray(one != other)
    return np.asarray(abstained | (differ.any(axis=1) if differ.ndim == 2 else differ))


def second_look_margins(rule: Rule, wanted: Logits, given: Logits) -> Margins:
    """How close a call of int8 or bfloat16 must be to be made again.

    First of labels by the rule's own thresholds, second by any others, third of confidence. Each is
    half as much again as the widest margin at which an answer to these rows changed, and at least
    five times the usual error near a decision; where few rows were near one, at least half as much
    again as the largest error of all rows, and the first, of 30 rows or more, at least 0.1.
    """
    if rule.task == "regression":
        return 0.0, 0.0, 0.0
    rule = replace(rule, min_confidence=None)
    margin = _label_margin(rule, wanted, given, least=_UNMEASURED)
    count = 1 if rule.task == "binary" else len(rule.thresholds)
    rules = (rule.changed({"thresholds": (cut,) * count}) for cut in _OTHER_CUTS if count)
    elsewhere = max([margin, *(_label_margin(other, wanted, given) for other in rules)])
    return margin, elsewhere, _confidence_margin(rule, wanted, given)


def _label_margin(rule: Rule, wanted: Logits, given: Logits, *, least: float = 0.0) -> float:
    exact, other = rule.scores(wanted), rule.scores(given)
    errors = np.abs(exact - other)
    near = _near_errors(rule, exact, errors, margins(rule, wanted) < _NEAR)
    changed = margins(rule, given)[other_labels(rule, exact, other)]
    return _margin(changed, near, errors, least=least)


def _confidence_margin(rule: Rule, wanted: Logits, given: Logits) -> float:
    """Of rows whose labels are the same; the others are looked at again for their labels."""
    exact, other = rule.scores(wanted), rule.scores(given)
    same = ~other_labels(rule, exact, other)
    sure, found = (confidence(rule, s, rule.decide(s))[same] for s in (exact, other))
    errors = np.abs(sure - found)
    widest = 0.0
    for cut in _OTHER_CUTS:
        changed = np.abs(found - cut)[(sure < cut) != (found < cut)]
        widest = max(widest, _margin(changed, errors[np.abs(sure - cut) < _NEAR], errors))
    return widest


def _margin(
    changed: NDArray[Any], near: NDArray[Any], errors: NDArray[Any], *, least: float = 0.0
) -> float:
    """`changed`: margins of changed answers; `near`: errors near a decision; `errors`: all.

    `least` is what it is at least where few are near.
    """
    usual = float(np.sqrt(np.square(near).mean())) if len(near) else 0.0
    largest, floor = changed.max(initial=0.0), 0.0
    if len(near) < _FEW:
        largest = max(largest, errors.max(initial=0.0))
        floor = least if len(errors) >= _FEW else 0.0  # of a handful of rows nothing is told
    return max(_HEADROOM * float(largest), _SPREADS * usual, floor)


def _near_errors(
    rule: Rule, exact: NDArray[Any], errors: NDArray[Any], near: NDArray[np.bool_]
) -> NDArray[Any]:
    errors = errors[near]
    if rule.task == "multilabel":
        thresholds = np.asarray(rule.thresholds)
        return np.asarray(errors[np.abs(exact[near] - thresholds) < _NEAR])
    return np.asarray(errors.max(axis=1) if errors.size else errors.ravel())


def seconds(answer: Callable[[], Any]) -> float:
    """The better of two runs, after one to warm up."""
    answer()
    best = np.inf
    for _ in range(2):
        began = time.perf_counter()
        answer()
        best = min(best, time.perf_counter() - began)
    return float(best)
