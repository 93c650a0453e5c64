"""Rare labels weighed, drawn and adjusted for; models that go on under other labels."""

from __future__ import annotations

import json
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bert_cls import Classifier
from bert_cls.config import resolve_config
from bert_cls.data import LabelSpace
from bert_cls.decision import Rule, tune
from bert_cls.decision.rule import softmax
from bert_cls.errors import ConfigError, Interrupted
from bert_cls.folders import sha256
from bert_cls.losses import LabelStatistics, label_weights, make_loss
from bert_cls.training import Request, Silent, resumed, train
from bert_cls.training.batches import balanced_weights, epoch_batches
from bert_cls.training.inherit import inherit, take_over
from bert_cls.training.prepare import read_audited
from bert_cls.training.setup import set_up
from bert_cls.training.start import prior_bias
from small import MAKERS, class_rows, multilabel_rows, write_folder
from test_training import StopAt
from tiny import tiny_encoder

COUNTS = np.array([80, 15, 5])
FAST = {
    "training.epochs": 1,
    "training.batch_size": 8,
    "training.precision": "float32",
    "report.linear_bar": False,
    "report.resamples": 0,
}


class Notes(Silent):
    def __init__(self):
        self.notes = []

    def noticed(self, message):
        self.notes.append(message)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_encoder("bert", tmp_path_factory.mktemp("encoders") / "bert"))


# --- weights ------------------------------------------------------------------------------------


def weights_of(wanted, loss="cross_entropy", counts=COUNTS, **options):
    statistics = LabelStatistics(counts, int(counts.sum()))
    return label_weights(wanted, loss, list("abc"), statistics, **options)[0]


def test_balanced_classes_weigh_the_same_together_and_rows_one_in_the_mean():
    for wanted, power in (("balanced", 1.0), ("sqrt", 0.5)):
        weights = weights_of(wanted)
        assert (weights * COUNTS).sum() == pytest.approx(COUNTS.sum())
        assert weights[2] / weights[0] == pytest.approx((80 / 5) ** power)


def test_positives_of_rare_labels_weigh_more_up_to_a_cap():
    weights = weights_of("balanced", "bce", np.array([50, 10, 1]))
    assert weights.tolist() == pytest.approx([1.0, 51 / 10, 20.0])
    assert weights_of("sqrt", "bce", np.array([50, 10, 1]))[2] == pytest.approx(20**0.5)


def test_weights_by_name_reach_the_loss_and_end_its_calibration():
    weights = weights_of({"c": 4.0})
    assert weights[2] / weights[0] == pytest.approx(4.0)
    statistics = LabelStatistics(COUNTS, 100)
    plain = make_loss("cross_entropy", "multiclass", statistics)
    weighed = make_loss("cross_entropy", "multiclass", statistics, weights=weights)
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    ratio = weighed(logits, targets) / plain(logits, targets)
    assert ratio.numpy() == pytest.approx(np.tile(weights, 2), rel=1e-5)
    assert plain.calibrated
    assert not weighed.calibrated
    cells = make_loss("bce", "multilabel", statistics, weights=np.array([1.0, 1.0, 3.0]))
    one, hot = torch.zeros(1, 3), torch.tensor([[False, False, True]])
    usual = make_loss("bce", "multilabel", statistics)
    assert cells(one, hot).item() == pytest.approx(usual(one, hot).item() * 5 / 3)


def test_auto_weighs_lopsided_classes_and_nothing_that_is_adjusted_later():
    assert weights_of("auto") == pytest.approx(weights_of("sqrt"))
    assert weights_of("auto", counts=np.array([40, 30, 30])) is None
    assert weights_of("auto", adjusted_later=True) is None
    assert weights_of("auto", drawn_evenly=True) is None
    assert weights_of("auto", "bce") is None
    assert weights_of("none") is weights_of("none", "mse") is None


@pytest.mark.parametrize(
    ("wanted", "loss", "words"),
    [
        ({"d": 2.0}, "cross_entropy", "must be one of"),
        ({"a": 0.0}, "cross_entropy", "must weigh from 1e-06"),
        ({"a": 1e308}, "cross_entropy", "must weigh from 1e-06"),
        ("balanced", "zlpr", "is for the losses"),
        ("auto", "zlpr", "is for the losses"),
        ("auto", "focal_softmax", "is for the losses"),
        ("auto", "mse", "is for the losses"),
    ],
)
def test_weights_that_cannot_be_are_refused(wanted, loss, words):
    with pytest.raises(ConfigError, match=words):
        weights_of(wanted, loss)


# --- sampling -----------------------------------------------------------------------------------


def test_balanced_sampling_makes_classes_equal_and_is_a_function_of_the_epoch():
    truth = np.repeat([0, 1, 2], COUNTS)
    lengths = np.arange(100) % 13 + 5
    weights = balanced_weights(truth, 3)
    drawn = np.concatenate(
        [
            np.concatenate(epoch_batches(lengths, 16, seed=1, epoch=e, weights=weights))
            for e in range(30)
        ]
    )
    assert len(drawn) == 3000
    shares = np.bincount(truth[drawn], minlength=3) / len(drawn)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.04)
    again = epoch_batches(lengths, 16, seed=1, epoch=4, weights=weights)
    other = epoch_batches(lengths, 16, seed=1, epoch=5, weights=weights)
    same = epoch_batches(lengths, 16, seed=1, epoch=4, weights=weights)
    assert all((a == b).all() for a, b in zip(again, same, strict=True))
    assert not all((a == b).all() for a, b in zip(again, other, strict=True))
    cells = np.array([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=bool)
    assert balanced_weights(cells, 2) == pytest.approx([1 / 8, 1 / 8, 3 / 8, 3 / 8])


def test_a_run_that_draws_rows_goes_on_bit_for_bit(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    flags = {
        "encoder.name": encoder,
        **FAST,
        "training.epochs": 2,
        "training.sampling": "balanced",
        "training.log_steps": 1,
    }
    config, origins = resolve_config(flags=flags)
    train(Request(data, tmp_path / "whole", config, origins), Silent())
    with pytest.raises(Interrupted):
        train(Request(data, tmp_path / "part", config, origins), StopAt(7, signal.SIGTERM))
    train(resumed(tmp_path / "part"), Silent(), resume=True)
    assert sha256(tmp_path / "part/model.safetensors") == sha256(
        tmp_path / "whole/model.safetensors"
    )


def lopsided_rows(count):
    return [
        {"index": i, "text_a": f"很好{i}", "text_b": None, "label": "坏" if i % 20 == 0 else "好"}
        for i in range(count)
    ]


def test_balanced_sampling_leaves_no_rarity_to_weigh_or_to_adjust_to(encoder, tmp_path):
    data = write_folder(tmp_path / "data", lopsided_rows)
    rare = {"encoder.name": encoder, **FAST, "loss.class_weights": "auto"}
    said = {}
    for sampling in ("shuffled", "balanced"):
        config, origins = resolve_config(flags=rare | {"training.sampling": sampling})
        notes = Notes()
        setup = set_up(
            Request(data, tmp_path / "out", config, origins),
            read_audited(data, config, Silent()),
            notes,
        )
        said[sampling] = next(note for note in notes.notes if note.startswith("class weights"))
        assert (setup.weights is None) == (setup.row_weights is not None)
        # classes that are drawn evenly start evenly
        bias = setup.network.head.bias.detach().numpy()
        assert (bias[0] == bias[1]) == (sampling == "balanced")
    assert "auto: sqrt" in said["shuffled"]
    assert said["balanced"] == "class weights: auto: none, rows are drawn evenly"
    wished = {"loss.class_weights": {"坏": 3.0}, "training.sampling": "balanced"}
    config, origins = resolve_config(flags=rare | wished)
    request = Request(data, tmp_path / "out", config, origins)
    setup = set_up(request, read_audited(data, config, Silent()), Silent())
    assert setup.weights is not None
    assert setup.row_weights is not None
    both = {"loss.name": "logit_adjustment", "training.sampling": "balanced"}
    config, origins = resolve_config(flags={"encoder.name": "/nowhere", **FAST, **both})
    with pytest.raises(ConfigError, match="made up for twice") as refused:
        train(Request(data, tmp_path / "out", config, origins), Silent())
    assert "leave one of the two out" in str(refused.value)


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        ("multiclass", {"loss.class_weights": "balanced"}, True),
        ("multiclass", {"loss.class_weights": "auto"}, False),
        ("multilabel", {"loss.class_weights": {"尾灯": 2.0}}, True),
        ("multilabel", {"loss.name": "bce_weighted"}, True),
        ("multilabel", {"loss.name": "class_balanced"}, True),
        ("multilabel", {}, False),
    ],
)
def test_weights_besides_balanced_sampling_are_said(task, settings, said, encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS[task])
    flags = {"encoder.name": encoder, **FAST, **settings, "training.sampling": "balanced"}
    config, origins = resolve_config(flags=flags)
    notes = Notes()
    request = Request(data, tmp_path / "out", config, origins)
    set_up(request, read_audited(data, config, Silent()), notes)
    assert any("made up for twice" in note for note in notes.notes) == said


@pytest.mark.parametrize("wanted", ["balanced", "sqrt"])
@pytest.mark.parametrize(("task", "loss"), [("multiclass", "cross_entropy"), ("multilabel", "bce")])
def test_a_weighted_loss_starts_where_it_is_least(task, loss, wanted):
    truth = np.repeat([0, 1, 2], COUNTS)
    truth = truth if task == "multiclass" else np.arange(3) == truth[:, None]
    statistics = LabelStatistics(COUNTS, 100)
    weights, _ = label_weights(wanted, loss, list("abc"), statistics)
    start = torch.from_numpy(prior_bias(truth, task, 3, weights)).requires_grad_()
    weighed = make_loss(loss, task, statistics, weights=weights)
    mean = weighed(start.expand(100, 3), torch.from_numpy(truth)).mean()
    mean.backward()
    assert start.grad.abs().max() < 1e-5
    if (task, wanted) == ("multiclass", "balanced"):
        assert mean.item() == pytest.approx(np.log(3), rel=1e-5)


# --- adjusting the decision to the priors -------------------------------------------------------


def lopsided(seed, rows):
    rng = np.random.default_rng(seed)
    priors = np.array([0.85, 0.1, 0.05])
    truth = rng.choice(3, size=rows, p=priors)
    signal_ = 1.2 * np.eye(3)[truth] + rng.normal(0, 0.9, size=(rows, 3))
    return signal_ + np.log(priors), truth, priors


def macro_f1(truth, decided):
    f1 = []
    for label in range(3):
        both = ((truth == label) & (decided == label)).sum()
        f1.append(2 * both / ((truth == label).sum() + (decided == label).sum()))
    return np.mean(f1)


def test_macro_f1_gains_from_the_adjustment_and_scores_stay_what_they_were():
    logits, truth, priors = lopsided(0, 1500)
    plain = tune(logits, truth, task="multiclass").rule
    tuned = tune(logits, truth, task="multiclass", objective="macro_f1", priors=priors)
    assert tuned.rule.tuner in ("half_adjusted", "adjusted")
    assert set(tuned.crossfit) == {"argmax", "half_adjusted", "adjusted"}
    fresh, labels, _ = lopsided(1, 4000)
    before = macro_f1(labels, plain.decide(plain.scores(fresh)))
    after = macro_f1(labels, tuned.rule.decide(tuned.rule.scores(fresh)))
    assert after > before + 0.05
    assert (plain.scores(fresh) == tuned.rule.scores(fresh)).all()
    again = Rule.from_dict(json.loads(json.dumps(tuned.rule.to_dict())))
    assert (again.decide(again.scores(fresh)) == tuned.rule.decide(again.scores(fresh))).all()
    # argmax of scores over priors is argmax of logits less log priors
    if tuned.rule.tuner == "adjusted":
        direct = (fresh / plain.temperature - np.log(priors)).argmax(axis=1)
        assert (direct == tuned.rule.decide(tuned.rule.scores(fresh))).all()


def test_without_priors_or_gain_classes_stay_with_their_highest_score():
    logits, truth, _ = lopsided(0, 500)
    rule = tune(logits, truth, task="multiclass", objective="macro_f1").rule
    assert rule.weights == ()
    rng = np.random.default_rng(0)
    even = rng.normal(size=(600, 3))
    classes = (softmax(2 * even).cumsum(axis=1) < rng.random((600, 1))).sum(axis=1)
    tuned = tune(even, classes, task="multiclass", objective="macro_f1", priors=np.full(3, 1 / 3))
    assert tuned.rule.tuner == "argmax"
    assert tuned.rule.weights == ()


# --- starting from a trained model --------------------------------------------------------------


@pytest.fixture(scope="module")
def old(encoder, tmp_path_factory):
    root = tmp_path_factory.mktemp("old")
    data = write_folder(root / "data", multilabel_rows, labels=["尾灯", "天窗", "轮胎"])
    flags = {"encoder.name": encoder, **FAST, "text.max_length": 48}
    config, origins = resolve_config(flags=flags)
    train(Request(data, root / "model", config, origins), Silent())
    return root


def frozen(**settings):
    """Settings of a run whose steps change nothing that can be seen."""
    flags = {**FAST, "training.learning_rate": 1e-12, "training.weight_decay": 0, **settings}
    return resolve_config(flags=flags)


def test_labels_are_taken_over_renamed_added_and_dropped_by_name(old, tmp_path):
    rows = multilabel_rows(80)
    swap = {"尾灯": "后灯", "天窗": "天窗"}
    for row in rows:
        row["label"] = [swap[name] for name in row["label"] if name in swap]
        if "轮胎" in row["text_a"]:
            row["label"].append("新标签")
    data = write_folder(tmp_path / "data", lambda n: rows[:n], labels=["新标签", "天窗", "后灯"])
    renames = tmp_path / "renames.json"
    renames.write_text(json.dumps({"尾灯": "后灯"}), "utf-8")
    config, origins = frozen()
    notes = Notes()
    request = Request(
        data,
        tmp_path / "new",
        config,
        origins,
        init_from=old / "model",
        renames=renames,
    )
    trained = train(request, notes)
    said = next(note for note in notes.notes if note.startswith("from model"))
    assert (
        "2 of 3 labels taken over (1 renamed), 1 new labels start at their prior, 1 are gone"
        in said
    )
    before = load_file(old / "model/model.safetensors")
    after = load_file(tmp_path / "new/model.safetensors")
    for name, place in (("天窗", (1, 1)), ("后灯", (2, 0))):
        for kind in ("weight", "bias"):
            new, was = after[f"classifier.{kind}"][place[0]], before[f"classifier.{kind}"][place[1]]
            assert torch.allclose(new, was, atol=1e-6), name
    train_rows = json.loads((data / "train.json").read_text("utf-8"))
    share = np.mean(["新标签" in row["label"] for row in train_rows])
    assert after["classifier.bias"][0].item() == pytest.approx(
        np.log(share / (1 - share)), abs=1e-5
    )
    assert after["classifier.weight"][0].abs().max() < 1e-6
    encoder_name = next(name for name in before if "word_embeddings" in name)
    assert torch.allclose(before[encoder_name], after[encoder_name], atol=1e-6)
    assert trained.bundle.text.max_length == 48
    assert "taken over" in trained.bundle.details["origins"]["text.max_length"]


@pytest.mark.parametrize(
    "settings", [{"training.prior_bias": False}, {"loss.name": "multilabel_margin"}]
)
def test_new_labels_start_at_0_without_priors(settings, old, tmp_path):
    rows = multilabel_rows(80)
    for row in rows:
        row["label"] = ["新标签" if name == "轮胎" else name for name in row["label"]]
    data = write_folder(tmp_path / "data", lambda n: rows[:n])
    config, origins = frozen(**settings)
    notes = Notes()
    request = Request(data, tmp_path / "new", config, origins, init_from=old / "model")
    inherited = inherit(request)
    setup = set_up(inherited, read_audited(data, inherited.config, Silent()), notes)
    bias = setup.network.head.bias.detach().numpy()
    assert bias[setup.dataset.space.ids["新标签"]] == 0
    assert any("1 new labels start at 0, 1 are gone" in note for note in notes.notes)


def test_a_regression_goes_on_where_it_was(encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["regression"])
    config, origins = resolve_config(flags={"encoder.name": encoder, **FAST})
    train(Request(data, tmp_path / "old", config, origins), Silent())
    config, origins = frozen()
    request = Request(data, tmp_path / "new", config, origins, init_from=tmp_path / "old")
    train(request, Silent())
    texts = ["很好很好一般一般", "一般一般一般一般"]
    one, two = (Classifier.load(tmp_path / name).predict(texts) for name in ("old", "new"))
    assert [p.score for p in two] == pytest.approx([p.score for p in one], abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text.max_length": 64}, "text.max_length is 64 .* was trained with 48"),
        ({"encoder.pooling": "cls"}, "encoder.pooling is 'cls'"),
    ],
)
def test_what_belongs_to_the_old_weights_cannot_be_changed(settings, words, old, tmp_path):
    config, origins = frozen(**settings)
    request = Request(old / "data", tmp_path / "new", config, origins, init_from=old / "model")
    with pytest.raises(ConfigError, match=words) as raised:
        train(request, Silent())
    assert "--encoder" in str(raised.value)


def test_a_model_is_not_trained_onto_itself(old):
    config, origins = frozen()
    request = Request(old / "data", old / "model", config, origins, init_from=old / "model")
    with pytest.raises(ConfigError, match="the same folder"):
        train(request, Silent(), overwrite=True)
    assert Classifier.load(old / "model").labels == ("尾灯", "天窗", "轮胎")


@pytest.mark.parametrize("spelled", ["same", "dotted", "linked", "inside", "at home"])
def test_an_encoder_is_not_overwritten_by_its_own_run(spelled, old, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    output = tmp_path / "model"
    shutil.copytree(old / "model", output)
    (tmp_path / "link").symlink_to(output)
    shutil.copytree(old / "model", output / "base")
    names = {"same": ".", "dotted": "base/..", "linked": "../link", "inside": "base"}
    name = "~/model" if spelled == "at home" else str(output / names[spelled])
    config, origins = resolve_config(settings=[f"encoder.name={name}"])
    files = sorted(p for p in output.rglob("*"))
    with pytest.raises(ConfigError, match=r"--encoder .* is (the same folder as|inside) -o"):
        train(Request(old / "data", output, config, origins), Silent(), overwrite=True)
    assert sorted(p for p in output.rglob("*")) == files


def test_other_tasks_and_impossible_renamings_are_refused(old, tmp_path):
    config, origins = frozen()
    other = write_folder(tmp_path / "other", MAKERS["multiclass"])
    request = Request(other, tmp_path / "new", config, origins, init_from=old / "model")
    with pytest.raises(ConfigError, match="is a multilabel model, the data are multiclass"):
        train(request, Silent())
    for content, words in (
        ({"车灯": "后灯"}, "a label of the old model must be one of"),
        ({"尾灯": "轮胎", "天窗": "轮胎"}, "more than one label of the old model .* '轮胎'"),
        ({"尾灯": "天窗", "天窗": "天窗"}, "more than one label of the old model .* '天窗'"),
        (
            {"尾灯": "尾灯", "天窗": "天穿"},
            "'天穿', which is no label of the data.*did you mean '天窗'",
        ),
    ):
        renames = tmp_path / "renames.json"
        renames.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        request = Request(
            old / "data",
            tmp_path / "new",
            config,
            origins,
            init_from=old / "model",
            renames=renames,
        )
        with pytest.raises(ConfigError, match=f"(?s){words}"):
            train(request, Silent())


@pytest.mark.parametrize(("before", "after"), [("甲乙丙", "甲丙"), ("甲乙", "丙乙甲")])
def test_classes_are_taken_over_whether_there_are_two_or_more(before, after, encoder, tmp_path):
    config, origins = resolve_config(flags={"encoder.name": encoder, **FAST})
    data = write_folder(tmp_path / "before", lambda n: class_rows(n, list(before)))
    train(Request(data, tmp_path / "old", config, origins), Silent())
    data = write_folder(tmp_path / "after", lambda n: class_rows(n, list(after)))
    config, origins = frozen()
    request = Request(data, tmp_path / "new", config, origins, init_from=tmp_path / "old")
    train(request, Silent())
    heads, names = {}, {}
    for name in ("old", "new"):
        heads[name] = load_file(tmp_path / name / "model.safetensors")
        names[name] = Classifier.load(tmp_path / name).labels
    shared = set(names["old"]) & set(names["new"])
    assert len(shared) == 2
    for label in shared:
        for kind in ("weight", "bias"):
            is_, was = (
                heads[n][f"classifier.{kind}"][names[n].index(label)] for n in ("new", "old")
            )
            assert torch.allclose(is_, was, atol=1e-6)


def test_a_renamed_label_takes_the_name_of_one_that_is_gone(old):
    space = LabelSpace(("天窗", "新标签"))
    network = SimpleNamespace(head=torch.nn.Linear(32, 2))
    said = take_over(
        network,
        old / "model",
        "multilabel",
        space,
        renames={"尾灯": "天窗"},
        encoding=None,
        priors=None,
        scale=(0.0, 1.0),
    )
    assert "1 of 3 labels taken over (1 renamed), 1 new labels start at 0, 2 are gone" in said
    before = load_file(old / "model/model.safetensors")["classifier.weight"]
    assert torch.equal(network.head.weight[0], before[0])
    assert not network.head.weight[1].any()


def test_two_labels_can_change_names(old, tmp_path):
    renames = tmp_path / "renames.json"
    renames.write_text(json.dumps({"尾灯": "天窗", "天窗": "尾灯"}), "utf-8")
    config, origins = frozen()
    request = Request(
        old / "data", tmp_path / "new", config, origins, init_from=old / "model", renames=renames
    )
    notes = Notes()
    train(request, notes)
    assert any("3 of 3 labels taken over (2 renamed), 0 new" in note for note in notes.notes)
    before = load_file(old / "model/model.safetensors")["classifier.weight"]
    after = load_file(tmp_path / "new/model.safetensors")["classifier.weight"]
    assert torch.allclose(after, before[[1, 0, 2]], atol=1e-6)


def test_renames_are_read_in_the_encoding_of_the_data(old, tmp_path):
    rows = json.loads((old / "data" / "train.json").read_text("utf-8"))
    for row in rows:
        row["label"] = ["后灯" if name == "尾灯" else name for name in row["label"]]
    for name, content in (("rows.json", rows), ("renames.json", {"尾灯": "后灯"})):
        text = json.dumps(content, ensure_ascii=False)
        (tmp_path / name).write_bytes(text.encode("utf-16-le"))
    config, origins = resolve_config(flags={**FAST, "data.encoding": "utf-16-le"})
    request = Request(
        tmp_path / "rows.json",
        tmp_path / "new",
        config,
        origins,
        init_from=old / "model",
        renames=tmp_path / "renames.json",
    )
    notes = Notes()
    train(request, notes)
    assert any("3 of 3 labels taken over (1 renamed), 0 new" in note for note in notes.notes)
