"""Metrics of probabilities: whether what scores 0.8 comes true eight times in ten."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome

BINS = 15
_OFF_ONE = 1e-3  # the sum of a row's scores, which are written with six digits


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Equal-width bins of probability, each array [bins]: rows, sum of p, number that came true."""

    rows: Ints
    confidence: Floats
    hits: Ints


def reliability(truth: Bools, probabilities: Floats) -> Reliability:
    """Sort probabilities float64 [n] in 0..1 with their truth bool [n] into equal-width bins.

    A bin holds lower < p <= upper, and the first one also holds 0 (Guo et al. 2017).
    """
    bin_of = np.searchsorted(np.arange(1, BINS) / BINS, probabilities, side="left")
    return Reliability(
        rows=np.bincount(bin_of, minlength=BINS),
        confidence=np.bincount(bin_of, weights=probabilities, minlength=BINS).astype(np.float64),
        hits=np.bincount(bin_of[truth], minlength=BINS),
    )


def reliability_of(outcome: Outcome, scores: Floats) -> Reliability:
    """`reliability` of the positive class (binary), the rows' best class, or all cells."""
    if outcome.task == "multilabel":
        return reliability(outcome.truth.ravel(), scores.ravel())
    if outcome.task == "binary":
        return reliability(outcome.truth == 1, scores[:, 1])
    return reliability(scores.argmax(axis=1) == outcome.truth, scores.max(axis=1))


def expected_calibration_error(table: Reliability) -> float:
    """Gap between mean probability and share that came true, averaged over rows, 0..1."""
    return float(np.abs(table.confidence - table.hits).sum() / table.rows.sum())


def label_calibration_errors(truth: Bools, probabilities: Floats) -> tuple[Floats, float]:
    """Calibration error of each label, float64 [labels], and of all cells pooled.

    truth bool [rows, labels], probabilities float64 [rows, labels] in 0..1.
    """
    tables = [
        reliability(np.ascontiguousarray(truth[:, i]), np.ascontiguousarray(probabilities[:, i]))
        for i in range(truth.shape[1])
    ]
    pooled = Reliability(
        rows=np.sum([t.rows for t in tables], axis=0),
        confidence=np.sum([t.confidence for t in tables], axis=0, dtype=np.float64),
        hits=np.sum([t.hits for t in tables], axis=0),
    )
    each = np.array([expected_calibration_error(table) for table in tables])
    return each, expected_calibration_error(pooled)


def brier(truth: Bools, probabilities: Floats) -> float:
    """Mean squared difference between probability and 0/1 truth of the same shape, 0..1."""
    return float(np.mean(np.square(probabilities - truth)))


def no_distribution(*outcomes: Outcome) -> str | None:
    """Why scores of classes cannot be probabilities; None where they can."""
    for each in outcomes:
        off = np.abs(each.scores.sum(axis=1) - 1).max()
        if each.scores.min() < 0 or off > _OFF_ONE:
            return "the scores of a row do not sum to 1"
    return None


def row_log_losses(truth: Ints, probabilities: Floats) -> Floats:
    """-ln p of the true class, float64 [rows], at least 0.

    truth int64 [rows], probabilities float64 [rows, classes]. p is kept a float64 epsilon away
    from 0 and 1, as in scikit-learn, so one impossible row costs 36 and not infinity.
    """
    epsilon = np.finfo(np.float64).eps
    chosen = probabilities[np.arange(len(truth)), truth]
    return -np.log(np.clip(chosen, epsilon, 1 - epsilon))
