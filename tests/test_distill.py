"""Students of tiny teachers: the loss, what a student starts as, the run, refusals."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bert_cls import Classifier, bundle
from bert_cls.cli import main
from bert_cls.config import RunConfig, resolve_config
from bert_cls.data import load, read
from bert_cls.decision import tune
from bert_cls.errors import BundleError, ConfigError, DataError, Interrupted
from bert_cls.export import export
from bert_cls.folders import sha256
from bert_cls.losses import DIVERGENCES, LabelStatistics, make_distillation, make_loss, pack
from bert_cls.request import Distillation, read_run
from bert_cls.run_rows import check_held_out
from bert_cls.training import (
    Request,
    Silent,
    aims,
    figures,
    resumed,
    student_request,
    train,
)
from bert_cls.training.prepare import read_audited
from bert_cls.training.ranks import Alone
from bert_cls.training.setup import make_trainer, set_up
from bert_cls.training.student import fingerprint, spread
from bert_cls.training.teaching import with_unlabelled
from small import MAKERS, multilabel_rows, paired, write_folder
from test_training import FAST, Notes, StopAt, encoder, request_for
from tiny import tiny_encoder

__all__ = ["encoder"]  # the fixture
TASKS = sorted(MAKERS)
STATISTICS = LabelStatistics(np.array([30, 5, 2]), 40)


def statistics(task):
    if task == "regression":
        return LabelStatistics(np.zeros(0, dtype=np.int64), 40)
    return LabelStatistics(STATISTICS.counts[: 2 if task == "binary" else 3], 40)


def outputs(task):
    return {"binary": 2, "regression": 1}.get(task, 3)


def distillation(task, *, temperature=2.0, label_weight=0.5):
    name = {"multilabel": "bce", "regression": "mse"}.get(task, "cross_entropy")
    options = {"temperature": temperature, "label_weight": label_weight}
    return (
        make_distillation(name, task, statistics(task), **options),
        make_loss(name, task, statistics(task)),
    )


def drawn(task, *, rows=8, labelled=5, seed=0):
    """Student's and teacher's logits float64 [rows, outputs], and labels of the first rows."""
    generator = np.random.default_rng(seed)
    student, teacher = generator.normal(0, 2, (2, rows, outputs(task)))
    if task == "multilabel":
        truth = generator.random((labelled, outputs(task))) < 0.4
    elif task == "regression":
        truth = generator.normal(0, 2, labelled)
    else:
        truth = generator.integers(0, outputs(task), labelled)
    return student, teacher, truth


# The loss against plain formulas.


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def shares(row):
    return [math.exp(x) / sum(math.exp(y) for y in row) for x in row]


def plain_divergence(task, student, teacher, temperature):
    """Of one row, with `math` alone: T^2 (cross-entropy - the teacher's entropy)."""
    if task == "regression":
        return (student[0] - teacher[0]) ** 2
    s, t = ([x / temperature for x in row] for row in (student, teacher))
    if task == "multilabel":
        pairs = [(sigmoid(a), sigmoid(b)) for a, b in zip(s, t, strict=True)]
        cells = [
            q * (math.log(q) - math.log(p)) + (1 - q) * (math.log(1 - q) - math.log(1 - p))
            for p, q in pairs
        ]
        return temperature**2 * sum(cells) / len(cells)
    pairs = list(zip(shares(s), shares(t), strict=True))
    cross = -sum(q * math.log(p) for p, q in pairs)
    return temperature**2 * (cross + sum(q * math.log(q) for _, q in pairs))


def plain_label_loss(task, student, label):
    if task == "regression":
        return (student[0] - label) ** 2
    if task == "multilabel":
        right = [sigmoid(x) if y else 1 - sigmoid(x) for x, y in zip(student, label, strict=True)]
        return -sum(math.log(p) for p in right) / len(right)
    return -math.log(shares(student)[label])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
@pytest.mark.parametrize("label_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_its_formula(task, temperature, label_weight):
    loss, _ = distillation(task, temperature=temperature, label_weight=label_weight)
    student, teacher, truth = drawn(task)
    found = loss(torch.from_numpy(student), torch.from_numpy(pack(teacher, truth).astype("f8")))
    for row, value in enumerate(found.tolist()):
        packed = [float(np.float32(x)) for x in teacher[row]]
        soft = plain_divergence(task, student[row].tolist(), packed, temperature)
        weight = label_weight if row < len(truth) else 0.0
        hard = plain_label_loss(task, student[row].tolist(), truth[row]) if weight else 0.0
        assert value == pytest.approx((1 - weight) * soft + weight * hard, rel=1e-5), row


@pytest.mark.parametrize("task", TASKS)
def test_the_gradient_is_the_slope(task):
    loss, _ = distillation(task)
    student, teacher, truth = drawn(task, seed=3)
    targets = torch.from_numpy(pack(teacher, truth).astype("f8"))
    logits = torch.from_numpy(student).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), (logits,))


@given(st.sampled_from(TASKS), st.integers(0, 2**32), st.sampled_from([0.5, 1.0, 4.0]))
def test_a_student_that_agrees_costs_nothing_and_any_other_something(task, seed, temperature):
    student, teacher, _ = drawn(task, seed=seed)
    student, teacher = torch.from_numpy(student), torch.from_numpy(teacher)

    def cost(logits):
        return DIVERGENCES[task](logits / temperature, teacher / temperature)

    leaf = teacher.clone().requires_grad_()
    cost(leaf).sum().backward()
    assert cost(teacher).abs().max() < 1e-12
    assert leaf.grad.abs().max() < 1e-12
    assert (cost(student) > -1e-12).all()
    assert cost(student).max() > 1e-9


@pytest.mark.parametrize("task", TASKS)
def test_label_weight_one_is_the_plain_loss_where_there_are_labels(task):
    loss, plain = distillation(task, label_weight=1.0)
    student, teacher, truth = drawn(task)
    logits = torch.from_numpy(student.astype("f4"))
    found = loss(logits, torch.from_numpy(pack(teacher.astype("f4"), truth)))
    kind = {"multilabel": "f4", "regression": "f4"}.get(task, "i8")
    expected = plain(logits[: len(truth)], torch.from_numpy(truth.astype(kind)))
    assert torch.allclose(found[: len(truth)], expected, atol=1e-6)
    assert (found[len(truth) :] > 0).all()


def test_the_gradient_keeps_its_size_at_high_temperatures():
    student, teacher, truth = drawn("multiclass", labelled=0)
    sizes = []
    for temperature in (20.0, 80.0):
        loss, _ = distillation("multiclass", temperature=temperature)
        leaf = torch.from_numpy(student).requires_grad_()
        loss(leaf, torch.from_numpy(pack(teacher, truth).astype("f8"))).sum().backward()
        sizes.append(float(leaf.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_extreme_logits_stay_finite(task):
    loss, _ = distillation(task)
    _, _, truth = drawn(task, rows=4, labelled=2)
    signs = np.array([1.0, -1.0, 1.0, -1.0], dtype="f4")[:, None]
    teacher = np.repeat(signs * 1e4, outputs(task), axis=1)
    teacher[:, 0] *= -1
    leaf = torch.from_numpy(-teacher).requires_grad_()
    values = loss(leaf, torch.from_numpy(pack(teacher, truth)))
    values.sum().backward()
    assert values.isfinite().all()
    assert leaf.grad.isfinite().all()


def test_layers_are_spread_evenly_and_keep_both_ends():
    assert spread(4, 12) == (0, 4, 7, 11)
    assert spread(6, 12) == (0, 2, 4, 7, 9, 11)
    assert spread(1, 12) == (0,)
    for available in range(1, 25):
        assert spread(available, available) == tuple(range(available))
        for wanted in range(2, available + 1):
            kept = spread(wanted, available)
            gaps = np.diff(kept)
            assert (kept[0], kept[-1], len(kept)) == (0, available - 1, wanted)
            assert gaps.min() >= 1
            assert gaps.max() - gaps.min() <= 1
    for wanted in (0, 13):
        with pytest.raises(ConfigError, match=f"from 1 to 12.*Got {wanted}"):
            spread(wanted, 12)


# Students of tiny teachers.

QUICK = {key: value for key, value in FAST.items() if key.startswith(("training", "report"))}


@pytest.fixture(scope="module")
def teachers(encoder, tmp_path_factory):
    """Gives the folder of a task's teacher; its data stands beside it."""
    made: dict[str, Path] = {}

    def teacher(task: str) -> Path:
        if task not in made:
            root = tmp_path_factory.mktemp("teacher") / task
            data = write_folder(root / "data", MAKERS[task])
            train(request_for(data, root / "model", encoder), Silent())
            made[task] = root / "model"
        return made[task]

    return teacher


def asked(teacher: Path, output: Path, *, layers: int = 1, settings=None, **more) -> Request:
    return student_request(
        teacher, output, layers=layers, flags={**QUICK, **(settings or {})}, **more
    )


@pytest.mark.parametrize("task", TASKS)
def test_with_all_layers_the_student_starts_as_its_teacher(task, teachers, tmp_path):
    request = asked(
        teachers(task),
        tmp_path / "student",
        layers=2,
        settings={"distillation.label_weight": 0.0, "encoder.dropout": 0.0},
    )
    prepared = read_audited(request.data, request.config, Silent(), labels=request.labels)
    dataset = with_unlabelled(prepared.dataset, request.distillation, request.config, Silent())
    setup = set_up(request, replace(prepared, dataset=dataset), Silent())
    trainer = make_trainer(setup, Silent(), request, device=torch.device("cpu"), ranks=Alone())
    rows = np.arange(len(trainer.tokens))
    logits = trainer.forward(trainer.network.eval(), trainer.tokens, rows).detach()
    losses = trainer.loss(logits, torch.from_numpy(trainer.targets))
    assert losses.abs().max() < 1e-6
    mean, spread_ = setup.scale
    said = Classifier.load(teachers(task)).logits(trainer.tokens)
    assert np.allclose(logits.numpy() * spread_ + mean, said, atol=1e-5)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_students(task, pair, encoder, teachers, tmp_path):
    if pair:
        data = write_folder(tmp_path / "data", lambda n: paired(MAKERS[task](n)))
        teacher = tmp_path / "teacher"
        train(request_for(data, teacher, encoder), Silent())
    else:
        teacher = teachers(task)
    trained = train(asked(teacher, tmp_path / "student"), Silent())
    student, before = Classifier.load(tmp_path / "student"), Classifier.load(teacher)
    assert student.labels == before.labels
    assert student.bundle.task == task
    assert student.bundle.text == before.bundle.text
    config = json.loads((tmp_path / "student" / "config.json").read_text("utf-8"))
    assert config["num_hidden_layers"] == 1
    rows = read(Path(resumed_data(teacher)) / "test.json", task=task).examples
    found = student.evaluate(rows, resamples=0).metrics
    for name, value in trained.evaluations["test"].metrics.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name
    # the teacher's figures beside it are those of the teacher
    for name, value in before.evaluate(rows, resamples=0).metrics.items():
        assert trained.teacher["test"].metrics[name] == pytest.approx(value, abs=1e-5), name
    details = bundle.load(tmp_path / "student").details["distillation"]
    assert details["layers"] == [0]
    assert details["teacher"] == teacher.name
    assert details["fingerprint"] == fingerprint(before.bundle)


def test_a_teacher_inside_the_output_folder_is_refused(teachers, tmp_path):
    whole, teacher = teachers(TASKS[0]), tmp_path / "model" / "old"
    shutil.copytree(whole, teacher)
    request = asked(teacher, tmp_path / "model", data=whole.parent / "data")
    with pytest.raises(ConfigError, match=r"the teacher .* is inside -o"):
        train(request, Silent(), overwrite=True)
    assert len(list(teacher.iterdir())) == len(list(whole.iterdir()))


def resumed_data(teacher: Path) -> str:
    data: str = json.loads((teacher / "run.json").read_text("utf-8"))["data"]
    return data


@pytest.mark.parametrize("family", ["albert", "distilbert", "modernbert", "xlm-roberta"])
def test_every_kind_of_encoder_can_be_made_shallower(family, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows, sizes=(16, 8, 8))
    source = tiny_encoder(family, tmp_path / "encoder")
    settings = {"training.epochs": 1}
    train(request_for(data, tmp_path / "teacher", str(source), **settings), Silent())
    train(asked(tmp_path / "teacher", tmp_path / "student", settings=settings), Silent())
    student = Classifier.load(tmp_path / "student")
    assert len(student.predict(["尾灯很亮", "天窗漏水"])) == 2


def test_a_student_learns_to_answer_as_its_teacher_without_any_label(encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multiclass"], sizes=(120, 30, 60))
    request = request_for(data, tmp_path / "teacher", encoder, **{"training.epochs": 8})
    train(request, Silent())
    settings = {"distillation.label_weight": 0.0, "training.epochs": 8}
    trained = train(asked(tmp_path / "teacher", tmp_path / "s", settings=settings), Silent())
    assert trained.history[-1].loss < trained.history[0].loss / 2
    teacher, student = Classifier.load(tmp_path / "teacher"), Classifier.load(tmp_path / "s")
    texts = [e.text_a for e in read(data / "test.json", task="multiclass").examples]
    pairs = zip(teacher.predict(texts), student.predict(texts), strict=True)
    assert np.mean([a.labels == b.labels for a, b in pairs]) > 0.9


@pytest.mark.parametrize("key", ["loss.class_weights", "training.sampling"])
def test_classes_that_the_teacher_favours_are_no_probabilities(key, encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multiclass"])
    train(request_for(data, tmp_path / "teacher", encoder, **{key: "balanced"}), Silent())
    trained = train(asked(tmp_path / "teacher", tmp_path / "student"), Silent())
    assert not trained.bundle.rule.calibrated
    assert trained.evaluations["test"].metrics["log_loss"] is None
    assert trained.teacher["test"].metrics["log_loss"] is None


def test_a_student_is_not_adjusted_to_the_priors_where_its_teacher_was(encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multiclass"])
    settings = {"training.sampling": "balanced", "decision.objective": "macro_f1"}
    settings |= {"training.epochs": 1}
    train(request_for(data, tmp_path / "teacher", encoder, **settings), Silent())
    teacher = bundle.load(tmp_path / "teacher")
    assert aims.adjusted(teacher)
    tried = {}

    def watched(*rows, **options):
        tuned = tune(*rows, **options)
        tried.setdefault(options["priors"] is not None, []).append(set(tuned.crossfit))
        return tuned

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "tune", watched)
        bar = {"report.linear_bar": True}
        train(asked(tmp_path / "teacher", tmp_path / "student", settings=bar), Silent())
    # its own rule and its teacher's are not, the bar's is
    assert tried == {False: [{"argmax"}] * 2, True: [{"argmax", "half_adjusted", "adjusted"}]}
    assert aims.adjusted(bundle.load(tmp_path / "student"))
    for tuning in (None, {}, {"calibrated": 1, "adjusted": None}):
        silent = replace(teacher, details={**teacher.details, "tuning": tuning})
        with pytest.raises(BundleError, match="does not say what its training aimed at"):
            aims.adjusted(silent)


def test_a_teacher_is_tuned_beside_its_student_as_in_its_own_run(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    teacher = train(
        request_for(data, tmp_path / "t", encoder, **{"decision.calibrate": "platt"}), Silent()
    )
    beside = train(asked(tmp_path / "t", tmp_path / "s"), Silent()).teacher
    for name, evaluation in teacher.evaluations.items():
        for metric, value in evaluation.metrics.items():
            assert beside[name].metrics[metric] == pytest.approx(value, abs=1e-6), metric


# Unlabelled texts.


def test_texts_without_labels_are_learnt_from_once_and_counted(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    rows = json.loads((data / "train.json").read_text("utf-8"))
    test = json.loads((data / "test.json").read_text("utf-8"))
    rows += [{"index": f"u{i}", "text_a": f"没人标注的话{i}", "label": None} for i in range(9)]
    (data / "train.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    train(request_for(data, tmp_path / "teacher", encoder), Silent())
    pool = [{"index": i, "text_a": f"另外的话{i}"} for i in range(5)]
    pool.append({"index": 5, "text_a": " 没人标注的话3 "})  # again
    pool.append({"index": 6, "text_a": rows[0]["text_a"]})  # its label is known
    pool.append({"index": 7, "text_a": test[0]["text_a"]})  # is asked later
    pool.append({"index": 8, "text_a": "标注过的话", "label": ["天窗"]})
    file = tmp_path / "pool.jsonl"
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in pool), "utf-8")
    notes = Notes()
    trained = train(asked(tmp_path / "teacher", tmp_path / "s", unlabelled=file), notes)
    assert trained.bundle.details["data"]["rows"]["unlabelled"] == 15
    assert trained.bundle.details["data"]["rows"]["train"] == 48
    assert any("15 texts without a label" in n and "3 more are repeated" in n for n in notes.notes)
    assert any("1 of its rows have labels, which are not used" in n for n in notes.notes)
    assert trained.history[-1].step == 2 * math.ceil((48 + 15) / 8)
    # a student can teach in turn
    again = train(asked(tmp_path / "s", tmp_path / "s2"), Silent())
    assert again.bundle.details["distillation"]["teacher"] == "s"


def test_dev_rows_without_a_label_are_learnt_from_and_judge_nothing(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    train(request_for(data, tmp_path / "teacher", encoder), Silent())
    rows = json.loads((data / "dev.json").read_text("utf-8"))
    rows += [{"index": f"u{i}", "text_a": f"没人标注的话{i}", "label": None} for i in range(9)]
    rows.append({"index": "again", "text_a": rows[0]["text_a"], "label": None})
    (data / "dev.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    trained = train(asked(tmp_path / "teacher", tmp_path / "s", data=data), Silent())
    assert trained.bundle.details["data"]["rows"]["unlabelled"] == 9
    assert trained.evaluations["dev"].rows == trained.teacher["dev"].rows == 16


# The run: resume, seeds, refusals.


def test_an_interrupted_student_goes_on_bit_for_bit(teachers, tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text('{"index": 1, "text_a": "另外的话"}', "utf-8")
    teacher, settings = teachers("multilabel"), {"training.log_steps": 1}
    options = {"settings": settings, "unlabelled": file}
    whole = train(asked(teacher, tmp_path / "whole", **options), Silent())
    steps = whole.history[-1].step
    for step in (1, steps // 2 + 1, steps - 1):
        output = tmp_path / f"stopped-{step}"
        with pytest.raises(Interrupted):
            train(asked(teacher, output, **options), StopAt(step))
        assert resumed(output) == asked(teacher, output, **options)
        again = train(resumed(output), Silent(), resume=True)
        assert sha256(output / "model.safetensors") == sha256(
            tmp_path / "whole" / "model.safetensors"
        )
        assert again.bundle.rule == whole.bundle.rule
    with pytest.raises(Interrupted):
        train(asked(teacher, tmp_path / "other", **options), StopAt(2))
    file.write_text('{"index": 1, "text_a": "改过的话"}', "utf-8")
    with pytest.raises(ConfigError, match=r"pool\.jsonl.* changed"):
        train(resumed(tmp_path / "other"), Silent(), resume=True)


class Begun(Silent):
    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, name):
        self.phases.append(name)


def test_a_teacher_that_changed_stops_a_resume(teachers, tmp_path):
    teacher = Path(shutil.copytree(teachers("multilabel"), tmp_path / "teacher"))
    request = asked(teacher, tmp_path / "s", settings={"training.log_steps": 1})
    with pytest.raises(Interrupted):
        train(request, StopAt(2))
    shutil.rmtree(teacher)
    shutil.copytree(teachers("multiclass"), teacher)
    begun = Begun()
    with pytest.raises(ConfigError, match=r"the teacher .* changed"):
        train(resumed(tmp_path / "s"), begun, resume=True)
    assert begun.phases == []  # data are read for nothing else


def test_another_rule_of_the_teacher_is_another_teacher(teachers):
    model = bundle.load(teachers("multilabel"))
    before = fingerprint(model)
    engines = {"engines": {"onnx": {"flips": 0}}}
    assert fingerprint(replace(model, details={**model.details, **engines})) == before
    rule = replace(model.rule, thresholds=(0.11, 0.12, 0.13))
    assert fingerprint(replace(model, rule=rule)) != before


def test_a_teacher_that_is_exported_meanwhile_stops_no_resume(teachers, tmp_path):
    teacher = Path(shutil.copytree(teachers("multilabel"), tmp_path / "teacher"))
    options = {"settings": {"training.log_steps": 1}}
    train(asked(teacher, tmp_path / "whole", **options), Silent())
    with pytest.raises(Interrupted):
        train(asked(teacher, tmp_path / "s", **options), StopAt(2))
    listed = sha256(teacher / "MANIFEST.json")
    export(teacher, "openvino", lambda _: None)
    assert sha256(teacher / "MANIFEST.json") != listed
    train(resumed(tmp_path / "s"), Silent(), resume=True)
    assert len({sha256(tmp_path / n / "model.safetensors") for n in ("s", "whole")}) == 1


def test_a_run_that_knows_its_teacher_by_another_mark_says_so(teachers, tmp_path):
    request = asked(teachers("multilabel"), tmp_path / "s", settings={"training.log_steps": 1})
    with pytest.raises(Interrupted):
        train(request, StopAt(2))
    content = read_run(tmp_path / "s")
    taught = content["distillation"]
    taught["manifest"] = taught.pop("fingerprint")
    digest = hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()
    (tmp_path / "s" / "run.json").write_bytes(orjson.dumps({**content, "sha256": digest}))
    with pytest.raises(BundleError, match=r"started by another version.*fingerprint is not in it"):
        resumed(tmp_path / "s")


def test_same_seed_same_student(teachers, tmp_path):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        settings = {"training.seed": seed}
        train(asked(teachers("multilabel"), tmp_path / name, settings=settings), Silent())
        hashes.append(sha256(tmp_path / name / "model.safetensors"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_python_door(teachers, tmp_path):
    teacher = Classifier.load(teachers("binary"))
    student = teacher.distill(tmp_path / "s", layers=1, settings=QUICK)
    assert student.bundle.details["distillation"]["layers"] == [0]
    with pytest.raises(ConfigError, match="not empty"):
        teacher.distill(tmp_path / "s", layers=1, settings=QUICK)


def test_the_teachers_settings_are_taken_over_and_can_be_overridden(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    settings = {"text.max_length": 40, "loss.name": "asl", "decision.tuner": "fixed"}
    train(request_for(data, tmp_path / "t", encoder, **settings), Silent())
    request = asked(tmp_path / "t", tmp_path / "s", settings={"decision.tuner": "global"})
    assert request.config.text.max_length == 40
    assert request.config.loss.name == "asl"
    assert request.config.decision.tuner == "global"
    assert request.origins["loss.name"] == "teacher"
    assert request.origins["decision.tuner"] == "flag"


@pytest.mark.parametrize("key", ["encoder.name", "encoder.pooling", "data.task"])
def test_what_makes_the_teacher_cannot_be_set(key, teachers, tmp_path):
    value = {"encoder.name": "other", "encoder.pooling": "mean", "data.task": "multilabel"}[key]
    with pytest.raises(ConfigError, match=f"{key} is the teacher's"):
        asked(teachers("multilabel"), tmp_path / "s", settings={key: value})


def test_rows_the_teacher_learnt_are_never_held_out(encoder, tmp_path):
    file = tmp_path / "all.json"
    file.write_text(json.dumps(multilabel_rows(80), ensure_ascii=False), "utf-8")
    train(request_for(file, tmp_path / "t", encoder), Silent())
    for key, value in (("training.seed", 5), ("data.dev_share", 0.3)):
        with pytest.raises(ConfigError, match=f"{key} must stay"):
            asked(tmp_path / "t", tmp_path / "s", settings={key: value})
    trained = train(asked(tmp_path / "t", tmp_path / "s"), Silent())
    before = bundle.load(tmp_path / "t").details["data"]["rows"]
    assert trained.bundle.details["data"]["rows"] == before | {"unlabelled": 0}
    # as many other rows
    dataset = read_audited(file, RunConfig(), Silent()).dataset
    teacher, notes = bundle.load(tmp_path / "t"), Notes()
    check_held_out(file, dataset, teacher, notes.noticed)
    dev, kept = dataset.dev, dataset.train
    others = replace(dataset, dev=kept[: len(dev)], train=[*dev, *kept[len(dev) :]])
    with pytest.raises(DataError, match="other rows are held out"):
        check_held_out(file, others, teacher, notes.noticed)
    assert not notes.notes
    # of another file
    check_held_out(file, replace(others, files={"all.json": "0"}), teacher, notes.noticed)
    assert "its own may be among them" in notes.notes[0]


def test_data_that_changed_or_went_away_must_be_named(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    train(request_for(data, tmp_path / "t", encoder), Silent())
    rows = json.loads((data / "train.json").read_text("utf-8"))
    (data / "train.json").write_text(json.dumps(rows[:-1], ensure_ascii=False), "utf-8")
    with pytest.raises(DataError, match=r"train\.json changed since"):
        asked(tmp_path / "t", tmp_path / "s")
    assert asked(tmp_path / "t", tmp_path / "s", data=data).data == data
    (data / "train.json").unlink()
    with pytest.raises(DataError, match="is not in"):
        asked(tmp_path / "t", tmp_path / "s")
    for content in ("[", "{}", '{"data": 3, "labels": null, "data_files": {}}'):
        (tmp_path / "t" / "run.json").write_text(content, "utf-8")
        with pytest.raises(BundleError, match="malformed"):
            asked(tmp_path / "t", tmp_path / "s")
    (tmp_path / "t" / "run.json").unlink()
    with pytest.raises(BundleError, match="--data"):
        asked(tmp_path / "t", tmp_path / "s")


def test_bad_rows_of_the_further_texts_fail_or_go_to_the_quarantine(teachers, tmp_path):
    file = tmp_path / "pool.jsonl"
    file.write_text('{"index": 1, "text_a": "好"}\n{"index": 2, "text_a": ""}\n', "utf-8")
    teacher = teachers("multilabel")
    with pytest.raises(DataError, match=r"pool\.jsonl"):
        train(asked(teacher, tmp_path / "a", unlabelled=file), Silent())
    settings = {"data.on_bad_row": "quarantine", "training.epochs": 1}
    trained = train(asked(teacher, tmp_path / "b", unlabelled=file, settings=settings), Silent())
    assert trained.bundle.details["data"]["rows"]["unlabelled"] == 1
    assert "pool.jsonl" in (tmp_path / "b" / "quarantine.jsonl").read_text("utf-8")


def test_the_further_texts_are_read_in_the_encoding_of_the_data(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_bytes("text_a\ncafé crème\n".encode("cp1252"))
    dataset = load(write_folder(tmp_path / "data", multilabel_rows))
    config, _ = resolve_config(settings=["data.encoding=cp1252"])
    asked_for = Distillation(tmp_path, "", (0,), path)
    found = with_unlabelled(dataset, asked_for, config, Silent()).unlabelled
    assert [example.text_a for example in found] == ["café crème"]


def test_data_of_another_kind_is_refused(teachers, tmp_path):
    teacher = teachers("multilabel")
    pairs = write_folder(tmp_path / "pairs", lambda n: paired(multilabel_rows(n)))
    with pytest.raises(DataError, match=r"the teacher reads single texts\. The data has pairs"):
        train(asked(teacher, tmp_path / "a", data=pairs), Silent())
    other = write_folder(
        tmp_path / "other", lambda n: [{**r, "label": ["别的"]} for r in multilabel_rows(n)]
    )
    with pytest.raises(DataError, match="别的"):
        train(asked(teacher, tmp_path / "b", data=other), Silent())
    file = tmp_path / "pool.jsonl"
    file.write_text('{"index": 1, "text_a": "一", "text_b": "二"}', "utf-8")
    with pytest.raises(DataError, match="the teacher reads single texts"):
        train(asked(teacher, tmp_path / "c", unlabelled=file), Silent())
    with pytest.raises(ConfigError, match="is the teacher"):
        asked(teacher, teacher)
    for name in ("a", "b", "c"):
        assert not (tmp_path / name).exists()


def test_settings_of_a_model_without_a_teacher_are_plain(teachers):
    config, _ = resolve_config()
    assert config == RunConfig()
    assert "distillation" not in bundle.load(teachers("multilabel")).details


def command(monkeypatch, capsys, *words: object) -> tuple[int, str]:
    """Exit code and standard error of `bert-cls` with these words."""
    monkeypatch.setattr(sys, "argv", ["bert-cls", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().err


def test_the_command(teachers, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "120")
    teacher, student = teachers("multilabel"), tmp_path / "student"

    def run(*words):
        return command(monkeypatch, capsys, "distill", *words)

    code, said = run(teacher, "--layers", 1, "-o", student, "--epochs", 1)
    assert code == 0, said
    for part in ("asking the teacher about 80 rows", "teacher", "linear bar", "micro_f1"):
        assert part in said, part
    code, said = run("--resume", student)
    assert code == 2
    assert "finished model" in said
    for words, part in (
        ((teacher, "-o", tmp_path / "x"), "--layers"),
        ((teacher, "--layers", 3, "-o", tmp_path / "x"), "from 1 to 2"),
        ((tmp_path, "--layers", 1, "-o", tmp_path / "x"), "not a finished model"),
        ((teacher, "--layers", 1, "-o", tmp_path / "x", "--unlabelled", "no.json"), "no.json"),
        ((teacher, "--resume", student), "MODEL cannot apply"),
        (("--resume", student, "--seed", 3, "--overwrite"), "--seed, --overwrite cannot apply"),
    ):
        code, said = run(*words)
        assert code in (2, 3)
        assert part in said
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_one_shows_the_figures(rank, teachers, tmp_path, monkeypatch, capsys):
    words = ("distill", teachers("multilabel"), "--layers", 1, "-o", tmp_path / "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr("bert_cls.training.run.train", lambda *_, **__: "trained")
    shown = []
    monkeypatch.setattr("bert_cls.commands.train.show_trained", lambda _, what: shown.append(what))
    assert command(monkeypatch, capsys, *words)[0] == 0
    assert shown == ["trained"] * (rank == "0")


def test_stopped_before_training_it_says_that_nothing_is_lost(tmp_path, monkeypatch, capsys):
    def stopped(*_, **__):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("bert_cls.training.student.student_request", stopped)
    words = ("distill", tmp_path, "--layers", 1, "-o", tmp_path / "x")
    code, said = command(monkeypatch, capsys, *words)
    assert code == 128 + signal.SIGTERM
    assert "stopped before training began" in said
