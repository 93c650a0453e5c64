"""Every field of a stranger's model folder: refused in words that name the folder, or harmless."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from bert_cls import Classifier
from bert_cls.bundle import load
from bert_cls.decision import Rule
from bert_cls.decision.calibration import fit, fit_per_label
from bert_cls.errors import BertClsError, BundleError, ConfigError, EncoderError
from bert_cls.folders import MANIFEST
from bert_cls.network import open_network
from bert_cls.sample import read_sample
from doors import main
from hostile import nested, rewrite, sealed
from small import MAKERS, write_folder

FAST = {
    "training.epochs": 1,
    "training.batch_size": 16,
    "text.max_length": 32,
    "report.linear_bar": False,
    "report.resamples": 0,
}
KINDS = ("multilabel", "multiclass", "regression")


@pytest.fixture(scope="module", params=KINDS)
def each(request, encoder, tmp_path_factory) -> Path:
    return _trained(request.param, encoder, tmp_path_factory)


@pytest.fixture(scope="module")
def trained(encoder, tmp_path_factory) -> Path:
    return _trained("multilabel", encoder, tmp_path_factory)


def _trained(kind: str, encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fields")
    data = write_folder(root / "data", MAKERS[kind])
    Classifier.train(data, root / "model", encoder=str(encoder("bert")), settings=FAST)
    return root / "model"


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def put(folder: Path, *place: str, value: object) -> Path:
    content = json.loads((folder / "bert_cls.json").read_bytes())
    *outer, last = place
    part = content
    for name in outer:
        part = part[name]
    part[last] = value
    (folder / "bert_cls.json").write_text(json.dumps(content))
    return sealed(folder)


# --- numbers of the decision rule


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", n) for n in (1e-320, 9e-4, 1001, 1e308)),
        *(("bias", n) for n in (1e308, -1e10)),
        *(("slopes", [n] * 3) for n in (1e-320, 9e-4, 1001, 1e308)),
        *(("offsets", [n] * 3) for n in (1e308, -1e10)),
    ],
)
def test_numbers_of_a_rule_that_no_fitting_gives_are_refused(model, name, value):
    """A temperature of 1e-320 made all scores 0.0."""
    rule = json.loads((model / "bert_cls.json").read_bytes())["rule"]
    rule |= {"temperature": 1.0, "bias": 0.0, "slopes": [1.0] * 3, "offsets": [0.0] * 3}
    if name in ("temperature", "bias"):
        rule |= {"slopes": [], "offsets": []}
    load(put(model, "rule", value=rule))
    said = rf"{re.escape(str(model))}: decision rule: {name} must be from "
    with pytest.raises(BundleError, match=said):
        load(put(model, "rule", value={**rule, name: value}))


def test_weights_of_a_rule_are_one_a_label_and_of_a_size():
    rule = Rule(task="multiclass", activation="softmax", weights=(1e-9, 1.0, 1.0))
    rule.check_fits(3)
    with pytest.raises(ConfigError, match="weights must be 4, one a label"):
        rule.check_fits(4)
    for weight in (0.0, 1e-300, 1e300):
        with pytest.raises(ConfigError, match="weights must be from 1e-12 to 1e"):
            Rule(task="multiclass", activation="softmax", weights=(weight, 1.0))


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("shift", [0.0, 1e6, -1e12])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_fitting_gives_is_within_what_is_read(size, shift):
    generator = np.random.default_rng(0)
    truth = generator.random((60, 2)) < 0.5
    logits = (truth - 0.5 + generator.normal(size=truth.shape)) * size + shift
    start = Rule(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.5), calibrated=False)
    for fitting in (fit, fit_per_label):
        found = fitting(start, logits, truth)
        assert Rule.from_dict(found.to_dict()) == found


# --- tensors


def _with(folder: Path, **tensors: torch.Tensor) -> Path:
    """The folder with other tensors; `.` of a name is written `__`."""
    path = folder / "model.safetensors"
    stored = safetensors.torch.load_file(path)
    stored |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    safetensors.torch.save_file(stored, path)
    return folder


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("name", ["classifier.bias", "bert.embeddings.LayerNorm.bias"])
def test_weights_are_floats(model, kind, name):
    width = 3 if name == "classifier.bias" else 32
    _with(model, **{name.replace(".", "__"): torch.zeros(width, dtype=kind)})
    said = rf"{re.escape(str(model))}: .*{name}' holds {str(kind)[6:]}, not floats"
    with pytest.raises(BundleError, match=said):
        Classifier.load(sealed(model))


def test_tensors_of_unknown_names_are_refused(model):
    for name in ("evil", "encoder.evil", "bert.evil", "classifier.evil"):
        copy = Path(shutil.copytree(model, model.parent / name))
        _with(copy, **{name.replace(".", "__"): torch.zeros(3)})
        with pytest.raises(BundleError, match=f"{re.escape(str(copy))}: .*evil"):
            Classifier.load(sealed(copy))


def test_the_head_of_a_model_to_start_from_is_floats(model, trained, tmp_path):
    _with(model, classifier__bias=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(BertClsError, match=r"'classifier\.bias' holds int64, not floats"):
        Classifier.train(
            trained.parent / "data", tmp_path / "new", init_from=sealed(model), settings=FAST
        )


def test_an_encoder_may_have_more_tensors_but_its_own_are_floats(copied):
    folder = _with(
        copied("bert"),
        cls__predictions__bias=torch.zeros(3),
        bert__embeddings__position_ids=torch.arange(512)[None],
    )
    open_network(folder, outputs=3, pooling="cls")
    _with(folder, embeddings__LayerNorm__bias=torch.zeros(32, dtype=torch.int64))
    with pytest.raises(EncoderError, match=r"embeddings\.LayerNorm\.bias' holds int64"):
        open_network(folder, outputs=3, pooling="cls")


# --- what messages say


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("rule", "temperature"), -1.0),
        (("rule", "task"), "x" * 10**6),
        (("rule", "x" * 10**6), 1),
        (("text", "max_length"), True),
        (("text", "max_length"), 2),
        (("text", "long"), "x" * 10**6),
        (("labels",), ["a"] * 3),
        (("pad_id",), 10**6),
    ],
)
def test_errors_of_a_model_folder_name_it_once(model, trained, place, value):
    put(model, *place, value=value)
    test = trained.parent / "data" / "test.json"
    for done in (main("evaluate", model, test), main("compare", trained, model, test)):
        assert done.code == 3
        assert done.err.count(f"{model}: ") + done.err.count(f"{model}/bert_cls.json") == 1
        assert len(done.err) < 1000


def test_errors_of_its_tokenizer_name_the_folder(model):
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=rf"{re.escape(str(model))}: tokenizer\.json cannot be"):
        Classifier.load(sealed(model))


def test_a_missing_field_is_named(model):
    content = json.loads((model / "bert_cls.json").read_bytes())
    for name in ("format", "task", "labels", "pair", "pooling", "pad_id", "text", "rule"):
        rest = {key: value for key, value in content.items() if key != name}
        (model / "bert_cls.json").write_text(json.dumps(rest))
        with pytest.raises(BundleError, match=re.escape(str(model))):
            load(sealed(model))


def test_a_domain_without_its_tensors_is_damaged_in_words(model):
    for arrays in (
        {"means": np.zeros((0, 3)), "precision": np.zeros((0, 0))},
        {name: np.zeros((0, 0)) for name in ("means", "precision", "quantiles", "evil")},
    ):
        safetensors.numpy.save_file(arrays, model / "domain.safetensors")
        with pytest.raises(BundleError) as caught:
            _ = Classifier.load(model, check=False).domain
        message = caught.value.message
        assert message.startswith(f"{model}: domain.safetensors is damaged: it must have the")
        assert "__init__" not in message


def test_a_sample_without_its_tensors_is_damaged_in_words(model):
    for name in ("ids", "train.ids", "train.evil"):
        safetensors.numpy.save_file({name: np.zeros((5, 9))}, model / "calibration.safetensors")
        with pytest.raises(BundleError, match=r"is damaged: '\w+' must have the tensors \['ids'"):
            read_sample(model)


@pytest.mark.parametrize("name", ["a" * 5000, "a" * 256, "尾" * 86, "a/" * 200 + "a"])
def test_names_longer_than_files_have_are_refused(model, name):
    content = json.loads((model / MANIFEST).read_bytes())
    content["files"].append({"name": name, "size": 1, "sha256": "0" * 64})
    (model / MANIFEST).write_text(json.dumps(content))
    done = main("predict", model, "--text", "尾灯")
    assert done.code == 3
    assert f"{MANIFEST} does not list files" in done.err
    assert len(done.err) < 1000
