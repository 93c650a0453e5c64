"""The same labels and weights under every order of hashes and rows.

python tests/hash_faults.py FOLDER hashes COUNT SEED
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

from bert_cls.folders import sha256
from faults import SETTINGS, Outcome, Place, outcome

NAMES = "import sys; from bert_cls.data import load; print(load(sys.argv[1]).space.names)"


def hashes(place: Place, count: int, seed: int) -> list[Outcome]:
    """Label maps of shuffled files, and weights of whole runs, by other seeds of hashes."""
    chance = random.Random(seed)
    wanted, faults = None, []
    for trial in range(count):
        data = place.root / f"shuffled-{trial}"
        data.mkdir()
        for path in place.data.iterdir():
            rows = json.loads(path.read_text("utf-8"))
            chance.shuffle(rows)
            shuffled = [
                row | {"label": chance.sample(row["label"], len(row["label"]))} for row in rows
            ]
            (data / path.name).write_text(json.dumps(shuffled, ensure_ascii=False), "utf-8")
        names = python(trial, "-c", NAMES, str(data)).stdout
        wanted = wanted or names
        faults.append(None if names == wanted and "尾灯" in names else f"{trial}: {names}")
    runs = []
    for trial in range(max(1, count // 5)):
        output = place.root / f"hashed-{trial}"
        settings = [f"--set={k}={json.dumps(v)}" for k, v in SETTINGS.items()]
        words = ["train", str(place.data), "-o", str(output), "--encoder", str(place.encoder)]
        said = python(trial * 7, "-m", "bert_cls", *words, *settings).stderr
        whole = sha256(place.whole / "model.safetensors")
        good = output.is_dir() and sha256(output / "model.safetensors") == whole
        runs.append(None if good else said[-500:])
    return [
        outcome("T10", "PYTHONHASHSEED and shuffled files: the same label map", faults),
        outcome("T11", "PYTHONHASHSEED: the same weights", runs),
    ]


def python(hash_seed: int, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment)


if __name__ == "__main__":
    where, _, how_many, seeded = sys.argv[1:]
    print(json.dumps(hashes(Place(Path(where)), int(how_many), int(seeded)), ensure_ascii=False))
