"""Quality: our defaults on the measurement data sets, the linear bar and the targets beside them.

Each run trains on train (texts that are also in dev or test are dropped), tunes on dev and is
evaluated once on test; the linear bar has the same rows and the same tuning. `--old-recipe` trains
as the script did before it was rewritten. Finished runs are kept in the results and skipped while
neither their settings nor the package's sources change.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bert_cls.config import PRESETS, resolve_config
from bert_cls.errors import BertClsError, Interrupted
from loss_parts import OLD, OLD_SETTINGS
from record import (
    RESULTS,
    console,
    data_set,
    machine,
    read_results,
    show,
    source_hash,
    write_results,
)

if TYPE_CHECKING:
    from bert_cls.metrics import PairedDifference
    from bert_cls.training import Trained

MICRO, MACRO, ACCURACY, SPEARMAN = "micro_f1", "macro_f1_present", "accuracy", "spearman"
Run = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DataSet:
    """What is shown of a data set, and what a run must reach, in points of 100 (Spearman: of 1)."""

    metrics: tuple[str, ...]
    targets: tuple[float, ...]
    by_preset: Mapping[str, tuple[float, ...]]

    def target(self, preset: str, metric: str) -> float | None:
        """What `metric` must reach with a preset, where that was laid down."""
        targets = self.by_preset.get(preset, self.targets)
        return targets[self.metrics.index(metric)] if targets else None


DATA_SETS: dict[str, DataSet] = {
    "car_aspect": DataSet((MICRO, MACRO), (87.7, 87.0), {}),
    "duee_event": DataSet((MICRO, MACRO), (93.8, 91.5), {"accurate": (94.6, 93.5)}),
    "cail_labor": DataSet((MICRO, MACRO), (74.0, 58.0), {}),
    "goemotions": DataSet((MICRO, MACRO), (), {}),
    "kuake_qic": DataSet((ACCURACY,), (79.0,), {}),
    "waimai_10k": DataSet((ACCURACY,), (91.5,), {}),
    "ocnli": DataSet((ACCURACY,), (55.0,), {}),
    "stsb_zh": DataSet((SPEARMAN,), (0.74,), {}),
}


def settings_of(args: argparse.Namespace) -> list[str]:
    """Settings as `--set` takes them, those of the old recipe first."""
    if args.old_recipe is None:
        return list(args.settings)
    loss, options = OLD[args.old_recipe]
    old = {**OLD_SETTINGS, "loss.name": loss, "loss.options": options, "decision.tuner": "fixed"}
    old["decision.calibrate"] = "none"
    return [f"{key}={json.dumps(value)}" for key, value in old.items()] + args.settings


def key_of(data: str, seed: int, preset: str, settings: list[str]) -> str:
    """Names a run within the results."""
    return " ".join([data, f"seed={seed}", preset, *sorted(settings)])


def measure(data: str, seed: int, args: argparse.Namespace, output: Path) -> Run:
    """Train, tune and evaluate one model."""
    from bert_cls.terminal import TerminalObserver
    from bert_cls.training import Request, train

    config, origins = resolve_config(
        preset=args.preset,
        settings=["data.leak=drop", *settings_of(args)],  # the later wins
        flags={"training.seed": seed},
    )
    request = Request(data_set(data), output, config, origins, args.preset)
    observer = TerminalObserver(Console(stderr=True))
    began = time.perf_counter()
    try:
        trained = train(request, observer, overwrite=True)
    finally:
        observer.close()
    return figures(data, trained, seconds=time.perf_counter() - began)


def figures(data: str, trained: Trained, *, seconds: float) -> Run:
    """What is kept of a run: every metric on test, the bar's, and what it took."""
    details, test = trained.bundle.details, trained.evaluations["test"]
    bar, dev = trained.bars.get("test"), trained.evaluations["dev"]
    rows, history = details["data"]["rows"], trained.history
    training = sum(epoch.seconds for epoch in history)
    scored = [epoch for epoch in history if epoch.score is not None]
    best = max(scored, key=lambda epoch: epoch.score or 0.0, default=None)
    return {
        "data": data,
        "task": test.task,
        "rows": rows,
        "test": _rounded(test.metrics),
        "intervals": {name: [round(x, 5) for x in ends] for name, ends in test.intervals.items()},
        "bar": _rounded(bar.evaluation.metrics) if bar else {},
        "lead": {each.metric: _ends(each) for each in bar.lead} if bar else {},
        "dev_crossfit": _rounded(dev.metrics),
        "rule": trained.tuned.rule.tuner,
        "epochs": len(history),
        "best_epoch": best.epoch if best else None,
        "training_seconds": round(training, 1),
        "total_seconds": round(seconds, 1),
        "rows_per_second": round(rows["train"] * len(history) / training, 1),
        "config": details["config"],
    }


def _ends(lead: PairedDifference) -> list[float]:
    """The model minus the bar, and its interval over the same rows."""
    return [round(x, 5) for x in (lead.difference, lead.low, lead.high)]


def _rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: None if value is None else round(value, 5) for name, value in metrics.items()}


def named(args: argparse.Namespace) -> list[str]:
    """What sets a run apart: the old recipe by its name, and settings."""
    return [*([args.old_recipe] if args.old_recipe else []), *args.settings]


def wanted(args: argparse.Namespace) -> list[tuple[str, str, int]]:
    """(key, data set, seed) of every run that was asked for."""
    return [
        (key_of(data, seed, args.preset, named(args)), data, seed)
        for data in args.data
        for seed in args.seeds
    ]


def run_all(args: argparse.Namespace) -> list[str]:
    """Measure what is missing, each run written as soon as it is done; what failed, and why."""
    failed, source = [], source_hash()
    for key, data, seed in wanted(args):
        earlier = read_results(args.output).get("runs", {}).get(key, {})
        if earlier.get("source") == source and not args.again:
            console.print(f"{key}: kept from {earlier['date']}")
            continue
        console.print(f"{key}: training")
        scratch = Path(tempfile.mkdtemp(prefix="bert-cls-bench-"))
        folder = args.keep / key.replace(" ", "_").replace("/", "_") if args.keep else scratch
        try:
            found = measure(data, seed, args, folder / "model" if folder is scratch else folder)
        except Interrupted as error:
            sys.exit(f"{error}")
        except BertClsError as error:
            failed.append(f"{key}: {error}")
            console.print(failed[-1], style="red", markup=False)
            continue
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        labels = {"seed": seed, "preset": args.preset, "settings": named(args)}
        here = machine()
        run = found | labels | {"source": source, "date": here["date"], "machine": here}
        content = read_results(args.output)
        write_results(args.output, {"runs": content.get("runs", {}) | {key: run}})
        if len(wanted(args)) > 1:
            table({key: run})
    return failed


def table(runs: Mapping[str, Run]) -> None:
    """One line a figure: the model, the bar, the target, and what the run took."""
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs.values():
        groups.setdefault((run["preset"], *sorted(run["settings"])), []).append(run)
    columns = ("", "test", "model", "95 %", "bar", "lead, 95 %", "target", "met")
    columns += ("rule", "epoch", "s", "rows/s")
    for (preset, *settings), several in groups.items():
        title = " ".join([f"preset {preset}", *settings])
        show(title, columns, [line for run in several for line in _lines(run)])


def _lines(run: Run) -> list[list[object]]:
    data, out = DATA_SETS[run["data"]], []
    for number, metric in enumerate(data.metrics):
        scale = 1 if metric == SPEARMAN else 100
        value, target = run["test"][metric], data.target(run["preset"], metric)
        ends = [_shown(end, scale) for end in run["intervals"].get(metric, ())]
        line: list[object] = [
            "" if number else f"{run['data']}, seed {run['seed']}",
            metric,
            _shown(value, scale),
            "..".join(ends),
            _shown(run["bar"].get(metric), scale),
            "..".join(_shown(end, scale) for end in run.get("lead", {}).get(metric, ())[1:]),
            "" if target is None else f"{target:g}",
            "" if target is None else "yes" if value and value * scale >= target else "no",
        ]
        if number == 0:
            epoch = f"{run['best_epoch']}/{run['epochs']}"
            line += [run["rule"], epoch, run["training_seconds"], run["rows_per_second"]]
        out.append(line)
    return out


def _shown(value: float | None, scale: int) -> str:
    return "–" if value is None else f"{value * scale:.{1 if scale == 100 else 3}f}"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", help=f"of {', '.join(DATA_SETS)}; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--preset", choices=PRESETS, default="balanced")
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="SECTION.FIELD=VALUE",
        help="any setting; may be repeated",
    )
    parser.add_argument("--old-recipe", choices=OLD, help="train as the old script did")
    parser.add_argument("--again", action="store_true", help="measure finished runs once more")
    parser.add_argument("--table", action="store_true", help="show the kept runs, train nothing")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the model folders there")
    parser.add_argument("--output", type=Path, default=RESULTS / "quality.json")
    args = parser.parse_args()
    if unknown := sorted(set(args.data) - set(DATA_SETS)):
        parser.error(f"data must be of {list(DATA_SETS)}. Got {unknown} instead.")
    args.data = args.data or list(DATA_SETS)
    return args


def main() -> None:
    """Measure what is missing and show everything that was asked for."""
    args = arguments()
    if args.table:
        runs = read_results(args.output).get("runs", {})
        if not runs:
            sys.exit(f"{args.output.name} has no finished run.")
        table(runs)
        return
    for data in args.data:
        data_set(data)
    failed = run_all(args)
    kept = read_results(args.output).get("runs", {})
    if done := {key: kept[key] for key, _, _ in wanted(args) if key in kept}:
        table(done)
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


if __name__ == "__main__":
    main()
