"""Predicting where torch, transformers and scikit-learn are not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bert_cls import cli
from bert_cls.config import resolve_config
from bert_cls.engines import ENGINES
from bert_cls.errors import EXTRAS
from bert_cls.export import export
from bert_cls.training import Request, Silent, train
from small import multilabel_rows, write_folder

# a finder that refuses: nothing that is there can be imported, as if it was not installed
REFUSING = """
import importlib.util, json, sys
HEAVY = {"torch", "transformers", "sklearn", "accelerate"}
if "onnx" in sys.argv[1:2]:  # of the extras none at all
    HEAVY |= {sys.argv.pop(1), "onnxruntime", "pyarrow", "openpyxl"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
there = importlib.util.find_spec
importlib.util.find_spec = lambda name: None if name in HEAVY else there(name)
"""
LIGHT = [name for name in ENGINES if not name.startswith("torch")]


@pytest.fixture(scope="module")
def model(encoder, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("light")
    data = write_folder(root / "data", multilabel_rows, sizes=(24, 8, 8))
    flags = {
        "encoder.name": str(encoder("bert")),
        "training.epochs": 1,
        "report.linear_bar": False,
        "report.resamples": 0,
    }
    config, origins = resolve_config(flags=flags)
    train(Request(data, root / "model", config, origins), Silent())
    return root / "model"


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", REFUSING + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


COMMAND_LINE = "from bert_cls.cli import main\nmain()\n"


def test_every_module_that_predicts_imports_without_them():
    done = run(
        "import bert_cls.classifier, bert_cls.outputs, bert_cls.resumable, bert_cls.terminal\n"
        "import bert_cls.commands.predict, bert_cls.commands.evaluate, bert_cls.cli\n"
        "print(sorted(HEAVY & set(sys.modules)))"
    )
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("by", ["command", "python"])
def test_weights_alone_say_what_to_install(by, model):
    if by == "command":
        done = run(COMMAND_LINE, "predict", model, "--text", "天窗", "--engine", "torch")
        assert done.returncode == 5, done.stderr
        said = done.stderr
    else:
        done = run(
            "from bert_cls import BertClsError, Classifier\n"
            "try: Classifier.load(sys.argv[1], engine='torch')\n"
            "except BertClsError as error: print(error)",
            model,
        )
        said = done.stdout
    assert "torch" in said
    assert "pip install 'bert-cls[train]'" in said
    assert "bert-cls export" in said
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(model, folder)
    export(folder, "onnx", lambda message: None)
    export(folder, "openvino", lambda message: None)
    return folder


@pytest.fixture(scope="module")
def with_every_file(exported, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("every") / "model"
    shutil.copytree(exported, folder)
    for target in sorted({ENGINES[name].export for name in LIGHT} - {"onnx", "openvino"}):
        export(folder, target, lambda message: None)
    return folder


@pytest.mark.parametrize("name", LIGHT)
def test_a_folder_with_an_engine_file_predicts_without_them(name, with_every_file):
    done = run(
        "from bert_cls import Classifier\n"
        "model = Classifier.load(sys.argv[2], engine=sys.argv[-1])\n"
        "answers = [p.to_dict() for p in model.predict(['天窗漏水', '今天堵车'])]\n"
        "print(json.dumps(answers), flush=True)\n"
        "from bert_cls.cli import main\n"
        "try: main()\n"
        "finally: assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)",
        *("predict", with_every_file, "--text", "天窗漏水", "--text", "今天堵车", "--engine", name),
    )
    assert done.returncode == 0, done.stderr
    answers, *lines = map(json.loads, done.stdout.splitlines())
    assert [{k: v for k, v in line.items() if k != "index"} for line in lines] == answers


# every command, and the extra that it needs to go on; None where it ends well without any
COMMANDS = {
    "train {data} -o {new}": "train",
    "distill {model} --layers 1 -o {new}": "train",
    "evaluate {model} {data}/test.json": None,
    "evaluate {model} {data}/test.json --report {new}.html --neighbours 1": "train",
    "check {data}": None,
    "compare {model} {same} {data}/test.json": None,
    "explain {model} 天窗": None,
    "explain {model} 天窗 --method gradient": "train",
    "predict {model} --text 天窗": None,
    "predict {model} --text 天窗 --engine onnx": "onnx",
    "predict {model} {data}/test.json -o {new}.parquet": "tables",
    "predict {model} {data}/rows.parquet": "tables",
    "export {model} --to onnx": "export",
    "export {model}": "export",
    "settings": None,
    "settings --losses": "train",
    "encoders list": None,
    "encoders fetch {encoder}": None,
    "encoders trim {encoder} --layers 1 -o {new}": None,
}


@pytest.mark.parametrize(
    "words",
    [
        "predict {model} --text 天窗",
        "explain {model} 天窗",
        "evaluate {model} {rows} --resamples 0",
        "compare {model} {same} {rows}",
        "",
    ],
)
def test_every_face_says_which_export_it_does_not_use_and_why(words, exported, tmp_path):
    data = write_folder(tmp_path / "data", multilabel_rows, sizes=(24, 8, 8))
    same = shutil.copytree(exported, tmp_path / "same")
    program = COMMAND_LINE if words else "import bert_cls\nbert_cls.Classifier.load(sys.argv[2])\n"
    places = {"model": exported, "rows": data / "test.json", "same": same}
    done = run(
        "HEAVY.clear(); HEAVY.update(['openvino', 'onnxruntime'])\n" + program,
        *[word.format(**places) for word in (words or "load {model}").split()],
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("engine")]
    assert said == [
        "engine torch, not openvino: openvino is not installed (pip install 'bert-cls')",
        "engine torch, not onnx: onnxruntime is not installed (pip install 'bert-cls[onnx]')",
    ] * (1 + words.startswith("compare")) + ["engine: torch float32"] * words.startswith("predict")


@pytest.mark.parametrize(
    ("missing", "to", "said", "install"),
    [
        (["torch", "transformers"], "openvino", "torch and transformers are", "bert-cls[export]"),
        (["onnx", "onnxruntime"], "onnx", "onnx and onnxruntime are", "bert-cls[export]"),
        (["onnxruntime"], "onnx-int8", "onnxruntime is", "bert-cls[export]"),
        (["openvino"], "onnx-int8", "openvino is", "bert-cls"),
        (["torch", "openvino"], "openvino-int8", "torch and openvino are", "bert-cls[export]"),
    ],
)
def test_export_names_all_it_needs_before_it_begins(missing, to, said, install, model):
    done = run(
        f"HEAVY.clear(); HEAVY.update({missing})\n" + COMMAND_LINE, "export", model, "--to", to
    )
    assert done.returncode == 5
    assert done.stderr == f"error: {said} not installed.\nhint: pip install '{install}'\n"


@pytest.mark.parametrize("package", EXTRAS)
def test_a_package_that_is_missing_is_named_with_what_installs_it(package):
    done = run(
        f"HEAVY.clear(); HEAVY.add({package!r})\n"
        "from bert_cls import cli\n"
        f"def needing():\n    import {package}\n"
        "cli.app = needing\n"
        "cli.main()"
    )
    assert done.returncode == 5, done.stderr
    extra = f"[{EXTRAS[package]}]" if EXTRAS[package] else ""
    said = f"error: {package} is not installed.\nhint: pip install 'bert-cls{extra}'\n"
    assert done.stderr == said


def test_openvino_is_of_the_base_install():
    assert EXTRAS["openvino"] == ""
    assert EXTRAS.keys() >= {kind.package for kind in ENGINES.values()}


def test_every_command_is_tried():
    tried = {" ".join(words.split()[: 1 + words.startswith("encoders")]) for words in COMMANDS}
    assert tried == {*cli.COMMANDS, *(f"encoders {name}" for name in cli.ENCODERS)}


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_that_needs_more_says_what_to_install(words, exported, encoder, tmp_path):
    data = tmp_path / "data"
    write_folder(data, multilabel_rows, sizes=(24, 8, 8))
    (data / "rows.parquet").write_bytes(b"PAR1")
    places = {
        "data": data,
        "model": exported,
        "same": shutil.copytree(exported, tmp_path / "same"),
        "encoder": encoder("bert"),
        "new": tmp_path / "new",
    }
    done = run(COMMAND_LINE, "onnx", *(word.format(**places) for word in words.split()))
    assert "Traceback" not in done.stderr
    extra = COMMANDS[words]
    if extra is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode in (2, 5), done.stderr
        assert f"bert-cls[{extra}]" in done.stderr.partition("hint: pip install ")[2]
        assert not (tmp_path / "new").exists()
