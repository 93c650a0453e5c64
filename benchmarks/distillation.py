"""Students against their teacher, and against the same depth trained without a teacher.

Part of the training rows keep their labels; the rest is unlabelled text, as it is where a model is
distilled in earnest. One teacher of all layers learns from the labelled rows. Each depth is then
trained twice: as its student, on all texts, and directly from the pretrained encoder cut to the
same layers, on the labelled rows. Speed is of one process that takes turns between the models, in
processor seconds (so other work on the machine matters little), and only its ratios count.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from bert_cls import bundle as bundles
from bert_cls.config import resolve_config
from bert_cls.data import Example, load
from bert_cls.encoders import describe, resolve, trim
from bert_cls.engines import open_engine
from bert_cls.engines import run as run_engine
from bert_cls.text import TextEncoder
from bert_cls.training import Request, student_request, train
from bert_cls.training.student import depth, spread
from record import RESULTS, console, data_set, machine, show, write_results

FIGURES = ("accuracy", "micro_f1", "macro_f1_present", "spearman")
Run = dict[str, Any]


def make_data(name: str, labelled: int, folder: Path) -> Path:
    """A copy of a data set whose train file keeps `labelled` labels, drawn with seed 0."""
    source = data_set(name)
    folder.mkdir(parents=True, exist_ok=True)
    rows = json.loads((source / "train.json").read_text("utf-8"))
    kept = set(np.random.default_rng(0).permutation(len(rows))[:labelled].tolist())
    rows = [row if i in kept else {**row, "label": None} for i, row in enumerate(rows)]
    (folder / "train.json").write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    for path in source.glob("*.json"):
        if path.name != "train.json":
            shutil.copyfile(path, folder / path.name)
    return folder


def finished(folder: Path) -> bool:
    """Whether a model is there already."""
    return (folder / bundles.DESCRIPTION).is_file()


def run(request: Request) -> None:
    """Train into `request.output`, unless a finished model is there."""
    from bert_cls.terminal import TerminalObserver

    if finished(request.output):
        console.print(f"{request.output.name}: kept")
        return
    console.print(f"{request.output.name}: training")
    observer = TerminalObserver(Console(stderr=True))
    try:
        train(request, observer, overwrite=True)
    finally:
        observer.close()


def train_all(args: argparse.Namespace, keep: Path) -> dict[str, Path]:
    """Teacher, students and peers, by name."""
    data = keep / "data"
    if not data.is_dir():
        make_data(args.data, args.labelled, data)
    plain = {"report.linear_bar": False, "report.resamples": 200}

    def request(output: Path, encoder: str) -> Request:
        flags = {**plain, "encoder.name": encoder, "data.leak": "drop"}
        config, origins = resolve_config(flags=flags)
        return Request(data, output, config, origins)

    models = {"teacher": keep / "teacher"}
    run(request(models["teacher"], args.encoder))
    for count in args.layers:
        student = models[f"student{count}"] = keep / f"student{count}"
        if not finished(student):
            flags = {**plain, "training.epochs": args.epochs}
            run(student_request(models["teacher"], student, layers=count, data=data, flags=flags))
        direct, base = keep / f"direct{count}", keep / f"base{count}"
        models[f"direct{count}"] = direct
        if not base.is_dir():
            source = resolve(args.encoder)
            trim(source, base, layers=spread(count, depth(source)))
        run(request(direct, str(base)))
    return models


def figures(folder: Path) -> Run:
    """What is kept of a model: its figures on test, depth, parameters, and its recipe."""
    details = bundles.load(folder).details
    evaluation = json.loads((folder / "evaluation.json").read_text("utf-8"))
    test = evaluation["evaluations"]["test"]
    return {
        "layers": depth(folder),
        "parameters": describe(folder).parameters,
        "test": {k: round(v, 5) for k, v in test["metrics"].items() if isinstance(v, float)},
        "intervals": test.get("intervals", {}),
        "rows": details["data"]["rows"],
        "epochs": len(details["history"]),
        "training_seconds": round(sum(epoch["seconds"] for epoch in details["history"]), 1),
        "training": details["config"]["training"],
        "distillation": details["config"]["distillation"] if "distillation" in details else None,
    }


def _one_a_depth(models: dict[str, Path]) -> dict[str, Path]:
    """Teacher and students; the peers are the same networks."""
    return {name: path for name, path in models.items() if not name.startswith("direct")}


def speeds(models: dict[str, Path], args: argparse.Namespace) -> dict[str, float]:
    """Rows a processor second of each model, the best of several turns over the same texts."""
    found: dict[str, float] = {}
    opened = {name: bundles.load(path) for name, path in models.items()}
    engines = {name: open_engine(bundle, args.engine) for name, bundle in opened.items()}
    teacher = opened["teacher"]
    content = (teacher.folder / "tokenizer.json").read_bytes()
    data = load(models["teacher"].parent / "data", task=teacher.task)
    texts: list[Example] = (data.test or [])[: args.speed_rows]
    second = [e.text_b or "" for e in texts] if teacher.pair else None
    tokens = TextEncoder.from_json(content, teacher.text).encode_in_chunks(
        [e.text_a for e in texts], second
    )
    for turn in range(args.rounds + 1):  # the first only warms up
        for name, bundle in opened.items():
            began = time.process_time()
            run_engine(engines[name], tokens, pad_id=bundle.pad_id, outputs=bundle.outputs)
            rate = len(tokens) / (time.process_time() - began)
            if turn:
                found[name] = round(max(rate, found.get(name, 0.0)), 1)
    return found


def table(content: Run) -> None:
    """One line a depth: the student, its peer, and what it saves."""
    models, rates = content["models"], content["rows_per_cpu_second"]
    names = [n for n in FIGURES if n in models["teacher"]["test"]]
    columns = ["layers", "parameters, M", "rows/s, x teacher"]
    columns += [f"{who} {name}" for name in names for who in ("distilled", "direct")]
    lines = [_line(models, rates, "teacher", None, names)]
    for count in sorted(content["layers"], reverse=True):
        lines.append(_line(models, rates, f"student{count}", f"direct{count}", names))
    show(f"{content['data']}, {content['labelled']} labelled rows", columns, lines)


def _line(
    models: Run, rates: dict[str, float], name: str, peer: str | None, figures_: list[str]
) -> list[object]:
    model = models[name]
    line: list[object] = [
        f"{model['layers']} (teacher)" if peer is None else str(model["layers"]),
        f"{model['parameters'] / 1e6:.1f}",
        f"{rates[name] / rates['teacher']:.2f}",
    ]
    for figure in figures_:
        line.append(f"{model['test'][figure] * 100:.1f}")
        line.append("–" if peer is None else f"{models[peer]['test'][figure] * 100:.1f}")
    return line


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?", default="kuake_qic", help="a measurement data set")
    parser.add_argument("--labelled", type=int, default=3000, help="rows that keep their label")
    parser.add_argument("--layers", nargs="+", type=int, default=[6, 4, 3, 2])
    parser.add_argument("--epochs", type=int, help="passes of the students; default: the recipe")
    parser.add_argument("--encoder", default="multilingual-e5-small-zh")
    parser.add_argument("--engine", default="torch", help="what the speed is of")
    parser.add_argument("--speed-rows", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="keep models there; finished ones are not redone"
    )
    parser.add_argument("--output", type=Path, default=RESULTS / "distillation.json")
    return parser.parse_args()


def main() -> None:
    """Train what is not there, measure, show and write the table."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="bert-cls-bench-") as scratch:
        models = train_all(args, args.keep or Path(scratch))
        content = {
            "data": args.data,
            "labelled": args.labelled,
            "layers": args.layers,
            "engine": args.engine,
            "models": {name: figures(folder) for name, folder in models.items()},
            "rows_per_cpu_second": speeds(_one_a_depth(models), args),
            "machine": machine(),
        }
    write_results(args.output, content)
    table(content)


if __name__ == "__main__":
    main()
