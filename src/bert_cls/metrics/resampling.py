"""Bootstrap over rows: how far a metric would move had other rows been drawn.

Every resample is a vector of row weights (how often each row was drawn), so a metric is computed
for many resamples at once from weighted sums and no row is ever copied. A metric is computed in a
resample by its own definition, with two exceptions that keep rare labels from bending it: a
resample in which a single value is 0/0 is left out, and in `macro_f1_all` a label that neither
truth nor prediction has in the resample keeps its value on all rows.

An interval is made of percentiles of the resampled values, shifted so that their mean is the value
on all rows. Drawing a row twice moves some metrics by itself (a positive that ranks beside its own
copy looks better placed), so that plain percentiles can miss the value they are about. In 300
simulations each with a known answer, 95 % intervals of micro F1, samples F1, exact match and LRAP
held it 91 to 96 times in a hundred, shifted or not. With 2 to 4 rows at the rarest label, mAP went
from 25 (500 rows) and 52 (2000 rows) to 60 and 75, macro F1 from 63..84 to 75..87; with 30 rows or
more a label both were at 92 or better. So intervals stay too narrow where labels are rare.

Metrics of order need a walk along the sorted rows for each label and resample. Past `WALK` cells
of work (rows x labels x resamples) they use fewer resamples, but not fewer than `FEWEST`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_cls.metrics.outcome import Floats, Outcome

LEVEL = 0.95
WALK = 1_000_000_000
FEWEST = 100
WEIGHTS_AT_ONCE = 4_000_000
EXACT_IN_FLOAT32 = 2**24

Weights = NDArray[np.floating]
Statistics = Callable[[Weights], dict[str, Floats]]


@dataclass(frozen=True, slots=True)
class Family:
    """Metrics that share their sums.

    `prepare(outcome)` sorts or counts once and returns what maps weights [resamples, rows] to
    float64 [resamples] per metric, NaN where a resample leaves the metric undefined. `walks` says
    how many sorted columns each resample walks along, 0 for plain sums.
    """

    metrics: tuple[str, ...]
    prepare: Callable[[Outcome], Statistics]
    walks: Callable[[Outcome], int] = lambda outcome: 0

    def resamples(self, outcome: Outcome, asked: int) -> int:
        """How many of the asked resamples this family can afford on these rows."""
        work = outcome.rows * self.walks(outcome)
        return asked if work == 0 else min(asked, max(FEWEST, WALK // work))


def row_weights(rows: int, resamples: int, *, seed: int) -> Iterator[Weights]:
    """Blocks float [some resamples, rows] of how often each row is drawn; each vector sums to rows.

    The first n vectors are the same whatever `resamples` is. They are float32 while that holds
    every count exactly (below 2**24 rows).
    """
    rng = np.random.default_rng(seed)
    dtype = np.float32 if rows < EXACT_IN_FLOAT32 else np.float64
    block = max(1, WEIGHTS_AT_ONCE // rows)
    for start in range(0, resamples, block):
        weights = np.empty((min(block, resamples - start), rows), dtype=dtype)
        for vector in weights:
            vector[:] = np.bincount(rng.integers(0, rows, size=rows), minlength=rows)
        yield weights


def resample(
    outcomes: Iterable[Outcome], families: Iterable[Family], *, resamples: int, seed: int
) -> list[dict[str, Floats]]:
    """Every metric of the families in every resample, for several outcomes on the same rows.

    Returns for each outcome {metric: float64 [resamples of its family]}; the outcomes see the
    same draws, which is what makes their differences paired.
    """
    outcomes, families = list(outcomes), list(families)
    limits = [family.resamples(outcomes[0], resamples) for family in families]
    parts: list[dict[str, list[Floats]]] = [
        {name: [] for family in families for name in family.metrics} for _ in outcomes
    ]
    drawn = 0
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        prepared = [[family.prepare(outcome) for family in families] for outcome in outcomes]
        for weights in row_weights(outcomes[0].rows, max(limits, default=0), seed=seed):
            for statistics, part in zip(prepared, parts, strict=True):
                for statistic, limit in zip(statistics, limits, strict=True):
                    if drawn < limit:
                        _append(part, statistic(weights[: limit - drawn]))
            drawn += len(weights)
    return [{name: np.concatenate(blocks) for name, blocks in part.items()} for part in parts]


def _append(part: dict[str, list[Floats]], values: dict[str, Floats]) -> None:
    for name, block in values.items():
        part[name].append(block)


def on_all_rows(outcome: Outcome, family: Family) -> dict[str, float]:
    """The family's metrics with each row counted once, NaN where undefined."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = family.prepare(outcome)(np.ones((1, outcome.rows)))
    return {name: float(value[0]) for name, value in values.items()}


def recentred(values: Floats, point: float) -> Floats:
    """The defined and finite values, shifted so that their mean is `point`."""
    defined = values[np.isfinite(values)]
    return defined - (mean_of(defined) - point) if len(defined) else defined


def mean_of(values: Floats) -> float:
    """Mean whose sum cannot overflow."""
    scale = max(1.0, float(np.max(np.abs(values))))
    return float(np.mean(values / scale)) * scale


def percentile_interval(
    values: Floats,
    point: float,
    *,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[float, float] | None:
    """The middle `LEVEL` of the recentred values, cut to the metric's bounds.

    `point` is the metric on all rows. None when fewer than half of the resamples define it.
    """
    shifted = recentred(values, point)
    if 2 * len(shifted) < len(values) or not len(shifted):
        return None
    low, high = np.percentile(shifted, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return max(float(low), bounds[0]), min(float(high), bounds[1])
