"""Training from Python: the same run as the command line's, and errors in Python's words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer

from bert_cls import Classifier, cli
from bert_cls.config import FLAGS
from bert_cls.errors import BertClsError, ConfigError, DataError, EncoderError
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
    options = {"encoder": encoder("bert"), "settings": {**FAST, "training.epochs": 2}}
    whole = Classifier.train(data, tmp_path / "whole", **options)
    with pytest.raises(RuntimeError, match="lamp"):
        Classifier.train(data, tmp_path / "cut", observer=Ends(), **options)
    again = Classifier.resume(str(tmp_path / "cut"))
    assert again.predict(["尾灯不亮"]) == whole.predict(["尾灯不亮"])
    with pytest.raises(ConfigError, match="is a finished model") as caught:
        Classifier.resume(tmp_path / "cut")
    assert str(caught.value).endswith("\nfrom Python: --overwrite is overwrite=True")


class Ends(Silent):
    """Stops a run after some steps, the last of which has its checkpoint."""

    def evaluated(self, result, *, best) -> None:
        raise RuntimeError("the lamp went out")


@pytest.mark.parametrize("by_earlier_version", [False, True])
def test_where_a_run_is_gone_on_with_makes_no_difference(
    by_earlier_version, copied, data, tmp_path, monkeypatch
):
    copied("bert").rename(tmp_path / "encoder")
    written(tmp_path / "merges.json", {"全景天窗": "天窗"})
    monkeypatch.chdir(tmp_path)
    settings = {**FAST, "training.epochs": 2, "training.save_steps": 1}
    options = {"encoder": "encoder", "settings": {**settings, "data.merge_labels": "merges.json"}}
    whole = Classifier.train(data, "whole", **options)
    if by_earlier_version:  # which stored names as they were given
        monkeypatch.setattr("bert_cls.training.run.anchored", lambda request: request)
    with pytest.raises(RuntimeError, match="lamp"):
        Classifier.train(data, "cut", observer=Ends(), **options)
    stored = run_of(tmp_path / "cut")["config"]
    assert (stored["encoder"]["name"] == "encoder") == by_earlier_version
    assert list((tmp_path / "cut").glob("checkpoint-*"))
    if not by_earlier_version:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
    again = Classifier.resume(tmp_path / "cut")
    assert again.predict(["尾灯不亮"]) == whole.predict(["尾灯不亮"])


def test_a_path_as_encoder_is_a_folder_and_no_hub_id(copied, data, tmp_path, monkeypatch):
    copied("bert").rename(tmp_path / "folder")
    monkeypatch.chdir(tmp_path)
    for options in (
        {"encoder": Path("./missing"), "settings": FAST},
        {"settings": {**FAST, "encoder.name": Path("missing")}},
    ):
        with pytest.raises(EncoderError, match=f"encoder folder {tmp_path}/missing does not exist"):
            Classifier.train(data, "model", **options)
    model = Classifier.train(data, "model", encoder=Path("./folder"), settings=FAST)
    assert model.bundle.details["config"]["encoder"]["name"] == str(tmp_path / "folder")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder": ""}, "encoder.name (from argument): String should have at least 1 character"),
        (
            {"encoder": "a", "settings": {"encoder.name": "b"}},
            """encoder is 'a', but settings["encoder.name"] is 'b'.""",
        ),
        (
            {"config": {"training": {}}},
            "config must be a path. Got dict of length 1 instead.\nhint",
        ),
        (
            {"rename_labels": ["x"]},
            "rename_labels must be a path. Got list of length 1 instead.\nhint: or {",
        ),
        ({"init_from": 1}, "init_from must be a path. Got 1 instead."),
        ({"output": None}, "output must be a path. Got None instead."),
        ({"data": ["x"]}, "data must be a path. Got list of length 1 instead."),
        ({"labels": 3}, "labels must be names in their order, or a file. Got 3."),
        (
            {"settings": {"training": {"epochs": 1}}},
            'training is a section of settings, not one of them.\nhint: write "training.epochs"',
        ),
        ({"settings": {"training": 3}}, 'write "training.FIELD"'),
        ({"settings": {1: 1}}, "argument: there is no setting 1."),
        ({"settings": ["training.epochs"]}, "settings must be {"),
        ({"rename_labels": {"轮胎": 1}}, "rename_labels: '轮胎' must become a name. Got 1."),
        ({"rename_labels": {1: "轮胎"}}, "rename_labels: 1 is no name."),
    ],
)
def test_arguments_of_another_kind_are_refused(options, said, data, tmp_path):
    given = {"data": data, "output": tmp_path / "m", **options}
    with pytest.raises((ConfigError, DataError)) as caught:
        Classifier.train(given.pop("data"), given.pop("output"), **given)
    assert said in str(caught.value)
    assert not (tmp_path / "m").exists()


class Table:
    """What a table of pandas is to `train`."""

    def to_json(self) -> None: ...
    def __len__(self) -> int:
        return 20_000


@pytest.mark.parametrize("kind", [list, dict, iter, Table])
def test_rows_instead_of_a_path_are_not_printed_but_told_how_to_be_written(kind, tmp_path):
    rows = [{"text_a": "尾灯坏了" * 20, "label": ["尾灯"]}] * 20_000
    data = {list: rows, dict: {"train": rows}, iter: iter(rows), Table: Table()}[kind]
    with pytest.raises(ConfigError) as caught:
        Classifier.train(data, tmp_path / "m")
    text = str(caught.value)
    assert text.startswith(f"data must be a path. Got {type(data).__name__}")
    assert len(text) < 500
    if kind is list:
        assert "list of length 20,000" in text
    if kind is Table:
        assert "table.to_json(" in text
        return
    code = text[text.index("with open(") :].replace("rows.jsonl", str(tmp_path / "rows.jsonl"))
    exec(code, {"rows": rows[:2], "json": json})  # the lines are to be copied
    lines = (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows[:2]


def test_an_encoder_said_twice_alike_is_one(encoder, data, tmp_path):
    name = encoder("bert")
    settings = {**FAST, "encoder.name": name}
    assert Classifier.train(data, tmp_path / "m", encoder=name, settings=settings).labels


def test_labels_are_renamed_by_a_mapping_as_by_a_file(encoder, data, tmp_path):
    Classifier.train(data, tmp_path / "old", encoder=encoder("bert"), settings=FAST)
    renames = {"轮胎": "轮子"}
    rows = json.loads((data / "train.json").read_text("utf-8"))
    for row in rows:
        row["label"] = [renames.get(name, name) for name in row["label"]]
    options = {"init_from": tmp_path / "old", "settings": {**FAST, "training.epochs": 2}}
    file = written(tmp_path / "rows.json", rows)
    names = written(tmp_path / "renames.json", renames)
    Classifier.train(file, tmp_path / "by_file", rename_labels=names, **options)
    Classifier.train(file, tmp_path / "whole", rename_labels=renames, **options)
    with pytest.raises(RuntimeError, match="lamp"):
        Classifier.train(file, tmp_path / "cut", rename_labels=renames, observer=Ends(), **options)
    Classifier.resume(tmp_path / "cut")
    weights = {
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("by_file", "whole", "cut")
    }
    assert len(weights) == 1
    with pytest.raises(ConfigError, match="--rename-labels: '轮胎' is to be called '车轮'"):
        Classifier.train(file, tmp_path / "n", rename_labels={"轮胎": "车轮"}, **options)


def test_what_is_said_beside_a_model_to_start_from_is_true(encoder, data, tmp_path):
    first, other = encoder("bert"), encoder("distilbert")
    Classifier.train(data, tmp_path / "old", encoder=first, settings=FAST)
    with pytest.raises(ConfigError) as caught:
        Classifier.train(
            data, tmp_path / "new", init_from=tmp_path / "old", encoder=other, settings=FAST
        )
    assert "was trained with" not in str(caught.value)
    assert f"--init-from {tmp_path / 'old'} brings an encoder of its own." in str(caught.value)


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
