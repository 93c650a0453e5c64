"""Laws of the house: import order, sizes, what files may not contain."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bert_cls

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "bert_cls").rglob("*.py"))


def test_imports_go_one_way():
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(command)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_public_names_are_sorted_and_there():
    assert bert_cls.__all__ == sorted(bert_cls.__all__)
    for name in bert_cls.__all__:
        assert getattr(bert_cls, name) is not None


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT / "src").as_posix())
def test_files_and_functions_stay_small(path):
    source = path.read_text("utf-8")
    assert source.count("\n") <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and path.parent.name != "commands":
            assert node.end_lineno - node.lineno < 60, node.name


def test_only_commands_print():
    for path in SOURCES:
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        ]
        assert not calls or path.parent.name == "commands", path


def test_nothing_is_unpickled_and_no_remote_code_is_trusted():
    text = "\n".join(path.read_text("utf-8") for path in SOURCES)
    for pattern in (
        r"\bpickle\b.*import|import pickle",
        r"torch\.load\(",
        r"trust_remote_code=True",
    ):
        assert not re.search(pattern, text), pattern
