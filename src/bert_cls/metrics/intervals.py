"""Intervals of one model, and tests of one model against another on the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from bert_cls.data.example import Task
from bert_cls.errors import DataError, pick
from bert_cls.metrics.definitions import RANGES
from bert_cls.metrics.families import FAMILIES
from bert_cls.metrics.outcome import Bools, Outcome
from bert_cls.metrics.resampling import (
    LEVEL,
    Family,
    mean_of,
    on_all_rows,
    percentile_interval,
    recentred,
    resample,
)

RESAMPLES = 1000
# Efron and Tibshirani (1993, 10.3): a bias below a quarter of the standard error may be ignored.
BIAS_TO_DOUBT = 0.25
# Few resamples move a mean by chance: by less than this many standard errors of that mean.
CHANCE = 4.0
# Standard deviation over mean absolute deviation of a normal distribution.
MAD_TO_SD = 1.2533
ROUNDING = 1e-12


def families_of(task: Task, metrics: Iterable[str]) -> list[Family]:
    """The families that hold at least one of the metrics."""
    wanted = set(metrics)
    return [family for family in FAMILIES[task] if wanted.intersection(family.metrics)]


def bootstrap_intervals(
    outcome: Outcome,
    points: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
    """Intervals of headline metrics, and notes: how they were made, which to doubt or do without.

    `points` is {metric: its finite value on all rows}.
    """
    families = families_of(outcome.task, points)
    if resamples < 1 or not families:
        return {}, ()
    [drawn] = resample([outcome], families, resamples=resamples, seed=seed)
    intervals: dict[str, tuple[float, float]] = {}
    fewer: list[str] = []
    notes: list[str] = []
    for name, point in points.items():
        values = drawn[name]
        interval = percentile_interval(values, point, bounds=RANGES[name], level=level)
        if len(values) < resamples:
            fewer.append(f"{name} {len(values)}")
        if interval is None:
            notes.append(f"{name}: no interval, undefined in most resamples")
            continue
        intervals[name] = interval
        moved = mean_of(values[np.isfinite(values)]) - point
        spread = MAD_TO_SD * mean_of(np.abs(recentred(values, point) - point))
        doubt = max(BIAS_TO_DOUBT, CHANCE / math.sqrt(len(values)))
        if abs(moved) > doubt * spread + ROUNDING * abs(point):
            notes.append(
                f"{name}: its interval is too narrow, too few rows or rows per label "
                f"(resampling alone moves it by {moved:+.4f})"
            )
    how = f"intervals: {level:.0%} percentile bootstrap over rows, {resamples} resamples"
    how += (f" ({', '.join(fewer)})" if fewer else "") + f", seed {seed}"
    return intervals, (how, *notes)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """What `metric` is for two models on the same rows, and an interval of `a - b`.

    `p_value` is two-sided: twice the share of resamples in which the difference vanishes or turns.
    """

    metric: str
    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    resamples: int


def paired_bootstrap(
    a: Outcome,
    b: Outcome,
    metric: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> PairedDifference:
    """Compare two models by resampling rows, the same rows for both.

    `metric` is one of the task's headline metrics, else ConfigError. DataError when the truths
    differ, or when the metric is undefined for a model or in most resamples.
    """
    if a.task != b.task or not np.array_equal(a.truth, b.truth):
        raise DataError("a and b must be outcomes of one task on the same rows with one truth.")
    table = {name: family for family in FAMILIES[a.task] for name in family.metrics}
    family = pick(table, metric, "metric")
    for side, outcome in (("a", a), ("b", b)):
        if not np.isfinite(outcome.scores).all():
            raise DataError(f"the scores of {side} must be finite to compare {metric}.")
    at_a, at_b = (on_all_rows(each, family)[metric] for each in (a, b))
    drawn_a, drawn_b = resample([a, b], [family], resamples=resamples, seed=seed)
    differences = drawn_a[metric] - drawn_b[metric]
    interval = percentile_interval(differences, at_a - at_b, level=level)
    if interval is None or not math.isfinite(at_a - at_b):
        raise DataError(f"{metric} is undefined on these rows, so it cannot be compared.")
    defined = recentred(differences, at_a - at_b)
    turned = min(np.count_nonzero(defined <= 0), np.count_nonzero(defined >= 0))
    p_value = min(1.0, 2.0 * (turned + 1) / (len(defined) + 1))
    return PairedDifference(metric, at_a, at_b, at_a - at_b, *interval, p_value, len(defined))


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
    flips = only_a + only_b
    ways = term = 1
    for i in range(min(only_a, only_b)):
        term = term * (flips - i) // (i + 1)
        ways += term
    return McNemar(only_a, only_b, min(1.0, 2 * ways / 2**flips))
