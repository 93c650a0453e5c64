"""Nearest training rows: those that the run trained on, and no others."""

from __future__ import annotations

import hashlib
import json

import orjson
import pytest

from bert_cls import Classifier
from bert_cls.errors import DataError
from bert_cls.nearest import training_rows
from doors import main
from small import FAST, class_rows, write_folder
from tiny import tiny_encoder

NAMES = ["甲", "乙", "丙"]


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    return path


def one_file(root):
    return written(root / "rows.json", class_rows(80, NAMES)), {}


def leaky(root):
    data = write_folder(root / "data", lambda n: class_rows(n, NAMES), sizes=(40, 16, 16))
    rows = json.loads((data / "train.json").read_text("utf-8"))
    for split in ("dev", "test"):
        held = json.loads((data / f"{split}.json").read_text("utf-8"))[:5]
        rows += [{**row, "index": f"{split}{row['index']}"} for row in held]
    written(data / "train.json", rows)
    return data, {"data.leak": "drop"}


def sampled(root):
    data = write_folder(root / "data", lambda n: class_rows(n, NAMES), sizes=(40, 16, 16))
    return data, {"data.train_rows": 24}


def merging(root):
    data = write_folder(root / "data", lambda n: class_rows(n, NAMES), sizes=(40, 16, 16))
    return data, {"data.merge_labels": written(root / "merges.json", {"乙": "甲"})}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_encoder("bert", tmp_path_factory.mktemp("nearest") / "encoder"))


@pytest.mark.parametrize("make", [one_file, leaky, sampled, merging], ids=lambda m: m.__name__)
def test_rows_are_compared_with_those_the_run_trained_on(encoder, tmp_path, make):
    data, settings = make(tmp_path)
    model = tmp_path / "model"
    opened = Classifier.train(data, model, encoder=encoder, settings={**FAST, **settings})
    if make is merging:
        (tmp_path / "merges.json").unlink()  # the model knows what was merged
    trained = opened.bundle.details["data"]["rows"]["train"]
    again = training_rows(opened, None, lambda note: None)
    assert len(again) == trained
    counts = opened.bundle.details["data"]["label_counts"]
    assert {name: sum(e.label == name for e in again) for name in counts} == counts
    whole = json.loads((data if data.is_file() else data / "train.json").read_text("utf-8"))
    assert (len(whole) > trained) == (make is not merging)
    known = {row["text_a"] for row in whole}
    texts = {e.text_a for e in again}
    assert texts <= known
    if make is leaky:
        test = json.loads((data / "test.json").read_text("utf-8"))
        assert not texts & {row["text_a"] for row in test}
        first = next(iter(test))["text_a"]
        out = tmp_path / "out.json"
        assert main("explain", model, first, "--neighbours", 1, "--json", out).code == 0
        [row] = json.loads(out.read_text("utf-8"))
        assert row["neighbours"][0]["text_a"] != first
    done = main("explain", model, "尾灯", "--neighbours", 1)
    assert f"comparing with {trained} training rows" in done.err
    # the same files named by hand, and copied, are the same rows
    assert training_rows(opened, data, lambda note: None) == again


def test_other_files_are_read_as_the_run_read_its_own_and_that_is_said(encoder, tmp_path):
    data, settings = merging(tmp_path)
    settings = {**FAST, **settings, "data.leak": "drop"}
    opened = Classifier.train(data, tmp_path / "model", encoder=encoder, settings=settings)
    other, _ = leaky(tmp_path / "other")
    said = []
    rows = training_rows(opened, other, said.append)
    assert len(rows) == 40
    assert {row.label for row in rows} == {"甲", "丙"}
    words = " ".join(said)
    assert "is not what the model was trained on" in words
    assert "merged" in words
    assert "5 training texts are also in dev" in words
    assert "also in test; dropped from train" in words
    done = main("explain", tmp_path / "model", "尾灯", "--neighbours", 1, "--train", other)
    assert "comparing with 40 training rows" in done.err
    assert "is not what the model was trained on" in done.err
    whole = training_rows(opened, other / "train.json", said.append)
    assert len(whole) == 50  # its dev and test rows are not at hand


def test_rows_that_cannot_be_made_again_are_no_guess(encoder, tmp_path):
    data, _ = one_file(tmp_path)
    opened = Classifier.train(data, tmp_path / "model", encoder=encoder, settings=FAST)
    opened.bundle.details["data"]["rows"]["train"] += 1
    with pytest.raises(DataError, match="they cannot be told from the others"):
        training_rows(opened, None, lambda note: None)


@pytest.mark.parametrize("content", [{}, {"data": 3}], ids=["nothing", "a number"])
def test_a_stranger_s_record_of_the_run_that_names_no_data_is_none(encoder, tmp_path, content):
    data, _ = one_file(tmp_path)
    model = tmp_path / "model"
    Classifier.train(data, model, encoder=encoder, settings=FAST)
    digest = hashlib.sha256(orjson.dumps(content)).hexdigest()
    (model / "run.json").write_bytes(orjson.dumps({**content, "sha256": digest}))
    done = main("explain", model, "尾灯", "--neighbours", 1)
    assert done.code == 2
    assert "the model does not say where its training rows are" in done.err
    assert "give --train DATA" in done.err


def test_a_file_of_the_run_that_is_gone_is_a_change(encoder, tmp_path):
    data, settings = sampled(tmp_path)
    opened = Classifier.train(
        data, tmp_path / "model", encoder=encoder, settings={**FAST, **settings}
    )
    (data / "test.json").unlink()  # without it another split would be made
    with pytest.raises(DataError, match="has changed since the model was trained"):
        training_rows(opened, None, lambda note: None)
