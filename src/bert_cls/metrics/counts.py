"""Metrics of decisions: everything that follows from counting hits, false alarms and misses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bert_cls.metrics.outcome import Bools, Floats, Ints


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Per label, int64 [labels]: true positives, false positives, false negatives; and the rows."""

    tp: Ints
    fp: Ints
    fn: Ints
    rows: int

    @property
    def support(self) -> Ints:
        """Rows that have the label, int64 [labels]."""
        return self.tp + self.fn

    @property
    def predicted(self) -> Ints:
        """Rows that were given the label, int64 [labels]."""
        return self.tp + self.fp

    @property
    def present(self) -> Bools:
        """Labels that at least one row has, bool [labels]."""
        return self.support > 0


@dataclass(frozen=True, slots=True)
class Averages:
    """Precision, recall and F1 averaged in one of the usual ways, each 0..1."""

    precision: float
    recall: float
    f1: float


def label_counts(truth: Bools, predicted: Bools) -> Counts:
    """Count per label; truth and predicted are bool [rows, labels]."""
    tp = np.count_nonzero(truth & predicted, axis=0).astype(np.int64)
    support = np.count_nonzero(truth, axis=0)
    given = np.count_nonzero(predicted, axis=0)
    return Counts(tp=tp, fp=given - tp, fn=support - tp, rows=len(truth))


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """int64 [classes, classes]: rows are the true class, columns the predicted one."""
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def class_counts(confusion: Ints) -> Counts:
    """Count per class, one against the rest, from a confusion matrix int64 [classes, classes]."""
    tp = np.diagonal(confusion).copy()
    fp, fn = confusion.sum(axis=0) - tp, confusion.sum(axis=1) - tp
    return Counts(tp=tp, fp=fp, fn=fn, rows=int(confusion.sum()))


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Elementwise float64 quotient, 0 where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom != 0)


def label_precision(counts: Counts) -> Floats:
    """Per label, tp / (tp + fp), 0 for a label that was never predicted."""
    return ratio(counts.tp, counts.predicted)


def label_recall(counts: Counts) -> Floats:
    """Per label, tp / (tp + fn), 0 for a label that no row has."""
    return ratio(counts.tp, counts.support)


def label_f1(counts: Counts) -> Floats:
    """Per label, 2tp / (2tp + fp + fn), 0 for a label that no row has and none was given."""
    return ratio(2 * counts.tp, counts.support + counts.predicted)


def micro(counts: Counts) -> Averages:
    """Averages over all decisions of all labels together; 0 where nothing can be divided."""
    tp, support, given = counts.tp.sum(), counts.support.sum(), counts.predicted.sum()
    return Averages(
        precision=float(ratio(tp, given)),
        recall=float(ratio(tp, support)),
        f1=float(ratio(2 * tp, support + given)),
    )


def macro(counts: Counts, scope: Bools | Ints) -> Averages:
    """Means of the per-label values over the labels of `scope` (a mask or ids); NaN if none."""
    values = (label_precision(counts), label_recall(counts), label_f1(counts))
    return Averages(*(float(np.mean(v[scope])) if v[scope].size else np.nan for v in values))


def weighted(counts: Counts) -> Averages:
    """Means of the per-label values weighted by support; NaN when no row has a label."""
    total = counts.support.sum()
    if total == 0:
        return Averages(np.nan, np.nan, np.nan)
    values = (label_precision(counts), label_recall(counts), label_f1(counts))
    return Averages(*(float(v @ counts.support / total) for v in values))


def f1_of_means(averages: Averages) -> float:
    """Harmonic mean of averaged precision and recall, 0 if both are 0.

    It can differ from the mean of F1 by half a point of 1 and reorder models (Opitz and Burst,
    Macro F1 and Macro F1, 2019), so it is never the one shown first.
    """
    precision, recall = averages.precision, averages.recall
    return float(ratio(2 * precision * recall, precision + recall))


def row_scores(truth: Bools, predicted: Bools) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each row, float64 [rows].

    1 for a row that is empty in truth and in prediction; any other 0/0 is 0.
    """
    tp = np.count_nonzero(truth & predicted, axis=1)
    support, given = np.count_nonzero(truth, axis=1), np.count_nonzero(predicted, axis=1)
    empty = support + given == 0
    precision, recall = ratio(tp, given), ratio(tp, support)
    f1 = ratio(2 * tp, support + given)
    for values in (precision, recall, f1):
        values[empty] = 1.0
    return precision, recall, f1


def label_matthews(counts: Counts) -> Floats:
    """Matthews correlation of each label, -1..1, 0 where truth or prediction is constant."""
    tp, fp = counts.tp.astype(np.float64), counts.fp.astype(np.float64)
    fn = counts.fn.astype(np.float64)
    tn = counts.rows - tp - fp - fn
    # Two roots instead of one product: four counts multiplied overflow float64's exact integers.
    scale = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt((tp + fn) * (tn + fp))
    return ratio(tp * tn - fp * fn, scale)


def matthews(tp: Floats, support: Floats, predicted: Floats) -> Floats:
    """Matthews correlation of all classes (Gorodkin 2004), -1..1, 0 if either side is constant.

    The arguments are float64 [..., classes]; the result has the leading shape.
    """
    rows = support.sum(axis=-1)
    covariance = tp.sum(axis=-1) * rows - (support * predicted).sum(axis=-1)
    spread_truth = rows * rows - (support * support).sum(axis=-1)
    spread_predicted = rows * rows - (predicted * predicted).sum(axis=-1)
    value = ratio(covariance, np.sqrt(spread_truth) * np.sqrt(spread_predicted))
    return np.clip(value, -1.0, 1.0)


GROUPS = ("head", "medium", "tail")
"""From the most frequent labels to the rarest; with fewer labels than groups there are none."""


def frequency_groups(train_counts: ArrayLike) -> dict[str, Ints]:
    """Label ids of the head, medium and tail third, by how many training rows have the label.

    Labels are ranked by count, equal counts in label order, and cut into three parts that differ
    by at most one label; with fewer than three labels the last groups are empty.
    """
    order = np.argsort(-np.asarray(train_counts, dtype=np.int64), kind="stable")
    parts = np.array_split(order, len(GROUPS))
    return {name: np.sort(part) for name, part in zip(GROUPS, parts, strict=True)}
