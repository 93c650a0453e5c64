"""Intervals of one model's metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from bert_cls.data.example import Task
from bert_cls.metrics.definitions import RANGES
from bert_cls.metrics.families import FAMILIES
from bert_cls.metrics.outcome import Outcome
from bert_cls.metrics.resampling import (
    LEVEL,
    Family,
    mean_of,
    on_all_rows,
    percentile_interval,
    recentred,
    resample,
)
from bert_cls.metrics.rows import share_interval

RESAMPLES = 1000
# Efron and Tibshirani (1993, 10.3): a bias below a quarter of the standard error may be ignored.
BIAS_TO_DOUBT = 0.25
# Few resamples move a mean by chance: by less than this many standard errors of that mean.
CHANCE = 4.0
# Standard deviation over mean absolute deviation of a normal distribution.
MAD_TO_SD = 1.2533
ROUNDING = 1e-12
SHARES = frozenset({"accuracy", "exact_match"})
"""Shares of rows, which have an interval of their own where every resample is alike."""


def families_of(task: Task, metrics: Iterable[str]) -> list[Family]:
    """The families that hold at least one of the metrics."""
    wanted = set(metrics)
    return [family for family in FAMILIES[task] if wanted.intersection(family.metrics)]


def headline_value(outcome: Outcome, metric: str) -> float | None:
    """A headline metric by itself, equal to that of `evaluate`; None where it is undefined."""
    [family] = families_of(outcome.task, [metric])
    value = on_all_rows(outcome, family)[metric]
    return value if math.isfinite(value) else None


def bootstrap_intervals(
    outcome: Outcome,
    points: Mapping[str, float],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[dict[str, tuple[float, float]], tuple[str, ...]]:
    """95 % intervals of headline metrics, and notes: how made, which to doubt or do without.

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
        interval = percentile_interval(values, point, bounds=RANGES[name])
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
    alike = {n for n, (a, b) in intervals.items() if b - a <= ROUNDING * abs(points[n])}
    if shares := sorted(alike & SHARES):
        intervals |= {name: share_interval(points[name], outcome.rows) for name in shares}
        notes.append(f"{', '.join(shares)}: every resample is alike, so the interval is Wilson's")
    if flat := [name for name in intervals if name in alike - SHARES]:
        notes.append(
            f"{', '.join(flat)}: an interval without width, for every resample is alike: "
            f"these {outcome.rows} rows cannot say what others would give"
        )
    how = f"intervals: {LEVEL:.0%} percentile bootstrap over rows, {resamples} resamples"
    how += (f" ({', '.join(fewer)})" if fewer else "") + f", seed {seed}"
    return intervals, (how, *notes)
