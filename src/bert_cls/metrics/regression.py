"""Metrics of numbers."""

from __future__ import annotations

import numpy as np

from bert_cls.metrics.outcome import Floats, Ints


def mean_squared_error(truth: Floats, scores: Floats) -> float:
    """Mean of squared differences of two float64 [rows]; infinite if it does not fit a float."""
    with np.errstate(over="ignore"):
        return float(np.mean(np.square(scores - truth)))


def mean_absolute_error(truth: Floats, scores: Floats) -> float:
    """Mean of absolute differences of two float64 [rows]; infinite if it does not fit a float."""
    with np.errstate(over="ignore"):
        return float(np.mean(np.abs(scores - truth)))


def r_squared(truth: Floats, scores: Floats) -> float:
    """1 - squared error / squared spread of the truth, at most 1; NaN if the truth is constant."""
    if is_constant(truth):
        return np.nan
    error, spread = error_and_spread(truth, scores)
    with np.errstate(divide="ignore"):
        return float(1.0 - np.square(error).sum() / np.square(spread).sum())


def error_and_spread(truth: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Errors and centred truth, float64 [rows], both divided by one power of two near the largest.

    Dividing by a power of two changes no digit; it keeps the squares inside a float's range.
    """
    power = max(exponent(truth), exponent(scores))
    scaled = np.ldexp(truth, -power)
    return np.ldexp(scores, -power) - scaled, centred(scaled)


def pearson(truth: Floats, scores: Floats) -> float:
    """Linear correlation of two float64 [rows], -1..1; NaN if either is constant or not finite."""
    finite = np.isfinite(truth).all() and np.isfinite(scores).all()
    if not finite or is_constant(truth) or is_constant(scores):
        return np.nan
    left, right = unit(truth), unit(scores)
    value = (left / np.linalg.norm(left)) @ (right / np.linalg.norm(right))
    return float(np.clip(value, -1.0, 1.0))


def spearman(truth: Floats, scores: Floats) -> float:
    """Pearson correlation of the ranks, equal values sharing their mean rank, -1..1.

    truth and scores are float64 [rows]; NaN if either is constant or not finite.
    """
    if not (np.isfinite(truth).all() and np.isfinite(scores).all()):
        return np.nan
    return pearson(average_ranks(truth), average_ranks(scores))


def average_ranks(values: Floats) -> Floats:
    """Ranks from 1, float64 [rows]; equal values get the mean of the ranks they take up."""
    _, starts, group = tie_groups(values)
    sizes = np.diff(starts, append=len(values))
    return (starts + (sizes + 1) / 2)[group]


def tie_groups(values: Floats) -> tuple[Ints, Ints, Ints]:
    """The rising order [rows], where each run of equal values starts in it, and each row's run."""
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    first = np.append(True, ranked[1:] != ranked[:-1])
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.cumsum(first) - 1
    return order, np.flatnonzero(first), group


def is_constant(values: Floats) -> bool:
    """Whether all values are the same."""
    return bool((values == values[0]).all())


def exponent(values: Floats) -> int:
    """The power of two just above the largest magnitude."""
    return int(np.frexp(np.max(np.abs(values)))[1])


def centred(values: Floats) -> Floats:
    """The values minus their mean."""
    return np.asarray(values - np.mean(values), dtype=np.float64)


def unit(values: Floats) -> Floats:
    """Values centred and divided by a power of two, so that squares neither over- nor underflow."""
    around_zero = centred(np.ldexp(values, -exponent(values)))
    return np.asarray(np.ldexp(around_zero, -exponent(around_zero)), dtype=np.float64)
