"""Training, checkpoints and model folders under every fault we can make; what is promised holds.

Kills, signals, damage, a full disk, bad numbers, lost ranks: tests/faults.py and
tests/rank_faults.py make them, this script runs all of them and prints one line a promise. A run
with `--only` adds to the results of the ones before. There is no peer: no other trainer makes
these promises. Ends with 1 when one did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import RESULTS, ROOT, console, machine, read_results, show, write_results

KINDS: dict[str, tuple[str, int]] = {
    "kills": ("faults", 100),
    "finishing": ("faults", 1000),
    "overwriting": ("faults", 1000),
    "steps": ("faults", 18),
    "damages": ("faults", 1000),
    "stops": ("faults", 40),
    "not finite": ("faults", 3),
    "full disk": ("faults", 4),
    "no memory": ("faults", 18),
    "flips": ("faults", 200),
    "rotation": ("faults", 3),
    "hashes": ("hash_faults", 20),
    "ranks": ("rank_faults", 18),
    "lost ranks": ("rank_faults", 5),
}
RESULT = RESULTS / "chaos.json"


def run(kind: str, root: Path, seed: int) -> list[dict[str, object]]:
    """The outcomes of one kind of fault."""
    script, count = KINDS[kind]
    command = [sys.executable, str(ROOT / "tests" / f"{script}.py"), str(root), kind]
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [*command, str(count), str(seed)], stdout=subprocess.PIPE, text=True, env=environment
    )
    if done.returncode:
        sys.exit(f"{kind}: {script}.py itself ended with {done.returncode}")
    outcomes: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return outcomes


def main() -> int:
    """Run the asked kinds, keep their outcomes, show all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(KINDS), nargs="+", default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    memory = Path("/dev/shm")  # thousands of synced files: a disk only makes it slow
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as root:
        for kind in arguments.only:
            began = time.perf_counter()
            outcomes = run(kind, Path(root), arguments.seed)
            seconds = time.perf_counter() - began
            console.print(f"{kind}: {seconds:.0f} s")
            content = read_results(RESULT)
            content[kind] = {
                "outcomes": outcomes,
                "seed": arguments.seed,
                "seconds": round(seconds),
                "machine": machine(),
            }
            write_results(RESULT, content)
    kept = read_results(RESULT)
    outcomes = [outcome for kind in KINDS if kind in kept for outcome in kept[kind]["outcomes"]]
    outcomes.sort(key=lambda outcome: int(outcome["promise"][1:]))
    columns = ("promise", "what", "tried", "held")
    show("what was tried, and what held", columns, [[o[c] for c in columns] for o in outcomes])
    broken = [o for o in outcomes if o["held"] != o["tried"]]
    for outcome in broken:
        console.print(f"\n{outcome['promise']} {outcome['what']}: {outcome['faults'][0]}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
