from __future__ import annotations

import json
import math
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bert_cls.config import DecisionConfig
from bert_cls.decision import (
    OBJECTIVES,
    TUNERS,
    Rule,
    calibration,
    check_settings,
    crossfit,
    fires,
    tune,
)
from bert_cls.decision.crossfit import AIMS
from bert_cls.decision.objectives import at_cuts, influence, measure
from bert_cls.decision.rule import sigmoid
from bert_cls.decision.tuners import best_cut, deal
from bert_cls.errors import BundleError, ConfigError, DataError, EngineError

MULTILABEL = {"task": "multilabel", "activation": "sigmoid"}


def logit(p):
    return np.log(p) - np.log1p(-p)


def rough(seed, rows, labels, levels=8):
    """Scores with many ties, and truth that leans on them."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels + 1, (rows, labels)) / levels
    return scores, rng.random((rows, labels)) < scores**2


def drawn(rng, rows, labels, *, shift=0.0, spread=3.0):
    """Logits whose sigmoid is the truth's probability, frequent labels to rare, then shifted."""
    z = np.linspace(-2.0, -7.0, labels) + spread * rng.standard_normal((rows, labels))
    return z + shift, rng.random((rows, labels)) < sigmoid(z)


def f1_of(predicted, truth):
    tp, both = (predicted & truth).sum(), predicted.sum() + truth.sum()
    return 2 * tp / both if both else 0.0


def brute(objective, predicted, truth):
    present = [label for label in range(truth.shape[1]) if truth[:, label].any()]
    rows = list(zip(predicted, truth, strict=True))
    micro = f1_of(predicted, truth)
    each = [f1_of(predicted[:, label], truth[:, label]) for label in present]
    macro = sum(each) / len(each) if each else 0.0
    return {
        "micro_f1": micro,
        "macro_f1": macro,
        "micro_macro": (micro + macro) / 2,
        "samples_f1": np.mean([f1_of(p, t) if p.any() or t.any() else 1.0 for p, t in rows]),
        "exact_match": np.mean([(p == t).all() for p, t in rows]),
    }[objective]


# ---- the rule


RULES = [
    Rule(**MULTILABEL, thresholds=(0.1 + 0.2, math.inf, 0.0, 1.0), min_labels=1, max_labels=3),
    Rule(**MULTILABEL, thresholds=(5e-324,), temperature=1 / 3, bias=-0.7, calibrated=False),
    Rule(task="binary", activation="softmax", thresholds=(1 / 3,), tuner="global", objective="f1"),
    Rule(task="multiclass", activation="softmax", temperature=2.5, power=1 / 3),
    Rule(task="regression", activation="identity"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.task)
def test_a_rule_comes_back_from_json_bit_for_bit(rule):
    stored = json.dumps(rule.to_dict(), allow_nan=False)
    assert Rule.from_dict(json.loads(stored)) == rule
    assert stored.count("never") == sum(t == math.inf for t in rule.thresholds)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": [0.5]},
        {"task": "ranking"},
        {"activation": "softmax"},
        {"activation": "tanh"},
        {"temperature": 0},
        {"temperature": "1"},
        {"temperature": math.nan},
        {"bias": math.inf},
        {"power": 0.0},
        {"power": 2.0},
        {"thresholds": []},
        {"thresholds": 0.5},
        {"thresholds": [0.5, "sometimes"]},
        {"thresholds": [0.5, -0.1]},
        {"thresholds": [0.5, 1.1]},
        {"thresholds": [0.5, math.nan]},
        {"thresholds": [0.5, True]},
        {"min_labels": -1},
        {"min_labels": 1.0},
        {"min_labels": True},
        {"max_labels": 0},
        {"min_labels": 3, "max_labels": 2},
        {"tuner": None},
        {"calibrated": 1},
    ],
    ids=str,
)
def test_a_damaged_rule_is_refused(change):
    stored = Rule(**MULTILABEL, thresholds=(0.5, 0.5)).to_dict() | change
    with pytest.raises(BundleError, match=next(iter(change))):
        Rule.from_dict(stored)


def test_a_rule_needs_its_task_and_only_multilabel_limits_labels():
    with pytest.raises(BundleError, match="task"):
        Rule.from_dict({"activation": "sigmoid"})
    with pytest.raises(ConfigError, match="min_labels"):
        Rule(task="multiclass", activation="softmax", min_labels=1)
    with pytest.raises(ConfigError, match="bias"):
        Rule(task="multiclass", activation="softmax", bias=0.1)


@pytest.mark.filterwarnings("error")
def test_scores_are_stable_and_in_double_precision():
    rule = Rule(**MULTILABEL, thresholds=(0.5,) * 5)
    logits = np.array([[-3e38, -100, 0, 1, 3e38]], dtype=np.float32)
    expected = [0.0, math.exp(-100) / (1 + math.exp(-100)), 0.5, 1 / (1 + math.exp(-1)), 1.0]
    np.testing.assert_allclose(rule.scores(logits)[0], expected, rtol=1e-14)
    classes = Rule(task="multiclass", activation="softmax")
    scores = classes.scores(np.array([[3e38, -3e38, 3e38], [1, 2, 3]], dtype=np.float32))
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    np.testing.assert_allclose(scores[0], [0.5, 0, 0.5])
    assert scores.dtype == np.float64


@pytest.mark.parametrize(
    ("rule", "shape"),
    [(RULES[0], (3, 5)), (RULES[2], (3, 1)), (RULES[3], (3,)), (RULES[3], (3, 1))],
)
def test_logits_of_the_wrong_shape_are_refused(rule, shape):
    with pytest.raises(EngineError, match="must be"):
        rule.scores(np.zeros(shape))


def test_logits_that_are_not_numbers_are_refused_with_their_row():
    with pytest.raises(EngineError, match="row 1"):
        RULES[3].scores(np.array([[0.0, 1.0], [0.0, math.nan], [math.inf, 1.0]]))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.task)
def test_a_row_is_decided_alike_alone_and_in_a_batch(rule):
    columns = {"binary": 2, "regression": 1, "multiclass": 7}.get(rule.task, len(rule.thresholds))
    logits = np.random.default_rng(0).normal(0, 4, (33, columns)).astype(np.float32)
    scores = rule.scores(logits)
    decided = rule.decide(scores)
    for row in range(33):
        alone = rule.scores(logits[row : row + 1])
        assert (alone[0] == scores[row]).all()
        assert (rule.decide(alone)[0] == decided[row]).all()
    assert (rule.scores(logits[::-1]) == scores[::-1]).all()


def test_ties_fire_and_infinity_does_not():
    rule = Rule(**MULTILABEL, thresholds=(0.25, 1.0, 0.0, math.inf))
    assert rule.decide(np.array([[0.25, 1.0, 0.0, 1.0]])).tolist() == [[True, True, True, False]]
    below = np.nextafter(np.array([[0.25, 1.0, 0.5, 1.0]]), 0)
    assert rule.decide(below).tolist() == [[False, False, True, False]]


def test_classes_tie_to_the_lower_id_and_binary_cuts_the_second():
    assert RULES[3].decide(np.array([[0.2, 0.4, 0.4], [0.4, 0.2, 0.4]])).tolist() == [1, 0]
    assert RULES[2].decide(np.array([[2 / 3, 1 / 3], [0.7, 0.3]])).tolist() == [1, 0]
    one_logit = Rule(task="binary", activation="sigmoid")
    scores = one_logit.scores(np.array([[2.0], [-50.0]]))
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert scores[1, 1] == pytest.approx(math.exp(-50), rel=1e-12)
    assert one_logit.decide(scores).tolist() == [1, 0]


def test_a_threshold_takes_the_place_of_weights():
    rule = Rule(task="binary", activation="softmax", weights=(0.3, 1.0))
    cut = rule.changed({"thresholds": [0.4]})
    assert (cut.thresholds, cut.weights) == ((0.4,), ())
    assert rule.changed({"min_confidence": 0.6}).weights == rule.weights
    with pytest.raises(ConfigError, match="highest score"):
        rule.changed({"thresholds": [0.4], "weights": [0.3, 1.0]})


def test_regression_scores_are_the_values():
    values = np.array([[0.5], [-3.0]], dtype=np.float32)
    scores = RULES[4].scores(values)
    assert scores.tolist() == RULES[4].decide(scores).tolist() == [0.5, -3.0]
    assert RULES[4].scores(values[:, 0]).tolist() == [0.5, -3.0]


@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=6),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(1, 5)),
)
@settings(deadline=None)
def test_limits_fill_up_and_trim_by_score_then_id(rows, least, most):
    if most is not None and most < least:
        most = least
    thresholds = (0.5, 0.9, 0.25)
    rule = Rule(**MULTILABEL, thresholds=thresholds, min_labels=least, max_labels=most)
    scores = np.array(rows, dtype=float).reshape(-1, 3) / 4
    for decided, row in zip(rule.decide(scores), scores, strict=True):
        by_score = sorted(range(3), key=lambda label: (-row[label], label))
        fired = [label for label in by_score if row[label] >= thresholds[label]]
        wanted = (
            fired
            + [label for label in by_score if label not in fired][: max(0, least - len(fired))]
        )
        assert set(np.flatnonzero(decided)) == set(wanted[:most])


def test_limits_are_off_by_default():
    rule = Rule(**MULTILABEL, thresholds=(0.9, 0.9))
    assert not rule.decide(np.array([[0.5, 0.6]])).any()


@given(st.floats(0.05, 20), st.floats(0.25, 8), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
@example(temperature=20.0, power=8.0, seed=57)
def test_temperature_and_power_do_not_change_the_best_class(temperature, power, seed):
    logits = np.random.default_rng(seed).normal(0, 5, (20, 4)).astype(np.float32)
    # the closest there are in float32
    logits[:4, 1] = np.nextafter(logits[:4].max(axis=1), np.float32(np.inf))
    rule = Rule(task="multiclass", activation="softmax", temperature=temperature, power=power)
    assert (rule.decide(rule.scores(logits)) == logits.argmax(axis=1)).all()


# ---- objectives


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(seed=st.integers(0, 999), rows=st.integers(1, 9), labels=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_objectives_equal_their_definition_at_every_cut(objective, seed, rows, labels):
    scores, truth = rough(seed, rows, labels)
    cuts = np.unique(np.append(scores, [0.03, 0.5]))
    values = at_cuts(objective, scores, truth, cuts)
    for cut, value in zip(cuts, values, strict=True):
        assert value == pytest.approx(brute(objective, scores >= cut, truth), abs=1e-12)
        assert measure(objective, scores >= cut, truth) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_influence_says_what_leaving_a_row_out_does(objective):
    scores, truth = rough(3, 400, 4)
    predicted = scores >= 0.6
    moves = influence(objective, predicted, truth)
    whole = measure(objective, predicted, truth)
    keep = ~np.eye(400, dtype=bool)
    without = [measure(objective, predicted[k], truth[k]) for k in keep]
    assert moves.sum() == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(whole - np.array(without), moves, atol=0.02 * np.abs(moves).max())


# ---- tuners


@pytest.mark.parametrize("objective", OBJECTIVES)
@given(seed=st.integers(0, 999), rows=st.integers(1, 12), labels=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_shared_cut_is_the_best_of_all_cuts(objective, seed, rows, labels):
    scores, truth = rough(seed, rows, labels)
    threshold = TUNERS["global"](scores, truth, objective)
    assert len(set(threshold)) == 1
    if truth.any():
        possible = [*np.unique(scores), math.inf]
        best = max(brute(objective, scores >= cut, truth) for cut in possible)
        decided = Rule(**MULTILABEL, thresholds=tuple(threshold)).decide(scores)
        assert measure(objective, decided, truth) == pytest.approx(best, abs=1e-12)


@given(st.integers(0, 999), st.integers(1, 15), st.sampled_from([2, 8, 10**6]))
@settings(max_examples=30, deadline=None)
def test_a_label_s_cut_is_the_best_of_all_cuts(seed, rows, levels):
    scores, truth = rough(seed, rows, 1, levels)
    truth[0] = True
    threshold = best_cut(scores[:, 0], truth[:, 0])
    best = max(f1_of(scores >= cut, truth) for cut in np.unique(scores))
    assert f1_of(fires(scores, threshold), truth) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(
    ("scores", "truth", "expected"),
    [
        ([0.25, 0.5, 0.75], [0, 0, 1], 0.625),
        ([0.2, 0.4, 0.8], [1, 1, 1], np.nextafter(0.2, 0)),
        ([0.0, 0.0, 0.0], [1, 1, 0], 0.0),
        ([0.5, 0.5, 0.5], [0, 1, 1], np.nextafter(0.5, 0)),
        ([np.nextafter(0.5, 0), 0.5, 0.1], [0, 1, 0], 0.5),
        ([0.5, np.nextafter(0.5, 1), 0.1], [0, 1, 0], np.nextafter(0.5, 1)),
        ([0.25, 0.5, 0.75, 1.0], [1, 0, 0, 1], 0.875),
    ],
)
def test_thresholds_lie_half_way_or_at_the_next_number(scores, truth, expected):
    truth = np.array(truth, dtype=bool)
    assert best_cut(np.array(scores), truth) == expected
    assert TUNERS["global"](np.array([scores]).T, truth[:, None], "micro_f1")[0] == expected


def test_cuts_come_from_the_scores_not_from_a_grid():
    scores, truth = rough(1, 200, 3, levels=10**6)
    for tuner in ("global", "shrunk", "micromacro"):
        near = TUNERS[tuner](scores, truth, "micro_macro")
        tiny = TUNERS[tuner](scores * 1e-9, truth, "micro_macro")
        worth = measure("micro_macro", scores >= near, truth)
        assert measure("micro_macro", scores * 1e-9 >= tiny, truth) == pytest.approx(
            worth, abs=0.03
        )


def test_many_candidates_are_thinned_with_little_loss(monkeypatch):
    rng = np.random.default_rng(0)
    z, truth = drawn(rng, 3000, 6)
    exact = TUNERS["global"](sigmoid(z), truth, "micro_f1")
    monkeypatch.setattr("bert_cls.decision.tuners.MOST_CUTS", 200)
    thinned = TUNERS["global"](sigmoid(z), truth, "micro_f1")
    best, near = (measure("micro_f1", sigmoid(z) >= t, truth) for t in (exact, thinned))
    assert best - 0.002 < near <= best


def test_nothing_beats_something_only_under_objectives_that_reward_it():
    scores = np.array([[0.9, 0.8], [0.1, 0.7], [0.2, 0.6]])
    truth = np.array([[False, False], [True, False], [False, False]])
    assert np.isinf(TUNERS["global"](scores, truth, "exact_match")).all()
    assert np.isfinite(TUNERS["global"](scores, truth, "micro_f1")).all()
    assert np.isfinite(TUNERS["shrunk"](scores, truth, "exact_match")).tolist() == [True, False]
    even = np.array([[0.9], [0.8]]), np.array([[False], [True]])
    assert np.isfinite(TUNERS["global"](*even, "exact_match")).all()


def test_shrunk_weighs_a_label_s_own_cut_by_its_rows():
    scores, truth = rough(5, 60, 3, levels=10**6)
    anchor = TUNERS["global"](scores, truth, "micro_macro")[0]
    shrunk = TUNERS["shrunk"](scores, truth, "micro_macro")
    for label in range(3):
        n, own = truth[:, label].sum(), best_cut(scores[:, label], truth[:, label])
        mixed = n / (n + 5) * logit(own) + 5 / (n + 5) * logit(anchor)
        assert shrunk[label] == pytest.approx(sigmoid(np.array(mixed)))


def test_micromacro_takes_frequent_labels_first_and_leaves_a_hopeless_one_out():
    rng = np.random.default_rng(0)
    good = rng.random(300)
    hopeless = np.sort(rng.random(300))
    truth = np.stack([good > 0.4, np.arange(300) < 3], axis=1)
    thresholds = TUNERS["micromacro"](np.stack([good, hopeless], axis=1), truth, "micro_macro")
    assert thresholds[0] == pytest.approx(0.4, abs=0.05)
    assert thresholds[1] == np.nextafter(hopeless.max(), 1)


def test_a_label_with_one_score_for_all_rows_is_not_given_to_all_of_them():
    rng = np.random.default_rng(0)
    scores = np.stack([rng.random(90), np.full(90, sigmoid(np.array(-1.0)))], axis=1)
    truth = np.stack([scores[:, 0] > 0.5, np.arange(90) == 7], axis=1)
    for tuner in ("global", "shrunk", "micromacro"):
        assert not fires(scores, TUNERS[tuner](scores, truth, "micro_macro"))[:, 1].any()


@pytest.mark.parametrize("tuner", ["global", "shrunk", "micromacro"])
def test_one_score_for_all_rows_keeps_its_side_of_the_cut(tuner):
    for score in np.random.default_rng(0).random(150):
        scores = np.full((12, 1), score)
        everything = TUNERS[tuner](scores, np.ones((12, 1), dtype=bool), "micro_f1")
        assert fires(scores, everything).all()


DEGENERATE = {
    "no rows": (np.zeros((0, 3)), np.zeros((0, 3), dtype=bool)),
    "one row": (np.array([[1.0, -1.0, 0.0]]), np.array([[True, False, False]])),
    "one empty row": (np.array([[1.0, -1.0, 0.0]]), np.zeros((1, 3), dtype=bool)),
    "two rows": (np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([[True, False], [False, False]])),
    "one label": (np.arange(6.0)[:, None] - 3, np.arange(6)[:, None] > 3),
    "nothing true": (np.arange(12.0).reshape(6, 2), np.zeros((6, 2), dtype=bool)),
    "all true": (np.arange(12.0).reshape(6, 2), np.ones((6, 2), dtype=bool)),
    "constant": (np.zeros((9, 2)), np.arange(18).reshape(9, 2) % 4 == 0),
    "constant, never": (np.full((9, 2), -80.0), np.arange(18).reshape(9, 2) % 4 == 0),
    "saturated": (np.where(np.eye(8, 3) > 0, 1e4, -1e4), np.eye(8, 3) > 0),
    "one true cell": (np.arange(21.0).reshape(7, 3), np.arange(21).reshape(7, 3) == 4),
    "anti": (-np.arange(20.0).reshape(10, 2), np.arange(20).reshape(10, 2) > 11),
}


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("tuner", ["auto", *TUNERS])
@pytest.mark.parametrize("objective", ["micro_macro", "samples_f1", "exact_match"])
@pytest.mark.parametrize("calibrated", [True, False])
def test_poor_development_rows_still_give_a_usable_rule(case, tuner, objective, calibrated):
    logits, truth = DEGENERATE[case]
    tuned = tune(
        logits, truth, task="multilabel", tuner=tuner, objective=objective, calibrated=calibrated
    )
    assert tuned.rule.tuner in TUNERS
    assert len(tuned.rule.thresholds) == truth.shape[1]
    assert tuned.predicted_crossfit.shape == truth.shape
    assert all(0 <= value <= 1 for value in tuned.crossfit.values())
    assert Rule.from_dict(json.loads(json.dumps(tuned.rule.to_dict()))) == tuned.rule
    assert tuned.rule.decide(tuned.rule.scores(logits)).shape == truth.shape


@pytest.mark.parametrize("case", ["no rows", "one row", "nothing true", "one empty row"])
def test_auto_stays_at_one_half_where_there_is_nothing_to_learn_from(case):
    tuned = tune(*DEGENERATE[case], task="multilabel")
    assert set(tuned.rule.thresholds) == {0.5}
    assert (len(DEGENERATE[case][0]) > 1) or "too few" in " ".join(tuned.notes)


@pytest.mark.parametrize("tuner", ["shrunk", "micromacro"])
def test_labels_without_a_development_row_have_the_shared_cut(tuner):
    z, truth = drawn(np.random.default_rng(2), 300, 6)
    truth[:, [1, 4]] = False
    scores = sigmoid(z)
    shared = TUNERS["global"](scores, truth, "micro_macro")
    own = TUNERS[tuner](scores, truth, "micro_macro")
    assert (own[[1, 4]] == shared[[1, 4]]).all()
    assert (own[[0, 2, 3]] != shared[[0, 2, 3]]).all()


@pytest.mark.parametrize("tuner", TUNERS)
def test_the_order_of_the_rows_does_not_matter(tuner):
    z, truth = drawn(np.random.default_rng(4), 250, 8)
    mixed = np.random.default_rng(5).permutation(250)
    one, other = (
        tune(x, y, task="multilabel", tuner=tuner)
        for x, y in ((z, truth), (z[mixed], truth[mixed]))
    )
    np.testing.assert_allclose(one.rule.thresholds, other.rule.thresholds, rtol=1e-6)
    assert (one.predicted_crossfit[mixed] == other.predicted_crossfit).all()


def test_scores_too_small_to_be_seen_beside_the_truth_still_order_the_rows():
    rng = np.random.default_rng(0)
    scores, truth = np.exp(-rng.uniform(38, 60, (90, 1))), np.arange(90)[:, None] % 4 == 0
    mixed = rng.permutation(90)
    fold_of = deal(scores, truth, folds=3, seed=0)
    assert (deal(scores[mixed], truth[mixed], folds=3, seed=0) == fold_of[mixed]).all()


def test_folds_are_even_and_share_out_rare_labels():
    scores, truth = rough(0, 103, 5, levels=100)
    truth[:, 4] = np.arange(103) < 10
    fold_of = deal(scores, truth, folds=5, seed=0)
    assert np.ptp(np.bincount(fold_of)) <= 1
    assert (np.bincount(fold_of[truth[:, 4]]) == 2).all()
    assert (deal(scores, truth, folds=5, seed=1) != fold_of).any()


# ---- tune


@pytest.mark.parametrize("tuner", TUNERS)
def test_a_row_s_cross_fitted_labels_do_not_depend_on_its_own_truth(tuner, monkeypatch):
    monkeypatch.setattr(crossfit, "deal", lambda x, _, folds, seed: np.arange(len(x)) % folds)
    z, truth = drawn(np.random.default_rng(6), 200, 5)
    held = np.arange(200) % 5 == 2
    lied = np.where(held[:, None], ~truth, truth)
    honest, other = (
        tune(3 * z, y, task="multilabel", tuner=tuner, calibrate="temperature")
        for y in (truth, lied)
    )
    assert (honest.predicted_crossfit[held] == other.predicted_crossfit[held]).all()
    rest = TUNERS[tuner](sigmoid(z[~held]), truth[~held], "micro_macro")
    plain = tune(z, truth, task="multilabel", tuner=tuner, calibrate="none")
    assert (plain.predicted_crossfit[held] == fires(sigmoid(z[held]), rest)).all()


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("multilabel", {"calibrate": "temperature"}),
        ("multilabel", {"calibrate": "platt"}),
        ("multiclass", {"calibrate": "temperature"}),
        ("multiclass", {"objective": "macro_f1", "priors": [0.6, 0.1, 0.1, 0.1, 0.1]}),
    ],
)
def test_a_row_s_cross_fitted_scores_do_not_depend_on_its_own_truth(task, options, monkeypatch):
    monkeypatch.setattr(crossfit, "deal", lambda x, _, folds, seed: np.arange(len(x)) % folds)
    z, truth = drawn(np.random.default_rng(6), 200, 5, shift=np.arange(5) / 5)
    if task == "multiclass":
        truth = (z + np.random.default_rng(7).gumbel(size=z.shape)).argmax(axis=1)
    held = np.arange(200) % 5 == 2
    if task == "multilabel":
        lied = np.where(held[:, None], np.roll(truth, 1, axis=0), truth)
    else:
        few = np.arange(200) % 40 == 2  # many lies would speak against calibrating at all
        lied = np.where(few, (truth + 1) % 5, truth)
    honest, other = (tune(3 * z, y, task=task, **options) for y in (truth, lied))
    assert (honest.scores_crossfit[held] == other.scores_crossfit[held]).all()
    assert (honest.scores_crossfit[~held] != other.scores_crossfit[~held]).any()
    assert honest.scores_crossfit.shape == honest.rule.scores(3 * z).shape
    assert (honest.scores_crossfit != honest.rule.scores(3 * z)).any()


def test_cross_fitting_sees_through_chance_where_the_tuned_rows_do_not(monkeypatch):
    def own(scores, truth, _):
        columns = zip(scores.T, truth.T, strict=True)
        return np.array([best_cut(s, t) if t.any() else 0.5 for s, t in columns])

    monkeypatch.setitem(TUNERS, "own", own)
    rng = np.random.default_rng(7)
    z, truth = drawn(rng, 300, 30)
    tuned = tune(z, truth, task="multilabel", tuner="own", objective="macro_f1")
    shown = measure("macro_f1", tuned.rule.decide(tuned.rule.scores(z)), truth)
    z, truth = drawn(rng, 3000, 30)
    real = measure("macro_f1", tuned.rule.decide(tuned.rule.scores(z)), truth)
    assert shown > real + 0.05
    assert tuned.crossfit["own"] == pytest.approx(real, abs=0.03)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_reported_value_is_that_of_the_reported_labels(objective):
    z, truth = drawn(np.random.default_rng(8), 300, 8)
    tuned = tune(z, truth, task="multilabel", objective=objective, min_labels=1, max_labels=2)
    assert list(tuned.crossfit) == list(TUNERS)
    value = measure(objective, tuned.predicted_crossfit, truth)
    assert tuned.crossfit[tuned.rule.tuner] == value
    assert set(tuned.predicted_crossfit.sum(axis=1)) == {1, 2}
    assert (tuned.rule.min_labels, tuned.rule.max_labels) == (1, 2)
    assert tuned.rule.objective == objective


@cache
def trial(shift, tuner="auto", calibrate="temperature"):
    """Mean test value of micro_macro over draws of 400 rows and 30 labels; and what auto chose."""
    values, chosen = [], []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        move = shift * rng.standard_normal(30)
        rows = drawn(rng, 400, 30, shift=move)
        tuned = tune(*rows, task="multilabel", tuner=tuner, calibrate=calibrate)
        z, truth = drawn(rng, 2000, 30, shift=move)
        values.append(measure("micro_macro", tuned.rule.decide(tuned.rule.scores(z)), truth))
        chosen.append(tuned.rule.tuner)
    return float(np.mean(values)), chosen


def test_auto_follows_the_shared_cut_when_scores_are_calibrated():
    auto, _ = trial(0.0)
    assert auto > trial(0.0, "fixed")[0] + 0.02
    assert auto > max(trial(0.0, "shrunk")[0], trial(0.0, "global")[0]) - 0.006


def test_auto_takes_cuts_per_label_when_labels_are_shifted():
    auto, chosen = trial(1.5)
    assert set(chosen) <= {"shrunk", "micromacro"}
    assert auto > trial(1.5, "global")[0] + 0.03


def test_calibrating_each_label_does_the_work_of_cuts_per_label():
    alone, _ = trial(1.5, "global")
    assert trial(1.5, "global", "platt")[0] > alone + 0.03
    assert trial(1.5, "auto", "auto")[0] > trial(1.5)[0] - 0.003


def test_among_equals_auto_takes_the_simplest():
    truth = np.random.default_rng(0).random((200, 4)) < 0.3
    tuned = tune(np.where(truth, 4.0, -4.0), truth, task="multilabel")
    assert tuned.rule.tuner == "global"
    assert tuned.crossfit == dict.fromkeys(TUNERS, 1.0)


def test_auto_shows_one_half_and_takes_a_tuned_cut():
    rng = np.random.default_rng(0)
    z = rng.normal(-2.5, 2.5, (60, 5))
    tuned = tune(z, rng.random(z.shape) < sigmoid(z), task="multilabel")
    assert "fixed" in tuned.crossfit
    assert tuned.rule.tuner != "fixed"
    # which is a matter of F: whole rows of independent labels are best cut at one half
    z = rng.normal(0, 2.0, (400, 3))
    truth = rng.random(z.shape) < sigmoid(z)
    assert tune(z, truth, task="multilabel", objective="exact_match").rule.tuner == "fixed"


def test_auto_takes_the_simplest_tuner_within_half_a_standard_error():
    for seed in range(4):
        z, truth = drawn(np.random.default_rng(seed), 150, 8)
        z = z + np.linspace(-0.4, 0.4, 8)
        made = {t: tune(z, truth, task="multilabel", tuner=t).predicted_crossfit for t in TUNERS}
        tuned = tune(z, truth, task="multilabel")
        best = max(tuned.crossfit.values())
        leader = next(name for name, value in tuned.crossfit.items() if value == best)
        for name, value in tuned.crossfit.items():
            moves, other = (influence("micro_macro", made[n], truth) for n in (leader, name))
            close = best - value <= 0.5 * np.sqrt(((moves - other) ** 2).sum())
            assert close == (name == tuned.rule.tuner)
            if close:
                break


def nll(rule, logits, truth):
    p = np.clip(rule.scores(logits), 1e-300, 1 - 1e-16)
    return -np.log(np.where(truth, p, 1 - p)).mean()


def test_temperature_undoes_overconfidence_and_comes_before_the_thresholds():
    z, truth = drawn(np.random.default_rng(9), 2000, 6)
    sharp, plain = (tune(k * z, truth, task="multilabel", tuner="global") for k in (3, 1))
    assert sharp.rule.temperature == pytest.approx(3, rel=0.1)
    assert plain.rule.temperature == pytest.approx(1, rel=0.1)
    assert nll(sharp.rule, 3 * z, truth) < nll(
        Rule(**MULTILABEL, thresholds=(0.5,) * 6), 3 * z, truth
    )
    assert sharp.rule.thresholds == pytest.approx(plain.rule.thresholds, abs=0.02)
    left = tune(3 * z, truth, task="multilabel", tuner="global", calibrate="none")
    assert (left.rule.temperature, left.rule.bias) == (1, 0)
    decided = [t.rule.decide(t.rule.scores(3 * z)) for t in (sharp, left)]
    assert (decided[0] == decided[1]).mean() > 0.999


def test_temperature_of_classes_is_the_best_of_a_fine_grid():
    rng = np.random.default_rng(10)
    z = rng.standard_normal((800, 5)) * 2
    truth = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    rule = tune(4 * z, truth, task="multiclass").rule
    grid = np.geomspace(0.5, 20, 400)
    losses = [
        -np.log(
            Rule(task="multiclass", activation="softmax", temperature=t).scores(4 * z)[
                np.arange(800), truth
            ]
        ).mean()
        for t in grid
    ]
    assert rule.temperature == pytest.approx(grid[int(np.argmin(losses))], rel=0.03)
    assert rule.calibrated


@pytest.mark.parametrize(("task", "classes"), [("binary", 2), ("multiclass", 5)])
@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
def test_a_power_is_found_where_there_is_one(power, task, classes):
    rng = np.random.default_rng(23)
    logits = rng.standard_normal((5000, classes)) * 4
    true = Rule(task=task, activation="softmax", temperature=3.0, power=power)
    chances = true.scores(logits).cumsum(axis=1)
    truth = (rng.random((5000, 1)) > chances).sum(axis=1)
    found = tune(logits, truth, task=task)
    assert (found.rule.power != 1) == ("power" in found.notes[0]) == (power != 1)
    assert found.rule.power == pytest.approx(power, rel=0.1)
    assert found.rule.temperature == pytest.approx(3.0, rel=0.1)
    assert np.abs(found.rule.scores(logits) - true.scores(logits)).max() < 0.05
    alone = tune(logits, truth, task=task, calibrate="temperature").rule
    assert alone.power == 1
    assert alone.temperature != 1


def test_one_logit_has_no_power():
    rng = np.random.default_rng(24)
    logits = rng.standard_normal((800, 1)) * 4
    truth = (rng.random(800) < sigmoid(logits[:, 0] / 2)).astype(np.int64)
    power, temperature = (
        tune(logits, truth, task="binary", calibrate=method).rule
        for method in ("power", "temperature")
    )
    assert power == temperature


def test_a_temperature_that_does_not_help_other_rows_is_left_out():
    kept = 0
    for seed in range(20):
        z, truth = drawn(np.random.default_rng(seed), 40, 3)
        kept += tune(z, truth, task="multilabel", tuner="fixed").rule.temperature == 1
    assert kept >= 5


def test_few_rows_that_are_all_right_do_not_make_the_scores_certain():
    logits = np.where(np.eye(3)[np.arange(12) % 3] > 0, 2.0, -2.0)
    rule = tune(logits, np.arange(12) % 3, task="multiclass").rule
    assert 0.85 < rule.scores(logits).max() < 0.97


def test_uncalibrated_scores_get_slope_and_offset():
    z, truth = drawn(np.random.default_rng(11), 1500, 6)
    tuned = tune(2 * z + 5, truth, task="multilabel", tuner="global", calibrated=False)
    assert tuned.rule.temperature == pytest.approx(2, rel=0.1)
    assert tuned.rule.bias == pytest.approx(-2.5, abs=0.2)
    assert tuned.rule.calibrated
    raw = tune(z, truth, task="multilabel", calibrated=False, calibrate="none").rule
    assert (raw.temperature, raw.bias, raw.calibrated) == (1, 0, False)
    upside_down = tune(-z, truth, task="multilabel", calibrated=False).rule
    assert (upside_down.temperature, upside_down.bias, upside_down.calibrated) == (1, 0, False)


def test_a_temperature_does_not_make_shifted_classes_probabilities():
    """Ideal logits of a logit-adjusted loss, three times too large, of a class of 5 %."""
    rng = np.random.default_rng(21)
    truth = (rng.random(6000) < 0.05).astype(np.int64)
    seen = rng.normal(np.where(truth == 1, 1.0, -1.0))
    shifted = np.stack([-seen, seen], axis=1)  # log-odds without the prior
    plain = shifted + np.log([0.95, 0.05])
    for logits, calibrated in ((3 * plain, True), (3 * shifted, False)):
        tuned = tune(logits, truth, task="binary", calibrated=calibrated)
        said, came_true = tuned.rule.scores(logits)[:, 1].mean(), truth.mean()
        assert tuned.rule.temperature > 2
        assert (abs(said - came_true) < 0.02) == tuned.rule.calibrated == calibrated
        assert any("no probabilities" in note for note in tuned.notes) != calibrated


def test_weighted_positives_are_made_probabilities_by_the_offset():
    rng = np.random.default_rng(22)
    z = rng.normal(-3, 1, (4000, 2))
    truth = rng.random(z.shape) < sigmoid(z)
    weighted = z + np.log(20)
    tuned = tune(weighted, truth, task="multilabel", calibrated=False)
    assert tuned.rule.calibrated
    assert tuned.rule.scores(weighted).mean() == pytest.approx(truth.mean(), rel=0.02)


def test_pooling_many_cells_changes_the_fit_little(monkeypatch):
    z, truth = drawn(np.random.default_rng(12), 1500, 6)
    rule = Rule(**MULTILABEL, thresholds=(0.5,) * 6, calibrated=False)
    monkeypatch.setattr(calibration, "MOST_POINTS", 10**9)
    exact = calibration.fit(rule, 2 * z, truth)
    monkeypatch.setattr(calibration, "MOST_POINTS", 500)
    pooled = calibration.fit(rule, 2 * z, truth)
    assert pooled.temperature == pytest.approx(exact.temperature, rel=1e-3)
    assert pooled.bias == pytest.approx(exact.bias, abs=1e-3)


def test_binary_keeps_argmax_unless_its_objective_is_f1():
    rng = np.random.default_rng(13)
    z = rng.standard_normal(600) - 2.5
    truth = (rng.random(600) < sigmoid(z)).astype(np.int64)
    two = np.stack([-z / 2, z / 2], axis=1).astype(np.float32)
    plain = tune(two, truth, task="binary")
    assert (plain.rule.thresholds, plain.rule.objective) == ((), "accuracy")
    assert (plain.predicted_crossfit == two.argmax(axis=1)).all()
    assert plain.crossfit == {"argmax": np.mean(two.argmax(axis=1) == truth)}
    cut = tune(two, truth, task="binary", objective="f1")
    assert len(cut.rule.thresholds) == 1
    assert cut.rule.thresholds[0] < 0.45
    decided = cut.rule.decide(cut.rule.scores(two))
    assert f1_of(decided == 1, truth == 1) > f1_of(two.argmax(axis=1) == 1, truth == 1) + 0.03
    assert cut.crossfit[cut.rule.tuner] == f1_of(cut.predicted_crossfit == 1, truth == 1)
    one = tune(z[:, None], truth, task="binary", objective="f1")
    assert one.rule.activation == "sigmoid"
    assert one.rule.thresholds == pytest.approx(cut.rule.thresholds, abs=0.02)


def test_regression_is_left_alone():
    tuned = tune(np.array([[1.0], [2.5]]), np.array([1.0, 2.0]), task="regression")
    assert tuned.rule == Rule(task="regression", activation="identity", tuner="none")
    assert tuned.predicted_crossfit.tolist() == [1.0, 2.5]
    assert tuned.crossfit == {}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"tuner": "globl"}, ConfigError, "tuner must be one of"),
        ({"objective": "f1"}, ConfigError, "objective of multilabel data must be one of"),
        ({"min_labels": 2, "max_labels": 1}, ConfigError, "max_labels"),
        ({"truth": np.zeros((4, 3), dtype=bool)}, DataError, r"bool \[4, 2\]"),
        ({"truth": np.zeros((4, 2))}, DataError, "float64"),
        ({"task": "multiclass"}, DataError, "4 ids from 0 to 1"),
        ({"task": "multiclass", "truth": np.array([0, 1, 2, 0])}, DataError, "4 ids from 0 to 1"),
        ({"task": "binary", "min_labels": 1}, ConfigError, "multilabel"),
        ({"logits": np.full((4, 2), np.nan)}, EngineError, "row 0"),
    ],
    ids=str,
)
def test_what_cannot_be_tuned_is_refused(change, error, message):
    given = {
        "logits": np.zeros((4, 2)),
        "truth": np.zeros((4, 2), dtype=bool),
        "task": "multilabel",
    }
    with pytest.raises(error, match=message):
        tune(**(given | change))


@pytest.mark.parametrize(
    ("task", "changed", "message"),
    [
        (
            "multiclass",
            {"objective": "f1"},
            r"multiclass data must be one of \['accuracy', 'macro_f1'\]",
        ),
        ("multiclass", {"objective": "micro_macro"}, "objective of multiclass data must be one of"),
        ("multiclass", {"tuner": "micromacro"}, r"must be one of \['auto', 'fixed'\]"),
        ("multiclass", {"tuner": "fixed", "objective": "macro_f1"}, r"must be one of \['auto'\]"),
        ("binary", {"tuner": "global"}, r"objective accuracy must be one of \['auto', 'fixed'\]"),
        ("binary", {"objective": "samples_f1"}, "objective of binary data must be one of"),
        ("regression", {"objective": "accuracy"}, r"must be one of \['none'\]"),
        ("regression", {"tuner": "shrunk"}, r"must be one of \['auto', 'fixed'\]"),
        ("multilabel", {"objective": "accuracy"}, "objective of multilabel data must be one of"),
        ("multiclass", {"calibrate": "platt"}, "calibrate of multiclass data must be one of"),
        ("regression", {"abstain": 0.1}, "a regression has no confidence"),
        ("binary", {"abstain": 0.1, "min_confidence": 0.5}, "not both"),
        ("multiclass", {"max_labels": 2}, "multilabel"),
    ],
    ids=str,
)
def test_settings_that_could_do_nothing_are_refused_before_training(task, changed, message):
    plain = DecisionConfig().model_dump()
    check_settings(task, 0 if task == "regression" else 2, **plain)
    check_settings(
        task, 0 if task == "regression" else 2, **(plain | {"tuner": "fixed", "calibrate": "none"})
    )
    with pytest.raises(ConfigError, match=message):
        check_settings(task, 0 if task == "regression" else 2, **(plain | changed))


@pytest.mark.parametrize("task", sorted(AIMS))
def test_every_objective_of_a_task_is_taken_and_stored(task):
    z, truth = drawn(np.random.default_rng(3), 80, 3)
    if task == "regression":
        z, truth = z[:, 0], z[:, 0]
    elif task != "multilabel":
        classes = 2 if task == "binary" else 3
        z, truth = z[:, :classes], truth[:, :classes].argmax(axis=1)
    priors = None if task == "regression" else np.full(z.shape[1], 1 / z.shape[1])
    for objective in AIMS[task]:
        check_settings(
            task,
            0 if task == "regression" else 2,
            **(DecisionConfig().model_dump() | {"objective": objective}),
        )
        rule = tune(z, truth, task=task, objective=objective, priors=priors).rule
        assert rule.objective == objective
    assert tune(z, truth, task=task, priors=priors).rule.objective == AIMS[task][0]


def test_notes_tell_people_what_happened():
    z, truth = drawn(np.random.default_rng(14), 300, 6)
    truth[:, 3] = False
    notes = " ".join(tune(3 * z, truth, task="multilabel").notes)
    assert "temperature" in notes
    assert "labels without a development row: 1;" in notes
    assert all(name in notes for name in TUNERS)
    assert all(a != b for a, b in pairwise(notes.split(". ")))


def test_a_calibration_that_all_rows_together_do_not_want_is_not_claimed():
    kept = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        z, truth = generator.normal(size=(16, 3)), generator.random((16, 3)) < 0.4
        options = {"task": "multilabel", "tuner": "fixed", "calibrated": False}
        tuned = tune(z, truth, calibrate="temperature", **options)
        plain = tune(z, truth, calibrate="none", **options)
        claimed = any("log likelihood" in note for note in tuned.notes)
        assert claimed == (tuned.rule != plain.rule)
        if not claimed:
            kept += 1
            np.testing.assert_array_equal(tuned.predicted_crossfit, plain.predicted_crossfit)
    assert 0 < kept < 200
