"""Metrics against scikit-learn and scipy to 1e-12, laws that hold for any input, and the output."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import math
import warnings
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk

import bert_cls.metrics as ours
from bert_cls.data.example import LabelSpace
from bert_cls.errors import ConfigError, DataError
from bert_cls.metrics import (
    DEFINITIONS,
    HEADLINES,
    Evaluation,
    Outcome,
    evaluate,
    frequency_groups,
    legacy_block,
    mcnemar_exact,
    paired_differences,
)
from bert_cls.metrics.definitions import RANGES
from bert_cls.metrics.families import FAMILIES
from bert_cls.metrics.ranking import rank_label
from bert_cls.metrics.resampling import on_all_rows, percentile_interval, resample, row_weights

TASKS = sorted(HEADLINES)


def same(value, expected):
    return value == pytest.approx(expected, rel=1e-12, abs=1e-12)


def space_of(labels):
    return LabelSpace(tuple(f"c{i}" for i in range(labels)))


def multilabel_arrays(seed, rows, labels, *, density=0.2, levels=None):
    """Truth, scores and predictions; `levels` rounds the scores to that many values (ties)."""
    rng = np.random.default_rng(seed)
    truth = rng.random((rows, labels)) < density
    scores = np.clip(0.3 * truth + rng.random((rows, labels)) * 0.7, 0, 1)
    if levels:
        scores = np.round(scores * levels) / levels
    return truth, scores, scores >= 0.5


def class_arrays(seed, rows, classes, *, levels=None):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, rows)
    logits = rng.normal(size=(rows, classes))
    logits[np.arange(rows), truth] += 1
    if levels:
        logits = np.round(logits * levels) / levels
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, scores, scores.argmax(axis=1)


def number_arrays(seed, rows):
    rng = np.random.default_rng(seed)
    truth = np.round(rng.normal(3, 2, rows), 1)
    return truth, truth + np.round(rng.normal(0, 1, rows), 1), None


def arrays_of(task, seed=0, rows=60, labels=5):
    if task == "multilabel":
        return multilabel_arrays(seed, rows, labels, density=0.3, levels=8)
    if task == "regression":
        return number_arrays(seed, rows)
    return class_arrays(seed, rows, 2 if task == "binary" else labels, levels=2)


def space_for(task, labels=5):
    return space_of({"regression": 0, "binary": 2}.get(task, labels))


def evaluated(task, arrays, **options):
    labels = 0 if task == "regression" else arrays[1].shape[1]
    return evaluate(task, space_of(labels), *arrays, **{"resamples": 0, **options})


def quiet(function, *args, **kwargs):
    """A scikit-learn call whose warnings about undefined values are expected."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **kwargs)


# --- against scikit-learn ---------------------------------------------------------------------


def drop(array, rows=(), columns=()):
    array = array.copy()
    array[list(rows)] = False
    array[:, list(columns)] = False
    return array


def adversarial():
    truth, scores, predicted = multilabel_arrays(1, 80, 7, density=0.3, levels=4)
    yield "ties", (truth, scores, predicted)
    yield "empty rows", (drop(truth, rows=range(0, 80, 3)), scores, drop(predicted, rows=range(40)))
    yield "absent labels", (drop(truth, columns=[0, 3]), scores, predicted)
    yield "never predicted", (truth, scores, drop(predicted, columns=[1, 2]))
    yield (
        "absent, never predicted",
        (drop(truth, columns=[4]), scores, drop(predicted, columns=[4])),
    )
    yield "no truth at all", (np.zeros_like(truth), scores, predicted)
    yield "nothing at all", (np.zeros_like(truth), scores, np.zeros_like(truth))
    yield "every label", (np.ones_like(truth), scores, predicted)
    yield "one score", (truth, np.full_like(scores, 0.25), predicted)
    yield "one row", (truth[:1], scores[:1], predicted[:1])
    yield "one label", (truth[:, :1], scores[:, :1], predicted[:, :1])
    yield "one cell", (truth[:1, :1], scores[:1, :1], predicted[:1, :1])
    yield "continuous", multilabel_arrays(2, 300, 12)
    yield "sparse", multilabel_arrays(3, 300, 30, density=0.01)


ADVERSARIAL = dict(adversarial())


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_multilabel_decisions_equal_scikit_learn(name):
    truth, scores, predicted = ADVERSARIAL[name]
    got = evaluated("multilabel", (truth, scores, predicted)).metrics
    present = np.flatnonzero(truth.any(axis=0))
    both_empty = np.mean(~truth.any(axis=1) & ~predicted.any(axis=1))

    def averages(average, **options):
        # One column is binary data to scikit-learn, whose every average would count its zeros too.
        average = "binary" if truth.shape[1] == 1 else average
        return sk.precision_recall_fscore_support(
            truth, predicted, average=average, **{"zero_division": 0, **options}
        )[:3]

    keys = ("precision", "recall", "f1")
    for key, micro, macro in zip(keys, averages("micro"), averages("macro"), strict=True):
        assert same(got[f"micro_{key}"], micro)
        assert same(got[f"macro_{key}_all"], macro)
    each = [np.atleast_1d(values) for values in averages(None)]
    for key, weighted, values in zip(keys, averages("weighted"), each, strict=False):
        if len(present):
            assert same(got[f"macro_{key}_present"], np.mean(values[present]))
            assert same(got[f"weighted_{key}"], weighted)
        else:
            assert got[f"macro_{key}_present"] is None
            assert got[f"weighted_{key}"] is None
    if truth.shape[1] > 1:
        for key, value in zip(keys, averages("samples"), strict=True):
            assert same(got[f"samples_{key}"], value + both_empty)
        assert same(got["samples_f1"], averages("samples", zero_division=1)[2])
    assert same(got["exact_match"], sk.accuracy_score(truth, predicted))
    assert same(got["hamming_loss"], sk.hamming_loss(truth, predicted))
    mcc = [quiet(sk.matthews_corrcoef, t, p) for t, p in zip(truth.T, predicted.T, strict=True)]
    assert same(got["macro_mcc"], np.mean(mcc))


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_multilabel_order_equals_scikit_learn(name):
    truth, scores, predicted = ADVERSARIAL[name]
    evaluation = evaluated("multilabel", (truth, scores, predicted))
    got = evaluation.metrics
    with_positive = [i for i in range(truth.shape[1]) if truth[:, i].any()]
    both = [i for i in with_positive if not truth[:, i].all()]
    precision = [sk.average_precision_score(truth[:, i], scores[:, i]) for i in with_positive]
    area = [sk.roc_auc_score(truth[:, i], scores[:, i]) for i in both]
    assert got["map_labels"] == len(with_positive)
    assert got["auroc_labels"] == len(both)
    assert same(got["map"], np.mean(precision)) if with_positive else got["map"] is None
    assert same(got["macro_auroc"], np.mean(area)) if both else got["macro_auroc"] is None
    for i, value in zip(with_positive, precision, strict=True):
        assert same(evaluation.per_label[i].average_precision, value)
    for i, value in zip(both, area, strict=True):
        assert same(evaluation.per_label[i].auroc, value)
    counted = truth.any(axis=1) & ~truth.all(axis=1)
    assert same(got["lrap_excluded"], np.mean(~counted))
    if counted.any():
        expected = sk.label_ranking_average_precision_score(truth[counted], scores[counted])
        assert same(got["lrap"], expected)
    else:
        assert got["lrap"] is None


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_multilabel_depth_and_calibration_equal_plain_loops(name):
    truth, scores, predicted = ADVERSARIAL[name]
    got = evaluated("multilabel", (truth, scores, predicted)).metrics
    rows, labels = truth.shape
    for k in (1, 3, 5):
        if k > labels:
            assert got[f"precision_at_{k}"] is None
            assert got[f"recall_at_{k}"] is None
            continue
        hits = [
            sum(truth[r, i] for i in sorted(range(labels), key=lambda i: (-scores[r, i], i))[:k])
            for r in range(rows)
        ]
        assert same(got[f"precision_at_{k}"], np.mean(hits) / k)
        recalls = [h / max(int(t.sum()), 1) for h, t in zip(hits, truth, strict=True)]
        assert same(got[f"recall_at_{k}"], np.mean(recalls))
    each = [plain_ece(truth[:, i], scores[:, i]) for i in range(labels)]
    assert same(got["ece_label_mean"], np.mean(each))
    assert same(got["ece_pooled"], plain_ece(truth.ravel(), scores.ravel()))
    assert same(got["brier"], np.mean((scores - truth) ** 2))
    assert same(got["labels_per_row_true"], truth.sum() / rows)
    assert same(got["empty_rows_predicted"], np.mean([not row.any() for row in predicted]))


def plain_ece(truth, probabilities):
    """Guo et al. (2017), equation 3, bins (m-1)/15 < p <= m/15 and 0 in the first."""
    bins = [[] for _ in range(15)]
    for true, p in zip(truth, probabilities, strict=True):
        bins[next(m for m in range(15) if p <= (m + 1) / 15)].append((float(true), float(p)))
    gaps = [
        len(b) * abs(np.mean([t for t, _ in b]) - np.mean([p for _, p in b])) for b in bins if b
    ]
    return sum(gaps) / len(truth)


def test_a_bin_holds_its_upper_edge():
    edges = np.arange(16) / 15
    table = ours.reliability(np.arange(16) % 2 == 0, edges)
    assert table.rows.tolist() == [2] + [1] * 14
    assert table.hits.tolist() == [1] + [1, 0] * 7
    assert table.confidence == pytest.approx(edges[1:])


@pytest.mark.parametrize(
    ("rows", "classes", "levels"), [(400, 6, None), (90, 4, 1), (7, 9, 1), (1, 3, None), (50, 2, 2)]
)
def test_multiclass_equals_scikit_learn(rows, classes, levels):
    truth, scores, predicted = class_arrays(5, rows, classes, levels=levels)
    evaluation = evaluated("multiclass", (truth, scores, predicted))
    got, ids = evaluation.metrics, list(range(classes))
    present = sorted(set(truth.tolist()))
    assert same(got["accuracy"], sk.accuracy_score(truth, predicted))
    assert same(got["balanced_accuracy"], quiet(sk.balanced_accuracy_score, truth, predicted))
    assert same(got["mcc"], quiet(sk.matthews_corrcoef, truth, predicted))
    for scope, labels in (("all", ids), ("present", present)):
        expected = sk.precision_recall_fscore_support(
            truth, predicted, labels=labels, average="macro", zero_division=0
        )
        for key, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert same(got[f"macro_{key}_{scope}"], value)
    for average in ("micro", "weighted"):
        expected = sk.precision_recall_fscore_support(
            truth, predicted, labels=ids, average=average, zero_division=0
        )
        for key, value in zip(("precision", "recall", "f1"), expected, strict=False):
            assert same(got[f"{average}_{key}"], value)
    assert same(got["log_loss"], quiet(sk.log_loss, truth, y_proba=scores, labels=ids))
    hot = truth[:, None] == np.arange(classes)
    assert same(
        got["brier"], np.mean([sum((p - t) ** 2) for p, t in zip(scores, hot, strict=True)])
    )
    areas = [sk.roc_auc_score(hot[:, i], scores[:, i]) for i in ids if 0 < hot[:, i].sum() < rows]
    assert same(got["macro_auroc"], np.mean(areas)) if areas else got["macro_auroc"] is None
    assert got["auroc_labels"] == len(areas)
    assert same(got["ece"], plain_ece(scores.argmax(axis=1) == truth, scores.max(axis=1)))
    expected = sk.confusion_matrix(truth, predicted, labels=ids)
    assert evaluation.confusion == tuple(map(tuple, expected.tolist()))


@pytest.mark.parametrize("case", ["mixed", "ties", "one class", "never positive", "one row"])
def test_binary_equals_scikit_learn(case):
    truth, scores, predicted = class_arrays(8, 120, 2, levels=1 if case == "ties" else None)
    if case == "one class":
        truth = np.zeros_like(truth)
    if case == "never positive":
        predicted = np.zeros_like(predicted)
    if case == "one row":
        truth, scores, predicted = truth[:1], scores[:1], predicted[:1]
    got = evaluated("binary", (truth, scores, predicted)).metrics
    expected = sk.precision_recall_fscore_support(
        truth, predicted, pos_label=1, labels=[0, 1], average=None, zero_division=0
    )
    for key, value in zip(("precision", "recall", "f1"), expected, strict=False):
        assert same(got[key], value[1])
        assert same(got[f"macro_{key}_all"], value.mean())
    assert same(got["accuracy"], sk.accuracy_score(truth, predicted))
    assert same(got["mcc"], quiet(sk.matthews_corrcoef, truth, predicted))
    assert same(got["ece"], plain_ece(truth == 1, scores[:, 1]))
    assert same(got["brier"], np.mean((scores[:, 1] - truth) ** 2))
    if len(set(truth.tolist())) == 2:
        assert same(got["auroc"], sk.roc_auc_score(truth, scores[:, 1]))
        assert same(got["average_precision"], sk.average_precision_score(truth, scores[:, 1]))
        assert same(got["brier"], sk.brier_score_loss(truth, scores[:, 1]))
    else:
        assert got["auroc"] is None


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e9])
def test_regression_equals_scikit_learn_and_scipy(scale):
    truth, scores, _ = number_arrays(11, 200)
    truth, scores = truth * scale, scores * scale
    got = evaluated("regression", (truth, scores, None)).metrics
    assert got["mse"] == pytest.approx(sk.mean_squared_error(truth, scores), rel=1e-12)
    assert got["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, scores), rel=1e-12)
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(truth, scores), rel=1e-12)
    assert same(got["r2"], sk.r2_score(truth, scores))
    assert same(got["pearson"], stats.pearsonr(truth, scores).statistic)
    assert same(got["spearman"], stats.spearmanr(truth, scores).statistic)


@settings(max_examples=40, deadline=None)
@given(values=hnp.arrays(np.float64, st.integers(1, 30), elements=st.sampled_from([-1.0, 0, 2, 3])))
def test_ranks_equal_scipy(values):
    assert ours.regression.average_ranks(values).tolist() == stats.rankdata(values).tolist()


@settings(max_examples=40, deadline=None)
@given(
    truth=hnp.arrays(bool, 25),
    scores=hnp.arrays(np.float64, 25, elements=st.sampled_from([-3.0, 0, 0.5, 0.5000001, 9])),
)
def test_ranking_of_one_label_equals_scikit_learn(truth, scores):
    if truth.any():
        assert same(
            ours.average_precision(truth, scores), sk.average_precision_score(truth, scores)
        )
    else:
        assert math.isnan(ours.average_precision(truth, scores))
    if 0 < truth.sum() < len(truth):
        assert same(rank_label(truth, scores)[1], sk.roc_auc_score(truth, scores))
    else:
        assert math.isnan(rank_label(truth, scores)[1])


def test_counts_of_a_hundred_thousand_rows_do_not_overflow():
    truth = np.tile([True, True, False, False], 1_000_000)[:, None]
    predicted = np.tile([True, False, False, True], 1_000_000)[:, None]
    counts = ours.label_counts(truth, predicted)
    assert ours.label_matthews(counts).tolist() == [0.0]
    assert ours.label_f1(counts).tolist() == [0.5]


# --- laws -------------------------------------------------------------------------------------

GRID = st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.5, 0.875, 1.0])


@st.composite
def multilabel_inputs(draw):
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 7)))
    return (
        draw(hnp.arrays(bool, shape)),
        draw(hnp.arrays(np.float64, shape, elements=GRID)),
        draw(hnp.arrays(bool, shape)),
    )


@st.composite
def any_inputs(draw):
    """A task with arrays that fit it, as small and as degenerate as they come."""
    task = draw(st.sampled_from(TASKS))
    if task == "multilabel":
        return task, draw(multilabel_inputs())
    rows = draw(st.integers(1, 9))
    if task == "regression":
        numbers = st.sampled_from([-1e300, -1.0, 0.0, 5e-324, 0.1, 3.0, 1e300])
        truth = draw(hnp.arrays(np.float64, rows, elements=numbers))
        return task, (truth, draw(hnp.arrays(np.float64, rows, elements=numbers)), None)
    classes = 2 if task == "binary" else draw(st.integers(1, 5))
    ids = hnp.arrays(np.int64, rows, elements=st.integers(0, classes - 1))
    raw = draw(hnp.arrays(np.float64, (rows, classes), elements=GRID)) + 0.01
    return task, (draw(ids), raw / raw.sum(axis=1, keepdims=True), draw(ids))


def numbers_in(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield value


@settings(max_examples=80, deadline=None)
@given(case=any_inputs())
def test_every_number_is_finite_in_range_and_explained_when_missing(case):
    task, arrays = case
    evaluation = evaluated(task, arrays, resamples=20)
    assert all(math.isfinite(number) for number in numbers_in(evaluation.to_dict()))
    for name, value in evaluation.metrics.items():
        if value is None:
            assert any(name in note.partition(":")[0].split(", ") for note in evaluation.notes)
        elif name in RANGES:
            low, high = RANGES[name]
            assert low - 1e-12 <= value <= high + 1e-12
    for name, (low, high) in evaluation.intervals.items():
        assert RANGES[name][0] <= low <= high <= RANGES[name][1]
    for row in evaluation.per_label:
        assert 0 <= row.f1 <= 1
        assert min(row.precision, row.recall) - 1e-12 <= row.f1
        assert row.f1 <= max(row.precision, row.recall) + 1e-12
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


@settings(max_examples=30, deadline=None)
@given(case=any_inputs(), seed=st.integers(0, 99))
def test_the_order_of_rows_changes_nothing(case, seed):
    task, arrays = case
    order = np.random.default_rng(seed).permutation(len(arrays[0]))
    shuffled = tuple(None if array is None else array[order] for array in arrays)
    before, after = evaluated(task, arrays).metrics, evaluated(task, shuffled).metrics
    assert before == {name: approximately(value) for name, value in after.items()}


def approximately(value):
    return None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(case=multilabel_inputs(), seed=st.integers(0, 99))
def test_the_order_of_labels_changes_nothing_but_ties_at_k(case, seed):
    order = np.random.default_rng(seed).permutation(case[0].shape[1])
    before = evaluated("multilabel", case)
    after = evaluated("multilabel", tuple(array[:, order] for array in case))
    for name, value in before.metrics.items():
        if "_at_" not in name:
            assert value == approximately(after.metrics[name]), name
    assert [dataclasses.replace(before.per_label[i], name="") for i in order] == [
        dataclasses.replace(row, name="") for row in after.per_label
    ]


@settings(max_examples=30, deadline=None)
@given(case=multilabel_inputs())
def test_macro_f1_never_exceeds_what_macro_precision_allows(case):
    got = evaluated("multilabel", case).metrics
    for key in ("precision", "recall"):
        mean = got[f"macro_{key}_all"]
        assert got["macro_f1_all"] <= 2 * mean / (1 + mean) + 1e-12


@settings(max_examples=30, deadline=None)
@given(case=multilabel_inputs())
def test_metrics_of_order_ignore_rising_transforms(case):
    truth, scores, predicted = case
    before = evaluated("multilabel", case).metrics
    after = evaluated("multilabel", (truth, 3 * scores - 7, predicted)).metrics
    for name in ("map", "macro_auroc", "lrap", "precision_at_1", "recall_at_1"):
        assert before[name] == after[name]


@settings(max_examples=30, deadline=None)
@given(truth=hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 6))))
def test_perfect_predictions_are_perfect(truth):
    got = evaluated("multilabel", (truth, truth.astype(float), truth)).metrics
    for name in ("samples_f1", "exact_match"):
        assert got[name] == 1
    for name in ("hamming_loss", "brier", "ece_pooled", "ece_label_mean"):
        assert got[name] == 0
    for name in ("macro_f1_present", "map", "macro_auroc", "lrap"):
        assert got[name] in (1, None)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=20),
)
def test_frequency_groups_cut_the_labels_in_thirds_from_frequent_to_rare(counts):
    groups = frequency_groups(counts)
    assert list(groups) == ["head", "medium", "tail"]
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(len(counts)))
    sizes = [len(ids) for ids in groups.values()]
    assert max(sizes) - min(sizes) <= 1
    values = [[counts[i] for i in ids] for ids in groups.values() if len(ids)]
    for above, below in itertools.pairwise(values):
        assert min(above) >= max(below)


# --- intervals --------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_families_hold_exactly_the_headline_metrics_once(task):
    outcome = Outcome(task, *arrays_of(task))
    names = [name for family in FAMILIES[task] for name in family.metrics]
    assert sorted(names) == sorted(set(names))
    assert set(HEADLINES[task]) <= set(names)
    for family in FAMILIES[task]:
        assert set(on_all_rows(outcome, family)) == set(family.metrics)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("seed", range(4))
def test_weights_give_what_repeated_rows_give(task, seed):
    """The metric of rows drawn w times equals the metric of a file that holds them w times."""
    arrays = arrays_of(task, seed=seed, rows=70)
    outcome = Outcome(task, *arrays)
    [weights] = list(row_weights(70, 3, seed=seed))
    for family in FAMILIES[task]:
        drawn = family.prepare(outcome)(weights)
        for i, vector in enumerate(weights):
            copies = vector.astype(int)
            repeated = [None if a is None else np.repeat(a, copies, axis=0) for a in arrays]
            expected = evaluated(task, repeated).metrics
            for name in family.metrics:
                assert drawn[name][i] == pytest.approx(expected[name], rel=1e-9), name


@pytest.mark.parametrize("task", TASKS)
def test_each_row_once_gives_the_metric_itself(task):
    arrays = arrays_of(task, seed=3)
    metrics = evaluated(task, arrays).metrics
    for family in FAMILIES[task]:
        for name, value in on_all_rows(Outcome(task, *arrays), family).items():
            assert same(value, metrics[name]), name


def test_sparse_labels_ranked_by_weights_equal_repeated_rows():
    truth, scores, predicted = multilabel_arrays(7, 200, 6, density=0.03)
    outcome = Outcome("multilabel", truth, scores, predicted)
    [weights] = list(row_weights(200, 5, seed=1))
    [family] = [family for family in FAMILIES["multilabel"] if "map" in family.metrics]
    for vector, value in zip(weights, family.prepare(outcome)(weights)["map"], strict=True):
        rows = np.repeat(np.arange(200), vector.astype(int))
        assert same(value, ours.mean_average_precision(truth[rows], scores[rows]))


@pytest.mark.parametrize("task", TASKS)
def test_intervals_are_seeded_and_hold_the_metric(task):
    arrays = arrays_of(task, rows=150)
    first = evaluated(task, arrays, resamples=200, seed=4)
    assert first == evaluated(task, arrays, resamples=200, seed=4)
    assert first.intervals != evaluated(task, arrays, resamples=200, seed=5).intervals
    assert list(first.intervals) == list(HEADLINES[task])
    for name, (low, high) in first.intervals.items():
        assert low < first.metrics[name] < high
    assert any("200 resamples, seed 4" in note for note in first.notes)
    assert evaluated(task, arrays, resamples=0).intervals == {}


def test_the_interval_of_accuracy_is_as_wide_as_the_binomial_one():
    rows = 1000
    truth = np.zeros(rows, dtype=int)
    predicted = (np.arange(rows) < 200).astype(int)
    scores = np.full((rows, 2), 0.5)
    low, high = evaluated("binary", (truth, scores, predicted), resamples=2000).intervals[
        "accuracy"
    ]
    half = 1.96 * math.sqrt(0.8 * 0.2 / rows)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.004)


def test_a_perfect_model_has_intervals_without_width():
    truth, _, _ = multilabel_arrays(3, 100, 20, density=0.02)
    arrays = (truth, truth.astype(float), truth)
    evaluation = evaluated("multilabel", arrays, resamples=50)
    for name in (
        "micro_f1",
        "macro_f1_all",
        "macro_f1_present",
        "samples_f1",
        "map",
    ):
        assert evaluation.intervals[name] == pytest.approx((evaluation.metrics[name],) * 2)
    wilson = stats.binomtest(100, 100).proportion_ci(0.95, method="wilson")
    assert evaluation.intervals["exact_match"] == pytest.approx((wilson.low, wilson.high))
    assert "exact_match: every resample is alike, so the interval is Wilson's" in evaluation.notes
    [flat] = [note for note in evaluation.notes if "without width" in note]
    assert flat.endswith("these 100 rows cannot say what others would give")
    assert "exact_match" not in flat


@pytest.mark.parametrize("rows", [1, 30, 128])
def test_no_row_right_is_not_said_to_be_none_for_sure(rows):
    truth = np.arange(rows) % 2
    evaluation = evaluated("binary", (truth, np.eye(2)[1 - truth], 1 - truth), resamples=20)
    assert evaluation.metrics["accuracy"] == 0
    wilson = stats.binomtest(0, rows).proportion_ci(0.95, method="wilson")
    assert evaluation.intervals["accuracy"] == pytest.approx((0, wilson.high))


def test_row_weights_draw_every_row_once_on_average_and_the_first_draws_are_stable():
    blocks = list(row_weights(50, 400, seed=0))
    weights = np.concatenate(blocks)
    assert weights.shape == (400, 50)
    assert (weights.sum(axis=1) == 50).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(50), abs=0.25)
    [few] = list(row_weights(50, 3, seed=0))
    assert (few == weights[:3]).all()


def test_large_files_get_fewer_resamples_for_metrics_of_order(monkeypatch):
    monkeypatch.setattr("bert_cls.metrics.resampling.WALK", 60 * 5 * 120)
    evaluation = evaluated("multilabel", arrays_of("multilabel"), resamples=300)
    assert any("300 resamples (map 120)" in note for note in evaluation.notes)
    outcome = Outcome("multilabel", *arrays_of("multilabel"))
    [values] = resample([outcome], FAMILIES["multilabel"], resamples=300, seed=0)
    assert len(values["map"]) == 120
    assert len(values["micro_f1"]) == 300


def test_blocks_of_resamples_and_rows_do_not_change_the_result(monkeypatch):
    arrays = arrays_of("multilabel", rows=90)
    whole = evaluated("multilabel", arrays, resamples=40)
    monkeypatch.setattr("bert_cls.metrics.resampling.WEIGHTS_AT_ONCE", 90 * 7)
    monkeypatch.setattr("bert_cls.metrics.families.HOT_CELLS_AT_ONCE", 5 * 13)
    monkeypatch.setattr("bert_cls.metrics.families.WALKED_AT_ONCE", 90 * 3)
    monkeypatch.setattr("bert_cls.metrics.ranking.CELLS_AT_ONCE", 5 * 11)
    pieces = evaluated("multilabel", arrays, resamples=40)
    assert pieces.metrics == whole.metrics
    for name, ends in whole.intervals.items():
        assert pieces.intervals[name] == pytest.approx(ends, rel=1e-12)


def test_an_interval_needs_half_of_the_resamples_and_stays_in_bounds():
    assert percentile_interval(np.array([1.0, np.nan, np.nan]), 1.0) is None
    assert percentile_interval(np.array([np.nan]), 1.0) is None
    assert percentile_interval(np.array([0.0, 2.0]), 1.0, bounds=(0.5, 1.2)) == (0.5, 1.2)
    low, high = percentile_interval(np.arange(101.0), 60.0)
    assert (low, high) == pytest.approx((12.5, 107.5))


def test_rare_labels_are_said_to_make_intervals_too_narrow():
    arrays = multilabel_arrays(1, 300, 40, density=0.01)
    notes = evaluated("multilabel", arrays, resamples=400).notes
    doubted = {note.partition(":")[0] for note in notes if "interval is too narrow" in note}
    assert "macro_f1_present" in doubted
    assert not doubted & {"samples_f1", "exact_match", "lrap"}
    plenty = multilabel_arrays(1, 1000, 5, density=0.3)
    assert len(evaluated("multilabel", plenty, resamples=400).notes) == 1


def test_a_single_value_that_is_always_undefined_has_no_interval():
    truth, scores, predicted = class_arrays(1, 40, 2)
    evaluation = evaluated("binary", (truth, scores, np.zeros_like(predicted)), resamples=20)
    assert evaluation.metrics["precision"] == 0
    assert "precision" not in evaluation.intervals
    assert "precision: no interval, undefined in most resamples" in evaluation.notes


@pytest.mark.parametrize(("rows", "said"), [(1, 1), (3, 1), (31, 1), (500, 1)])
def test_an_interval_without_width_is_said_to_say_little(rows, said):
    truth = np.arange(rows) % 2
    notes = evaluated("binary", (truth, np.eye(2)[truth], truth), resamples=20).notes
    assert sum("an interval without width" in note for note in notes) == said


# --- one model against another ----------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_model_does_not_differ_from_itself(task):
    outcome = Outcome(task, *arrays_of(task))
    for metric in HEADLINES[task]:
        [result], _ = paired_differences(outcome, outcome, [metric], resamples=50)
        assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_a_better_model_is_found_and_the_sign_turns_with_the_sides():
    truth, scores, good = multilabel_arrays(2, 400, 6, density=0.3)
    bad = np.random.default_rng(0).random(truth.shape) < 0.3
    a, b = (Outcome("multilabel", truth, scores, p) for p in (good, bad))
    [result], _ = paired_differences(a, b, ["micro_f1"], resamples=200)
    [mirrored], _ = paired_differences(b, a, ["micro_f1"], resamples=200)
    assert result.a == evaluated("multilabel", (truth, scores, good)).metrics["micro_f1"]
    assert result.difference == pytest.approx(result.a - result.b)
    assert 0 < result.low < result.difference < result.high
    assert result.p_value == 1 / 200  # none of the swaps but the one that was seen
    assert (mirrored.low, mirrored.high) == pytest.approx((-result.high, -result.low))
    assert mirrored.p_value == result.p_value


def test_a_perfect_correlation_is_one():
    for rows in range(5, 60):
        truth = np.arange(rows) % 5
        outcome = evaluated("multiclass", (truth, np.eye(5)[truth], truth), resamples=0)
        assert outcome.metrics["mcc"] <= 1.0


def test_pairing_is_narrower_than_two_intervals():
    truth, scores, predicted = class_arrays(4, 500, 3)
    other = predicted.copy()
    other[:10] = truth[:10]
    a, b = (Outcome("multiclass", truth, scores, p) for p in (other, predicted))
    [result], _ = paired_differences(a, b, ["accuracy"], resamples=300)
    low, high = evaluated("multiclass", (truth, scores, predicted), resamples=300).intervals[
        "accuracy"
    ]
    assert result.high - result.low < (high - low) / 2


def test_comparisons_that_make_no_sense_are_refused():
    truth, scores, predicted = class_arrays(4, 20, 2)
    one = Outcome("binary", truth, scores, predicted)
    with pytest.raises(ConfigError, match="metric must be one of"):
        paired_differences(one, one, ["map"])
    with pytest.raises(DataError, match="one truth"):
        paired_differences(one, Outcome("binary", 1 - truth, scores, predicted), ["f1"])
    never = Outcome("binary", truth, scores, predicted * 0)
    found, [skipped] = paired_differences(one, never, ["precision"], resamples=20)
    assert (found, skipped[:22]) == ([], "precision is undefined")


@settings(max_examples=40, deadline=None)
@given(a=hnp.arrays(bool, 40), b=hnp.arrays(bool, 40))
def test_mcnemar_equals_the_binomial_test(a, b):
    result = mcnemar_exact(a, b)
    flips = result.only_a + result.only_b
    assert flips == (a != b).sum()
    expected = stats.binomtest(result.only_a, flips, 0.5).pvalue if flips else 1.0
    assert same(result.p_value, expected)


def test_mcnemar_of_many_rows_is_exact():
    a = np.arange(6000) < 3100
    result = mcnemar_exact(a, ~a)
    assert result.p_value == pytest.approx(stats.binomtest(3100, 6000, 0.5).pvalue, rel=1e-9)
    with pytest.raises(DataError, match="same rows"):
        mcnemar_exact(a, a[:5])


# --- what cannot be computed, and what cannot be evaluated --------------------------------------


def reason(evaluation, name):
    return next(
        note.partition(": ")[2]
        for note in evaluation.notes
        if name in note.partition(":")[0].split(", ")
    )


def test_scores_that_are_no_probabilities_lose_calibration_only():
    truth, scores, predicted = arrays_of("multilabel")
    outside = evaluated("multilabel", (truth, scores * 9, predicted))
    stated = evaluated("multilabel", (truth, scores, predicted), calibrated=False)
    for evaluation in (outside, stated):
        assert evaluation.metrics["ece_pooled"] is evaluation.metrics["brier"] is None
        assert evaluation.metrics["map"] is not None
    assert "outside 0..1" in reason(outside, "ece_pooled")
    assert "not calibrated" in reason(stated, "brier")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("task", TASKS)
def test_scores_that_are_not_finite_leave_decisions_standing(task, bad):
    truth, scores, predicted = arrays_of(task)
    scores = scores.copy()
    scores.flat[3] = bad
    evaluation = evaluated(task, (truth, scores, predicted), resamples=20)
    assert all(math.isfinite(number) for number in numbers_in(evaluation.to_dict()))
    missing = {"multilabel": "map", "binary": "auroc", "multiclass": "log_loss"}.get(task, "mse")
    assert "not finite" in reason(evaluation, missing)
    if task != "regression":
        assert evaluation.metrics["macro_f1_all"] is not None
        assert "macro_f1_all" in evaluation.intervals


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_have_no_order(bad):
    """A model whose training blew up must not be ranked by where a sort puts its NaN."""
    truth, scores = np.arange(4.0), np.array([0.0, 1.0, 2.0, bad])
    assert math.isnan(ours.spearman(truth, scores))
    assert math.isnan(ours.pearson(truth, scores))
    assert math.isnan(ours.mean_average_precision(truth[:, None] > 1, scores[:, None]))


def test_a_softmax_that_rounds_to_just_above_one_is_still_a_probability():
    scores = np.array([[np.nextafter(np.float32(1), np.float32(2)), 0], [0.25, 0.75]])
    got = evaluated("multiclass", (np.array([0, 1]), scores, np.array([0, 1]))).metrics
    assert got["log_loss"] == pytest.approx(-math.log(0.75) / 2)
    assert got["ece"] == pytest.approx(0.125, abs=1e-6)


def test_constant_numbers_have_no_correlation_but_a_reason():
    truth, scores, _ = number_arrays(0, 30)
    flat = evaluated("regression", (truth, np.full(30, 0.1), None), resamples=20)
    assert flat.metrics["pearson"] is flat.metrics["spearman"] is None
    assert flat.metrics["r2"] is not None
    assert reason(flat, "pearson") == "constant scores"
    same_truth = evaluated("regression", (np.full(30, 0.1), scores, None))
    assert same_truth.metrics["r2"] is None
    assert reason(same_truth, "r2") == "constant truth"


def test_numbers_too_large_for_a_float_are_said_to_be():
    truth = np.array([1e300, -1e300, 5e299])
    evaluation = evaluated("regression", (truth, -truth, None), resamples=20)
    assert evaluation.metrics["mse"] is None
    assert reason(evaluation, "mse") == "it does not fit a float"
    assert same(evaluation.metrics["pearson"], -1)
    assert same(evaluation.metrics["r2"], sk.r2_score(truth / 1e300, -truth / 1e300))
    largest = np.array([1.7e308, 1.7e308, 1e308, -1e308])
    assert same(evaluated("regression", (largest, largest, None)).metrics["pearson"], 1)


def test_rows_of_scores_that_do_not_sum_to_one_have_no_log_loss():
    truth, scores, predicted = class_arrays(0, 20, 3)
    evaluation = evaluated("multiclass", (truth, scores * 0.5, predicted))
    assert evaluation.metrics["log_loss"] is None
    assert "sum to 1" in reason(evaluation, "log_loss")
    assert "sum to 1" in reason(evaluation, "brier")


def test_an_impossible_row_costs_thirty_six():
    scores = np.array([[1.0, 0.0], [1.0, 0.0]])
    losses = ours.row_log_losses(np.array([0, 1]), scores)
    assert losses == pytest.approx([0, 36.04365338911715], abs=1e-12)


TRUTH = np.array([[True, False], [False, True]])
HALVES = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("task", "truth", "scores", "predicted", "message"),
    [
        ("multilabel", TRUTH[:0], HALVES[:0], TRUTH[:0], "no rows"),
        ("multilabel", TRUTH.astype(int), HALVES, TRUTH, r"truth must be bool \[2, 2\].*int64"),
        ("multilabel", TRUTH, HALVES, TRUTH[:, :1], r"predicted must be bool \[2, 2\].*\[2, 1\]"),
        ("multilabel", TRUTH[:, :0], HALVES[:, :0], TRUTH[:, :0], "at least one label"),
        ("multilabel", TRUTH, HALVES, None, "predicted must be bool"),
        ("binary", [0, 1], HALVES[:, :1], [0, 1], "2 columns in binary"),
        ("multiclass", [0, 1], HALVES[0], [0, 1], r"scores must be float64 \[2, classes\]"),
        ("multiclass", [0, 2], HALVES, [0, 1], r"truth must be in 0..1. Got 2 in row 1"),
        ("multiclass", [0, 1], HALVES, [0, -1], r"predicted must be in 0..1. Got -1 in row 1"),
        ("multiclass", [0.0, 1.0], HALVES, [0, 1], r"truth must be int64 \[2\]. Got float64"),
        ("regression", [1.0, 2.0], HALVES, None, r"\[2\] and \[2, 2\]"),
        ("regression", [1.0, np.nan], [1.0, 2.0], None, "Got nan in row 1"),
        ("regression", [1.0, 2.0], [1.0, 2.0], [1.0, 3.0], "None or the scores"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(task, truth, scores, predicted, message):
    with pytest.raises(DataError, match=message):
        evaluate(task, space_for(task, 2), truth, scores, predicted)


def test_the_label_space_and_the_training_counts_must_fit():
    with pytest.raises(DataError, match=r"each of the 3 labels\. Got 2"):
        evaluate("multilabel", space_of(3), TRUTH, HALVES, TRUTH)
    with pytest.raises(DataError, match="train_counts"):
        evaluate("multilabel", space_of(2), TRUTH, HALVES, TRUTH, train_counts=[1, 2, 3])


# --- what is shown ----------------------------------------------------------------------------


def test_every_metric_has_one_sentence_and_every_sentence_a_metric():
    made = set()
    for task in TASKS:
        arrays = arrays_of(task, labels=6)
        labels = len(space_for(task, 6))
        made |= set(evaluated(task, arrays, train_counts=list(range(labels))).metrics)
    assert made == set(DEFINITIONS)
    for name, sentence in DEFINITIONS.items():
        assert sentence.endswith("."), name
        assert sentence.count(". ") == 0, name


@pytest.mark.parametrize("task", TASKS)
def test_headline_metrics_are_made_and_have_ranges(task):
    evaluation = evaluated(task, arrays_of(task))
    assert evaluation.headline == HEADLINES[task]
    assert set(HEADLINES[task]) <= set(evaluation.metrics) & set(RANGES)


def test_groups_come_with_training_counts():
    truth, scores, predicted = arrays_of("multilabel", labels=6)
    truth = drop(truth, columns=[5])
    counts = [9, 1, 8, 3, 4, 0]
    evaluation = evaluated("multilabel", (truth, scores, predicted), train_counts=counts)
    f1 = [row.f1 for row in evaluation.per_label]
    assert same(evaluation.metrics["macro_f1_head"], (f1[0] + f1[2]) / 2)
    assert same(evaluation.metrics["macro_f1_tail"], f1[1])
    assert [row.train_count for row in evaluation.per_label] == counts
    alone = evaluated("multilabel", (truth, scores, predicted))
    assert "macro_f1_head" not in alone.metrics
    tiny = evaluated(
        "multilabel", (truth[:, :2], scores[:, :2], predicted[:, :2]), train_counts=[1, 2]
    )
    assert not [name for name in tiny.metrics if name.endswith(("_head", "_medium", "_tail"))]
    assert not [note for note in tiny.notes if "group" in note]


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_survives_json(task):
    evaluation = evaluated(task, arrays_of(task), resamples=20)
    text = json.dumps(evaluation.to_dict(), allow_nan=False)
    assert Evaluation.from_dict(json.loads(text)) == evaluation
    assert Evaluation.from_dict(orjson.loads(orjson.dumps(evaluation.to_dict()))) == evaluation


def test_a_broken_evaluation_file_is_named():
    values = evaluated("binary", arrays_of("binary")).to_dict()
    with pytest.raises(DataError, match="'rows' is missing"):
        Evaluation.from_dict({k: v for k, v in values.items() if k != "rows"})
    with pytest.raises(DataError, match="malformed"):
        Evaluation.from_dict({**values, "per_label": [{"name": "c0"}]})


def test_large_confusions_are_left_out_with_a_note():
    truth, scores, predicted = class_arrays(0, 30, 257)
    evaluation = evaluated("multiclass", (truth, scores, predicted))
    assert evaluation.confusion is None
    assert "confusion: left out with more than 256 classes" in evaluation.notes


def test_the_legacy_block_reads_as_the_old_script_wrote():
    truth = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    space = LabelSpace(("尾灯", "轮圈", "内饰"))
    evaluation = evaluate("multilabel", space, truth, predicted.astype(float), predicted)
    assert legacy_block(evaluation).splitlines() == [
        "***** Eval results  *****",
        "  F1_macro = 0.4333",
        "  F1_micro = 0.6667",
        "  P_macro = 0.5000",
        "  P_micro = 0.7500",
        "  R_macro = 0.3889",
        "  R_micro = 0.6000",
        "  尾灯: P = 1.0000, R = 0.6667, F1 = 0.8000",
        "  轮圈: P = 0.5000, R = 0.5000, F1 = 0.5000",
        "  内饰: P = 0.0000, R = 0.0000, F1 = 0.0000",
    ]


def test_the_legacy_block_of_numbers_has_squared_and_absolute_error():
    evaluation = evaluated("regression", (np.array([1.0, 2.0]), np.array([1.5, 2.25]), None))
    expected = ["***** Eval results  *****", "  MSE = 0.1562", "  MAE = 0.3750"]
    assert legacy_block(evaluation).splitlines() == expected
    broken = evaluated("regression", (np.array([1.0, 2.0]), np.array([np.nan, 2.0]), None))
    assert "  MSE = n/a" in legacy_block(broken)


def test_f1_is_computed_before_anything_is_rounded():
    """The old script rounded P and R to two decimals first, which made a precision of .002 0."""
    truth = np.zeros((1000, 1), dtype=bool)
    predicted = ~truth
    truth[0], predicted[1:499] = True, False
    evaluation = evaluated("multilabel", (truth, predicted.astype(float), predicted))
    assert same(evaluation.metrics["macro_f1_all"], 2 / 503)


# --- the room ---------------------------------------------------------------------------------


def test_the_room_imports_numpy_and_what_lies_below_it_only():
    allowed = {"numpy", "bert_cls.errors", "bert_cls.data.example", "bert_cls.metrics"}
    standard = {"__future__", "collections", "dataclasses", "functools", "math", "sys", "typing"}
    for path in Path(ours.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                fits = name.split(".")[0] in standard | {"numpy"}
                assert fits or any(name == a or name.startswith(a + ".") for a in allowed), path


def test_the_public_names_are_there():
    assert len(set(ours.__all__)) == len(ours.__all__)
    for name in ours.__all__:
        assert hasattr(ours, name), name
