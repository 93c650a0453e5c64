"""Predicting where torch, transformers and scikit-learn are not installed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bert_cls.config import resolve_config
from bert_cls.engines import ENGINES
from bert_cls.training import Request, Silent, train
from small import multilabel_rows, write_folder

# a finder that refuses: nothing that is there can be imported, as if it was not installed
REFUSING = """
import json, sys
HEAVY = {"torch", "transformers", "sklearn", "accelerate"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
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


@pytest.mark.parametrize("name", LIGHT)
def test_a_folder_with_an_engine_file_predicts_without_them(name, model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    export = subprocess.run(
        [sys.executable, "-m", "bert_cls.cli", "export", str(folder), "--to", ENGINES[name].export],
        capture_output=True,
        text=True,
    )
    assert export.returncode == 0, export.stderr
    done = run(
        "from bert_cls import Classifier\n"
        "model = Classifier.load(sys.argv[1], engine=sys.argv[2])\n"
        "answers = [p.to_dict() for p in model.predict(['天窗漏水', '今天堵车'])]\n"
        "assert not HEAVY & set(sys.modules), HEAVY & set(sys.modules)\n"
        "print(json.dumps(answers))",
        folder,
        name,
    )
    assert done.returncode == 0, done.stderr
    spoken = run(
        COMMAND_LINE,
        *("predict", folder, "--text", "天窗漏水", "--text", "今天堵车", "--engine", name),
    )
    assert spoken.returncode == 0, spoken.stderr
    lines = [json.loads(line) for line in spoken.stdout.splitlines()]
    assert [{k: v for k, v in line.items() if k != "index"} for line in lines] == json.loads(
        done.stdout
    )
