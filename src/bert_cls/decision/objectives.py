"""What a threshold tuner maximises: F1 over cells, labels or rows, and exact match.

`predicted` and `truth` are bool [rows, labels]. F1 = 2tp / (predicted + true), 0 where both are 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bert_cls.decision.rule import Bools, Floats
from bert_cls.errors import pick

Counts = NDArray[np.int64]
Value = Callable[[Counts, Counts, Counts], Floats]


@dataclass(frozen=True, slots=True)
class Part:
    """One mean: `value(tp, predicted, true)` of every unit, averaged over the units."""

    unit: Literal["cells", "labels", "rows"]
    """cells: one unit, all of them; labels: those with a true row; rows: all"""
    value: Value


def f1(tp: Counts, predicted: Counts, true: Counts) -> Floats:
    """F1 of counts of any one shape, 0 where nothing is true and nothing predicted."""
    return np.asarray(2.0 * tp / np.maximum(predicted + true, 1))


def row_f1(tp: Counts, predicted: Counts, true: Counts) -> Floats:
    """F1 of rows, where a row that is rightly left empty counts 1."""
    return np.where(predicted + true == 0, 1.0, f1(tp, predicted, true))


def row_match(tp: Counts, predicted: Counts, true: Counts) -> Floats:
    """1 for rows whose labels are exactly the true ones, else 0."""
    return np.asarray((tp == predicted) & (tp == true), dtype=np.float64)


def measure(objective: str, predicted: Bools, truth: Bools) -> float:
    """The objective of one set of predictions, in [0, 1]; 0 where there is nothing to average."""
    return float(np.mean([_part(part, predicted, truth) for part in _parts(objective)]))


def _part(part: Part, predicted: Bools, truth: Bools) -> float:
    units = part.value(*_counts(part, predicted, truth))
    return float(units.mean()) if units.size else 0.0


def _counts(part: Part, predicted: Bools, truth: Bools) -> tuple[Counts, Counts, Counts]:
    axis = {"cells": None, "labels": 0, "rows": 1}[part.unit]
    tp, positive, true = (
        np.atleast_1d(cells.sum(axis=axis, dtype=np.int64))
        for cells in (predicted & truth, predicted, truth)
    )
    if part.unit == "labels":
        present = true > 0
        return tp[present], positive[present], true[present]
    return tp, positive, true


def influence(objective: str, predicted: Bools, truth: Bools) -> Floats:
    """How much each row moves the objective, float64 [rows]; sums to 0.

    The root of the summed squares is the objective's standard error (linearised, as in the
    infinitesimal jackknife); of the difference of two influences, that of the paired difference.
    """
    parts = [_part_influence(part, predicted, truth) for part in _parts(objective)]
    return np.asarray(np.mean(parts, axis=0))


def _part_influence(part: Part, predicted: Bools, truth: Bools) -> Floats:
    tp, positive, true = _counts(part, predicted, truth)
    units = part.value(tp, positive, true)
    if part.unit == "rows":
        share = 1.0 / max(len(units), 1)
        return np.asarray((units - units.sum() * share) * share)
    if part.unit == "labels":
        present = truth.any(axis=0)
        predicted, truth = predicted[:, present], truth[:, present]
    weight = 1.0 / np.maximum(positive + true, 1) / max(len(units), 1)
    both = 2.0 * (predicted & truth) @ np.broadcast_to(weight, truth.shape[1:])
    either = (predicted * 1.0 + truth) @ np.broadcast_to(units * weight, truth.shape[1:])
    return np.asarray(both - either)


def at_cuts(objective: str, scores: Floats, truth: Bools, cuts: Floats) -> Floats:
    """The objective at each cut when all labels share it: float64 [cuts]; `cuts` ascend."""
    parts = [_CURVES[part.unit](part, scores, truth, cuts) for part in _parts(objective)]
    return np.asarray(np.mean(parts, axis=0))


def label_counts(scores: Floats, truth: Bools, cuts: Floats) -> tuple[Counts, Counts]:
    """True positives and predictions of one label (both inputs [rows]) at each cut: [cuts] each."""
    everything, hits = np.sort(scores), np.sort(scores[truth])
    predicted = everything.size - np.searchsorted(everything, cuts, side="left")
    return hits.size - np.searchsorted(hits, cuts, side="left"), predicted


def _cells_curve(part: Part, scores: Floats, truth: Bools, cuts: Floats) -> Floats:
    tp, predicted = label_counts(scores.ravel(), truth.ravel(), cuts)
    return part.value(tp, predicted, np.asarray(truth.sum()))


def _labels_curve(part: Part, scores: Floats, truth: Bools, cuts: Floats) -> Floats:
    total = np.zeros(len(cuts))
    present = np.flatnonzero(truth.any(axis=0))
    for label in present:
        tp, predicted = label_counts(scores[:, label], truth[:, label], cuts)
        total += part.value(tp, predicted, np.asarray(truth[:, label].sum()))
    return total / max(len(present), 1)


def _rows_curve(part: Part, scores: Floats, truth: Bools, cuts: Floats) -> Floats:
    """Each cell changes its row's value when the cut sinks below it; the changes add up."""
    order = np.argsort(-scores, axis=1)
    tp = np.cumsum(np.take_along_axis(truth, order, axis=1), axis=1, dtype=np.int64)
    true = truth.sum(axis=1)[:, None]
    reached = part.value(tp, np.arange(1, scores.shape[1] + 1), true)
    nothing = part.value(np.zeros_like(true), np.zeros_like(true), true)
    change = np.diff(reached, axis=1, prepend=nothing).ravel()
    falling = np.take_along_axis(scores, order, axis=1).ravel()
    rank = np.argsort(-falling)
    total = np.concatenate([[0.0], np.cumsum(change[rank])])
    included = falling.size - np.searchsorted(falling[rank][::-1], cuts, side="left")
    return np.asarray((nothing.sum() + total[included]) / len(scores))


def _parts(objective: str) -> tuple[Part, ...]:
    return pick(OBJECTIVES, objective, "objective")


_CURVES = {"cells": _cells_curve, "labels": _labels_curve, "rows": _rows_curve}

OBJECTIVES: dict[str, tuple[Part, ...]] = {
    "micro_f1": (Part("cells", f1),),
    "macro_f1": (Part("labels", f1),),
    "micro_macro": (Part("cells", f1), Part("labels", f1)),
    "samples_f1": (Part("rows", row_f1),),
    "exact_match": (Part("rows", row_match),),
}
