"""What the benchmarks share: where the data is, what the machine is, where figures go."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
_PACKAGES = ("bert-cls", "torch", "transformers", "accelerate", "tokenizers", "numpy")
_ENGINES = ("openvino", "onnxruntime")
console = Console(width=max(Console().width, 120), highlight=False)


def data_set(name: str) -> Path:
    """The folder of a measurement data set; ends the script where it is absent."""
    parent = Path(os.environ.get("BERT_CLS_DATA") or ROOT.parent / "shared" / "data")
    if not (parent / name / "train.json").is_file():
        sys.exit(
            f"The data set {name} is not in {parent}. Set BERT_CLS_DATA to the folder that holds "
            "the measurement data sets, each a folder with train.json, dev.json and test.json."
        )
    return parent / name


def machine() -> dict[str, Any]:
    """Processor, cores, threads, memory and the versions of what was measured."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "threads": _threads(),
        "memory_gb": _memory_gb(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: v for name in _PACKAGES + _ENGINES if (v := _version(name))},
        "date": time.strftime("%Y-%m-%d"),
    }


def source_hash() -> str:
    """One digest of every Python file of the package."""
    folder = ROOT / "src" / "bert_cls"
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def read_results(path: Path) -> dict[str, Any]:
    """What an earlier run wrote; empty where there was none."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def write_results(path: Path, content: dict[str, Any]) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    scratch.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", "utf-8")
    scratch.replace(path)


def show(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    markdown: bool = False,
) -> None:
    """Print a table: the first column to the left, figures to the right; or as docs have it."""
    if markdown:
        console.print(f"\n**{title}**\n", soft_wrap=True)
        for row in (columns, ["---"] * len(columns), *rows):
            line = " | ".join(_cell(value) for value in row)
            console.print(f"| {line} |", soft_wrap=True, markup=False)
        return
    table = Table(box=None, padding=(0, 1), header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=not number)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(f"\n[italic]{escape(title)}[/italic]")
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _threads() -> int | None:
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else None


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
