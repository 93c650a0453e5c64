"""The base package alone: a wheel in a fresh virtual environment, and what predicts there.

Builds the wheel, installs it without extras, predicts with a model folder by command line and from
Python, and shows what that takes: megabytes, seconds to import, to load, to answer. The peer is the
environment this script runs in, which has the training packages. Needs a package index.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, ROOT, console, machine, show, write_results

HEAVY = ("torch", "transformers", "sklearn")
TEXTS = ["尾灯采用LED光源，晚上很亮", "今天堵车", "天窗漏水，座椅都湿了"]
PROGRAM = """
import json, sys, time
began = time.perf_counter()
from bert_cls import Classifier
imported = time.perf_counter()
options = {"engine": sys.argv[3]} if len(sys.argv) > 3 else {}
model = Classifier.load(sys.argv[1], **options)
loaded = time.perf_counter()
texts = json.loads(sys.argv[2])
answers = [p.to_dict() for p in model.predict(texts)]
print(json.dumps({
    "import_s": imported - began, "load_s": loaded - imported,
    "answer_s": time.perf_counter() - loaded, "engine": model.engine.name,
    "heavy": sorted(set(sys.modules) & {"torch", "transformers", "sklearn"}),
    "answers": answers,
}))
"""


def run(command: list[str], **options: Any) -> str:
    """A command's output; ends the script with what it said when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} ... failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def installed(scratch: Path) -> Path:
    """A virtual environment with the wheel and its base dependencies; gives its bin folder."""
    console.print("building the wheel ...")
    wheels = scratch / "wheels"
    run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(wheels), str(ROOT)])
    (wheel,) = wheels.glob("*.whl")
    console.print(f"{wheel.name}, {wheel.stat().st_size / 1e3:.0f} kB; installing it alone ...")
    run([sys.executable, "-m", "venv", str(scratch / "venv")])
    bin_ = scratch / "venv" / ("Scripts" if os.name == "nt" else "bin")
    constraints = str(ROOT / "constraints.txt")
    run([str(bin_ / "python"), "-m", "pip", "install", "-q", "-c", constraints, str(wheel)])
    return bin_


def megabytes(folder: Path) -> float:
    """Size of the files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6


def by_python(python: Path, model: Path, engine: str | None) -> dict[str, Any]:
    """Import, load and answer in a fresh process, the faster of two; without our own path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if python == Path(sys.executable):
        environment["PYTHONPATH"] = str(ROOT / "src")
    command = [
        str(python),
        "-c",
        PROGRAM,
        str(model),
        json.dumps(TEXTS),
        *([engine] if engine else []),
    ]
    found = [json.loads(run(command, env=environment)) for _ in range(2)]
    return min(found, key=lambda figures: figures["import_s"] + figures["load_s"])


def by_command(command: Path, model: Path, engine: str | None) -> list[dict[str, Any]]:
    """The same answers by the command line."""
    texts = [part for text in TEXTS for part in ("--text", text)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [str(command), "predict", str(model), *texts, *(["--engine", engine] if engine else [])]
    lines = run(words, env=environment).splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "index"} for line in lines]


def main() -> None:
    """Measure, print, write; exit code 1 when something heavy was imported or answers differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="a model folder with an exported engine file")
    parser.add_argument("--engine", help="the engine (default: the package's own choice)")
    parser.add_argument("--output", type=Path, default=RESULTS / "light_install.json")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bert-cls-light-") as scratch:
        bin_ = installed(Path(scratch))
        light = by_python(bin_ / "python", args.model, args.engine)
        spoken = by_command(bin_ / "bert-cls", args.model, args.engine)
        size = megabytes(Path(scratch) / "venv")
        listed = run([str(bin_ / "python"), "-m", "pip", "list", "--format", "json"])
    full = by_python(Path(sys.executable), args.model, args.engine)
    packages = {p["name"]: p["version"] for p in json.loads(listed)}
    ways = {"base alone": light, "with training packages": full}
    show(
        f"{args.model.name}: the base package takes {size:.0f} MB with {len(packages)} packages",
        ("", "engine", "import s", "load s", "answer s"),
        [[way, f["engine"], f["import_s"], f["load_s"], f["answer_s"]] for way, f in ways.items()],
    )
    present = [name for name in HEAVY if name in packages or name in light["heavy"]]
    same = light["answers"] == spoken
    console.print(f"heavy packages: {present or 'none'}; command and Python agree: {same}")
    content = {"machine": machine(), "megabytes": size, "packages": packages, "ways": ways}
    write_results(args.output, content)
    console.print(f"written: {args.output.name}")
    if present or not same:
        sys.exit(1)


if __name__ == "__main__":
    main()
