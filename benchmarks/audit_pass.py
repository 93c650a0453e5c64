"""`bert-cls check` on a million short rows: how long it takes, and how much memory it has.

The rows are those of data_pass.py, in a temporary folder, as one file. The peer reads the same with
`json.loads` and counts rows whose text was seen before in a set of the texts; it checks no row, and
knows nothing of near-duplicates, labels, lengths or spellings. Each way and size has a process of
its own, whose memory is its peak over what it had before it began.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bert_cls.data.audit import audit
from data_pass import write_rows
from record import RESULTS, console, machine, show, write_results

TARGET_SECONDS = 60


def ours(path: Path) -> int:
    """Everything `bert-cls check` does but printing; gives the rows that repeat a text."""
    found = audit(path)
    return sum(f.count for f in found.findings if f.code == "D34")


def peer(path: Path) -> int:
    """Rows whose text was there before."""
    seen: set[str] = set()
    again = 0
    with path.open(encoding="utf-8") as file:
        for line in file:
            text = json.loads(line)["text_a"]
            again += text in seen
            seen.add(text)
    return again


WAYS: dict[str, Callable[[Path], int]] = {"bert-cls check": ours, "peer: a set of texts": peer}


def measure(way: str, path: Path) -> dict[str, float]:
    """Seconds, and megabytes at the peak beyond those at the start."""
    before = _peak_mb()
    began, busy = time.perf_counter(), time.process_time()
    again = WAYS[way](path)
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - busy,
        "memory_mb": _peak_mb() - before,
        "repeats": again,
    }


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "audit_pass.json")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    args = arguments()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bert-cls-bench-") as scratch:
        for rows in args.rows:
            path = Path(scratch) / f"{rows}.jsonl"
            write_rows(path, rows, seed=args.seed)
            for way in WAYS:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                    figures = process.submit(measure, way, path).result()
                found.append({"rows": rows, "way": way, **figures})
                console.print(f"{rows:,} rows, {way}: {figures['seconds']:.1f} s")
    for entry in found:
        other = next(f for f in found if f["rows"] == entry["rows"] and f["way"] != entry["way"])
        entry["seconds_to_the_other"] = entry["seconds"] / other["seconds"]
        entry["bytes_a_row"] = 1e6 * entry["memory_mb"] / entry["rows"]
    columns = ("seconds", "cpu_seconds", "memory_mb", "bytes_a_row", "seconds_to_the_other")
    show(
        f"target: a million rows in {TARGET_SECONDS} s",
        ("", "rows", "s", "CPU s", "MB at the peak", "bytes a row", "to the other", "repeats"),
        [
            [f["way"], f"{f['rows']:,}", *(f[c] for c in columns), f"{f['repeats']:,}"]
            for f in found
        ],
    )
    settings = {key: value for key, value in vars(args).items() if key != "output"}
    write_results(args.output, {"settings": settings, "machine": machine(), "runs": found})
    console.print(f"written: {args.output.name}")


if __name__ == "__main__":
    main()
