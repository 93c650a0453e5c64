"""Making scores probabilities: a temperature, of classes with a power, or lines of each label.

All minimise the negative log likelihood of development rows, with Platt's (1999) softened
targets, so that a few rows that are all right do not make the scores certain. Of classes a
temperature makes probabilities only where the loss aims at them: it moves none against another.

Networks hold the best logit's lead down where they are sure, so a temperature that suits doubtful
rows is too high for sure ones. A power of the lead mends both (docs/certainty.md), and leaves the
order of a row's classes, as the functions of Rahimi et al. (2020) do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bert_cls.decision.rule import MOST_SHIFT, Bools, Floats, Rule, log_sum_exp, sigmoid, softmax

COLDEST, HOTTEST = 0.05, 20.0
MOST_POINTS = 4096
"""Cells of one truth are pooled into so many runs of like logits before fitting."""
MOST_ROWS = 20_000
"""Rows a temperature of classes is fitted on."""
MOST_ROWS_OF_POWER = 5_000
"""Rows a power is fitted on, which takes a dozen temperatures."""
FLATTEST, STEEPEST = 0.5, 4.0
"""Powers to fit."""
STEPS = 50

FEWEST_OF_LABEL = 10
"""Rows with and rows without a label, from which it may have a slope and offset of its own."""
STIFFNESS = 4.0
"""Labels' own slopes are drawn toward the shared one, offsets (`STIFFNESS` / 4) likewise."""

Slopes = tuple[float, Floats, Floats]
"""A loss, its gradient [parameters] and its Hessian [parameters, parameters]."""


def fit(rule: Rule, logits: Floats, truth: Bools) -> Rule:
    """The rule with the temperature (and bias, if its loss is uncalibrated) of these rows.

    `logits` [rows, columns]; `truth` [rows, labels], one-hot for classes. The rule comes back
    unchanged where higher logits are not truer. Classes of an uncalibrated loss stay so: it
    may favour some of them, which one temperature leaves as it is.
    """
    calibrated = rule.calibrated or rule.activation != "softmax"
    if rule.activation == "softmax":
        slope, bias = _softmax_slope(logits, truth), 0.0
    elif rule.calibrated:
        slope, bias = _sigmoid_slope(logits, truth[:, -logits.shape[1] :]), 0.0
    else:
        slope, bias = _slope_and_bias(logits, truth[:, -logits.shape[1] :])
    if slope <= 1 / HOTTEST or abs(bias) > MOST_SHIFT:
        return rule
    temperature = max(1 / slope, COLDEST)
    return replace(rule, temperature=temperature, bias=bias, calibrated=calibrated)


def fit_power(rule: Rule, logits: Floats, truth: Bools) -> Rule:
    """The rule with the temperature and the power of these rows (classes).

    A sigmoid has the temperature alone.
    """
    # comes with scikit-learn; who predicts needs neither
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    shared = fit(rule, logits, truth)
    if rule.activation != "softmax" or shared == rule:
        return shared
    every = max(1, -(-len(truth) // MOST_ROWS_OF_POWER))
    logits, truth = logits[::every], truth[::every]
    behind = logits.max(axis=1, keepdims=True) - logits
    size = float(behind.mean()) or 1.0  # so that a slope of 1 is neither flat nor steep

    def best(log_power: float) -> tuple[float, float]:
        slopes = _of_classes(-((behind / size) ** np.exp(log_power)), truth)
        theta = _minimise(slopes, np.ones(1))
        return slopes(theta)[0], float(theta[0])

    bounds = (float(np.log(FLATTEST)), float(np.log(STEEPEST)))
    at = float(minimize_scalar(lambda x: best(x)[0], bounds=bounds, options={"xatol": 1e-3}).x)
    power, slope = float(np.exp(at)), best(at)[1]
    temperature = size * slope ** (-1 / power) if slope > 0 else np.inf
    if not COLDEST <= temperature <= HOTTEST:
        return shared
    return replace(shared, temperature=temperature, power=power)


def fit_per_label(rule: Rule, logits: Floats, truth: Bools) -> Rule:
    """The rule with a slope and offset for each label that has rows enough (Platt 1999).

    Others keep the temperature (and bias) of `fit`. A label's own values are drawn toward those, so
    few rows move them little.
    """
    shared = fit(rule, logits, truth)
    slopes = np.full(logits.shape[1], 1 / shared.temperature)
    offsets = np.full(logits.shape[1], shared.bias)
    for label in range(logits.shape[1]):
        true = int(truth[:, label].sum())
        if min(true, len(truth) - true) < FEWEST_OF_LABEL:
            continue
        x, target, weight = _points(logits[:, label], truth[:, label])
        start = np.array([slopes[label], offsets[label]])
        stiff = np.array([STIFFNESS / slopes[label] ** 2, STIFFNESS / 4]) / len(truth)
        likely = _logistic(np.stack([x, np.ones_like(x)]), target, weight)
        slope, offset = _line(_drawn(likely, start, stiff), start)
        if slope > 1 / HOTTEST and abs(offset) <= MOST_SHIFT:
            slopes[label], offsets[label] = slope, offset
    return replace(
        shared,
        temperature=1.0,
        bias=0.0,
        slopes=tuple(slopes.tolist()),
        offsets=tuple(offsets.tolist()),
        calibrated=True,
    )


def row_losses(rule: Rule, logits: Floats, truth: Bools) -> Floats:
    """Negative log likelihood of each row's class, or the mean over its cells; float64 [rows]."""
    x = rule.scaled(logits)
    if rule.activation == "softmax":
        return np.asarray(log_sum_exp(x) - x[truth])
    return np.asarray((_softplus(x) - x * truth[:, -x.shape[1] :]).mean(axis=1))


def _drawn(
    slopes: Callable[[Floats], Slopes], to: Floats, stiff: Floats
) -> Callable[[Floats], Slopes]:
    """The loss plus what it costs to leave `to`: half of stiff times the squared way."""

    def drawn(theta: Floats) -> Slopes:
        value, gradient, hessian = slopes(theta)
        way = theta - to
        return value + float(stiff @ way**2) / 2, gradient + stiff * way, hessian + np.diag(stiff)

    return drawn


def _softmax_slope(logits: Floats, truth: Bools) -> float:
    every = max(1, -(-len(truth) // MOST_ROWS))
    return float(_minimise(_of_classes(logits[::every], truth[::every]), np.ones(1))[0])


def _of_classes(logits: Floats, truth: Bools) -> Callable[[Floats], Slopes]:
    """Slopes of the loss of classes whose logits are multiplied by the one parameter."""
    rows, labels = logits.shape
    missed = 1.0 / (rows + 2)
    target = np.where(truth, 1.0 - missed, missed / (labels - 1))
    aim = float((target * logits).sum())

    def slopes(theta: Floats) -> Slopes:
        scaled = logits * theta[0]
        p = softmax(scaled)
        mean = (p * logits).sum(axis=1)
        spread = float((p * logits**2).sum() - (mean**2).sum())
        value = float(log_sum_exp(scaled).sum()) - float(theta[0]) * aim
        return value / rows, np.array([mean.sum() - aim]) / rows, np.array([[spread]]) / rows

    return slopes


def _sigmoid_slope(logits: Floats, truth: Bools) -> float:
    x, target, weight = _points(logits, truth)
    return float(_minimise(_logistic(x[None, :], target, weight), np.ones(1))[0])


def _slope_and_bias(logits: Floats, truth: Bools) -> tuple[float, float]:
    x, target, weight = _points(logits, truth)
    share = float(target @ weight)
    start = np.array([0.0, np.log(share / (1 - share))])
    return _line(_logistic(np.stack([x, np.ones_like(x)]), target, weight), start)


def _line(slopes: Callable[[Floats], Slopes], start: Floats) -> tuple[float, float]:
    """The slope, 1 / COLDEST at most, and the offset that suits it."""
    slope, offset = _minimise(slopes, start).tolist()
    steepest = 1 / COLDEST
    if slope <= steepest:
        return slope, offset

    def along(theta: Floats) -> Slopes:
        value, gradient, hessian = slopes(np.array([steepest, theta[0]]))
        return value, gradient[1:], hessian[1:, 1:]

    # from where the same logit is even
    (offset,) = _minimise(along, np.array([offset * steepest / slope])).tolist()
    return steepest, offset


def _points(logits: Floats, truth: Bools) -> tuple[Floats, Floats, Floats]:
    """Logits, softened targets and weights (which sum to 1) of the cells, each [points]."""
    (true, trues), (false, falses) = _pooled(logits[truth]), _pooled(logits[~truth])
    targets = [(trues.sum() + 1) / (trues.sum() + 2), 1 / (falses.sum() + 2)]
    return (
        np.concatenate([true, false]),
        np.repeat(targets, [len(true), len(false)]),
        np.concatenate([trues, falses]) / truth.size,
    )


def _pooled(values: Floats) -> tuple[Floats, Floats]:
    """Means and sizes of at most MOST_POINTS runs of the sorted values."""
    ordered = np.sort(values)
    runs = min(MOST_POINTS, len(ordered))
    if runs == 0:
        return ordered, ordered
    starts = np.arange(runs) * len(ordered) // runs
    sizes = np.diff(starts, append=len(ordered)).astype(np.float64)
    return np.add.reduceat(ordered, starts) / sizes, sizes


def _logistic(design: Floats, target: Floats, weight: Floats) -> Callable[[Floats], Slopes]:
    """Slopes of a weighted logistic regression; `design` is [parameters, points]."""

    def slopes(theta: Floats) -> Slopes:
        x = theta @ design
        p = sigmoid(x)
        value = float((_softplus(x) - x * target) @ weight)
        hessian = (design * (p * (1.0 - p) * weight)) @ design.T
        return value, design @ ((p - target) * weight), hessian

    return slopes


def _minimise(slopes: Callable[[Floats], Slopes], theta: Floats) -> Floats:
    """Newton's method on a convex loss, halving the steps that do not lower it."""
    value, gradient, hessian = slopes(theta)
    for _ in range(STEPS):
        step = np.linalg.solve(hessian + 1e-12 * np.eye(len(theta)), gradient)
        tried = slopes(theta - step)
        while not tried[0] <= value and np.abs(step).max() > 1e-9:
            step = step / 2
            tried = slopes(theta - step)
        if np.abs(step).max() <= 1e-9:
            break
        theta, (value, gradient, hessian) = theta - step, tried
    return theta


def _softplus(x: Floats) -> Floats:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


CALIBRATIONS: dict[str, Callable[[Rule, Floats, Bools], Rule]] = {
    "temperature": fit,
    "power": fit_power,
    "platt": fit_per_label,
}
"""From simple to free."""
