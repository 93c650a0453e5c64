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


def outcomes(script: str, root: str, kind: str, count: int) -> list[dict]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / script), root, kind, str(count), "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("script", "kind", "count", "at_least"),
    [
        ("faults.py", "kills", 2, 2),
        ("faults.py", "finishing", 2, 2),
        ("faults.py", "overwriting", 2, 2),
        ("faults.py", "steps", 1, 6),
        ("faults.py", "damages", 5, 5),
        ("faults.py", "flips", 60, 60),
        ("faults.py", "stops", 4, 4),
        ("faults.py", "not finite", 3, 3),
        ("faults.py", "full disk", 3, 4),
        ("faults.py", "rotation", 2, 2),
        ("hash_faults.py", "hashes", 3, 3),
        ("rank_faults.py", "ranks", 1, 18),
        ("rank_faults.py", "lost ranks", 1, 1),
    ],
)
def test_what_is_promised_holds(root, script, kind, count, at_least):
    found = outcomes(script, root, kind, count)
    if kind == "full disk" and not found[0]["tried"]:
        pytest.skip(found[0]["what"])
    assert found[0]["tried"] >= at_least
    for outcome in found:
        assert outcome["held"] == outcome["tried"], outcome
