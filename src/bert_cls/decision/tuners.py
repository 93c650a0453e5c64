"""Threshold tuners: (scores float64 [rows, labels] in [0, 1], truth bool, objective) -> [labels].

Candidates are data, never a grid: an objective only falls when a false cell is taken in, so its
best cut lies right below the score of a true cell. The threshold is put half way to the next lower
score, at the next smaller number where there is none, and at +inf for "never".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bert_cls.decision.objectives import at_cuts, f1, label_counts, measure
from bert_cls.decision.rule import Bools, Floats, Ints, sigmoid

HALF = 0.5
HALF_WEIGHT = 5
"""A label with this many positive rows gets half of its own cut in `shrunk`."""
MOST_CUTS = 8192
"""Candidates of a shared cut; more are thinned to quantiles of the true cells' scores."""
AVERAGED_FOLDS = 3


def fixed(scores: Floats, truth: Bools, objective: str) -> Floats:
    """One half for every label."""
    return np.full(truth.shape[1], HALF)


def shared(scores: Floats, truth: Bools, objective: str) -> Floats:
    """One cut for all labels, the best for the objective; one half where nothing is true."""
    cuts = np.unique(scores[truth])
    if not cuts.size:
        return fixed(scores, truth, objective)
    if cuts.size > MOST_CUTS:
        cuts = cuts[np.linspace(0, cuts.size - 1, MOST_CUTS).round().astype(np.int64)]
    values = at_cuts(objective, scores, truth, cuts).round(12)
    best = _last_best(values)
    nothing = measure(objective, np.zeros_like(truth), truth)
    cut = np.inf if nothing > values[best] else _below(float(cuts[best]), scores)
    return np.full(truth.shape[1], cut)


def shrunk(scores: Floats, truth: Bools, objective: str) -> Floats:
    """Each label's F1 optimum, drawn toward the shared cut on the logit scale.

    A label with n positive rows keeps n / (n + 5) of its own cut; without any, it has the shared
    one. Under an objective that would rather predict nothing, the cuts are drawn toward one half.
    """
    thresholds = shared(scores, truth, objective)
    anchor = float(np.where(np.isinf(thresholds), HALF, thresholds)[0])
    for label in np.flatnonzero(truth.any(axis=0)):
        true = truth[:, label].sum()
        own = best_cut(scores[:, label], truth[:, label])
        weight = true / (true + HALF_WEIGHT)
        mixed = sigmoid(weight * _logit(own) + (1 - weight) * _logit(anchor))
        thresholds[label] = own if own == anchor else mixed
    return thresholds


def micromacro(scores: Floats, truth: Bools, objective: str) -> Floats:
    """Labels from frequent to rare, each maximising its share of macro-F1 plus micro-F1 so far.

    micromacro-freq of Lin and Lin (CIKM 2023), here on cached scores: each third of the rows
    gives its cuts, averaged on the logit scale, "never" counting as just above the label's scores.
    Labels without a true row have the shared cut.
    """
    thresholds = shared(scores, truth, objective)
    present = truth.any(axis=0)
    if not present.any():
        return thresholds
    fold_of = deal(scores, truth, folds=min(AVERAGED_FOLDS, len(scores)), seed=0)
    thirds = [fold_of == fold for fold in range(fold_of.max() + 1)]
    cuts = np.stack([_greedy(scores[third], truth[third]) for third in thirds])
    over = np.nextafter(scores.max(axis=0), np.inf)
    cuts = np.where(np.isinf(cuts), over, cuts)
    agreed = cuts.min(axis=0) == cuts.max(axis=0)
    mean = np.where(agreed, cuts[0], sigmoid(_logit(cuts).mean(axis=0)))
    thresholds[present] = np.where(mean > 1, np.inf, mean)[present]
    return thresholds


def best_cut(scores: Floats, truth: Bools) -> float:
    """The cut with the highest F1 of one label (both inputs [rows], with a true row)."""
    cuts = np.unique(scores[truth])
    tp, predicted = label_counts(scores, truth, cuts)
    best = _last_best(f1(tp, predicted, np.asarray(truth.sum())).round(12))
    return _below(float(cuts[best]), scores)


def _greedy(scores: Floats, truth: Bools) -> Floats:
    """One pass of micromacro-freq; inf where it is best not to predict a label."""
    thresholds = np.full(scores.shape[1], np.inf)
    by_frequency = np.argsort(-truth.sum(axis=0), kind="stable")
    tp_so_far = predicted_so_far = true_so_far = np.zeros((), dtype=np.int64)
    for done, label in enumerate(by_frequency, start=1):
        column, true = scores[:, label], np.asarray(truth[:, label].sum())
        cuts = np.append(np.unique(column[truth[:, label]]), np.inf)
        tp, predicted = label_counts(column, truth[:, label], cuts)
        micro = f1(tp + tp_so_far, predicted + predicted_so_far, true + true_so_far)
        best = _last_best((f1(tp, predicted, true) / done + micro).round(12))
        if np.isfinite(cuts[best]):
            thresholds[label] = _below(float(cuts[best]), column)
        tp_so_far, true_so_far = tp_so_far + tp[best], true_so_far + true
        predicted_so_far = predicted_so_far + predicted[best]
    return thresholds


def deal(scores: Floats, truth: Bools, *, folds: int, seed: int) -> Ints:
    """The fold of each row, int64 [rows]: dealt out in turn, rows with one rarest label together.

    Chance comes from the seed and the rows' content, so the order of the rows does not matter.
    """
    rows, labels = truth.shape
    rng = np.random.default_rng(seed)
    of_scores = scores @ rng.standard_normal(scores.shape[1])
    key = of_scores + truth @ rng.standard_normal(labels)
    chance = np.empty(rows)
    # where scores are too small to be seen beside the truth they order its equals
    chance[np.lexsort((of_scores, key))] = rng.permutation(rows)
    frequency = truth.sum(axis=0)
    by_rarity = np.argsort(frequency, kind="stable")
    rarest = np.where(truth.any(axis=1), np.argmax(truth[:, by_rarity], axis=1), labels)
    fold_of = np.empty(rows, dtype=np.int64)
    fold_of[np.lexsort((chance, rarest))] = np.arange(rows) % max(folds, 1)
    return fold_of


def _last_best(values: Floats) -> int:
    """The last position of the maximum: of equal cuts the one that predicts least."""
    return int(len(values) - 1 - np.argmax(values[::-1]))


def _below(score: float, scores: Floats) -> float:
    """A threshold that takes in `score` and not the next lower one of `scores`."""
    lower = scores[scores < score]
    if not lower.size:
        return max(float(np.nextafter(score, -np.inf)), 0.0)
    next_lower = float(lower.max())
    middle = next_lower + (score - next_lower) / 2
    return middle if next_lower < middle else score


def _logit(p: Floats | float) -> Floats:
    clipped = np.clip(p, 1e-15, 1 - 1e-15)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


TUNERS: dict[str, Callable[[Floats, Bools, str], Floats]] = {
    "fixed": fixed,
    "global": shared,
    "shrunk": shrunk,
    "micromacro": micromacro,
}
"""From simple to free; among equals `auto` takes the first."""
