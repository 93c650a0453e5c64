"""Every field of a stranger's model folder: refused in words that name the folder, or harmless."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from bert_cls import Classifier
from bert_cls.bundle import load, naming
from bert_cls.decision import Rule
from bert_cls.decision.calibration import fit, fit_per_label
from bert_cls.errors import BertClsError, BundleError, ConfigError, EncoderError
from bert_cls.folders import MANIFEST
from bert_cls.network import open_network
from bert_cls.sample import read_sample
from doors import main
from hostile import nested, sealed
from small import FAST, MAKERS, write_folder

LONGER = {**FAST, "text.max_length": 32}
ODD = {
    "null": None,
    "empty list": [],
    "empty object": {},
    "empty word": "",
    "long word": "x" * 10**6,
    "-1": -1,
    "0": 0,
    "1e308": 1e308,
    "true": True,
    "long list": [0] * 10**5,
    "nested": nested(60),
}


@pytest.fixture(scope="module")
def trained(encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fields")
    data = write_folder(root / "data", MAKERS["multilabel"])
    Classifier.train(data, root / "model", encoder=str(encoder("bert")), settings=LONGER)
    return root / "model"


@pytest.fixture
def model(trained, tmp_path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "model"))


def put(folder: Path, *place: str | int, value: object) -> Path:
    content = json.loads((folder / "bert_cls.json").read_bytes())
    *outer, last = place
    part = content
    for name in outer:
        part = part[name]
    part[last] = value
    (folder / "bert_cls.json").write_text(json.dumps(content))
    return sealed(folder)


def places(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The path of every object, list and leaf in a JSON value, but for the whole."""
    if not isinstance(value, dict | list):
        return []
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return [p for k, v in parts for p in ((*at, k), *places(v, (*at, k)))]


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
            trained.parent / "data", tmp_path / "new", init_from=sealed(model), settings=LONGER
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


# --- any field, anything


def with_odd(trained: Path, model: Path, odd: object, chosen) -> Path:
    """`model` with the description of `trained`, but `odd` in the chosen places."""
    content = json.loads((trained / "bert_cls.json").read_bytes())
    for place in chosen:
        part = content
        for name in place[:-1]:
            part = part[name]
        part[place[-1]] = odd
    (model / "bert_cls.json").write_text(json.dumps(content))
    return model


def refusal(model: Path) -> BundleError | None:
    """Why a folder cannot be opened; where it can be, its scores are numbers."""
    try:
        bundle = load(model, check=False)
    except BundleError as error:
        return error
    scores = bundle.rule.scores(np.array([[-300.0, 0.0, 300.0]], dtype=np.float32))
    assert np.isfinite(scores).all()
    assert bundle.rule.decide(scores).shape == (1, 3)
    return None


@pytest.mark.parametrize("name", ODD)
def test_every_field_may_be_anything(trained, tmp_path, name):
    """Refused in few words that name the folder, or opened, and then every command goes on.

    What may be odd alone is so together, level by level: few runs see all of it.
    """
    model = Path(shutil.copytree(trained, tmp_path / "model"))
    harmless: dict[int, list[tuple[str | int, ...]]] = {}
    for place in places(json.loads((trained / "bert_cls.json").read_bytes())):
        error = refusal(with_odd(trained, model, ODD[name], [place]))
        if error is None:
            harmless.setdefault(len(place), []).append(place)
        else:
            assert str(model) in error.message, place
            assert len(str(error)) < 1000, place
    assert max(harmless) == 4
    odd = ODD[name][:1000] if isinstance(ODD[name], str | list) else ODD[name]
    test = trained.parent / "data" / "test.json"
    for chosen in harmless.values():
        sealed(with_odd(trained, model, odd, chosen))
        _passes("evaluate", model, test, "--resamples", "0")
    _passes("compare", trained, model, test, "--resamples", "100")
    _passes("explain", model, "尾灯亮")


def _passes(*command: object) -> None:
    done = main(*command)
    assert done.code in (0, 2, 3), (command, done.err)
    assert len(done.err) < 2000, command


def test_findings_of_an_audit_that_are_none_are_left_out(model, trained):
    found = [{"code": code, "severity": "note", "count": 1} for code in ([], {}, None, 5, "evil")]
    put(model, "data", "audit", value=found)
    done = main("evaluate", model, trained.parent / "data" / "test.json", "--resamples", "0")
    assert done.code == 0


@pytest.mark.parametrize("seed", [None, [], -1, 1e308, True, "1"])
def test_a_seed_that_is_none_is_refused(model, seed):
    with pytest.raises(BundleError, match=r"config\.training\.seed must be a whole number"):
        load(put(model, "config", "training", "seed", value=seed))


def test_settings_of_a_model_to_start_from_that_cannot_be_are_refused(model, trained, tmp_path):
    put(model, "config", "text", "lowercase", value=["x" * 10**6])
    with pytest.raises(
        BundleError, match=rf"^{re.escape(str(model))}: text\.lowercase: "
    ) as caught:
        Classifier.train(trained.parent / "data", tmp_path / "new", init_from=model)
    assert len(str(caught.value)) < 1000


def test_origins_of_settings_that_are_not_there_are_passed_over(model, trained, tmp_path):
    origins = {"text.evil": "flag", "training.evil": "flag", "evil": "flag"}
    put(model, "origins", value=origins)
    student = Classifier.load(model).distill(
        tmp_path / "student", layers=1, data=trained.parent / "data", settings=LONGER
    )
    assert student.predict(["尾灯"])


def test_an_error_names_its_folder_once_however_short_the_name_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for said, wanted in (
        ("temperature must be a number.", "m: temperature must be a number."),
        ("m: not this one.", "m: not this one."),
        ("m/bert_cls.json is malformed.", "m/bert_cls.json is malformed."),
        ("m has no file.", "m has no file."),
    ):
        with pytest.raises(BundleError) as caught, naming(Path("m")):
            raise ConfigError(said)
        assert caught.value.message == wanted
