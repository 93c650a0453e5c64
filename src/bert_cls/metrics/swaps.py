"""How often chance alone would set two models this far apart in a headline metric.

Were the models equally good, each row could as well have its two answers swapped (see `exact`). So
there is one law for all metrics, each by its own definition: p is the share of the ways to swap in
which the two sides lie at least as far apart as they do. A row counts for what it weighs: with
three positives that only one model finds, p of recall is 0.25, however many negatives differ.

To swap rows is to draw them from the other half of a file that holds the rows twice, answered by
one model and by the other. All ways are tried where there are no more than asked for; else they
are drawn, and the one that was seen is the first of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.metrics.exact import mcnemar_exact, swap_test
from bert_cls.metrics.families import FAMILIES
from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome
from bert_cls.metrics.regression import unit
from bert_cls.metrics.resampling import EXACT_IN_FLOAT32, WEIGHTS_AT_ONCE, Family, Weights

_ROUNDING = 1e-12

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Test:
    """What a metric reads of each row's answer, [rows, ...], and its test where it can be summed.

    `exact` maps the truth and what is read of both models to p; without it swaps are tried.
    """

    reads: Callable[[Outcome], Array]
    exact: Callable[[Array, Array, Array], float] | None = None


def swap_tests(
    a: Outcome, b: Outcome, metrics: Sequence[str], *, ways: int, seed: int
) -> dict[str, tuple[float, int]]:
    """P value of the difference in each metric, and in how many rows what it reads differs.

    The metrics are defined for both models. At most `ways` swaps are tried, and fewer by a family
    that cannot afford them.
    """
    found: dict[str, tuple[float, int]] = {}
    for reads in dict.fromkeys(TESTS[metric].reads for metric in metrics):
        seen = reads(a), reads(b)
        unlike = seen[0] != seen[1]
        differ = np.flatnonzero(unlike.any(axis=1) if unlike.ndim == 2 else unlike)
        drawn = []
        for metric in (each for each in metrics if TESTS[each].reads is reads):
            if exact := TESTS[metric].exact:
                found[metric] = exact(a.truth, *seen), len(differ)
            else:
                drawn.append(metric)
        twice = _twice(a, b, seen)
        for family in FAMILIES[a.task]:
            if wanted := set(drawn).intersection(family.metrics):
                gaps = _gaps(family, twice, differ, ways=ways, seed=seed)
                found |= {metric: (_share(*gaps[metric]), len(differ)) for metric in wanted}
    return found


def _twice(a: Outcome, b: Outcome, seen: tuple[Array, Array]) -> Outcome:
    """All rows as answered by a, then as answered by b; scores are what is seen of them."""
    scores = seen if seen[0].dtype == np.float64 else (a.scores, b.scores)
    decided = None if a.task == "regression" else np.concatenate([a.decided, b.decided])
    return Outcome(a.task, np.concatenate([a.truth, b.truth]), np.concatenate(scores), decided)


def _gaps(
    family: Family, twice: Outcome, differ: Ints, *, ways: int, seed: int
) -> dict[str, tuple[Floats, Floats]]:
    """{metric: its values of the one side and of the other}, float64 [ways], as seen first."""
    parts: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in family.metrics}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        statistics = family.prepare(twice)
        ways = family.resamples(twice, ways)
        for weights in _sides(twice.rows // 2, differ, ways, seed=seed):
            one, other = statistics(weights), statistics(2 - weights)
            for name, part in parts.items():
                part.append((one[name], other[name]))
    return {
        name: (np.concatenate([x for x, _ in part]), np.concatenate([y for _, y in part]))
        for name, part in parts.items()
    }


def _sides(rows: int, differ: Ints, ways: int, *, seed: int) -> Iterator[Weights]:
    """Blocks float [some ways, 2 x rows]: 2 for the answer a row is given on one side, else 0."""
    rng = np.random.default_rng(seed)
    dtype = np.float32 if 2 * rows < EXACT_IN_FLOAT32 else np.float64
    everything = 2 ** len(differ) <= ways
    ways = 2 ** len(differ) if everything else ways
    step = max(1, WEIGHTS_AT_ONCE // (2 * rows))
    for start in range(0, ways, step):
        numbers = np.arange(start, min(start + step, ways))
        if everything:
            swaps = numbers[:, None] >> np.arange(len(differ)) & 1
        else:
            swaps = rng.integers(0, 2, size=(len(numbers), len(differ)))
            swaps[numbers == 0] = 0
        weights = np.zeros((len(numbers), 2 * rows), dtype=dtype)
        weights[:, :rows] = 2
        weights[:, differ] -= 2 * swaps
        weights[:, rows + differ] += 2 * swaps
        yield weights


def _share(one: Floats, other: Floats) -> float:
    """Share of the ways that are as far apart as the first; what is undefined counts as far."""
    seen = abs(one[0] - other[0]) - _ROUNDING * max(abs(one[0]), abs(other[0]))
    with np.errstate(invalid="ignore"):
        nearer = np.abs(one - other) < seen
    return float(np.mean(~nearer))


def _right(outcome: Outcome) -> Bools:
    return outcome.right


def _found(outcome: Outcome) -> Bools:
    return np.asarray((outcome.decided == 1) & (outcome.truth == 1))


def _decided(outcome: Outcome) -> Array:
    return outcome.decided


def _scores(outcome: Outcome) -> Floats:
    return outcome.scores


def _ranks(outcome: Outcome) -> Floats:
    """Ranks 0..1 of each label's scores: two models need not have one scale.

    Equal scores are ranked by chance, of both models alike: shared ranks would lie elsewhere in
    each model's scale, and order the same answer by who gave it.
    """
    chance = np.random.default_rng(0).permutation(outcome.rows)
    columns = outcome.scores.reshape(outcome.rows, -1).T
    order = [np.lexsort((chance, column)) for column in columns]
    ranks = np.argsort(order, axis=1).T.reshape(outcome.scores.shape)
    return np.asarray(ranks / outcome.rows)


def _standard(outcome: Outcome) -> Floats:
    """Scores that are not constant, with mean 0 and spread 1, for the same reason."""
    scores = unit(outcome.scores)
    return np.asarray(scores / scores.std())


def _rows(_: Array, a: Array, b: Array) -> float:
    return mcnemar_exact(a, b).p_value


def _positives(truth: Array, a: Array, b: Array) -> float:
    return swap_test(truth == 1, a == 1, b == 1)


TESTS: dict[str, Test] = {
    "accuracy": Test(_right, _rows),
    "exact_match": Test(_right, _rows),
    "recall": Test(_found, _rows),
    "f1": Test(_decided, _positives),
    "precision": Test(_decided),
    "mcc": Test(_decided),
    "balanced_accuracy": Test(_decided),
    "micro_f1": Test(_decided),
    "macro_f1_all": Test(_decided),
    "macro_f1_present": Test(_decided),
    "weighted_f1": Test(_decided),
    "samples_f1": Test(_decided),
    "map": Test(_ranks),
    "auroc": Test(_ranks),
    "average_precision": Test(_ranks),
    "lrap": Test(_scores),
    "log_loss": Test(_scores),
    "mse": Test(_scores),
    "rmse": Test(_scores),
    "mae": Test(_scores),
    "r2": Test(_scores),
    "pearson": Test(_standard),
    "spearman": Test(_ranks),
}
