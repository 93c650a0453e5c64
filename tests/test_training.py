"""The whole way of a run on tiny encoders: every task, resume, refusals, model folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from bert_cls import Classifier
from bert_cls.config import RunConfig, resolve_config
from bert_cls.data import Example, read
from bert_cls.engines.torch_engine import TorchEngine
from bert_cls.errors import (
    BundleError,
    ConfigError,
    DataError,
    EngineError,
    Interrupted,
    TrainingError,
)
from bert_cls.folders import sha256
from bert_cls.losses import LOSSES
from bert_cls.network import Network
from bert_cls.training import Request, Silent, resumed, train
from bert_cls.training.loop import Trainer
from bert_cls.training.prepare import read_audited
from bert_cls.training.ranks import Alone
from bert_cls.training.setup import make_trainer, set_up
from doors import main
from small import MAKERS, multilabel_rows, paired, write_folder
from tiny import tiny_encoder

FAST = {
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.learning_rate": 1e-3,
    "training.precision": "float32",
    "report.linear_bar": False,
    "report.resamples": 0,
}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("encoders") / "bert"
    tiny_encoder("bert", folder)
    return str(folder)


@pytest.fixture(scope="module")
def multilabel_data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "parts", multilabel_rows)


def request_for(data: Path, output: Path, encoder: str, **settings) -> Request:
    flags = {"encoder.name": encoder, **FAST, **settings}
    config, origins = resolve_config(flags=flags)
    return Request(data, output, config, origins)


class StopAt(Silent):
    """Sends this process a signal after a number of steps, as an operator would."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def stepped(self, progress, **_):
        if progress.step == self.step:
            os.kill(os.getpid(), self.number)


class Notes(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noticed(self, message):
        self.notes.append(message)


@pytest.mark.parametrize("pair", [False, True], ids=["single", "pair"])
@pytest.mark.parametrize("task", sorted(MAKERS))
def test_every_task_trains_evaluates_and_predicts(task, pair, encoder, tmp_path):
    make = MAKERS[task]
    data = write_folder(tmp_path / "data", (lambda n: paired(make(n))) if pair else make)
    trained = train(request_for(data, tmp_path / "model", encoder), Silent())
    assert trained.bundle.task == task
    assert trained.history[-1].loss < trained.history[0].loss * 1.2
    model = Classifier.load(tmp_path / "model")
    rows = read(data / "test.json", task=task).examples
    evaluation = model.evaluate(rows, resamples=0)
    kept = trained.evaluations["test"].metrics
    for name, value in evaluation.metrics.items():
        assert value == pytest.approx(kept[name], abs=1e-6), name
    predicted = model.predict(rows)
    assert len(predicted) == len(rows)
    if task == "regression":
        assert all(p.score is not None and p.labels == () for p in predicted)
    else:
        assert all(set(p.scores) == set(model.labels) for p in predicted)
        assert task == "multilabel" or all(len(p.labels) == 1 for p in predicted)


def test_the_notes_of_a_training_are_those_of_evaluate_on_the_same_rows(encoder, tmp_path):
    rows = MAKERS["multiclass"]
    data = write_folder(
        tmp_path / "data",
        lambda n: [{**r, "text_a": r["text_a"] * (1 + 9 * (i % 2))} for i, r in enumerate(rows(n))],
    )
    settings = {"text.max_length": 24, "report.linear_bar": True}
    request = request_for(data, tmp_path / "model", encoder, **settings)
    trained = train(request, Silent())
    found = Classifier.load(tmp_path / "model").evaluate(
        read(data / "test.json", task="multiclass").examples,
        resamples=request.config.report.resamples,
    )
    assert trained.evaluations["test"].notes == found.notes
    assert "8 of 16 rows (50.0%) are cut to 24 tokens" in found.notes[-1]
    assert not any("are cut" in note for note in trained.bars["test"].evaluation.notes)


def test_training_learns_what_the_texts_say(encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multiclass"], sizes=(160, 30, 60))
    more = {"training.epochs": 8, "training.learning_rate": 4e-3}
    request = request_for(data, tmp_path / "model", encoder, **more)
    assert train(request, Silent()).evaluations["test"].metrics["accuracy"] > 0.9


def test_an_interruption_after_any_step_changes_no_bit(encoder, multilabel_data, tmp_path):
    # 44 rows: a short last batch; small micro-batches: accumulation; dropout is on
    settings = {
        "training.log_steps": 1,
        "training.micro_tokens": 64,
        "training.epochs": 3,
        "data.train_rows": 44,
    }
    whole = train(request_for(multilabel_data, tmp_path / "whole", encoder, **settings), Silent())
    steps = whole.history[-1].step
    assert steps == 18
    for step in range(1, steps + 1):
        output = tmp_path / f"stopped-{step}"
        request = request_for(multilabel_data, output, encoder, **settings)
        with pytest.raises(Interrupted) as stopped:
            train(request, StopAt(step))
        assert stopped.value.signal_number == signal.SIGTERM
        assert "--resume" in str(stopped.value)
        again = train(resumed(output), Silent(), resume=True)
        assert sha256(output / "model.safetensors") == sha256(
            tmp_path / "whole" / "model.safetensors"
        ), step
        assert again.bundle.rule == whole.bundle.rule
        assert [r.loss for r in again.history] == [r.loss for r in whole.history]


def test_early_stopping_counts_on_after_a_resume(encoder, multilabel_data, tmp_path):
    settings = {"training.patience": 1, "training.epochs": 12, "training.log_steps": 1}
    whole = train(request_for(multilabel_data, tmp_path / "a", encoder, **settings), Silent())
    with pytest.raises(Interrupted):
        train(request_for(multilabel_data, tmp_path / "b", encoder, **settings), StopAt(4))
    again = train(resumed(tmp_path / "b"), Silent(), resume=True)
    assert len(again.history) == len(whole.history)
    assert sha256(tmp_path / "a/model.safetensors") == sha256(tmp_path / "b/model.safetensors")


def test_a_damaged_checkpoint_is_named_and_the_one_before_used(encoder, multilabel_data, tmp_path):
    settings = {
        "training.log_steps": 1,
        "training.save_steps": 1,
        "training.keep_checkpoints": 3,
    }
    whole = train(request_for(multilabel_data, tmp_path / "a", encoder, **settings), Silent())
    output = tmp_path / "b"
    with pytest.raises(Interrupted):
        train(request_for(multilabel_data, output, encoder, **settings), StopAt(5))
    weights = output / "checkpoint-5" / "optimizer.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(bytes(content))
    notes = Notes()
    train(resumed(output), notes, resume=True)
    assert any("checkpoint-5 is damaged" in note for note in notes.notes)
    assert any("going on from checkpoint-4" in note for note in notes.notes)
    assert sha256(output / "model.safetensors") == sha256(whole.bundle.folder / "model.safetensors")


def test_same_seed_same_model_another_seed_another(encoder, multilabel_data, tmp_path):
    hashes = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        request = request_for(multilabel_data, tmp_path / name, encoder, **{"training.seed": seed})
        train(request, Silent())
        hashes.append(sha256(tmp_path / name / "model.safetensors"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_trainings_in_threads_of_one_process_do_not_disturb_each_other(
    encoder, multilabel_data, tmp_path
):
    def trained(name: str, seed: int) -> dict[str, torch.Tensor]:
        settings = {"training.seed": seed, "encoder.attention_dropout": 0.3}
        train(request_for(multilabel_data, tmp_path / name, encoder, **settings), Silent())
        return weights_of(tmp_path / name)

    seeds = range(4)
    alone = [trained(f"alone{seed}", seed) for seed in seeds]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: trained(f"together{seed}", seed), seeds))
    for one, other in zip(alone, together, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_not_finite_never_reaches_a_weight(encoder, multilabel_data, tmp_path, monkeypatch):
    seen = {}
    original = Trainer._accumulate

    def poisoned(self, rows):
        loss = original(self, rows)
        if self.progress.step == 3:
            seen["before"] = {k: v.clone() for k, v in self.network.state_dict().items()}
            seen["trainer"], seen["rows"] = self, rows
            next(self.network.parameters()).grad.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Trainer, "_accumulate", poisoned)
    with pytest.raises(TrainingError, match="step 4: gradients not finite") as error:
        train(request_for(multilabel_data, tmp_path / "m", encoder), Silent())
    assert str([int(r) for r in seen["rows"]]) in str(error.value)
    for name, tensor in seen["trainer"].network.state_dict().items():
        assert torch.equal(tensor, seen["before"][name]), name


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def differ(one: Path, other: Path) -> float:
    """The largest difference of any weight of two models."""
    ours, theirs = weights_of(one), weights_of(other)
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize("long", ["head", "windows"])
@pytest.mark.parametrize("step", [0, 3])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing(
    encoder, multilabel_data, tmp_path, monkeypatch, step, long
):
    text = {"text.long": "windows", "text.max_length": 12} if long == "windows" else {}
    small = {"training.micro_tokens": 128, **text}
    train(request_for(multilabel_data, tmp_path / "small", encoder, **small), Silent())
    original = Trainer.forward

    def limited(self, network, tokens, rows, **options):
        if self.progress.step >= step and int(tokens.lengths[rows].max()) * len(rows) > 128:
            return original(self, network, tokens, rows, **options) + torch.empty(10**15)
        return original(self, network, tokens, rows, **options)

    monkeypatch.setattr(Trainer, "forward", limited)
    notes = Notes()
    large = {"training.micro_tokens": 1024, **text}
    train(request_for(multilabel_data, tmp_path / "large", encoder, **large), notes)
    assert sum("out of memory" in note for note in notes.notes) >= 1
    assert differ(tmp_path / "small", tmp_path / "large") < (1e-6 if step else 1e-12)


def no_memory(*_args, **_more):
    return torch.empty(10**15)


def test_out_of_memory_in_an_evaluation_loses_no_step(
    encoder, multilabel_data, tmp_path, monkeypatch
):
    train(request_for(multilabel_data, tmp_path / "a", encoder), Silent())
    output = tmp_path / "b"
    with monkeypatch.context() as patched:
        patched.setattr(TorchEngine, "_computed", no_memory)
        with pytest.raises(EngineError, match="out of memory with a single text of"):
            train(request_for(multilabel_data, output, encoder), Silent())
    notes = Notes()
    train(resumed(output), notes, resume=True)
    assert "going on from checkpoint-6" in notes.notes
    assert sha256(tmp_path / "a/model.safetensors") == sha256(output / "model.safetensors")


def test_out_of_memory_in_an_update_is_an_error(encoder, multilabel_data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.AdamW, "step", no_memory)
    with pytest.raises(TrainingError, match="out of memory in the update of step 1") as caught:
        train(request_for(multilabel_data, tmp_path / "m", encoder), Silent())
    assert "--resume" in str(caught.value)


def test_an_engine_without_memory_for_many_rows_computes_fewer(model, monkeypatch):
    engine = Classifier.load(model, engine="torch").engine
    batch = Classifier.load(model).text.encode([r["text_a"] for r in multilabel_rows(7)])
    batch = batch.padded(range(7), 0)
    whole, pool, sizes = engine.logits(batch), Network.pool, []

    def limited(self, ids, *more):
        sizes.append(len(ids))
        return no_memory() if len(ids) > 2 else pool(self, ids, *more)

    monkeypatch.setattr(Network, "pool", limited)
    assert np.allclose(engine.logits(batch), whole, atol=1e-6)
    assert sizes == [7, 3, 1, 2, 4, 2, 2]


def test_checkpoints_keep_the_best_and_the_newest(encoder, multilabel_data, tmp_path):
    settings = {"training.epochs": 5, "training.learning_rate": 1e-2}
    trained = train(request_for(multilabel_data, tmp_path / "m", encoder, **settings), Silent())
    kept = {int(p.name.split("-")[1]) for p in (tmp_path / "m").glob("checkpoint-*")}
    best = max(trained.history, key=lambda result: result.score)
    assert kept == {best.step, trained.history[-1].step}


def test_a_full_output_folder_is_refused_and_overwriting_spares_what_is_not_ours(
    encoder, multilabel_data, tmp_path
):
    output = tmp_path / "m"
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    request = request_for(multilabel_data, output, encoder)
    with pytest.raises(ConfigError, match="not empty"):
        train(request, Silent())
    train(request, Silent(), overwrite=True)
    train(request, Silent(), overwrite=True)
    assert (output / "notes.txt").read_text() == "mine"


def test_resuming_with_changed_data_is_refused(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    with pytest.raises(Interrupted):
        train(request_for(data, tmp_path / "m", encoder, **{"training.log_steps": 1}), StopAt(2))
    rows = json.loads((data / "train.json").read_text("utf-8"))
    (data / "train.json").write_text(json.dumps(rows[:-1]), "utf-8")
    with pytest.raises(ConfigError, match=r"train\.json.* changed"):
        train(resumed(tmp_path / "m"), Silent(), resume=True)


def test_a_sample_says_which_labels_it_lost_and_one_class_is_no_sample(encoder, tmp_path):
    names = ["a"] * 30 + ["b"] * 2
    rows = [{"text_a": f"第{n}句", "label": name} for n, name in enumerate(names)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.json").write_text(json.dumps(rows), "utf-8")
    words = ("train", tmp_path / "data", "-o", tmp_path / "m", "--encoder", encoder)
    done = main(*words, "--set", "data.train_rows=1")
    assert (done.code, "D29 the sample of 1 rows has too few labels" in done.err) == (2, True), done
    listed = [{**row, "label": [row["label"]]} for row in rows]
    (tmp_path / "data" / "train.json").write_text(json.dumps(listed), "utf-8")
    done = main(*words, "--set", "data.train_rows=1", "--set", "training.max_steps=1")
    assert "1 label without a row in the sample: " in done.err, done.err


def test_one_file_is_split_by_seed_and_leaks_are_refused(encoder, tmp_path):
    file = tmp_path / "all.json"
    file.write_text(json.dumps(multilabel_rows(80), ensure_ascii=False), "utf-8")
    notes = Notes()
    trained = train(request_for(file, tmp_path / "m", encoder), notes)
    assert {"train", "dev", "test"} == set(trained.bundle.details["data"]["rows"])
    assert sum("held out" in note for note in notes.notes) == 2

    data = write_folder(tmp_path / "data", multilabel_rows)
    rows = json.loads((data / "train.json").read_text("utf-8"))
    test = json.loads((data / "test.json").read_text("utf-8"))
    leaked = [*rows, {**test[0], "index": 999, "text_a": f" {test[0]['text_a']} "}]
    (data / "train.json").write_text(json.dumps(leaked, ensure_ascii=False), "utf-8")
    with pytest.raises(
        DataError, match="1 row of train with a text that is also held out: 1 in test"
    ):
        train(request_for(data, tmp_path / "n", encoder), Silent())
    notes = Notes()
    dropped = train(request_for(data, tmp_path / "o", encoder, **{"data.leak": "drop"}), notes)
    assert dropped.bundle.details["data"]["rows"]["train"] == len(rows)
    assert any("dropped from train" in note for note in notes.notes)
    audit = dropped.bundle.details["data"]["audit"]
    assert [(e["severity"], e["count"]) for e in audit if e["code"] == "D34"] == [("note", 1)]


def test_held_out_rows_without_any_label_are_said_before_training(tmp_path):
    rows = multilabel_rows(40)
    few = [{**row, "label": ["天窗"] if row["index"] < 2 else []} for row in rows]
    for name, content in (("few", few), ("rows", rows)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    notes = Notes()
    read_audited(tmp_path / "few.json", RunConfig(), notes)
    said = [note for note in notes.notes if "has any label" in note]
    assert [note.partition(":")[0] for note in said] == [
        "no row held out for test has any label",
        "no row held out for dev has any label",
    ]
    assert "nor thresholds be tuned" in said[1]
    assert "--set data.dev_share=0.3" in said[1]
    notes = Notes()
    read_audited(tmp_path / "rows.json", RunConfig(), notes)
    assert not any("has any label" in note for note in notes.notes)


def test_texts_with_different_labels_are_kept_dropped_or_an_error(tmp_path):
    rows = multilabel_rows(40)
    rows += [{**rows[0], "index": 90, "label": ["另一个"]}, {**rows[1], "index": 91}]
    (tmp_path / "all.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    kept: dict[str, set[str]] = {}
    for way in ("keep", "drop"):
        config, _ = resolve_config(flags={"data.conflict": way})
        notes = Notes()
        prepared = read_audited(tmp_path / "all.json", config, notes)
        dataset = prepared.dataset
        kept[way] = {e.index for e in (*dataset.train, *dataset.dev, *dataset.test)}
        assert any("other labels elsewhere; dropped" in n for n in notes.notes) == (way == "drop")
        assert any(n.startswith("D36 ") for n in notes.notes) == (way == "keep")
    assert kept["keep"] - kept["drop"] == {0, 90}
    config, _ = resolve_config(flags={"data.conflict": "error"})
    with pytest.raises(DataError, match="1 text with different labels, in 2 rows"):
        read_audited(tmp_path / "all.json", config, Silent())


def start(data: Path, output: Path, encoder: str, **settings):
    request = request_for(data, output, encoder, **settings)
    return set_up(request, read_audited(data, request.config, Silent()), Silent())


@pytest.mark.parametrize("loss", ["bce", "focal", "asl", "multilabel_margin"])
def test_the_head_s_biases_start_where_the_recipe_says(loss, encoder, multilabel_data, tmp_path):
    for asked in (None, True, False):
        settings = {"loss.name": loss, "training.prior_bias": asked}
        setup = start(multilabel_data, tmp_path / "out", encoder, **settings)
        counts, rows = setup.statistics.counts, len(setup.splits["train"].truth)
        wanted = np.log(counts / rows) - np.log1p(-counts / rows)
        applied = LOSSES[loss].calibrated if asked is None else asked
        assert setup.recipe.training.prior_bias is applied
        given = setup.network.head.bias.detach().numpy()
        np.testing.assert_allclose(given, wanted if applied else 0 * wanted, atol=1e-5)


def test_d23_long_texts_are_counted_and_named_where_they_are_an_error(
    encoder, multilabel_data, tmp_path
):
    data = tmp_path / "data"
    shutil.copytree(multilabel_data, data)
    for name, at in (("train", 3), ("dev", 1)):
        rows = json.loads((data / f"{name}.json").read_text("utf-8"))
        rows[at]["text_a"] *= 40
        (data / f"{name}.json").write_text(json.dumps(rows), "utf-8")
    settings = {"text.long": "error", "text.max_length": 128}
    with pytest.raises(DataError) as stopped:
        train(request_for(data, tmp_path / "out", encoder, **settings), Silent())
    said = str(stopped.value)
    assert "2 rows (" in said
    assert "of over 128 tokens, which text.long=error refuses" in said
    assert "train.json: row 4" in said
    assert "dev.json: row 2" in said
    assert not (tmp_path / "out").exists()


def test_settings_that_fit_no_regression_are_refused(encoder, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["regression"])
    with pytest.raises(ConfigError, match="not for regression"):
        start(data, tmp_path / "out", encoder, **{"training.sampling": "balanced"})


@pytest.mark.parametrize("option", [{"label_smoothing": "abc"}, {"class_weight_power": 1}])
def test_options_that_fit_no_loss_are_refused_before_an_encoder_is_fetched(option, tmp_path):
    data = write_folder(tmp_path / "data", MAKERS["multiclass"])
    with pytest.raises(ConfigError, match=r"option .*of loss 'cross_entropy'"):
        start(data, tmp_path / "out", "/nowhere", **{"loss.options": option})


@pytest.mark.parametrize(("steps", "said"), [(5, False), (6, True), (100_000, True)])
def test_a_warm_up_as_long_as_the_run_is_said(steps, said, encoder, multilabel_data, tmp_path):
    settings = {"training.epochs": 1, "training.warmup_steps": steps}
    request, notes = request_for(multilabel_data, tmp_path / "out", encoder, **settings), Notes()
    setup = set_up(request, read_audited(multilabel_data, request.config, Silent()), notes)
    trainer = make_trainer(setup, notes, request, device=torch.device("cpu"), ranks=Alone())
    assert trainer.steps == 6
    assert any("the warm-up" in note for note in notes.notes) == said


def test_both_held_out_shares_are_of_all_rows(tmp_path):
    rows = MAKERS["binary"](400)
    (tmp_path / "all.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    shares = {"data.dev_share": 0.3, "data.test_share": 0.3}
    config, _ = resolve_config(flags=shares)
    found = read_audited(tmp_path / "all.json", config, Silent()).dataset
    assert [len(part) for part in (found.train, found.dev, found.test)] == pytest.approx(
        [160, 120, 120], abs=3
    )
    config, _ = resolve_config(flags=shares | {"data.dev_share": 0.7})
    with pytest.raises(ConfigError, match="leave no row to train on"):
        read_audited(tmp_path / "all.json", config, Silent())


@pytest.fixture(scope="module")
def model(encoder, multilabel_data, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "parts"
    train(request_for(multilabel_data, folder, encoder), Silent())
    return folder


@pytest.mark.parametrize("texts", ["天窗漏水", [None], [3], [("一", 2)], [("一",)]])
def test_what_is_no_list_of_texts_is_refused(model, texts):
    with pytest.raises(DataError, match=r"^one text was given|^text 0: "):
        Classifier.load(model).predict(texts)


def test_order_batch_and_neighbours_never_change_an_answer(model):
    classifier = Classifier.load(model)
    texts = [row["text_a"] for row in multilabel_rows(40, seed=5)] + ["天窗" * 60]
    together = classifier.predict(texts)
    alone = [classifier.predict([text])[0] for text in texts]
    backwards = classifier.predict(texts[::-1])[::-1]
    for a, b, c in zip(together, alone, backwards, strict=True):
        assert a.labels == b.labels == c.labels
        for other in (b, c):
            assert np.allclose(list(a.scores.values()), list(other.scores.values()), atol=1e-5)


def test_the_stream_answers_every_row_in_order(model, tmp_path):
    lines = [json.dumps(row, ensure_ascii=False) for row in multilabel_rows(30)]
    lines[7] = '{"index": 7, "text_a": ""}'
    lines[11] = '{"index": 11, "text_a": '
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines), "utf-8")
    from bert_cls.data import stream

    answers = list(Classifier.load(model).predict_stream(stream(file), window=4))
    assert len(answers) == 30
    assert [i for i, answer in enumerate(answers) if "error" in answer] == [7, 11]
    assert [a["index"] for i, a in enumerate(answers) if i not in (7, 11)] == [
        i for i in range(30) if i not in (7, 11)
    ]


def test_a_changed_or_missing_file_of_a_model_is_noticed(model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(content))
    with pytest.raises(BundleError, match=r"model\.safetensors has changed"):
        Classifier.load(copy)
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(bytes(content))
    Classifier.load(copy)
    manifest = json.loads((copy / "MANIFEST.json").read_text("utf-8"))
    shorter = [e for e in manifest["files"] if e["name"] != "model.safetensors"]
    (copy / "MANIFEST.json").write_text(json.dumps({"files": shorter}), "utf-8")
    with pytest.raises(BundleError, match=r"does not list model\.safetensors"):
        Classifier.load(copy)
    (copy / "MANIFEST.json").write_text(json.dumps(manifest), "utf-8")
    (copy / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.json is missing"):
        Classifier.load(copy)


def test_pairs_and_single_texts_are_not_mixed_up(model):
    with pytest.raises(DataError, match="single texts"):
        Classifier.load(model).predict([("一个", "两个")])
    with pytest.raises(DataError, match="empty"):
        Classifier.load(model).predict(["  "])


def test_transformers_opens_the_encoder_and_with_the_stock_head_all_of_it(
    encoder, multilabel_data, tmp_path
):
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

    settings = {"encoder.pooling": "cls_pooler"}
    folder = tmp_path / "m"
    train(request_for(multilabel_data, folder, encoder, **settings), Silent())
    assert AutoModel.from_pretrained(folder).config.model_type == "bert"
    stock = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert stock.config.problem_type == "multi_label_classification"
    classifier = Classifier.load(folder)
    text = "尾灯上周坏了去修"
    ours = classifier.logits(classifier.text.encode([text]))
    with torch.no_grad():
        theirs = stock(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")).logits
    assert np.allclose(ours, theirs.numpy(), atol=1e-5)
    assert list(classifier.labels) == [stock.config.id2label[i] for i in range(3)]


def test_rows_without_label_are_not_trained_on(encoder, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows)
    rows = json.loads((data / "train.json").read_text("utf-8"))
    rows += [{"index": f"u{i}", "text_a": f"无标注的一句话{i}", "label": None} for i in range(9)]
    (data / "train.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    trained = train(request_for(data, tmp_path / "m", encoder), Silent())
    assert trained.bundle.details["data"]["rows"]["train"] == len(rows) - 9


def test_thresholds_are_stored_and_can_be_overridden(model):
    classifier = Classifier.load(model)
    assert len(classifier.bundle.rule.thresholds) == 3
    text = "说说天窗吧"
    everything = classifier.with_rule(thresholds=(0.0,) * 3).predict([text])[0]
    assert everything.labels == classifier.labels
    nothing = classifier.with_rule(thresholds=(float("inf"),) * 3).predict([text])[0]
    assert nothing.labels == ()
    assert classifier.predict([Example("a", text)])[0].scores == everything.scores


def test_a_checkpoint_is_enough_room_or_training_does_not_begin(
    encoder, multilabel_data, tmp_path, monkeypatch
):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 10))
    with pytest.raises(TrainingError, match="MB free"):
        train(request_for(multilabel_data, tmp_path / "m", encoder), Silent())
