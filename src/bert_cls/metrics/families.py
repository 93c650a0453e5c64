"""The metrics that can be resampled, in families that share their sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike

from bert_cls.data.example import Task
from bert_cls.metrics.calibration import row_log_losses
from bert_cls.metrics.counts import matthews, ratio, row_scores
from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome, indicator
from bert_cls.metrics.ranking import rank_rows
from bert_cls.metrics.regression import error_and_spread, tie_groups, unit
from bert_cls.metrics.resampling import Family, Statistics, Weights

HOT_CELLS_AT_ONCE = 4_000_000
WALKED_AT_ONCE = 50_000
# Below this share of the spread on all rows, a difference of two sums is rounding error.
NO_SPREAD = 1e-13


def label_sums(outcome: Outcome) -> Callable[[Weights], tuple[Floats, Floats, Floats]]:
    """Weights to true positives, support and predicted, each float64 [resamples, labels]."""
    step = max(1, HOT_CELLS_AT_ONCE // outcome.labels)

    def sums(weights: Weights) -> tuple[Floats, Floats, Floats]:
        out = np.zeros((3, len(weights), outcome.labels))
        for start in range(0, outcome.rows, step):
            part = slice(start, start + step)
            truth = indicator(outcome.truth[part], outcome.labels)
            given = indicator(outcome.decided[part], outcome.labels)
            for total, hot in zip(out, (truth & given, truth, given), strict=True):
                total += weights[:, part] @ hot.astype(weights.dtype)
        return out[0], out[1], out[2]

    return sums


def _quotient(top: ArrayLike, bottom: ArrayLike) -> Floats:
    """Elementwise quotient, NaN where the bottom is 0."""
    out: Floats = np.full(np.shape(top), np.nan)
    return np.divide(top, bottom, out=out, where=np.asarray(bottom) != 0)


def _mean_over(values: Floats, scope: Bools) -> Floats:
    """Mean along the labels in scope, float64 [resamples], NaN where none is."""
    return _quotient((values * scope).sum(axis=1), np.count_nonzero(scope, axis=1))


def _macro_f1(outcome: Outcome) -> Callable[[Floats, Floats, Floats], tuple[Floats, Floats]]:
    """Label sums to macro F1 over all labels and over those present in the resample."""
    tp, support, given = label_sums(outcome)(np.ones((1, outcome.rows), dtype=np.float64))
    on_all_rows = ratio(2 * tp, support + given)

    def macro_f1(tp: Floats, support: Floats, given: Floats) -> tuple[Floats, Floats]:
        f1 = ratio(2 * tp, support + given)
        everywhere = np.where(support + given > 0, f1, on_all_rows).mean(axis=1)
        return everywhere, _mean_over(f1, support > 0)

    return macro_f1


def _multilabel_counts(outcome: Outcome) -> Statistics:
    sums, macro_f1 = label_sums(outcome), _macro_f1(outcome)

    def statistics(weights: Weights) -> dict[str, Floats]:
        tp, support, given = sums(weights)
        everywhere, present = macro_f1(tp, support, given)
        return {
            "micro_f1": _quotient(2 * tp.sum(axis=1), (support + given).sum(axis=1)),
            "macro_f1_all": everywhere,
            "macro_f1_present": present,
        }

    return statistics


def _binary_counts(outcome: Outcome) -> Statistics:
    sums, macro_f1 = label_sums(outcome), _macro_f1(outcome)

    def statistics(weights: Weights) -> dict[str, Floats]:
        tp, support, given = sums(weights)
        return {
            "accuracy": tp.sum(axis=1) / outcome.rows,
            "precision": _quotient(tp[:, 1], given[:, 1]),
            "recall": _quotient(tp[:, 1], support[:, 1]),
            "f1": _quotient(2 * tp[:, 1], support[:, 1] + given[:, 1]),
            "macro_f1_all": macro_f1(tp, support, given)[0],
            "mcc": matthews(tp, support, given),
        }

    return statistics


def _multiclass_counts(outcome: Outcome) -> Statistics:
    sums, macro_f1 = label_sums(outcome), _macro_f1(outcome)

    def statistics(weights: Weights) -> dict[str, Floats]:
        tp, support, given = sums(weights)
        everywhere, present = macro_f1(tp, support, given)
        f1 = ratio(2 * tp, support + given)
        return {
            "accuracy": tp.sum(axis=1) / outcome.rows,
            "balanced_accuracy": _mean_over(ratio(tp, support), support > 0),
            "macro_f1_all": everywhere,
            "macro_f1_present": present,
            "weighted_f1": np.sum(support * f1, axis=1) / outcome.rows,
            "mcc": matthews(tp, support, given),
        }

    return statistics


def _row_means(columns: Mapping[str, Floats]) -> Statistics:
    """Weighted means of per-row values float64 [rows]; rows with NaN are left out."""
    values = np.column_stack(list(columns.values()))
    defined = ~np.isnan(values)
    values = np.where(defined, values, 0.0)

    def statistics(weights: Weights) -> dict[str, Floats]:
        means = _quotient(weights @ values, weights @ defined.astype(np.float64))
        return dict(zip(columns, means.T, strict=True))

    return statistics


def _multilabel_rows(outcome: Outcome) -> Statistics:
    truth, given = outcome.truth, outcome.decided
    exact = (truth == given).all(axis=1)
    return _row_means(
        {"samples_f1": row_scores(truth, given)[2], "exact_match": exact.astype(np.float64)}
    )


def _multilabel_order(outcome: Outcome) -> Statistics:
    return _row_means({"lrap": rank_rows(outcome.truth, outcome.scores, deepest=1)[0]})


def _multiclass_losses(outcome: Outcome) -> Statistics:
    return _row_means({"log_loss": row_log_losses(outcome.truth, outcome.scores)})


def _in_blocks(statistics: Statistics, rows: int) -> Statistics:
    """The same statistics, a few resamples at a time so that what they hold stays in cache."""
    step = max(1, WALKED_AT_ONCE // rows)

    def blockwise(weights: Weights) -> dict[str, Floats]:
        blocks = [statistics(weights[i : i + step]) for i in range(0, len(weights), step)]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    return blockwise


def _ranked(truth: Bools, scores: Floats, *, area: bool) -> Statistics:
    """Weights to average precision and, if asked, AUROC of one label.

    truth bool [rows], scores float64 [rows], finite. Only runs of equal scores that hold a
    positive matter; the rows between two of them are summed in one go.
    """
    order, starts, group = tie_groups(-scores)
    if not truth.any():
        undefined = ("average_precision", "auroc") if area else ("average_precision",)
        return lambda weights: {name: np.full(len(weights), np.nan) for name in undefined}
    held = np.unique(group[truth])
    ends = np.append(starts[1:], len(truth))[held]
    order, edges = order[: ends[-1]], np.append(0, ends[:-1])
    positives = order[truth[order]]
    first = np.searchsorted(group[positives], held)
    inside = order[np.isin(group[order], held)]
    inside_first = np.searchsorted(group[inside], held)

    def statistics(weights: Weights) -> dict[str, Floats]:
        seen = _run_sums(weights, order, edges).cumsum(axis=1, dtype=np.float64)
        gained = _run_sums(weights, positives, first)
        tp = gained.cumsum(axis=1, dtype=np.float64)
        total = tp[:, -1]
        precision = np.divide(tp, seen, out=np.zeros_like(tp), where=seen > 0)
        out = {"average_precision": _quotient(np.sum(gained * precision, axis=1), total)}
        if area:
            tied = _run_sums(weights, inside, inside_first) - gained
            below = (len(truth) - total)[:, None] - (seen - tp) + tied / 2
            pairs = total * (len(truth) - total)
            out["auroc"] = _quotient(np.sum(gained * below, axis=1), pairs)
        return out

    return _in_blocks(statistics, len(truth))


def _run_sums(weights: Weights, order: Ints, starts: Ints) -> Weights:
    """Sums [resamples, runs] of the weights, in order, of each run from its start to the next."""
    ordered = np.take(weights, order, axis=1)
    return ordered if len(starts) == len(order) else np.add.reduceat(ordered, starts, axis=1)


def _multilabel_precision(outcome: Outcome) -> Statistics:
    labels = [
        _ranked(outcome.truth[:, i], outcome.scores[:, i], area=False)
        for i in range(outcome.labels)
    ]

    def statistics(weights: Weights) -> dict[str, Floats]:
        values = np.column_stack([label(weights)["average_precision"] for label in labels])
        defined = ~np.isnan(values)
        return {"map": _mean_over(np.where(defined, values, 0.0), defined)}

    return statistics


def _binary_ranks(outcome: Outcome) -> Statistics:
    return _ranked(outcome.truth == 1, outcome.scores[:, 1], area=True)


def _regression_errors(outcome: Outcome) -> Statistics:
    errors = np.abs(outcome.scores - outcome.truth)
    means = _row_means({"mae": errors, "mse": np.square(errors)})

    def statistics(weights: Weights) -> dict[str, Floats]:
        both = means(weights)
        return {**both, "rmse": np.sqrt(both["mse"])}

    return statistics


def _regression_fit(outcome: Outcome) -> Statistics:
    error, spread = error_and_spread(outcome.truth, outcome.scores)
    x, y = unit(outcome.truth), unit(outcome.scores)
    # spread and unit(truth) differ by a power of two: the error goes along to the scale of x.
    power = np.max(np.abs(x)) / np.max(np.abs(spread))
    sums = np.column_stack([x, y, x * x, y * y, x * y, np.square(error * power)])

    def statistics(weights: Weights) -> dict[str, Floats]:
        mean_x, mean_y, xx, yy, xy, squared = (weights @ sums).T / outcome.rows
        spread_x, spread_y = xx - mean_x**2, yy - mean_y**2
        spread_x[spread_x < NO_SPREAD] = 0.0
        spread_y[spread_y < NO_SPREAD] = 0.0
        return {
            "r2": 1.0 - _quotient(squared, spread_x),
            "pearson": _quotient(xy - mean_x * mean_y, np.sqrt(spread_x) * np.sqrt(spread_y)),
        }

    return statistics


def _weighted_ranks(values: Floats) -> Callable[[Weights], Floats]:
    """Weights to each row's mean rank in the resample, less the middle rank."""
    order, starts, group = tie_groups(values)
    middle = (len(values) + 1) / 2

    def ranks(weights: Weights) -> Floats:
        sums = _run_sums(weights, order, starts)
        last = np.cumsum(sums, axis=1, dtype=np.float64)
        return np.take(last - (sums - 1) / 2 - middle, group, axis=1)

    return ranks


def _regression_ranks(outcome: Outcome) -> Statistics:
    ranks_truth, ranks_scores = _weighted_ranks(outcome.truth), _weighted_ranks(outcome.scores)

    def statistics(weights: Weights) -> dict[str, Floats]:
        x, y = ranks_truth(weights), ranks_scores(weights)
        weighted = weights * x
        spread = np.sqrt(np.sum(weighted * x, axis=1)) * np.sqrt(np.sum(weights * y * y, axis=1))
        return {"spearman": _quotient(np.sum(weighted * y, axis=1), spread)}

    return _in_blocks(statistics, outcome.rows)


FAMILIES: dict[Task, tuple[Family, ...]] = {
    "multilabel": (
        Family(("micro_f1", "macro_f1_all", "macro_f1_present"), _multilabel_counts),
        Family(("samples_f1", "exact_match"), _multilabel_rows),
        Family(("lrap",), _multilabel_order),
        Family(("map",), _multilabel_precision, walks=lambda outcome: outcome.labels),
    ),
    "binary": (
        Family(
            ("accuracy", "precision", "recall", "f1", "macro_f1_all", "mcc"),
            _binary_counts,
        ),
        Family(("average_precision", "auroc"), _binary_ranks, walks=lambda outcome: 1),
    ),
    "multiclass": (
        Family(
            (
                "accuracy",
                "balanced_accuracy",
                "macro_f1_all",
                "macro_f1_present",
                "weighted_f1",
                "mcc",
            ),
            _multiclass_counts,
        ),
        Family(("log_loss",), _multiclass_losses),
    ),
    "regression": (
        Family(("mse", "rmse", "mae"), _regression_errors),
        Family(("r2", "pearson"), _regression_fit),
        Family(("spearman",), _regression_ranks, walks=lambda outcome: 2),
    ),
}
