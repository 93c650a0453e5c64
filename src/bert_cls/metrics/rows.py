"""Metrics of single rows: how wrong each one is, how sure of it the model was, and by length."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from bert_cls.metrics.counts import row_scores
from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome

NORMAL_95 = 1.959963984540054
_STRETCHES = 8


@dataclass(frozen=True, slots=True)
class Stretch:
    """Rows whose length lies in lowest..highest, and the mean of their errors with 95 % bounds."""

    lowest: int
    highest: int
    rows: int
    error: float
    interval: tuple[float, float] | None


def row_errors(outcome: Outcome) -> Floats:
    """How wrong each row is, float64 [rows], 0 for a row that is all right.

    1 for a wrong class, 1 minus the F1 of the row's label set, or the absolute error of a number.
    """
    if outcome.task == "regression":
        return np.asarray(np.abs(outcome.scores - outcome.truth))
    if outcome.task == "multilabel":
        return 1.0 - row_scores(outcome.truth, outcome.decided)[2]
    return np.asarray(outcome.truth != outcome.decided, dtype=np.float64)


def wrong_confidence(outcome: Outcome) -> Floats:
    """How sure the model was of what is wrong in each row, float64 [rows], -inf for right rows.

    Classes: the score of the class that was given in error. Multilabel: of all mistakes of the row
    the largest, the score of a label given in error or 1 minus the score of one that was missed.
    Regression: the absolute error.
    """
    if outcome.task == "regression":
        return row_errors(outcome)
    if outcome.task == "multilabel":
        sure = np.where(outcome.decided, outcome.scores, 1.0 - outcome.scores)
        return np.asarray(np.where(outcome.truth != outcome.decided, sure, -np.inf).max(axis=1))
    given = outcome.scores[np.arange(outcome.rows), outcome.decided]
    return np.where(outcome.truth != outcome.decided, given, -np.inf)


def worst_rows(outcome: Outcome, most: int) -> Ints:
    """Up to `most` row numbers that are wrong, those the model was surest of first."""
    sure = wrong_confidence(outcome)
    if outcome.task == "regression":
        sure = np.where(sure > 0, sure, -np.inf)
    order = np.argsort(-sure, kind="stable")[:most]
    return order[np.isfinite(sure[order])]


def by_length(lengths: Ints, errors: Floats, *, shares: bool) -> tuple[Stretch, ...]:
    """Mean error of the rows in stretches of length that hold about equally many rows.

    lengths int [rows], errors float64 [rows]. Rows of one length are never parted, so there can
    be fewer stretches. `shares` is for the bounds, see `mean_interval`.
    """
    inner = np.quantile(lengths, np.arange(1, _STRETCHES) / _STRETCHES, method="lower")
    stretch = np.searchsorted(np.unique(inner), lengths, side="left")
    return tuple(
        _stretch(lengths[stretch == number], errors[stretch == number], shares=shares)
        for number in np.unique(stretch)
    )


def _stretch(lengths: Ints, errors: Floats, *, shares: bool) -> Stretch:
    return Stretch(
        int(lengths.min()),
        int(lengths.max()),
        len(errors),
        float(errors.mean()),
        mean_interval(errors, shares=shares),
    )


def mean_interval(values: Floats, *, shares: bool) -> tuple[float, float] | None:
    """95 % bounds of the mean of float64 [n], n at least 1, values 0 or more.

    Wilson's (1927) for values in 0..1 (`shares`): none of their mean vary more than 0 and 1 do, and
    no error in ten rows is not said to be none for sure. Else mean plus and minus 1.96 standard
    errors, not below 0; None of one value, which says nothing of how they vary.
    """
    rows, mean = len(values), float(values.mean())
    if shares:
        return share_interval(mean, rows)
    if rows == 1:
        return None
    half = NORMAL_95 * float(values.std(ddof=1)) / math.sqrt(rows)
    return max(0.0, mean - half), mean + half


def share_interval(share: float, rows: int) -> tuple[float, float]:
    """Wilson's (1927) 95 % bounds of a share of `rows` rows, 1 at least."""
    squared = NORMAL_95**2
    middle = share + squared / (2 * rows)
    half = NORMAL_95 * math.sqrt(share * (1 - share) / rows + squared / (4 * rows**2))
    scale = 1 + squared / rows
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def part(outcome: Outcome, rows: Bools) -> Outcome:
    """The chosen rows of an outcome; `rows` is bool [rows] with at least one True."""
    return Outcome(outcome.task, outcome.truth[rows], outcome.scores[rows], outcome.decided[rows])
