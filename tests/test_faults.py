"""A few trials of every fault; `make chaos` makes all of them (docs/reliability.md)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def root():
    """In memory where that is possible: thousands of files are synced."""
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None)
    yield folder
    shutil.rmtree(folder)


def outcomes(script: str, root: str, kinds: dict[str, int]) -> list[dict]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    counts = ",".join(map(str, kinds.values()))
    command = [sys.executable, str(HERE / script), root, ",".join(kinds), counts, "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# in about one run of ten a rank of torch 2.13 aborts at its end ("terminate called"), though its
# group is closed, so what is said of several processes is tried by `make chaos`
SEVERAL = pytest.mark.skipif(
    not os.environ.get("BERT_CLS_RANKS"),
    reason="several processes: make chaos, or BERT_CLS_RANKS=1",
)
ONE = {"kills": 2, "finishing": 2, "overwriting": 1, "steps": 1, "damages": 4, "flips": 60}
ONE |= {"stops": 3, "not finite": 3, "full disk": 3, "no memory": 1, "rotation": 1}


@pytest.mark.parametrize(
    ("script", "kinds", "promises"),
    [
        ("faults.py", ONE, {"T1", "T2", "T3", "T4", "T5", "T6", "T7", "T8", "T9"}),
        ("hash_faults.py", {"hashes": 3}, {"T10", "T11"}),
        pytest.param(
            "rank_faults.py",
            {"ranks": 1},
            {"T2", "T4", "T5", "T8", "T11", "T12"},
            marks=SEVERAL,
        ),
        pytest.param("rank_faults.py", {"lost ranks": 1}, {"T12"}, marks=SEVERAL),
    ],
    ids=["one process", "hashes", "ranks", "lost ranks"],
)
def test_what_is_promised_holds(root, script, kinds, promises):
    found = outcomes(script, root, kinds)
    assert {outcome["promise"] for outcome in found} == promises
    for outcome in found:
        assert outcome["held"] == outcome["tried"], outcome
        assert outcome["tried"] or "may not be mounted" in outcome["what"], outcome
