"""No command destroys a file that it reads, or one of its own two outputs."""

from __future__ import annotations

import json
import shutil

import pytest

from bert_cls import Classifier
from bert_cls.legacy import main as old_script
from bert_cls.request import _write, read_run
from doors import main
from small import FAST, multilabel_rows, write_folder
from tiny import tiny_encoder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """An encoder, data, a model trained on them, and all else that commands read."""
    root = tmp_path_factory.mktemp("overwriting")
    encoder = str(tiny_encoder("bert", root / "encoder"))
    names = ["尾灯", "天窗", "轮胎"]
    data = write_folder(root / "data", multilabel_rows, sizes=(32, 16, 16), labels=names)
    Classifier.train(data, root / "model", encoder=encoder, settings=FAST)
    shutil.copytree(data, root / "other")
    for name in ("rows.json", "rows.jsonl", "out.jsonl.part.json", "model/quarantine.jsonl"):
        shutil.copy(data / "test.json", root / name)
    shutil.copy(data / "labels.json", root / "names.json")
    (root / "merges.json").write_text('{"尾灯": "天窗"}', "utf-8")
    for suffix in ("json", "jsonl"):
        (root / f"link.{suffix}").symlink_to(f"rows.{suffix}")
    rows = json.loads((data / "test.json").read_text("utf-8"))
    lines = [json.dumps({"index": r["index"], "labels": [], "scores": {}}) for r in rows]
    (root / "said.jsonl").write_text("\n".join(lines), "utf-8")
    return root


@pytest.fixture
def here(root, monkeypatch):
    """The working folder; tests leave it as it was."""
    monkeypatch.chdir(root)
    return root


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(here, arguments):
    before = content(here)
    done = main(*arguments.split())
    after = content(here)
    for path in after.keys() | before.keys():
        if after.get(path) != before.get(path):  # for the tests that follow
            path.unlink(missing_ok=True)
            if path in before:
                path.write_bytes(before[path])
    assert done.code == 2, done
    assert after == before
    assert (here / "link.json").is_symlink()
    return done.err


@pytest.mark.parametrize(
    "arguments",
    [
        "predict model rows.jsonl -o rows.jsonl",
        "predict model rows.jsonl -o link.jsonl",
        "predict model out.jsonl.part.json -o out.jsonl",
        "evaluate model rows.json -o rows.json",
        "evaluate model rows.json --report link.json",
        "evaluate model rows.json -o model/bert_cls.json",
        "evaluate model rows.json -o model/MANIFEST.json",
        "evaluate model rows.json --report model/evaluation.json",
        "evaluate model rows.json --neighbours 1 -o data/train.json",
        "evaluate model rows.json --neighbours 1 -o data/labels.json",
        "evaluate model rows.json --neighbours 1 --report r --train other -o other/train.json",
        "evaluate model rows.json --neighbours 1 --train other --report other/dev.json",
        "evaluate model rows.json --neighbours 1 -o model/run.json",
        "compare model said.jsonl rows.json --json rows.json",
        "compare model said.jsonl rows.json --json said.jsonl",
        "compare model said.jsonl rows.json --json model/model.safetensors",
        "explain model --file rows.json --json rows.json",
        "explain model 尾灯 --json model/bert_cls.json",
        "explain model 尾灯 --neighbours 1 --json data/train.json",
        "explain model 尾灯 --neighbours 1 --json model/run.json",
        "explain model 尾灯 --neighbours 1 --train rows.json --json rows.json",
        "explain model 尾灯 --neighbours 1 --train other --json other/train.json",
        "check data --json data/train.json",
        "check data --json data/labels.json",
        "check rows.json --json rows.json",
        "check data --labels names.json --json names.json",
        "check data --merge-labels merges.json --json merges.json",
        "check data --encoder encoder --json encoder/tokenizer.json",
        "check data --encoder model --json model/config.json",
    ],
)
def test_no_command_writes_over_what_it_reads(here, arguments):
    assert "is read by this very command" in refused(here, arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        # the data that a model was trained on, though the command has no need of them
        "evaluate model rows.json -o data/train.json",
        "evaluate model rows.json --report data/labels.json",
        "evaluate model rows.json --neighbours 1 --train other -o data/train.json",
        "predict model rows.jsonl -o data/dev.json",
        "predict model rows.jsonl -o data/dev.jsonl",
        "predict model --text 尾灯 -o data/valid.csv",
        "explain model 尾灯 --json data/labels.json",
        "compare model said.jsonl rows.json --json data/test.json",
        # what lies beside the rows that are read
        "evaluate model other/test.json -o other/train.json",
        "evaluate model other/test.json -o other/../other/dev.parquet",
        "predict model other/test.json -o other/train.json",
        "explain model --file other/test.json --json other/labels.json",
        "compare model said.jsonl other/test.json --json other/train.json",
        "check other/test.json --json other/train.json",
        "check other --json other/validation.jsonl.gz",
    ],
)
def test_no_command_writes_into_data(here, arguments):
    assert "would be read as a part of the data in" in refused(here, arguments)


def test_a_file_that_a_model_was_trained_on_is_spared(here):
    shutil.copytree("model", "moved")
    try:
        run = read_run(here / "moved") | {"data": str(here / "rows.json")}
        _write(here / "moved", run)
        said = refused(here, "predict moved other/test.json -o rows.json")
        assert "is what the model was trained on" in said
        (here / "moved/run.json").write_text("{}")  # of use for nothing here
        assert main("predict", "moved", "rows.json", "-o", "new.jsonl").code == 0
        _write(here / "moved", run | {"data": "\0" + "x" * 5000})
        assert main("predict", "moved", "rows.json", "-o", "new.jsonl", "--no-resume").code == 0
    finally:
        shutil.rmtree("moved")
        (here / "new.jsonl").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("evaluate model rows.json -o same --report same", "is to be written twice"),
        ("evaluate model rows.json -o same --report data/../same", "is to be written twice"),
        ("evaluate model rows.json -o said.jsonl --report said.jsonl", "is to be written twice"),
        ("check rows.json --json same --fix same", "is to be written twice"),
        ("check rows.json --json fixed/found.json --fix fixed", "is to be written twice"),
    ],
)
def test_two_outputs_are_two_files(here, arguments, said):
    assert said in refused(here, arguments)


TRAIN = "train rows.json -o model --overwrite"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train model/quarantine.jsonl -o model --overwrite", "DATA model/quarantine.jsonl was"),
        (f"{TRAIN} --labels model/config.json", "--labels model/config.json was written by"),
        (f"{TRAIN} --merge-labels model/config.json", "--merge-labels model/config.json was"),
        (f"{TRAIN} --encoder model", "is the same folder as -o"),
        (f"{TRAIN} --init-from model", "are the same folder"),
        ("train rows.json -o rows.json", "is a file"),
        ("train data -o data", "is not empty"),
        ("distill model --layers 1 -o model --overwrite", "model is the teacher"),
        ("distill model --layers 1 -o data", "is not empty"),
        ("distill model --layers 1 -o rows.json --unlabelled rows.json", "is a file"),
        ("check data --fix data", "is not empty"),
        ("check data --fix rows.json", "is not empty"),
        ("encoders trim encoder --layers 0 -o encoder", "is not empty"),
        ("encoders trim encoder --texts rows.json -o rows.json", "rows.json"),
    ],
)
def test_folders_that_commands_write_spare_what_they_read(here, arguments, said):
    assert said in refused(here, arguments)


def test_the_old_script_spares_its_data_and_labels(here, capsys):
    shutil.copy("names.json", "model/report.json")  # of the names that overwriting takes away
    before = content(here)
    flags = "--data_dir data --model_type bert --output_mode classification --multilabel"
    flags += " --model_name_or_path encoder --do_train"
    for labels, output, said in (
        ("data/labels.json", "data", "is not empty"),
        ("model/report.json", "model --overwrite_output_dir", "was written by the run in"),
    ):
        assert old_script(f"{flags} --labels {labels} --output_dir {output}".split()) == 2
        assert said in capsys.readouterr().err
        assert content(here) == before


def test_outputs_beside_inputs_are_written(here):
    done = main("evaluate", "model", "rows.json", "-o", "data/figures.json", "--report", "r.html")
    assert done.code == 0, done
    assert main("evaluate", "model", "rows.json", "-o", "data/figures.json").code == 0  # again
    assert main("explain", "model", "尾灯", "--json", "model/why.json").code == 0
    assert main("explain", "model", "尾灯", "--json", "model/why.json").code == 0
    for _ in range(2):  # a name of data where there are none
        done = main("predict", "model", "data/test.json", "-o", "said/test.jsonl")
        assert done.code == 0, done
    done = main("evaluate", "model", "rows.json", "-o", "/dev/null", "--report", "/dev/null")
    assert done.code == 0, done
