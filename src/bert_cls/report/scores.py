"""What the scores are worth: curves of precision against recall, and calibration."""

from __future__ import annotations

import math

import numpy as np

from bert_cls.decision import Rule
from bert_cls.metrics import (
    Evaluation,
    LabelRow,
    average_precision,
    expected_calibration_error,
    precision_recall,
    reliability_of,
    thinned,
)
from bert_cls.metrics.curves import POINTS
from bert_cls.metrics.outcome import Bools, Floats, Outcome, indicator
from bert_cls.report.data import CalibrationCurve, LabelCurve
from bert_cls.report.judged import Judged

CURVES = 100
ALL_POINTS = 12_000
POOLED_CELLS = 20_000_000


def label_curves(outcome: Outcome, evaluation: Evaluation, rule: Rule) -> tuple[LabelCurve, ...]:
    """All decisions together first, then the labels with most rows, at most 100 of them.

    Of binary data only the positive class. Each curve has at most 500 points, fewer where there
    are many labels.
    """
    if outcome.task == "regression" or not np.isfinite(outcome.scores).all():
        return ()
    truth = indicator(outcome.truth, outcome.labels)
    if outcome.task == "binary":
        return _curve(evaluation.per_label[1], truth[:, 1], outcome.scores[:, 1], rule, 1, POINTS)
    order = sorted(range(outcome.labels), key=lambda i: (-evaluation.per_label[i].support, i))
    points = max(40, min(POINTS, ALL_POINTS // min(CURVES, outcome.labels)))
    curves: list[LabelCurve] = []
    if outcome.task == "multilabel" and truth.size <= POOLED_CELLS:
        curves += _pooled(truth, outcome.scores, evaluation)
    for i in order[:CURVES]:
        column, scores = truth[:, i].copy(), outcome.scores[:, i].copy()
        curves += _curve(evaluation.per_label[i], column, scores, rule, i, points)
    return tuple(curves)


def _curve(
    row: LabelRow, truth: Bools, scores: Floats, rule: Rule, label: int, points: int
) -> tuple[LabelCurve, ...]:
    """The curve of one label; none where no row has it."""
    first, second = rule.weights if rule.task == "binary" and rule.weights else (1.0, 1.0)
    own = rule.thresholds or (first / (first + second),)
    cuts = {"multilabel": rule.thresholds, "binary": (0.5, *own)}
    threshold = cuts.get(rule.task, ())[label] if rule.task in cuts else math.inf
    at = (row.recall, row.precision if row.predicted else None)
    return _drawn(row.name, truth, scores, points, row.average_precision, threshold, at)


def _pooled(truth: Bools, scores: Floats, evaluation: Evaluation) -> tuple[LabelCurve, ...]:
    """All row-label decisions as those of one label under one threshold."""
    truth, scores = truth.ravel(), scores.ravel()
    predicted = any(row.predicted for row in evaluation.per_label)
    known = evaluation.metrics
    at = (known.get("micro_recall"), known.get("micro_precision") if predicted else None)
    return _drawn(None, truth, scores, POINTS, average_precision(truth, scores), math.inf, at)


def _drawn(
    label: str | None,
    truth: Bools,
    scores: Floats,
    points: int,
    area: float | None,
    threshold: float,
    at: tuple[float | None, float | None],
) -> tuple[LabelCurve, ...]:
    """A curve of `points`, its average precision, and the recall and precision decided `at`."""
    whole = precision_recall(truth, scores)
    if whole is None:
        return ()
    curve = thinned(whole, points)
    return (
        LabelCurve(
            label=label,
            recall=tuple(curve.recall.round(4).tolist()),
            precision=tuple(curve.precision.round(4).tolist()),
            thresholds=tuple(curve.thresholds.round(4).tolist()),
            steps=len(whole.recall),
            average_precision=area,
            threshold=threshold if math.isfinite(threshold) else None,
            at_recall=at[0],
            at_precision=at[1],
        ),
    )


def calibration_curves(judged: Judged, rule: Rule) -> tuple[CalibrationCurve, ...]:
    """Reliability with the rule's calibration and, where it has one, without; none if unfit.

    Of the positive class (binary), the top-scored class (multiclass), or all cells (multilabel).
    """
    scores = judged.outcome.scores
    if rule.task == "regression" or not rule.calibrated or not np.isfinite(scores).all():
        return ()
    out = []
    if judged.uncalibrated is not None:
        out.append(_calibration("before", judged.outcome, judged.uncalibrated))
    return (*out, _calibration("after", judged.outcome, scores))


def _calibration(when: str, outcome: Outcome, scores: Floats) -> CalibrationCurve:
    table = reliability_of(outcome, scores)
    held = table.rows > 0
    rows = table.rows[held]
    return CalibrationCurve(
        when="before" if when == "before" else "after",
        said=tuple((table.confidence[held] / rows).tolist()),
        came_true=tuple((table.hits[held] / rows).tolist()),
        rows=tuple(rows.tolist()),
        error=expected_calibration_error(table),
    )
