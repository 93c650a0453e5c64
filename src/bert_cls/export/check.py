"""Whether an exported network answers as the one it came from."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.decision import Rule, margins
from bert_cls.engines.engine import Logits

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
    same = other_labels(rule, exact, other)
    flips = int((same & (margins(rule, wanted) > CLOSE)).sum())
    return Agreement(len(exact), 1 - float(same.mean()), flips, difference)


def other_labels(rule: Rule, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Bool [rows]: where two arrays of scores lead to different labels."""
    differ = np.asarray(rule.decide(a) != rule.decide(b))
    return np.asarray(differ.any(axis=1) if differ.ndim == 2 else differ)


def second_look_margins(rule: Rule, wanted: Logits, given: Logits) -> tuple[float, float]:
    """How close a call of int8 or bfloat16 must be to be made again; second: at any other cut.

    Half as much again as the widest margin at which it changed a label of these rows,
    and at least five times the usual error of scores near a decision.
    """
    margin = _margin(rule, wanted, given)
    count = 1 if rule.task == "binary" else len(rule.thresholds)
    rules = (replace(rule, thresholds=(cut,) * count) for cut in _OTHER_CUTS if count)
    return margin, max([margin, *(_margin(other, wanted, given) for other in rules)])


def _margin(rule: Rule, wanted: Logits, given: Logits) -> float:
    if rule.task == "regression":
        return 0.0
    exact, other = rule.scores(wanted), rule.scores(given)
    near = margins(rule, wanted) < _NEAR
    errors = _near_errors(rule, exact, other, near)
    usual = float(np.sqrt(np.square(errors).mean())) if len(errors) else 0.0
    changed = margins(rule, given)[other_labels(rule, exact, other)]
    return max(_HEADROOM * float(changed.max(initial=0.0)), _SPREADS * usual)


def _near_errors(
    rule: Rule, exact: NDArray[Any], other: NDArray[Any], near: NDArray[np.bool_]
) -> NDArray[Any]:
    errors = np.abs(exact - other)[near]
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
