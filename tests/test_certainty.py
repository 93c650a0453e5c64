"""How far scores can be believed: calibration per label, abstaining, strange rows, alarms."""

from __future__ import annotations

import io
import json
import math
import shutil

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import save
from safetensors.torch import save as to_bytes
from typer.testing import CliRunner

from bert_cls import Classifier
from bert_cls.cli import app
from bert_cls.commands.train import show_trained
from bert_cls.config import resolve_config
from bert_cls.data import LabelSpace, read, targets
from bert_cls.decision import Domain, Rule, confidence, tune, undecided, with_abstention
from bert_cls.decision.calibration import CALIBRATIONS, row_losses
from bert_cls.decision.domain import learn
from bert_cls.decision.rule import sigmoid, softmax
from bert_cls.errors import BundleError, ConfigError
from bert_cls.metrics import Evaluation, Outcome, evaluate
from bert_cls.metrics.collapse import ALARM, alarms
from bert_cls.metrics.selective import coverage_table
from bert_cls.training import Request, Silent, train
from small import FAST, MAKERS, write_folder
from tiny import tiny_encoder


def drawn(seed, rows, *, slopes, offsets):
    """Logits, and truth drawn from sigmoid(slope * logit + offset) of each label."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, size=(rows, len(slopes)))
    return logits, rng.random(logits.shape) < sigmoid(logits * slopes + offsets)


# --- calibration --------------------------------------------------------------------------------


def test_labels_bent_differently_get_a_slope_and_offset_each():
    slopes, offsets = np.array([0.3, 1.0, 2.5, 1.0]), np.array([1.0, 0.0, -2.0, 2.0])
    logits, truth = drawn(0, 3000, slopes=slopes, offsets=offsets)
    tuned = tune(logits, truth, task="multilabel", tuner="fixed")
    assert tuned.rule.slopes == pytest.approx(slopes, rel=0.2)
    assert tuned.rule.offsets == pytest.approx(offsets, abs=0.25)
    assert "a slope and offset for each label" in tuned.notes[0]
    fresh, labels = drawn(1, 3000, slopes=slopes, offsets=offsets)
    one = tune(logits, truth, task="multilabel", tuner="fixed", calibrate="temperature").rule
    errors = [
        evaluate(
            "multilabel", LabelSpace(("a", "b", "c", "d")), labels, rule.scores(fresh),
            rule.decide(rule.scores(fresh)), resamples=0,
        ).metrics["ece_label_mean"]
        for rule in (one, tuned.rule)
    ]  # fmt: skip
    assert errors[1] < errors[0] / 3


def test_auto_keeps_what_is_simple_where_labels_are_bent_alike():
    taken = []
    for seed in range(8):
        logits, truth = drawn(seed, 400, slopes=np.full(6, 0.5), offsets=np.zeros(6))
        taken.append(bool(tune(logits, truth, task="multilabel", tuner="fixed").rule.slopes))
    assert sum(taken) <= 2


def test_a_label_with_few_rows_keeps_the_shared_slope():
    logits, truth = drawn(2, 500, slopes=np.array([0.5, 0.5]), offsets=np.array([0.0, 1.0]))
    truth[:, 0] = False
    truth[:9, 0] = True
    rule = tune(logits, truth, task="multilabel", tuner="fixed", calibrate="platt").rule
    shared = tune(logits, truth, task="multilabel", tuner="fixed", calibrate="temperature").rule
    if rule.slopes:
        assert rule.slopes[0] == pytest.approx(1 / shared.temperature)
        assert rule.offsets[0] == shared.bias


def test_without_test_rows_no_figure_is_of_a_calibration_fitted_on_the_same_row(tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multilabel"], sizes=(48, 40, 16))
    (data / "test.json").unlink()
    flags = {
        "encoder.name": str(tiny_encoder("bert", tmp_path / "encoder")),
        **FAST,
        "training.epochs": 4,
        "training.learning_rate": 3e-3,
        "loss.name": "bce",
        "decision.calibrate": "temperature",
        "decision.abstain": 0.2,
    }
    config, origins = resolve_config(flags=flags)
    trained = train(Request(data, tmp_path / "model", config, origins), Silent())
    tuned, space = trained.tuned, trained.bundle.space
    assert tuned.rule.temperature != 1
    rows = read(data / "dev.json", task="multilabel").examples
    truth = targets(rows, "multilabel", space)
    sure = confidence(tuned.rule, tuned.scores_crossfit, tuned.predicted_crossfit)
    honest = evaluate(
        "multilabel", space, truth, tuned.scores_crossfit, tuned.predicted_crossfit,
        confidence=sure, resamples=0,
    )  # fmt: skip
    stored = json.loads((tmp_path / "model/evaluation.json").read_text("utf-8"))
    found = Evaluation.from_dict(stored["evaluations"]["dev"])
    for name in ("brier", "ece_pooled", "ece_label_mean"):
        assert found.metrics[name] == honest.metrics[name]
    assert found.coverage == honest.coverage
    told = Classifier.load(tmp_path / "model").evaluate(rows, resamples=0)
    assert abs(told.metrics["brier"] - found.metrics["brier"]) > 1e-4
    after = json.loads((tmp_path / "model/report.json").read_text("utf-8"))["calibration"][-1]
    console = Console(width=200, record=True, file=io.StringIO())
    show_trained(console, trained)
    said = console.export_text()
    assert "40 dev rows, multilabel, cross-fitted" in said
    assert "came true" in said
    least = trained.bundle.rule.min_confidence
    assert f"leaves rows below confidence {least:.4f} undecided" in said
    assert (after["when"], after["error"]) == (
        "after",
        pytest.approx(found.metrics["ece_pooled"], 1e-5),
    )


def test_a_rule_per_label_is_stored_and_decides_as_before():
    slopes, offsets = np.array([0.3, 2.5]), np.array([1.0, -2.0])
    logits, truth = drawn(0, 2000, slopes=slopes, offsets=offsets)
    rule = tune(logits, truth, task="multilabel").rule
    assert rule.slopes
    again = Rule.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert again == rule
    assert (again.decide(again.scores(logits)) == rule.decide(rule.scores(logits))).all()
    # the margin is the log-odds of the score
    scores = rule.scores(logits[:50])
    assert rule.margins(logits[:50]) == pytest.approx(np.log(scores) - np.log1p(-scores))


def test_margins_of_classes_are_log_odds():
    rng = np.random.default_rng(0)
    rule = Rule(task="multiclass", activation="softmax", temperature=2.0)
    logits = rng.normal(size=(20, 4))
    scores = softmax(logits / 2)
    assert rule.margins(logits) == pytest.approx(np.log(scores) - np.log1p(-scores))
    assert np.isfinite(rule.margins(logits * 1e4)).all()


@pytest.mark.parametrize(
    ("task", "calibrate"), [("multiclass", "platt"), ("binary", "platt"), ("multilabel", "beta")]
)
def test_a_calibration_that_a_task_has_not_is_refused(task, calibrate):
    logits, truth = drawn(0, 50, slopes=np.ones(2), offsets=np.zeros(2))
    if task != "multilabel":
        truth = truth[:, 0].astype(np.int64)
    with pytest.raises(ConfigError, match="calibrate of"):
        tune(logits, truth, task=task, calibrate=calibrate)


@pytest.mark.parametrize(
    "change",
    [
        {"slopes": (1.0,)},
        {"slopes": (1.0, 0.0), "offsets": (0.0, 0.0)},
        {"slopes": (1.0, 1.0), "offsets": (0.0, math.nan)},
        {"slopes": (1.0, 1.0), "offsets": (0.0, 0.0), "temperature": 2.0},
        {"weights": (1.0, 1.0)},
        {"min_confidence": 1.5},
    ],
)
def test_parts_of_a_rule_that_contradict_each_other_are_refused(change):
    with pytest.raises(ConfigError):
        Rule(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.5), **change)


def test_old_settings_still_mean_what_they_meant():
    for written, meant in (("true", "auto"), ("false", "none"), ("platt", "platt")):
        config, _ = resolve_config(settings=[f"decision.calibrate={written}"])
        assert config.decision.calibrate == meant


@pytest.mark.parametrize("calibrate", ["temperature", "platt"])
def test_a_slope_at_its_bound_has_the_offset_that_suits_it(calibrate):
    truth = np.arange(600)[:, None] < 60
    logits = np.where(truth, -4.51, -5.0)
    rule = CALIBRATIONS[calibrate](
        Rule(task="multilabel", activation="sigmoid", thresholds=(0.5,), calibrated=False),
        logits,
        truth,
    )
    assert (rule.slopes or (1 / rule.temperature,)) == pytest.approx((20.0,))
    assert rule.scores(logits)[[0, -1], 0] == pytest.approx([1, 0], abs=0.05)
    for step in (-0.1, 0.1) if calibrate == "temperature" else ():
        worse = rule.changed({"bias": rule.bias + step})
        assert row_losses(worse, logits, truth).mean() > row_losses(rule, logits, truth).mean()


# --- reliability and coverage -------------------------------------------------------------------


def test_reliability_counts_every_score_once_and_survives_json():
    logits, truth = drawn(3, 300, slopes=np.ones(4), offsets=np.zeros(4))
    scores = sigmoid(logits)
    sure = np.random.default_rng(0).random(300)
    found = evaluate(
        "multilabel", LabelSpace(tuple("abcd")), truth, scores, scores >= 0.5,
        confidence=sure, resamples=0,
    )  # fmt: skip
    assert sum(row.count for row in found.reliability) == truth.size
    hits = sum(row.share * row.count for row in found.reliability)
    assert hits == pytest.approx(truth.sum())
    gap = sum(abs(row.share - row.score) * row.count for row in found.reliability) / truth.size
    assert gap == pytest.approx(found.metrics["ece_pooled"])
    assert Evaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_coverage_leaves_out_the_least_certain_rows():
    sure = np.array([0.9, 0.2, 0.8, 0.8, 0.5, 0.1, 0.7, 0.6, 0.4, 0.3])
    right = sure > 0.45
    table = coverage_table(sure, right)
    assert (table[0].coverage, table[0].accuracy) == (1.0, 0.6)
    assert [row.accuracy for row in table] == sorted(row.accuracy for row in table)
    assert table[-1].accuracy == 1.0
    together = coverage_table(np.ones(7), np.arange(7) < 3)
    assert len(together) == 1
    assert together[0].accuracy == pytest.approx(3 / 7)


@pytest.mark.parametrize(
    ("sure", "cuts"),
    [
        ([0.9, 0.8, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.8]),
        ([0.9, 0.1, 0.1], [0.1, 0.9]),
        ([0.9, 0.8, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.2, 0.1], [0.1, 0.2, 0.5, 0.8]),
    ],
)
def test_coverage_goes_on_above_rows_of_equal_confidence(sure, cuts):
    table = coverage_table(np.array(sure), np.array(sure) > 0.4)
    assert [row.min_confidence for row in table] == cuts
    assert table[0].coverage == 1.0


@pytest.mark.parametrize("task", ["multilabel", "multiclass"])
def test_confidence_is_the_chance_to_be_right(task):
    rng = np.random.default_rng(0)
    if task == "multilabel":
        scores = rng.random((20_000, 3)) ** 2
        truth = rng.random(scores.shape) < scores
        rule = Rule(task=task, activation="sigmoid", thresholds=(0.5, 0.3, 0.7))
        decided = rule.decide(scores)
        right = (decided == truth).all(axis=1)
    else:
        scores = softmax(rng.normal(0, 2, size=(20_000, 3)))
        truth = (scores.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
        rule = Rule(task=task, activation="softmax")
        decided = rule.decide(scores)
        right = decided == truth
    sure = confidence(rule, scores, decided)
    assert right.mean() == pytest.approx(sure.mean(), abs=0.01)
    top = sure > np.quantile(sure, 0.8)
    assert right[top].mean() == pytest.approx(sure[top].mean(), abs=0.02)
    leaving = with_abstention(rule, scores, share=0.2, least=None)
    assert undecided(leaving, scores, decided).mean() == pytest.approx(0.2, abs=0.001)
    assert not undecided(rule, scores, decided).any()


@pytest.mark.parametrize("share", [0.07, 0.29, 0.55, 0.57])
def test_a_share_of_rows_is_not_lost_to_rounding(share):
    rule = Rule(task="multiclass", activation="softmax")
    sure = np.linspace(0.6, 1, 100)
    scores = np.stack([sure, 1 - sure], axis=1)
    leaving = with_abstention(rule, scores, share=share, least=None)
    assert undecided(leaving, scores, rule.decide(scores)).sum() == round(100 * share)


def test_abstaining_asks_for_one_thing_and_for_labels():
    rule = Rule(task="multiclass", activation="softmax")
    with pytest.raises(ConfigError, match="not both"):
        with_abstention(rule, np.eye(2), share=0.1, least=0.5)
    regression = Rule(task="regression", activation="identity")
    with pytest.raises(ConfigError, match="no confidence"):
        with_abstention(regression, np.ones(3), share=0.1, least=None)


# --- strange rows -------------------------------------------------------------------------------


def test_strangeness_is_even_on_rows_like_the_known_and_high_on_others():
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 4, size=(5, 5))
    truth = rng.integers(0, 5, 800)
    logits = centres[truth] + rng.normal(size=(800, 5))
    domain = learn(logits, truth)
    alike = centres[rng.integers(0, 5, 2000)] + rng.normal(size=(2000, 5))
    strange = domain.strangeness(alike)
    assert np.quantile(strange, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.5, 0.75], abs=0.06)
    assert domain.strangeness(rng.normal(0, 12, size=(500, 5))).mean() > 0.95
    again = Domain.from_bytes(domain.to_bytes(), outputs=5)
    assert (again.strangeness(alike) == strange).all()
    with pytest.raises(BundleError, match="damaged"):
        Domain.from_bytes(domain.to_bytes()[:-9], outputs=5)
    assert learn(logits[:20], truth[:20]) is None


def test_strange_rows_of_two_classes_that_lie_between_them_are_told():
    # two outputs lie on a line: the nearest class is never far from what is between them
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 600)
    side = np.where(truth == 1, 1.0, -1.0) * rng.normal(3, 1, 600)
    logits = np.stack([-side, side], axis=1)
    domain = learn(logits, truth)
    between = rng.normal(0, 0.7, 300)
    assert domain.strangeness(np.stack([-between, between], axis=1)).mean() > 0.85


KEPT = {
    "means": np.eye(3),
    "precision": np.eye(3),
    "quantiles": np.arange(1001.0),
    "centre": np.full((1, 3), 1 / 3),
    "spread": np.eye(3),
}


def test_a_domain_with_other_tensors_or_shapes_is_damaged():
    others = {"means": np.zeros(3), "precision": np.eye(2), "centre": np.eye(3)}
    for name, value in (others | {"spread": np.eye(2)}).items():
        with pytest.raises(BundleError, match="shapes do not fit"):
            Domain.from_bytes(save({**KEPT, name: value}), outputs=3)
    for name in KEPT:
        with pytest.raises(BundleError, match="must have the tensors"):
            Domain.from_bytes(save({k: v for k, v in KEPT.items() if k != name}), outputs=3)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantiles": np.full(1001, np.nan)},
        {"quantiles": np.zeros(0)},
        {"quantiles": np.arange(1001.0)[::-1].copy()},
        {"quantiles": np.zeros(1001, np.int8)},
        {"means": np.full((3, 3), np.inf)},
        {"precision": np.eye(3, dtype=np.float32)},
        {"means": np.zeros((3, 7)), "precision": np.eye(7)},
        {"means": np.zeros((0, 7)), "precision": np.zeros((0, 0))},
    ],
)
def test_a_domain_that_cannot_be_is_damaged(changes):
    assert Domain.from_bytes(save(KEPT), outputs=3).strangeness(np.zeros((1, 3))).shape == (1,)
    with pytest.raises(BundleError, match="damaged"):
        Domain.from_bytes(save(KEPT | changes), outputs=3)


def test_a_domain_of_another_kind_of_numbers_is_damaged():
    brain = to_bytes({"means": torch.zeros(3, 3, dtype=torch.bfloat16)})
    with pytest.raises(BundleError, match="damaged"):
        Domain.from_bytes(brain, outputs=3)


def test_of_label_sets_a_row_without_evidence_for_any_label_is_strange():
    logits, truth = drawn(0, 500, slopes=np.ones(4), offsets=np.zeros(4))
    domain = Domain.from_bytes(learn(logits, truth).to_bytes(), outputs=4)
    alike, _ = drawn(1, 500, slopes=np.ones(4), offsets=np.zeros(4))
    assert domain.strangeness(alike).mean() == pytest.approx(0.5, abs=0.05)
    assert domain.strangeness(np.full((3, 4), -9.0)).tolist() == [1.0, 1.0, 1.0]
    assert domain.strangeness(np.full((1, 4), 9.0))[0] < 0.01


def test_of_one_label_a_row_without_evidence_is_strange_too():
    logits, truth = drawn(0, 100, slopes=np.ones(1), offsets=np.zeros(1))
    domain = Domain.from_bytes(learn(logits, truth).to_bytes(), outputs=1)
    assert domain.strangeness(np.array([[-20.0], [20.0]])).tolist() == [1.0, 0.0]
    assert learn(logits, truth[:, 0].astype(np.int64)) is None


# --- alarms -------------------------------------------------------------------------------------


def test_a_model_that_says_one_thing_raises_an_alarm():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    scores = softmax(rng.normal(size=(60, 3)))
    one = Outcome("multiclass", truth, scores, np.full(60, 1))
    assert "every row is predicted as 'b'" in alarms(one, "abc")[0]
    assert alarms(Outcome("multiclass", truth, scores, truth), "abc") == []
    cells = rng.random((60, 3)) < 0.4
    given = cells.copy()
    given[:, 0], given[:, 2] = False, True
    never, always = alarms(Outcome("multilabel", cells, cells * 1.0, given), "abc")
    assert never.startswith(f"{ALARM}never predicted: a (")
    assert always.startswith(f"{ALARM}given to every row: c (")
    [nothing] = alarms(Outcome("multilabel", cells, cells * 0.0, cells & False), "abc")
    assert nothing.startswith(f"{ALARM}no row is given any label, which is wrong for ")
    number = rng.normal(size=60)
    flat = Outcome("regression", number, 0.01 * number, None)
    # of scores that follow the truth, if on a small scale, no more can be said
    assert alarms(flat, ())[0].endswith(
        "the output is nearly constant (spread "
        f"{np.std(number) / 100:.3g}, of the truth {np.std(number):.3g})."
    )
    assert alarms(Outcome("regression", number, number, None), ()) == []
    found = evaluate(
        "multiclass", LabelSpace(tuple("abc")), truth, scores, one.decided, resamples=0
    )
    assert found.notes[0].startswith(ALARM)


SAME = "the output does not depend on the text"


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_the_alarm_says_that_scores_differ_where_only_the_decision_is_the_same(task):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 60)
    scores = softmax(rng.normal(size=(60, 2)) + 2 * np.eye(2)[truth])
    one = truth * 0
    if task == "multilabel":
        truth, one = truth[:, None] == np.arange(2), np.zeros((60, 2), bool)
    [said] = alarms(Outcome(task, truth, scores, one), "ab")
    assert "though the scores differ from row to row" in said
    assert ("threshold" in said) == (task != "multiclass")
    assert SAME not in said
    for flat in (scores * 0 + 0.3, 0.3 + scores * 1e-3):
        [said] = alarms(Outcome(task, truth, flat, one), "ab")
        assert said.endswith(f"rows: {SAME}.")
    [said] = alarms(Outcome(task, truth, scores * np.nan, one), "ab")
    assert said.endswith(" of 60 rows.")


def nearly_constant():
    """Scores that noise alone tells apart, cut in the midst of it."""
    rng = np.random.default_rng(0)
    classes, cells = rng.integers(0, 3, 200), rng.random((200, 3)) < 0.3
    noise = rng.normal(size=(200, 3))
    positive = 0.78 + 1e-4 * noise[:, 0]
    third, low = 1 / 3 + 1e-5 * noise, 0.3 + 1e-4 * noise
    pair = np.stack([1 - positive, positive], axis=1)
    yield Outcome("binary", classes % 2, pair, (positive >= 0.78).astype(int))
    yield Outcome("multiclass", classes, third, third.argmax(axis=1))
    yield Outcome("multilabel", cells, low, low >= 0.3)


def test_noise_around_the_cut_does_not_silence_the_alarm():
    for outcome in nearly_constant():
        [said] = alarms(outcome, "abc")
        assert said.startswith(f"{ALARM}the scores of every label are nearly constant, decisions")


def test_a_good_model_of_rare_labels_raises_no_alarm():
    rng = np.random.default_rng(0)
    truth = np.zeros((20_000, 3), bool)
    truth[:5] = np.arange(5)[:, None] % 3 == np.arange(3)
    scores = rng.uniform(0, 1e-4, truth.shape) + 0.3 * truth
    given = scores > 0.2
    given[10:20, 0] = True
    assert alarms(Outcome("multilabel", truth, scores, given), "abc") == []
    # rows that lack all labels, with some given in error
    scores = np.where(given & ~truth, 0.3, 1e-4)
    assert alarms(Outcome("multilabel", truth & False, scores, scores > 0.2), "abc") == []


@pytest.mark.parametrize("labels", [2, 3])
def test_a_class_that_is_the_highest_of_every_row_has_no_threshold_to_blame(labels):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, labels, 60)
    first = np.linspace(0.6, 0.95, 60)[:, None]
    scores = np.hstack([first, *[(1 - first) / (labels - 1)] * (labels - 1)])
    task = "binary" if labels == 2 else "multiclass"
    [said] = alarms(Outcome(task, truth, scores, truth * 0), "abc"[:labels])
    assert said.endswith("one class outweighs the other" + "s" * (labels > 2) + ".")


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_rows_of_one_class_that_are_all_right_raise_no_alarm(task):
    truth = np.zeros(60, int)
    if task == "multilabel":
        truth = np.arange(2) == truth[:, None]
    assert alarms(Outcome(task, truth, np.full((60, 2), 0.5), truth), "ab") == []


def test_the_alarm_knows_few_rows_and_rare_labels():
    # many labels with four rows each, none ever given: the collapse the alarm is there for
    truth = np.arange(80)[:, None] % 20 == np.arange(20)
    names = [str(i) for i in range(20)]
    [said] = alarms(Outcome("multilabel", truth, truth * 0.0, truth & False), names)
    assert "no row is given any label, which is wrong for 80 of 80 rows" in said
    [said] = alarms(Outcome("multilabel", truth, truth * 1.0, truth | (np.arange(20) < 2)), names)
    assert said.startswith(f"{ALARM}given to every row: 0 (4 rows), 1 (4 rows).")
    same = np.repeat(truth[:1], 80, axis=0)
    [said] = alarms(Outcome("multilabel", truth, same * 1.0, same), names)
    assert "every row is predicted as '0', which is wrong for 76 of 80 rows" in said
    # twelve rows of three classes
    classes, one = np.arange(12) % 3, np.full(12, 1)
    [said] = alarms(Outcome("multiclass", classes, np.eye(3)[one], one), "abc")
    assert "every row is predicted as 'b', which is wrong for 8 of 12 rows" in said
    # a few rows that any model may miss
    few = np.where(np.arange(12) < 2, 0, 1)
    assert alarms(Outcome("multiclass", few, np.eye(3)[one], one), "abc") == []
    number = np.arange(5.0)
    assert "nearly constant" in alarms(Outcome("regression", number, number * 0, None), ())[0]
    assert alarms(Outcome("regression", number[:4], number[:4] * 0, None), ()) == []


# --- the whole way ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("certainty")
    data = write_folder(root / "data", MAKERS["multiclass"], sizes=(64, 64, 32))
    flags = {
        "encoder.name": str(tiny_encoder("bert", root / "encoder")),
        "training.epochs": 2,
        "training.batch_size": 8,
        "training.learning_rate": 1e-3,
        "training.precision": "float32",
        "report.linear_bar": False,
        "report.resamples": 0,
        "decision.abstain": 0.25,
        "decision.objective": "macro_f1",
    }
    config, origins = resolve_config(flags=flags)
    train(Request(data, root / "model", config, origins), Silent())
    return root


def test_a_figure_that_the_bar_does_not_have_has_no_lead(folder, tmp_path):
    flags = {
        "encoder.name": str(folder / "encoder"),
        **FAST,
        "report.linear_bar": True,
        "report.resamples": 20,
    }
    config, origins = resolve_config(flags=flags)
    model = train(Request(folder / "data", tmp_path / "model", config, origins), Silent())
    for split in ("dev", "test"):
        bar = model.bars[split]
        assert bar.evaluation.metrics["log_loss"] is None
        assert {each.metric for each in bar.lead} >= {"accuracy", "mcc"}
        assert "log_loss" not in {each.metric for each in bar.lead}


def test_an_abstained_row_has_scores_and_no_labels(folder):
    model = Classifier.load(folder / "model")
    assert 0 < model.bundle.rule.min_confidence < 1
    texts = [row["text_a"] for row in json.loads((folder / "data/dev.json").read_text("utf-8"))]
    said = model.predict(texts, out_of_domain=True)
    left = [each for each in said if each.abstained]
    assert len(left) == pytest.approx(16, abs=1)
    assert all(each.labels == () and len(each.scores) == 3 for each in left)
    assert left[0].to_dict()["abstained"] is True
    assert all(0 <= each.out_of_domain <= 1 for each in said)
    sure = model.with_rule(min_confidence=None).predict(texts)
    assert [a.labels for a in sure if a.labels] == [a.labels for a in sure]
    assert [a.scores for a in sure] == [a.scores for a in said]


def test_the_commands_show_what_to_believe(folder, tmp_path):
    test = str(folder / "data" / "test.json")
    done = CliRunner().invoke(
        app, ["evaluate", str(folder / "model"), test, "--abstain", "-o", str(tmp_path / "e.json")]
    )
    assert done.exit_code == 0, done.output
    for words in ("came true", "confidence at least", "leaves rows below confidence"):
        assert words in done.output
    model = str(folder / "model")
    same = shutil.copytree(model, tmp_path / "same")
    compared = CliRunner().invoke(app, ["compare", model, str(same), test, "--resamples", "100"])
    assert "leaves rows below confidence" in " ".join(compared.output.split())
    content = json.loads((tmp_path / "e.json").read_text("utf-8"))
    assert content["reliability"]
    assert content["coverage"][0]["coverage"] == 1.0
    for suffix in ("jsonl", "csv"):
        out = tmp_path / f"out.{suffix}"
        flags = ["-o", str(out), "--out-of-domain", "--min-confidence", "1"]
        done = CliRunner().invoke(app, ["predict", str(folder / "model"), test, *flags])
        assert done.exit_code == 0, done.output
        assert out.read_text("utf-8-sig").count("out_of_domain") >= 1
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert all(row["abstained"] and row["labels"] == [] for row in rows)


def test_a_model_without_a_domain_says_so(folder):
    model = Classifier.load(folder / "model")
    (folder / "model" / "domain.safetensors").rename(folder / "domain.safetensors")
    try:
        with pytest.raises(BundleError, match="cannot say what is out of domain"):
            model.predict(["尾灯"], out_of_domain=True)
    finally:
        (folder / "domain.safetensors").rename(folder / "model" / "domain.safetensors")
