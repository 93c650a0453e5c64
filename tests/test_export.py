"""Exports: every family, the gate, the folder afterwards, and the file by itself."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from bert_cls import Classifier
from bert_cls import bundle as bundles
from bert_cls.cli import app
from bert_cls.config import resolve_config
from bert_cls.decision import confidence_margins, label_margins, margins
from bert_cls.engines import open_engine, run
from bert_cls.errors import BundleError, ConfigError, EngineError
from bert_cls.export import activations, export
from bert_cls.export.activations import Seen, collect
from bert_cls.export.check import compare, second_look_margins
from bert_cls.export.graph import to_onnx
from bert_cls.export.quantise import quantise, sites
from bert_cls.export.rows import rows_of
from bert_cls.folders import scratch_folder, verify
from bert_cls.locks import Lock
from bert_cls.sample import SAMPLE, read_sample
from bert_cls.text import TextSettings
from bert_cls.training import Request, Silent, train
from exported import RULES, model_folder
from hostile import sealed
from small import FAST, multilabel_rows, write_folder
from tiny import FAMILIES, TEXTS


def quiet(message: str) -> None:
    pass


def answers(bundle, name, tokens, **options):
    engine = open_engine(bundle, name)
    return run(engine, tokens, pad_id=bundle.pad_id, outputs=bundle.outputs, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_alike_in_float32_and_int8(family, encoder, tmp_path):
    folder = model_folder(encoder(family), tmp_path / "model", pair=family == "bert")
    export(folder, "openvino-int8", quiet)
    bundle = bundles.load(folder)
    tokens = read_sample(folder)["dev"]
    wanted = answers(bundle, "torch", tokens)
    np.testing.assert_allclose(answers(bundle, "openvino", tokens), wanted, atol=1e-5)
    rounded = answers(bundle, "openvino-int8", tokens, rule=bundle.rule)
    agreement = compare(bundle.rule, wanted, rounded)
    assert agreement.flips == 0
    assert agreement.largest_difference < 0.1


def _empty(arrays):
    return {name: np.zeros(int(name.endswith(".starts")), a.dtype) for name, a in arrays.items()}


DAMAGED_SAMPLES = {
    "no rows": (EngineError, _empty),
    "nothing at all": (BundleError, lambda a: {name: each[:0] for name, each in a.items()}),
    "ids beyond": (BundleError, lambda a: {**a, "dev.ids": np.full_like(a["dev.ids"], 30_000)}),
    "ids below": (BundleError, lambda a: {**a, "train.ids": np.full_like(a["dev.ids"], -1)}),
    "types beyond": (BundleError, lambda a: {**a, "dev.types": np.full_like(a["dev.types"], 9)}),
    "starts in no order": (
        BundleError,
        lambda a: {**a, "dev.starts": np.r_[0, a["dev.starts"][-2:0:-1], a["dev.starts"][-1]]},
    ),
    "starts beyond": (BundleError, lambda a: {**a, "dev.starts": a["dev.starts"] + 1}),
    "a row too many": (BundleError, lambda a: {**a, "dev.starts": np.r_[0, a["dev.starts"]]}),
    "fractions": (BundleError, lambda a: {n: each.astype(np.float64) for n, each in a.items()}),
    "one long row": (
        BundleError,
        lambda a: {
            **a,
            "dev.starts": np.array([0, len(a["dev.ids"])]),
            "dev.full_lengths": np.array([len(a["dev.ids"])], np.int32),
        },
    ),
    "windows of no row": (
        BundleError,
        lambda a: {
            **a,
            "dev.first": np.arange(3),
            "dev.cut": np.zeros(2, np.bool_),
        },
    ),
}


@pytest.mark.parametrize(("kind", "change"), DAMAGED_SAMPLES.values(), ids=DAMAGED_SAMPLES.keys())
def test_a_sample_that_cannot_be_the_models_is_refused(kind, change, encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model", text=TextSettings(max_length=64))
    save_file(change(load_file(folder / SAMPLE)), folder / SAMPLE)
    with pytest.raises(kind, match="calibrated on 0 rows" if kind is EngineError else SAMPLE):
        export(sealed(folder), "openvino", quiet)


@pytest.mark.parametrize("content", [None, b"[]", b"5", b'{"config": 5, "data": 5}'])
def test_of_a_run_that_is_none_the_sample_is_taken(content, encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    if content is None:
        os.mkfifo(folder / "run.json")  # waited for, it never ends
    else:
        (folder / "run.json").write_bytes(content)
    found = rows_of(bundles.load(folder))
    assert found.origin == "the 50 development rows kept in the model folder"


@pytest.mark.parametrize("pooling", ["cls", "cls_pooler"])
def test_other_poolings(pooling, encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model", pooling=pooling)
    export(folder, "onnx", quiet)
    bundle = bundles.load(folder)
    tokens = read_sample(folder)["dev"]
    wanted = answers(bundle, "torch", tokens)
    np.testing.assert_allclose(answers(bundle, "onnx", tokens), wanted, atol=1e-5)


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks_in_int8(task, encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model", task=task)
    done = export(folder, "onnx-int8", quiet)
    assert [one.name for one in done] == ["onnx", "onnx-int8"]
    assert done[1].facts["flips"] == 0


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    place = model_folder(encoder("bert"), tmp_path_factory.mktemp("export") / "model")
    (place / "checkpoint-1").mkdir()
    (place / "checkpoint-1" / "step").write_text("1")
    export(place, "openvino-int8", quiet)
    export(place, "onnx", quiet)
    return place


def test_the_folder_stays_whole_and_says_how_the_engines_answered(folder):
    verify(folder)
    listed = json.loads((folder / "MANIFEST.json").read_text())["files"]
    names = {entry["name"] for entry in listed}
    assert {"openvino.xml", "openvino.bin", "openvino-int8.xml", "model.onnx", SAMPLE} <= names
    assert not any("checkpoint" in name for name in names)
    assert (folder / "checkpoint-1" / "step").read_text() == "1"
    engines = json.loads((folder / "bert_cls.json").read_text())["engines"]
    assert set(engines) == {"openvino", "openvino-int8", "onnx"}
    for facts in engines.values():
        assert facts["flips"] == 0
        assert facts["rows"] == 50
        assert facts["bytes"] > 0
        assert facts["times_torch"] > 0
    assert not list(folder.parent.glob(".tmp*"))


def test_exporting_again_replaces(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    export(copy, "onnx", quiet)
    verify(copy)
    assert set(bundles.load(copy).details["engines"]) == {"openvino", "openvino-int8", "onnx"}


def test_predictions_are_the_same_through_every_face(folder):
    texts = TEXTS[:6]
    by_torch = Classifier.load(folder, engine="torch").predict(texts)
    assert [p.labels for p in Classifier.load(folder).predict(texts)] == [
        p.labels for p in by_torch
    ]


def documented():
    """The Python of "The ONNX file by itself"."""
    page = (Path(__file__).parent.parent / "docs" / "engines.md").read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (False, "尾灯不亮"),
        (True, "尾灯不亮"),
        (False, "尾灯[SEP]不亮[MASK]"),
        (True, "尾灯[SEP]不亮[MASK]"),
        (False, "尾灯不亮，天窗漏水。" * 40),
    ],
    ids=["text", "pair", "typed special tokens", "typed in a pair", "cut"],
)
def test_the_lines_in_the_documentation_run_the_onnx_file(pair, text, folder, encoder, tmp_path):
    lines, *_ = documented()
    if pair:  # as the comment in them says
        single, _, both = re.findall(r"(encode\(.*?\))(  # of a model of pairs: )(.*)", lines)[0]
        folder = model_folder(encoder("bert"), tmp_path / "model", pair=True)
        export(folder, "onnx", quiet)
        lines = lines.replace(single, both)
    done = subprocess.run(
        [sys.executable, "-c", lines.replace("尾灯不亮", text)],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parent,
    )
    values = [float(x) for x in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", done.stdout)]
    classifier = Classifier.load(folder, engine="torch")
    second = ["后灯坏了"] if pair else None
    wanted = classifier.logits(classifier.text.encode([text], second))[0]
    np.testing.assert_allclose(values, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("pair", "settings"),
    [
        (False, {"long": "head_tail"}),
        (False, {"long": "windows", "window_pooling": "max"}),
        (False, {"normalise": "nfkc"}),
        (True, {}),
        (True, {"long": "windows"}),
    ],
    ids=["head_tail", "windows", "nfkc", "pair", "pair in windows"],
)
def test_the_lines_in_the_documentation_read_what_is_cut(
    pair, settings, encoder, tmp_path, monkeypatch
):
    text = TextSettings(max_length=65, **settings)
    folder = model_folder(encoder("bert"), tmp_path / "model", pair=pair, text=text)
    export(folder, "onnx", quiet)
    first, cut, _ = documented()
    if pair:  # as the comment in them says
        single, both = re.findall(r"texts = (.*)  # of a model of pairs: (.*)", cut)[0]
        cut = cut.replace(single, both)
    given = ["尾灯不亮，ＡＢＳ报警[SEP]" * 20], ["后灯坏了" * 20] if pair else None
    cut = cut.replace('["尾灯不亮"]', repr(given[0])).replace('["后灯坏了"]', repr(given[1]))
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(first + cut, found)
    classifier = Classifier.load(folder, engine="torch")
    wanted = classifier.logits(classifier.text.encode(*given))
    np.testing.assert_allclose(found["logits"], wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("multilabel", {"temperature": 1.7, "bias": -0.4, "thresholds": (0.3, 0.5, math.inf)}),
        ("multilabel", {"slopes": (0.5, 1.0, 2.0), "offsets": (-1.0, 0.5, 0.2)}),
        ("multiclass", {"temperature": 0.6, "weights": (1.0, 0.002, 0.001)}),
        ("multiclass", {"temperature": 2.5, "power": 1.6}),
        ("binary", {"thresholds": (0.001,)}),
        ("binary", {"thresholds": (0.999,)}),
        ("regression", {}),
    ],
)
def test_the_lines_in_the_documentation_are_the_rule(task, changes, encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model", task=task)
    export(folder, "onnx", quiet)
    rule = replace(RULES[task], **changes)
    described = json.loads((folder / "bert_cls.json").read_text("utf-8")) | {"rule": rule.to_dict()}
    (folder / "bert_cls.json").write_text(json.dumps(described), "utf-8")
    made, _, decided = documented()
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(made + decided, found)
    scores = rule.scores(found["logits"])
    np.testing.assert_allclose(found["scores"].reshape(scores.shape), scores, rtol=1e-5)
    wanted = rule.decide(scores)
    np.testing.assert_allclose(found["decided"].reshape(wanted.shape), wanted, rtol=1e-5)


def test_the_commands_say_what_was_measured_and_what_answers(encoder, tmp_path):
    folder = str(model_folder(encoder("bert"), tmp_path / "model"))
    done = CliRunner().invoke(app, ["export", folder, "--to", "onnx"])
    assert done.exit_code == 0
    assert "checking on the 50 development rows kept in the model folder" in done.stderr
    assert "onnx: 50 of 50 rows get the same labels" in done.stderr
    done = CliRunner().invoke(app, ["predict", folder, "--text", "尾灯不亮"])
    assert done.exit_code == 0
    assert done.stderr == "engine: onnxruntime float32\n"


def test_small_models_have_a_size_and_a_margin(encoder, tmp_path):
    folder = str(model_folder(encoder("bert"), tmp_path / "model"))
    done = CliRunner().invoke(app, ["export", folder, "--to", "onnx-int8"])
    assert done.exit_code == 0
    facts = bundles.load(Path(folder)).details["engines"]["onnx-int8"]
    size, margin = facts["bytes"] / 1e6, facts["margin"]
    assert 0 < size < 0.5  # or "0 MB" would not be wrong
    assert f", {size:.2g} MB, " in done.stderr
    assert f"rows within {margin:.2g} of another label" in done.stderr


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_a_threshold_where_none_decides_is_refused(task, encoder, tmp_path):
    folder = str(model_folder(encoder("bert"), tmp_path / "model", task=task))
    words = ["predict", folder, "--text", "尾灯不亮", "--threshold", "0.9"]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, ConfigError)
    assert f"This one is {task}" in str(done.exception)


def test_a_binary_model_takes_any_threshold(encoder, tmp_path):
    folder = str(model_folder(encoder("bert"), tmp_path / "model", task="binary"))
    labels = {}
    for threshold in ("0", "1"):
        words = ["predict", folder, "--text", "尾灯不亮", "--threshold", threshold]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        labels[threshold] = json.loads(done.stdout)["labels"]
    assert labels == {"0": ["乙"], "1": ["甲"]}


def test_the_export_of_a_regression_speaks_of_no_labels(encoder, tmp_path):
    folder = str(model_folder(encoder("bert"), tmp_path / "model", task="regression"))
    done = CliRunner().invoke(app, ["export", folder, "--to", "onnx-int8"])
    assert done.exit_code == 0
    assert "onnx-int8: 50 rows compared, largest difference" in done.stderr
    assert "label" not in done.stderr


def test_the_refusal_of_a_regression_speaks_of_no_labels(encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model", task="regression")
    monkeypatch.setattr("bert_cls.export.run.REGRESSION_TOLERANCE", -1)
    said = r"the largest difference is [\d.e-]+ standard deviations of the answers \(at most -1\)"
    with pytest.raises(EngineError, match=said) as refused:
        export(folder, "onnx-int8", quiet)
    assert "label" not in str(refused.value)


def test_a_model_that_gives_no_numbers_is_blamed_and_no_engine(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    spoiled = {name: array * np.float32("nan") for name, array in weights.items()}
    save_file(spoiled, folder / "model.safetensors")
    sealed(folder)
    told = []
    said = r"model itself gives no finite numbers for 50 of 50 rows \(the first is row 1 of the 50"
    with pytest.raises(EngineError, match=said) as refused:
        export(folder, "openvino", told.append)
    assert refused.value.hint == "train it again."
    assert not any(line.startswith("writing") for line in told)


def test_predicting_needs_neither_torch_nor_transformers(folder):
    lines = f"""
import sys
for name in ("torch", "transformers", "sklearn", "onnx"):
    sys.modules[name] = None
from bert_cls import Classifier
print(len(Classifier.load({str(folder)!r}).predict(["尾灯不亮"])[0].scores))
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"


def test_an_export_that_answers_differently_is_refused(encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    before = sorted(p.name for p in folder.iterdir())

    def spoiled(bundle):
        graph = to_onnx(bundle)
        for tensor in graph.graph.initializer:
            if list(tensor.dims) == [3]:
                values = onnx.numpy_helper.to_array(tensor) + np.float32(0.5)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        return graph

    monkeypatch.setattr("bert_cls.export.run.to_onnx", spoiled)
    with pytest.raises(EngineError, match=r"onnx answers differently(.|\n)*Nothing was written"):
        export(folder, "onnx", quiet)
    assert sorted(p.name for p in folder.iterdir()) == before
    verify(folder)
    assert "engines" not in bundles.load(folder).details


def test_without_rows_there_is_no_export(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model", sample=False)
    with pytest.raises(EngineError, match=r"cannot be checked(.|\n)*calibration_rows"):
        export(folder, "onnx", quiet)
    with pytest.raises(ConfigError, match="the engine to export to must be one of"):
        export(folder, "onnx-int4", quiet)


@pytest.mark.parametrize("declared", ["in a file", "in Python"])
def test_label_names_from_elsewhere_leave_the_development_rows_to_check_on(
    declared, encoder, tmp_path
):
    data = write_folder(tmp_path / "data", multilabel_rows)
    labels = ("尾灯", "轮胎", "天窗", "只在开发数据里")
    dev = json.loads((data / "dev.json").read_text("utf-8"))
    dev[0]["label"] = [labels[-1]]
    (data / "dev.json").write_text(json.dumps(dev, ensure_ascii=False), "utf-8")
    file = tmp_path / "names.json"
    file.write_text(json.dumps(labels, ensure_ascii=False), "utf-8")
    flags = {**FAST, "encoder.name": str(encoder("bert")), "export.calibration_rows": 0}
    config, origins = resolve_config(flags=flags)
    named = file if declared == "in a file" else labels
    train(Request(data, tmp_path / "model", config, origins, labels=named), Silent())
    [made] = export(tmp_path / "model", "onnx", quiet)
    assert made.facts["rows"] == 16
    (data / "dev.json").write_text((data / "test.json").read_text("utf-8"), "utf-8")
    with pytest.raises(EngineError, match="cannot be checked"):
        export(tmp_path / "model", "onnx", quiet)


def test_layers_kept_in_float_are_left_alone(folder):
    graph = to_onnx(bundles.load(folder))
    places = sites(graph)
    assert len(places) == 8  # two layers: attention's input and output, the two of the FFN
    generator = np.random.default_rng(0)
    weights = {t.name: list(t.dims) for t in graph.graph.initializer}
    drawn = {
        s.tensor: generator.normal(size=(64, weights[s.weights[0]][0])).astype(np.float32)
        for s in places
    }
    samples = {tensor: Seen(x, x.min(axis=0), x.max(axis=0)) for tensor, x in drawn.items()}
    every, errors = quantise(graph, samples)
    onnx.checker.check_model(every)
    assert set(errors) == {s.tensor for s in places}
    assert all(0 < error < 0.01 for error in errors.values())
    kept = frozenset([places[0].tensor])
    some, _ = quantise(graph, samples, keep=kept)
    assert len(sites(some)) == 1
    count = lambda g: sum(n.op_type == "QuantizeLinear" for n in g.graph.node)  # noqa: E731
    assert (count(every), count(some)) == (8, 7)


def test_ranges_are_those_of_every_calibration_token_not_only_of_those_drawn(folder, monkeypatch):
    bundle = bundles.load(folder)
    graph, rows = to_onnx(bundle), rows_of(bundle)
    tensors = [site.tensor for site in sites(graph)]
    count = int(rows.calibration.pieces.lengths.sum())
    monkeypatch.setattr(activations, "_TOKENS", 10 * count)
    every = collect(graph, tensors, rows, bundle)
    monkeypatch.setattr(activations, "_TOKENS", 40)
    some = collect(graph, tensors, rows, bundle)
    for tensor in tensors:
        # no padding is among them, and none is missing
        assert len(every[tensor].sample) == count
        assert 0 < len(some[tensor].sample) < count / 2
        for each in (every[tensor], some[tensor]):
            np.testing.assert_array_equal(each.low, every[tensor].sample.min(axis=0))
            np.testing.assert_array_equal(each.high, every[tensor].sample.max(axis=0))
        assert (some[tensor].sample.max(axis=0) < every[tensor].high).any()


@pytest.mark.parametrize("side", ["low", "high"])
def test_int8_has_room_for_what_was_seen_beyond_the_sample(side, folder):
    graph = to_onnx(bundles.load(folder))
    place = sites(graph)[0]
    width = next(t.dims[0] for t in graph.graph.initializer if t.name == place.weights[0])
    x = np.random.default_rng(0).normal(size=(64, width)).astype(np.float32)
    low, high = x.min(axis=0), x.max(axis=0)
    far = {"low": Seen(x, low * 9, high), "high": Seen(x, low, high * 9)}[side]
    kept = frozenset(site.tensor for site in sites(graph)[1:])
    plain, wide = (
        _steps(quantise(graph, {place.tensor: seen}, keep=kept)[0])
        for seen in (Seen(x, low, high), far)
    )
    assert wide > 2 * plain


def _steps(graph):
    """The step of the only quantised tensor, over the usual factor of its channels."""
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    return float(values["int8_0_s"]) / float(np.exp(np.log(values["int8_0_by"]).mean()))


def test_the_margin_mends_every_label_that_int8_changed():
    rule = RULES["multilabel"]
    generator = np.random.default_rng(0)
    wanted = generator.normal(size=(500, 3)).astype(np.float32)
    given = wanted + generator.normal(scale=0.05, size=wanted.shape).astype(np.float32)
    margin, elsewhere, _ = second_look_margins(rule, wanted, given)
    assert compare(rule, wanted, given).flips > 0
    assert compare(rule, wanted, _mended(rule, wanted, given, margin)).flips == 0
    assert elsewhere >= margin
    assert second_look_margins(rule, wanted, wanted) == (0, 0, 0)
    nothing = second_look_margins(RULES["regression"], wanted[:, :1], given[:, :1])
    assert nothing == (0, 0, 0)
    weighed = replace(RULES["binary"], thresholds=(), weights=(0.3, 1.0))
    assert second_look_margins(weighed, wanted[:, :2], given[:, :2])[0] > 0


@pytest.mark.parametrize("task", ["multilabel", "binary", "multiclass"])
def test_the_confidence_of_a_row_has_a_margin_of_its_own(task):
    rule, outputs = RULES[task], {"multilabel": 12, "binary": 2, "multiclass": 3}[task]
    if task == "multilabel":
        rule = replace(rule, thresholds=(0.5,) * outputs)
    generator = np.random.default_rng(0)
    # scores are far from their thresholds, so labels alone say little about the error
    signs = generator.choice([-1, 1], (4000, outputs))
    wanted = (signs * generator.uniform(2.5, 6, signs.shape)).astype(np.float32)
    given = wanted + generator.normal(scale=0.05, size=wanted.shape).astype(np.float32)
    _, _, margin = second_look_margins(rule, wanted[:2000], given[:2000])
    wanted, given = wanted[2000:], given[2000:]
    flips = 0
    for least in (0.5, 0.7, 0.9):
        asked = replace(rule, min_confidence=least)
        unsure = confidence_margins(asked, given) <= margin
        unsure |= label_margins(asked, given) <= second_look_margins(rule, wanted, given)[0]
        flips += compare(asked, wanted, given).flips
        assert compare(asked, wanted, np.where(unsure[:, None], wanted, given)).flips == 0
        assert unsure.mean() < 0.6
    assert flips > 0


@pytest.mark.parametrize("near", [0, 1, 20])
def test_few_rows_near_a_decision_do_not_make_a_small_margin(near):
    rule, generator = RULES["binary"], np.random.default_rng(0)
    wanted = np.zeros((300, 2), np.float32)
    wanted[:, 1] = generator.choice([-4, 4], 300)
    wanted[:near, 1] = 0.3
    given = wanted.copy()
    given[-1, 1] += 1  # a row that is sure errs a little
    given[:near, 1] += 0.001
    margin, *_ = second_look_margins(rule, wanted, given)
    largest = np.abs(rule.scores(wanted) - rule.scores(given)).max()
    assert margin >= 1.5 * largest > 0.01


def test_a_model_that_is_sure_of_every_row_has_a_margin_all_the_same():
    for task in ("binary", "multiclass", "multilabel"):
        rule = RULES[task]
        sure = np.random.default_rng(0).integers(0, 3 - (task == "binary"), 300)
        wanted = 40 * np.eye(3, dtype=np.float32)[sure][:, : 3 - (task == "binary")] - 20
        margin, elsewhere, _ = second_look_margins(rule, wanted, wanted)
        assert elsewhere >= margin == 0.1


def _mended(rule, wanted, given, margin):
    again = margins(rule, given) <= margin
    return np.where(again[:, None], wanted, given)


def test_low_thresholds_of_a_model_say_little_about_others():
    # near 0.02 a score hardly moves, near 0.4 it does
    low = replace(RULES["multilabel"], thresholds=(0.02, 0.02, 0.02))
    generator = np.random.default_rng(0)
    wanted = generator.normal(scale=2, size=(2000, 3)).astype(np.float32)
    given = wanted + generator.normal(scale=0.05, size=wanted.shape).astype(np.float32)
    margin, elsewhere, _ = second_look_margins(low, wanted[:1000], given[:1000])
    wanted, given = wanted[1000:], given[1000:]
    for cut in (0.3, 0.4, 0.6, 0.93):
        asked = replace(low, thresholds=(cut,) * 3)
        assert compare(asked, wanted, _mended(asked, wanted, given, elsewhere)).flips == 0
    assert compare(asked, wanted, given).flips > 0
    asked = replace(low, thresholds=(0.4,) * 3)
    assert compare(asked, wanted, _mended(asked, wanted, given, margin)).flips > 0


@pytest.mark.parametrize("with_data", [True, False], ids=["data in place", "sample only"])
def test_models_that_read_windows(with_data, encoder, tmp_path, monkeypatch):
    text = TextSettings(max_length=16, long="windows", window_pooling="max")
    folder = model_folder(encoder("bert"), tmp_path / "model", text=text)
    bundle = bundles.load(folder)
    sample = read_sample(folder, "max")
    assert len(sample["dev"].pieces) > len(sample["dev"]) == 50
    if with_data:
        whole = (sample["train"], sample["dev"])
        monkeypatch.setattr("bert_cls.export.rows._from_data", lambda bundle: whole)
    [exact, low] = export(folder, "openvino-int8", quiet)
    assert exact.facts["rows"] == low.facts["rows"] == 50
    bundle = bundles.load(folder)
    wanted = answers(bundle, "torch", sample["dev"])
    np.testing.assert_allclose(answers(bundle, "openvino", sample["dev"]), wanted, atol=1e-5)
    given = answers(bundle, "openvino-int8", sample["dev"], rule=bundle.rule)
    assert compare(bundle.rule, wanted, given).flips == 0


def test_layers_go_back_to_float32_until_the_answers_are_good(encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    count = len(sites(to_onnx(bundles.load(folder))))
    monkeypatch.setattr("bert_cls.export.run._FLOAT_SITES", (0, 1, 2, count))
    seen = []

    def good(bundle, agreement, facts):
        seen.append(facts)
        return len(seen) == 3

    monkeypatch.setattr("bert_cls.export.run._good", good)
    done = export(folder, "onnx-int8", quiet)[1]
    assert len(done.facts["float32_layers"]) == 2
    assert bundles.load(folder).details["engines"]["onnx-int8"]["float32_layers"]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"MOST_SECOND_LOOKS": -1}, "unsure of .* of the rows"),
        ({"INT8_TOLERANCE": -1}, "rows get other labels, and a score differs"),
    ],
)
def test_int8_that_is_not_good_enough_is_refused(limits, said, encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    before = {path.name for path in folder.iterdir()}
    tried = []
    for name, limit in limits.items():
        monkeypatch.setattr(f"bert_cls.export.run.{name}", limit)
    with pytest.raises(EngineError, match=said) as refused:
        export(folder, "onnx-int8", tried.append)
    assert refused.value.hint == "export to onnx"
    # with 8 of 8 layers in float32 it would be int8 by name only
    assert [t for t in tried if t.startswith("quantising")] == [
        "quantising",
        "quantising, 4 layers in float32",
    ]
    assert {path.name for path in folder.iterdir()} == before


def test_an_export_that_ends_during_another_is_kept(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")

    def meanwhile(message):
        if message == "writing openvino":
            export(folder, "onnx", quiet)

    export(folder, "openvino", meanwhile)
    verify(folder)
    assert set(bundles.load(folder).details["engines"]) == {"openvino", "onnx"}


def test_an_export_that_ends_while_another_writes_waits_for_it(encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    write, went_on, others, said = bundles.write_folder, threading.Event(), [], []

    def notify(message):
        said.append(message)
        if message.startswith("waiting for another run that writes to"):
            went_on.set()

    def second():
        try:
            export(folder, "openvino", notify)
        finally:
            went_on.set()

    def beside_another(target, fill, **options):
        def fill_late(scratch):
            fill(scratch)
            if not others:  # everything the first export writes is read by now
                others.append(threading.Thread(target=second))
                others[0].start()
                assert went_on.wait(120)

        write(target, fill_late, **options)

    monkeypatch.setattr(bundles, "write_folder", beside_another)
    export(folder, "onnx", quiet)
    others[0].join()
    verify(folder)
    assert set(bundles.load(folder).details["engines"]) == {"openvino", "onnx"}
    assert len([m for m in said if m.startswith("waiting")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_an_export_and_a_training_never_write_at_once(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    before = {path.name for path in folder.iterdir()}
    said = []

    def training(message):
        said.append(message)
        if message == "writing onnx":
            lock.take()
        if message.startswith("waiting"):  # it overwrites the model
            (folder / "MANIFEST.json").unlink()

    with Lock(folder) as lock, pytest.raises(ConfigError, match="another run is writing to"):
        export(folder, "onnx", training)
    assert said[-1] == f"waiting for another run that writes to {folder}"
    assert {path.name for path in folder.iterdir()} == before - {"MANIFEST.json"}


def test_what_a_killed_export_left_is_removed_and_what_another_uses_is_not(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    (tmp_path / ".tmp-bert-cls-0123").mkdir()
    (tmp_path / ".tmp-bert-cls-0123" / "openvino.bin").write_bytes(b"half")
    (tmp_path / ".tmp-of-others").mkdir()
    said = []
    with scratch_folder(tmp_path / "sibling") as used:
        export(folder, "onnx", said.append)
        assert used.is_dir()
    assert said[0] == "removed .tmp-bert-cls-0123, left by an interrupted write"
    assert {path.name for path in tmp_path.iterdir()} == {"model", ".tmp-of-others"}


@pytest.mark.parametrize(
    ("why", "said"),
    [("mount", "it is a mount point"), ("closed", "may not be written to")],
)
def test_a_folder_that_cannot_be_replaced_is_said_before_anything_is_computed(
    why, said, encoder, tmp_path, monkeypatch
):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    if why == "mount":
        monkeypatch.setattr(Path, "is_mount", lambda path: path == folder)
    else:  # root may write everywhere
        monkeypatch.setattr("bert_cls.folders.os.access", lambda path, mode: path != tmp_path)
    notices = []
    with pytest.raises(ConfigError, match=said):
        export(folder, "onnx", notices.append)
    assert notices == []


def test_what_a_user_keeps_in_the_folder_stays_what_it_is(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    secret = tmp_path / "secret"
    secret.write_bytes(b"of the host")
    secret.chmod(0o600)
    (folder / "x.bin").symlink_to(secret)  # of a kind of file that is copied
    (folder / "x.txt").symlink_to("not/there")
    (folder / "data").symlink_to(tmp_path)
    (folder / "empty").mkdir()
    (folder / "notes" / "closed").mkdir(parents=True)
    (folder / "notes" / "closed" / "today.txt").write_text("mine")
    (folder / "notes" / "closed").chmod(0o500)
    os.mkfifo(folder / "pipe")
    folder.chmod(0o700)
    open_to_others = []
    write = bundles.write_folder

    def and_look(target, fill, **options):
        def seen(scratch):
            fill(scratch)
            open_to_others.append(scratch.stat().st_mode & 0o077)

        write(target, seen, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "write_folder", and_look)
        export(folder, "onnx", quiet)
    assert (folder / "x.bin").readlink() == secret
    assert (folder / "x.txt").readlink() == Path("not/there")
    assert (folder / "data").readlink() == tmp_path
    assert (folder / "empty").is_dir()
    assert (folder / "pipe").is_fifo()
    assert (folder / "notes" / "closed" / "today.txt").read_text() == "mine"
    assert (folder / "notes" / "closed").stat().st_mode & 0o777 == 0o500
    assert folder.stat().st_mode & 0o777 == 0o700
    assert open_to_others == [0]
    assert set(bundles.load(folder).details["engines"]) == {"onnx"}
    (folder / "notes" / "closed").chmod(0o700)


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_no_export_wrote_is_not_replaced_by_one(kind, encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    strange = folder / "model.onnx"
    if kind == "folder":
        strange.mkdir()
        (strange / "notes.txt").write_text("mine")
    else:
        strange.symlink_to("not/there")
    notices = []
    with pytest.raises(BundleError, match=r"model\.onnx is not a regular file") as caught:
        export(folder, "onnx", notices.append)
    assert "move it away" in str(caught.value)
    assert notices == []
    assert strange.is_symlink() or (strange / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["openvino", "onnx", "the end"])
def test_a_full_disk_is_said_with_what_is_needed_and_free(name, encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def half(*arguments, **options):
        scratch = next(tmp_path.glob(".tmp-*"))
        (scratch / "openvino.bin").write_bytes(bytes(1000))
        raise RuntimeError("basic_ios::clear: iostream error")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if name == "openvino":
            patch.setattr("openvino.save_model", half)
        else:
            patch.setattr(*((Path, "write_bytes") if name == "onnx" else (bundles, "extend")), full)
        with pytest.raises(EngineError, match=f"{folder} could not be written") as caught:
            export(folder, "onnx" if name == "onnx" else "openvino", quiet)
    assert "MB are free. The model is as it was." in caught.value.message
    assert ("MB are needed" in caught.value.message) == (name != "the end")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_becomes_another_model_gets_no_export_of_the_first(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    other = model_folder(encoder("ernie"), tmp_path / "other")

    def meanwhile(message):
        if message == "writing onnx":
            shutil.rmtree(folder)
            shutil.copytree(other, folder)

    with pytest.raises(EngineError, match="became another model while it was exported"):
        export(folder, "onnx", meanwhile)
    assert {path.name for path in folder.iterdir()} == {path.name for path in other.iterdir()}


@pytest.mark.parametrize("gone", ["openvino-int8.xml", "openvino-int8.bin", "openvino.bin"])
def test_without_an_exported_file_others_answer_and_the_remedy_is_said(
    gone, folder, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr("bert_cls.engines.engine.multiplies_int8", lambda: True)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / gone).unlink()
    done = CliRunner().invoke(app, ["predict", str(copy), "--text", "尾灯不亮"])
    assert done.exit_code == 0, done.output
    used = "onnx" if gone == "openvino.bin" else "openvino"
    again = f"bert-cls export {copy} --to openvino-int8"
    assert f"engine {used}, not openvino-int8: {gone} is missing ({again})" in caplog.messages
    done = CliRunner().invoke(
        app, ["predict", str(copy), "--text", "尾灯不亮", "--engine", "openvino-int8"]
    )
    assert isinstance(done.exception, EngineError)
    assert f"no file for the engine openvino-int8 ({gone})" in str(done.exception)
    assert f"{again}; or choose another engine" in str(done.exception)
    export(copy, "onnx", quiet)  # one of the others; what is gone is not remembered
    left = {"onnx"} if gone == "openvino.bin" else {"onnx", "openvino"}
    assert set(bundles.load(copy).details["engines"]) == left
    export(copy, "openvino-int8", quiet)
    verify(copy)
    assert Classifier.load(copy, engine="openvino-int8").predict(["尾灯不亮"])


def test_a_file_that_no_export_wrote_must_be_there(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors is missing"):
        bundles.load(copy)


def test_export_from_python(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    exact = Classifier.load(folder)
    faster = exact.export("onnx")
    assert faster.engine.name == "onnxruntime float32"
    assert faster.predict(["尾灯不亮"])[0].labels == exact.predict(["尾灯不亮"])[0].labels


def test_a_model_that_is_exported_is_open_to_others_all_the_while(encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    export(folder, "openvino", quiet)
    write = bundles.write_folder

    def and_look(target, fill, **options):
        def fill_and_look(scratch):
            fill(scratch)
            assert Classifier.load(folder, engine="openvino").predict(["天窗"])

        write(target, fill_and_look, **options)

    monkeypatch.setattr(bundles, "write_folder", and_look)
    export(folder, "onnx", quiet)
    assert Classifier.load(folder, engine="onnx").predict(["天窗"])


@pytest.mark.parametrize("place", ["link", "."])
def test_an_export_through_a_link_or_from_inside(place, encoder, tmp_path, monkeypatch):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    export(folder, "openvino", quiet)
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder if place == "." else tmp_path)
    export(Path(place), "onnx", quiet)
    assert (tmp_path / "link").is_symlink()
    assert Classifier.load(folder, engine="onnx").predict(["天窗"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link", "model"]


def test_a_second_look_is_never_by_another_model(encoder, tmp_path):
    folder = model_folder(encoder("bert"), tmp_path / "model")
    export(folder, "openvino-int8", quiet)
    model = Classifier.load(folder, engine="openvino-int8")
    if not hasattr(model.engine, "surer"):
        pytest.skip("this processor has no int8")
    shutil.rmtree(folder)
    model_folder(encoder("electra"), folder)
    export(folder, "openvino-int8", quiet)
    with pytest.raises(BundleError, match="became another model while it was in use"):
        model.engine.surer().logits(None)
