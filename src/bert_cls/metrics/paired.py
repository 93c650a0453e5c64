"""One model against another on the same rows: differences, tests, and what changed sides.

Differences are `a - b`. An interval comes from resampling rows, the same rows for both models; p
values come from swapping answers (see `exact` and `swaps`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bert_cls.errors import DataError, pick
from bert_cls.metrics.calibration import no_distribution
from bert_cls.metrics.counts import ratio
from bert_cls.metrics.definitions import DEFINITIONS, HEADLINES, RANGES
from bert_cls.metrics.exact import McNemar, holm, mcnemar_exact, swap_test
from bert_cls.metrics.families import FAMILIES, label_sums
from bert_cls.metrics.intervals import RESAMPLES, SHARES, families_of
from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome, indicator
from bert_cls.metrics.resampling import (
    LEVEL,
    Weights,
    on_all_rows,
    percentile_interval,
    resample,
    row_weights,
)
from bert_cls.metrics.swaps import swap_tests

LOWER_IS_BETTER = frozenset(name for name, text in DEFINITIONS.items() if "lower is better" in text)
LEAST_P = 0.05
"""Differences are established at or below this p value; of labels after Holm's correction."""
FEWEST_WAYS = 100
"""Swaps that are tried at least: p values that are drawn cannot fall below 1 / their number."""


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """What `metric` is for two models on the same rows, and an interval of `a - b`.

    `share` is the share of resamples, 0..1, in which `a` is the better one, ties one half.
    `p_value` is that of the swap test (`swaps`). `differing` is in how many rows what the metric
    reads differs: rows right, decisions, or scores; None where that was not stored.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    share: float
    p_value: float
    resamples: int
    differing: int | None = None

    @property
    def verdict(self) -> str:
        """`better` or `worse` (of a), or `not established`.

        That is when p is above LEAST_P, or the interval includes 0. Shares of right rows follow
        their exact test alone, which is said of the rows as well.
        """
        unsure = self.metric not in SHARES and self.low <= 0 <= self.high
        if unsure or self.p_value > LEAST_P:
            return "not established"
        return "better" if (self.difference > 0) != (self.metric in LOWER_IS_BETTER) else "worse"


def paired_differences(
    a: Outcome,
    b: Outcome,
    metrics: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[list[PairedDifference], list[str]]:
    """Compare two models by resampling rows; and the metrics that cannot be compared, with reasons.

    `metrics` are headline metrics of the task, else ConfigError. DataError when the truths differ.
    """
    _check_same_rows(a, b)
    for metric in metrics:
        pick({name: 0 for family in FAMILIES[a.task] for name in family.metrics}, metric, "metric")
    families = families_of(a.task, metrics)
    drawn_a, drawn_b = resample([a, b], families, resamples=resamples, seed=seed)
    points_a, points_b = (
        {name: value for family in families for name, value in on_all_rows(each, family).items()}
        for each in (a, b)
    )
    found: list[PairedDifference] = []
    intervals: dict[str, tuple[float, float]] = {}
    skipped: list[str] = []
    for metric in metrics:
        point = points_a[metric] - points_b[metric]
        widest = RANGES[metric][1] - RANGES[metric][0]
        interval = percentile_interval(
            drawn_a[metric] - drawn_b[metric], point, bounds=(-widest, widest)
        )
        if interval is None or not math.isfinite(point):
            skipped.append(f"{metric} is undefined on these rows, so it cannot be compared.")
        else:
            intervals[metric] = interval
    tests = swap_tests(a, b, list(intervals), ways=max(resamples, FEWEST_WAYS), seed=seed)
    for metric, interval in intervals.items():
        differences = drawn_a[metric] - drawn_b[metric]
        defined = differences[np.isfinite(differences)]
        above, below = int((defined > 0).sum()), int((defined < 0).sum())
        better = below if metric in LOWER_IS_BETTER else above
        p_value, differing = tests[metric]
        found.append(
            PairedDifference(
                metric,
                points_a[metric],
                points_b[metric],
                points_a[metric] - points_b[metric],
                *interval,
                share=float(better + (len(defined) - above - below) / 2) / len(defined),
                p_value=p_value,
                resamples=len(defined),
                differing=differing,
            )
        )
    return found, skipped


def _check_same_rows(a: Outcome, b: Outcome) -> None:
    if a.task != b.task or not np.array_equal(a.truth, b.truth):
        raise DataError("a and b must be outcomes of one task on the same rows with one truth.")


@dataclass(frozen=True, slots=True)
class LabelChange:
    """F1 of one label for two models, an interval of `a - b`, and how sure the change is.

    `p_value` is that of `swap_test`; `p_holm` the same corrected for the number of labels, in
    `bert_cls.comparison` of all pairs of models together. Both are None for a label that no row
    has: its F1 is 0 for both models, whatever they give.
    """

    name: str
    support: int
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float | None
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """`gained` or `lost` (by a against b), or `not established`."""
        if self.p_holm is None or self.p_holm > LEAST_P:
            return "not established"
        return "gained" if self.difference > 0 else "lost"


def label_changes(
    a: Outcome, b: Outcome, names: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[LabelChange]:
    """Gains and losses of every label that a row has or a model gives; none for regression."""
    if a.task == "regression":
        return []
    hot = [indicator(each, a.labels) for each in (a.truth, a.decided, b.decided)]
    shown = np.flatnonzero(np.any([part.any(axis=0) for part in hot], axis=0))
    truth, by_a, by_b = (part[:, shown] for part in hot)
    f1_a, f1_b = (_f1(outcome, np.ones((1, a.rows)))[0][shown] for outcome in (a, b))
    drawn = [
        _f1(a, weights)[:, shown] - _f1(b, weights)[:, shown]
        for weights in row_weights(a.rows, resamples, seed=seed)
    ]
    lows, highs = _ends(np.concatenate(drawn), f1_a - f1_b)
    support = truth.sum(axis=0).tolist()
    p_values = [
        swap_test(truth[:, i], by_a[:, i], by_b[:, i]) if rows else None
        for i, rows in enumerate(support)
    ]
    return corrected(
        [
            LabelChange(
                name=names[label],
                support=support[i],
                a=float(f1_a[i]),
                b=float(f1_b[i]),
                difference=float(f1_a[i] - f1_b[i]),
                low=float(lows[i]),
                high=float(highs[i]),
                p_value=p_values[i],
                p_holm=None,
            )
            for i, label in enumerate(shown.tolist())
        ]
    )


def corrected(changes: Sequence[LabelChange]) -> list[LabelChange]:
    """The same with Holm's correction for there being so many labels that a row has."""
    found = iter(holm([each.p_value for each in changes if each.p_value is not None]))
    return [replace(each, p_holm=None if each.p_value is None else next(found)) for each in changes]


def _f1(outcome: Outcome, weights: Weights) -> Floats:
    """F1 of each label in each resample, float64 [resamples, labels], 0 for 0/0."""
    tp, support, given = label_sums(outcome)(weights)
    return ratio(2 * tp, support + given)


def _ends(drawn: Floats, points: Floats) -> tuple[Floats, Floats]:
    """The middle 95 % of each column, recentred on its point; both float64 [labels]."""
    shifted = drawn - drawn.mean(axis=0) + points
    low, high = np.percentile(shifted, [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return np.clip(low, -1, 1), np.clip(high, -1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Everything about `a` against `b` on the same rows.

    `fixed` and `broken` are row numbers, int64: right with a and wrong with b, and the reverse; of
    regression, rows that a is closer to and rows that b is closer to, the greatest change first.
    """

    differences: tuple[PairedDifference, ...]
    rows_test: McNemar
    labels: tuple[LabelChange, ...]
    fixed: Ints
    broken: Ints
    notes: tuple[str, ...]


def compare_outcomes(
    a: Outcome,
    b: Outcome,
    names: Sequence[str],
    *,
    unfit: str | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Headline metrics, correctness of rows, labels and changed rows of two models.

    Where a score is not finite (a prediction file that lists only the highest ones), the metrics of
    order are left out with a note; so is that of probabilities where the scores are none, for the
    reason `unfit` or because those of a row do not sum to 1. DataError when the truths differ.
    """
    _check_same_rows(a, b)
    metrics: list[str] = list(HEADLINES[a.task])
    notes: list[str] = []
    if not all(np.isfinite(each.scores).all() for each in (a, b)):
        left = [name for name in metrics if name in _OF_SCORES]
        metrics = [name for name in metrics if name not in _OF_SCORES]
        notes.append(f"{', '.join(left)}: not every row has a score of every label.")
    if "log_loss" in metrics and (reason := unfit or no_distribution(a, b)):
        metrics.remove("log_loss")
        notes.append(f"log_loss: {reason}.")
    found, skipped = paired_differences(a, b, metrics, resamples=resamples, seed=seed)
    right_a, right_b = _right(a, b)
    change = _gain(a, b)
    order = np.argsort(-np.abs(change), kind="stable")
    return Comparison(
        differences=tuple(found),
        rows_test=mcnemar_exact(right_a, right_b),
        labels=tuple(label_changes(a, b, names, resamples=resamples, seed=seed)),
        fixed=order[(right_a & ~right_b)[order]],
        broken=order[(right_b & ~right_a)[order]],
        notes=(*notes, *skipped),
    )


_OF_SCORES = frozenset({"map", "lrap", "auroc", "average_precision", "log_loss"})


def _right(a: Outcome, b: Outcome) -> tuple[Bools, Bools]:
    """Where each model is right, bool [rows]; in regression, where it is the closer one."""
    if a.task == "regression":
        gain = _gain(a, b)
        return gain > 0, gain < 0
    return a.right, b.right


def _gain(a: Outcome, b: Outcome) -> Floats:
    """How much nearer to the truth a is than b, float64 [rows], in its unit; 0 for labels."""
    if a.task != "regression":
        return np.zeros(a.rows)
    gain: Floats = np.abs(b.scores - b.truth) - np.abs(a.scores - a.truth)
    return gain
