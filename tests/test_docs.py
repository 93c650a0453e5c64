"""What the documents show is run: every command, row and program of both READMEs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bert_cls.config import describe_fields
from bert_cls.data import Example, stream
from doors import main
from small import multilabel_rows, write_folder
from tiny import tiny_encoder

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh.md")
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(name: str, language: str) -> list[str]:
    text = (ROOT / name).read_text("utf-8")
    return [body for kind, body in BLOCK.findall(text) if kind == language]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder as the READMEs assume it; the built-in encoder's name stands for a tiny one."""
    root = tmp_path_factory.mktemp("docs")
    tiny_encoder("bert", root / "cache" / "encoders" / "multilingual-e5-small-zh")
    write_folder(root / "DATA", multilabel_rows, labels=["尾灯", "天窗", "轮胎"])
    write_folder(root / "examples" / "car_parts", multilabel_rows)
    rows = [{k: v for k, v in row.items() if k != "label"} for row in multilabel_rows(6)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (root / "new.jsonl").write_text(lines, "utf-8")
    (root / "test.json").write_text((root / "DATA" / "test.json").read_text("utf-8"), "utf-8")
    return root


def run(command: list[str], workplace: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "BERT_CLS_CACHE": str(workplace / "cache"), "PATH": path}
    return subprocess.run(command, capture_output=True, text=True, cwd=workplace, env=environment)


def commands(name: str) -> list[str]:
    lines = "\n".join(blocks(name, "")).replace("\\\n", " ").splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.startswith("bert-cls")]


def test_every_command_of_the_readme_runs(workplace, monkeypatch):
    shown = commands("README.md")
    assert len(shown) >= 7
    monkeypatch.chdir(workplace)
    monkeypatch.setenv("BERT_CLS_CACHE", str(workplace / "cache"))
    for command in shown:
        done = main(*shlex.split(command)[1:])
        if "--resume" in command:  # nothing was interrupted here, and it says so
            assert done.code == 2
            assert "finished model" in done.err
        else:
            assert done.code == 0, (command, done.err)


def test_the_old_command_of_the_readme_runs(workplace):
    (command,) = (b for b in blocks("README.md", "") if "run_bert_cls.py" in b)
    words = shlex.split(command.replace("\\\n", " "))
    done = run([sys.executable, str(ROOT / words[1]), *words[2:]], workplace)
    assert done.returncode == 0, done.stderr
    assert "F1_macro" in done.stdout + done.stderr


def test_the_python_of_the_readme_runs(workplace):
    (program,) = blocks("README.md", "python")
    done = run([sys.executable, "-c", program], workplace)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("name", READMES)
def test_rows_shown_are_rows_that_can_be_read(name, tmp_path):
    shown, *rest = blocks(name, "json")
    (tmp_path / "row.jsonl").write_text(shown, "utf-8")
    (row,) = [r for r in stream(tmp_path / "row.jsonl") if isinstance(r, Example)]
    assert isinstance(row.label, tuple)
    for block in rest:
        assert all(json.loads(line) for line in block.splitlines())


def test_both_readmes_show_the_same_commands_and_programs():
    assert commands("README.md") == commands("README.zh.md")
    assert blocks("README.md", "python") == blocks("README.zh.md", "python")
    assert blocks("README.md", "json") == blocks("README.zh.md", "json")
    linked = [
        set(re.findall(r"\]\((docs/[^)#]+)", (ROOT / name).read_text("utf-8"))) for name in READMES
    ]
    assert linked[0] == linked[1]


def test_every_link_leads_somewhere():
    for file in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text("utf-8")):
            if "://" not in target:
                assert (file.parent / target).exists(), (file.name, target)


def test_every_setting_has_a_sentence():
    for key, _, sentence in describe_fields():
        assert sentence.endswith("."), key


def test_the_example_data_is_what_it_says():
    labels = json.loads((ROOT / "examples/car_parts/labels.json").read_text("utf-8"))
    texts: list[str] = []
    for name in ("train", "dev", "test"):
        rows = json.loads((ROOT / f"examples/car_parts/{name}.json").read_text("utf-8"))
        texts += [row["text_a"] for row in rows]
        assert {label for row in rows for label in row["label"]} <= set(labels)
    assert len(texts) == len(set(texts)) >= 600
    assert len(labels) == 30


def test_make_bench_names_every_benchmark_that_it_leaves_out():
    lines = (ROOT / "Makefile").read_text("utf-8").splitlines()
    targets = {line.partition(":")[0] for line in lines if line.startswith("bench-")}
    [bench] = [line for line in lines if line.startswith("bench:")]
    done, help_ = bench.split("##")
    assert set(re.findall(r"bench-\w+", help_)) == targets - set(re.findall(r"bench-\w+", done))
