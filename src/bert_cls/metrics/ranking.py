"""Metrics of order: what the scores are worth before any threshold is put to them."""

from __future__ import annotations

import numpy as np

from bert_cls.metrics.outcome import Bools, Floats, Ints

CELLS_AT_ONCE = 1_000_000


def rank_label(truth: Bools, scores: Floats) -> tuple[float, float]:
    """Average precision and area under the ROC curve of one label, both 0..1.

    truth bool [rows], scores float64 [rows], finite. Rows with equal scores count as one step, as
    in scikit-learn. Average precision is NaN without positives, the area is NaN unless there are
    positives and negatives.
    """
    tp, seen, _ = score_steps(truth, scores)
    positives, negatives = int(tp[-1]), len(truth) - int(tp[-1])
    if positives == 0:
        return np.nan, np.nan
    gained = np.diff(tp, prepend=0)
    precision = float(np.sum(gained * (tp / seen)) / positives)
    if negatives == 0:
        return precision, np.nan
    # Trapezoids: a tied pair of a positive and a negative counts one half.
    twice_area = np.sum(np.diff(seen - tp, prepend=0) * (2 * tp - gained))
    return precision, float(twice_area / (2 * positives * negatives))


def score_steps(truth: Bools, scores: Floats) -> tuple[Ints, Ints, Floats]:
    """True positives, rows seen (int64 [steps]) and the score at each distinct score, falling."""
    order = np.argsort(-scores)
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))
    return np.cumsum(truth[order], dtype=np.int64)[ends], ends + 1, ranked[ends]


def average_precision(truth: Bools, scores: Floats) -> float:
    """Sum over score steps of precision times recall gained, 0..1; NaN without positives."""
    return rank_label(truth, scores)[0]


def rank_labels(truth: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """Average precision and AUROC per label, float64 [labels], NaN where undefined.

    truth bool [rows, labels], scores float64 [rows, labels], finite.
    """
    pairs = [
        rank_label(np.ascontiguousarray(truth[:, i]), np.ascontiguousarray(scores[:, i]))
        for i in range(truth.shape[1])
    ]
    both = np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)
    return both[:, 0], both[:, 1]


def mean_defined(values: Floats) -> float:
    """Mean of the values that are not NaN; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if defined.size else np.nan


def mean_average_precision(truth: Bools, scores: Floats) -> float:
    """Mean of the labels' average precision over labels with a positive.

    truth bool [rows, labels], scores float64 [rows, labels]; NaN if no label has a positive or a
    score is not finite.
    """
    if not np.isfinite(scores).all():
        return np.nan
    return mean_defined(rank_labels(truth, scores)[0])


def rank_rows(truth: Bools, scores: Floats, *, deepest: int) -> tuple[Floats, Bools]:
    """Label ranking precision of each row, and whether its `deepest` best-scored labels are true.

    truth bool [rows, labels], scores float64 [rows, labels], finite; returns float64 [rows] in
    0..1 and bool [rows, min(deepest, labels)]. The precision (Schapire and Singer 2000) is NaN
    for a row with no label or every label, where each order is right. Equal scores share the
    lowest rank in the precision and come in label order in the hits.
    """
    rows, labels = truth.shape
    precision = np.full(rows, np.nan)
    hits = np.zeros((rows, min(deepest, labels)), dtype=bool)
    step = max(1, CELLS_AT_ONCE // labels)
    for start in range(0, rows, step):
        part = slice(start, start + step)
        order = np.argsort(-scores[part], axis=1, kind="stable")
        ranked_truth = np.take_along_axis(truth[part], order, axis=1)
        hits[part] = ranked_truth[:, :deepest]
        ranked_scores = np.take_along_axis(scores[part], order, axis=1)
        precision[part] = _row_precision(ranked_truth, ranked_scores)
    return precision, hits


def _row_precision(truth: Bools, scores: Floats) -> Floats:
    """Label ranking precision, float64 [rows], of rows already sorted by falling score."""
    labels = truth.shape[1]
    last_of_tie = np.ones(truth.shape, dtype=bool)
    last_of_tie[:, :-1] = scores[:, 1:] != scores[:, :-1]
    ends = np.where(last_of_tie, np.arange(labels), labels)
    ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    positives = np.count_nonzero(truth, axis=1)
    above = np.take_along_axis(np.cumsum(truth, axis=1), ends, axis=1)
    shares: Floats = above / (ends + 1)
    total = (shares * truth).sum(axis=1)
    open_rows = (positives > 0) & (positives < labels)
    precision: Floats = np.full(len(truth), np.nan)
    precision[open_rows] = total[open_rows] / positives[open_rows]
    return precision
