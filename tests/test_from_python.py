"""Training from Python: the same run as the command line's, and errors in Python's words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from bert_cls import Classifier, cli
from bert_cls.config import FLAGS
from bert_cls.errors import BertClsError, ConfigError, DataError
from bert_cls.python_names import KEYWORDS, naming_keywords
from bert_cls.training import Silent
from doors import main
from small import FAST, class_rows, multilabel_rows, write_folder

SET = [word for key, value in FAST.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    return path


def run_of(folder: Path) -> dict:
    """What a run was asked for, without what its settings were called."""
    content = json.loads((folder / "run.json").read_text("utf-8"))
    return {k: v for k, v in content.items() if k not in ("origins", "sha256")}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("python") / "data", multilabel_rows)


def test_both_doors_start_the_same_run(encoder, data, tmp_path):
    names = written(tmp_path / "names.json", ["轮胎", "尾灯", "天窗"])
    merges = written(tmp_path / "merges.json", {"全景天窗": "天窗"})
    config = written(tmp_path / "config.json", {"training": {"seed": 5, "warmup_share": 0.2}})
    typed = main(
        *("train", data, "-o", tmp_path / "typed", "--encoder", encoder("bert"), "--labels", names),
        *("--config", config, "--merge-labels", merges, "--seed", 7, *SET),
    )
    assert typed.code == 0, typed
    settings = {**FAST, "training.seed": 7, "data.merge_labels": merges}
    called = Classifier.train(
        data,
        tmp_path / "called",
        encoder=encoder("bert"),
        labels=str(names),
        config=config,
        settings=settings,
    )
    assert run_of(tmp_path / "called") == run_of(tmp_path / "typed")
    assert called.labels == ("轮胎", "尾灯", "天窗")
    assert called.bundle.details["origins"]["training.seed"] == "argument"
    later = {"init_from": tmp_path / "called", "settings": FAST}
    renames = written(tmp_path / "renames.json", {"轮胎": "轮子"})
    rows = json.loads((data / "train.json").read_text("utf-8"))
    for row in rows:
        row["label"] = ["轮子" if name == "轮胎" else name for name in row["label"]]
    file = written(tmp_path / "renamed.json", rows)
    order = ["天窗", "轮子", "尾灯"]
    after = Classifier.train(file, tmp_path / "l", labels=order, rename_labels=renames, **later)
    typed = main(
        *("train", file, "-o", tmp_path / "t", "--init-from", tmp_path / "called", *SET),
        *("--rename-labels", renames, "--labels", written(tmp_path / "order.json", order)),
    )
    assert typed.code == 0, typed
    assert after.labels == tuple(order)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "lt"]
    assert weights[0] == weights[1]


def test_a_run_is_gone_on_with_from_python(encoder, data, tmp_path):
    class Ends(Silent):
        def evaluated(self, result, *, best) -> None:
            raise RuntimeError("the lamp went out")

    options = {"encoder": encoder("bert"), "settings": {**FAST, "training.epochs": 2}}
    whole = Classifier.train(data, tmp_path / "whole", **options)
    with pytest.raises(RuntimeError, match="lamp"):
        Classifier.train(data, tmp_path / "cut", observer=Ends(), **options)
    again = Classifier.resume(str(tmp_path / "cut"))
    assert again.predict(["尾灯不亮"]) == whole.predict(["尾灯不亮"])
    with pytest.raises(ConfigError, match="is a finished model") as caught:
        Classifier.resume(tmp_path / "cut")
    assert str(caught.value).endswith("\nfrom Python: --overwrite is overwrite=True")


def test_errors_say_what_their_flags_are_from_python(encoder, data, tmp_path):
    def said(kind: type[BertClsError], *arguments: object, **options: object) -> str:
        with pytest.raises(kind) as caught:
            Classifier.train(*arguments, **options)
        return str(caught.value)

    leaky = class_rows(20, ["甲", "乙"])
    (tmp_path / "leaky").mkdir()
    for split in ("train", "dev"):
        written(tmp_path / "leaky" / f"{split}.json", leaky)
    text = said(DataError, tmp_path / "leaky", tmp_path / "m")
    assert '\nfrom Python: --leak is settings={"data.leak": ...}' in text
    text = said(ConfigError, data, tmp_path / "m", rename_labels="x.json")
    assert "from Python: --rename-labels is rename_labels, --init-from is init_from" in text
    text = said(ConfigError, data, tmp_path / "m", preset="quick")
    assert "from Python: --preset is preset" in text
    text = said(ConfigError, data, tmp_path / "m", settings={"training.epochs": 0})
    assert "training.epochs (from argument)" in text
    assert "from Python" not in text


def test_flags_of_a_command_to_type_are_left_alone():
    with pytest.raises(DataError) as caught, naming_keywords():
        raise DataError("wrong.", hint="bert-cls check d --leak allow")
    assert caught.value.hint == "bert-cls check d --leak allow"


def test_every_flag_that_stands_for_a_setting_is_one_of_train():
    commands = typer.main.get_command(cli.app).commands
    flags = {name for p in commands["train"].params for name in p.opts}
    flags |= {name for p in commands["distill"].params for name in p.opts}
    assert set(FLAGS.values()) <= set(KEYWORDS) <= flags


def test_label_names_of_numpy_are_names_and_sets_have_no_order(encoder, data, tmp_path):
    options = {"encoder": encoder("bert"), "settings": FAST, "overwrite": True}
    names = np.array(["尾灯", "天窗", "轮胎"])
    model = Classifier.train(data, tmp_path / "model", labels=names, **options)
    assert model.labels == ("尾灯", "天窗", "轮胎")
    with pytest.raises(ConfigError, match="labels must be in an order"):
        Classifier.train(data, tmp_path / "model", labels=set(names), **options)
    assert Classifier.load(tmp_path / "model").labels == model.labels


def test_what_fails_before_the_first_step_does_not_cost_the_model_before(
    encoder, data, tmp_path, monkeypatch
):
    options = {"encoder": encoder("bert"), "settings": FAST, "overwrite": True}
    Classifier.train(data, tmp_path / "model", **options)
    monkeypatch.setattr("bert_cls.training.run.static_files", lambda setup: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Classifier.train(data, tmp_path / "model", **options)
    assert Classifier.load(tmp_path / "model").labels
