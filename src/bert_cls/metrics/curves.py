"""Precision against recall at every threshold, and the same in few enough points to be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bert_cls.metrics.outcome import Bools, Floats
from bert_cls.metrics.ranking import score_steps

POINTS = 500


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall, float64 [points] in 0..1, when everything from `thresholds` up fires.

    Recall does not fall from one point to the next; thresholds fall.
    """

    recall: Floats
    precision: Floats
    thresholds: Floats


def precision_recall(truth: Bools, scores: Floats) -> Curve | None:
    """One point for each distinct score, from the highest down; None without positives.

    truth bool [rows], scores float64 [rows], finite. The points are those of scikit-learn's
    `precision_recall_curve` without its last one, (recall 0, precision 1), which no threshold has.
    """
    positives = np.count_nonzero(truth)
    if not positives:
        return None
    tp, seen, thresholds = score_steps(truth, scores)
    return Curve(recall=tp / positives, precision=tp / seen, thresholds=thresholds)


def thinned(curve: Curve, points: int = POINTS) -> Curve:
    """At most `points` (4 or more) of the curve's own points: none is moved or made up.

    Recall is cut into equal stretches; of each the points of highest and of lowest precision
    stay, so that no peak and no dip is lost, and so do both ends of the curve.
    """
    size = len(curve.recall)
    if size <= points:
        return curve
    stretches = max(1, (points - 2) // 2)
    stretch = np.minimum((curve.recall * stretches).astype(np.int64), stretches - 1)
    rising = np.lexsort((curve.precision, stretch))
    first = np.flatnonzero(np.diff(stretch[rising], prepend=-1))
    last = np.append(first[1:], size) - 1
    kept = np.unique(np.concatenate([rising[first], rising[last], [0, size - 1]]))
    return Curve(curve.recall[kept], curve.precision[kept], curve.thresholds[kept])
