"""A short form of the corpus (`make corpus` runs the long one): no input ends in a traceback."""

from __future__ import annotations

import pytest

from corpus import Rig, explored


@pytest.fixture(scope="module")
def rig(tmp_path_factory) -> Rig:
    return Rig(tmp_path_factory.mktemp("corpus"))


def test_no_input_ends_in_a_traceback(rig, monkeypatch):
    monkeypatch.setenv("BERT_CLS_CACHE", str(rig.root / "cache"))
    explored(rig.run, 100, repeatable=True)
    assert {command for command, _, _ in rig.told} == {"check", "train", "predict", "evaluate"}
    assert {0, 1, 2} <= {code for _, _, code in rig.told}
