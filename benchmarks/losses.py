"""The claim, tested: every multilabel loss on the same rows, steps and decisions.

Seeded subsets of four data sets, 4 passes, and the built-in encoder cut to 6 layers and to the
pieces that occur. Each loss has its own learning rate: the one of three with the best mAP on dev,
seed 0; with that rate further seeds are trained. Every network is then decided in three ways: at
the cut its loss implies (logit 0), with one tuned cut for all labels, and by `auto`. Beside them
stand the linear bar, and the old script's recipe: head on a pooler, 3 passes at 5e-5, its two
losses at their fixed cut. Each trained network is a part, written down as soon as it is done; parts
that are there are not trained again.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import statistics
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from record import RESULTS, ROOT, console, data_set, machine, read_results, show, write_results

DATA = ("car_aspect", "duee_event", "cail_labor", "goemotions")
ROWS = {"train": 3000, "dev": 800, "test": 1500}
LAYERS = (0, 2, 4, 7, 9, 11)
PASSES = 4
RATES = (1e-4, 2e-4, 4e-4)
BASE = "bce"
LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    BASE: ("bce", {}),
    "margin of torch": ("multilabel_margin", {"virtual_zero": False}),
    "multilabel_margin": ("multilabel_margin", {}),
    "zlpr": ("zlpr", {}),
    "asl": ("asl", {}),
    "bce_weighted": ("bce_weighted", {}),
    "distribution_balanced": ("distribution_balanced", {}),
    "focal": ("focal", {}),
    "class_balanced": ("class_balanced", {}),
    "hill": ("hill", {}),
}
"""name shown -> the loss and its options"""
OLD: dict[str, tuple[str, dict[str, Any]]] = {
    "old recipe, SoftMargin": ("bce", {}),
    "old recipe, Margin": ("multilabel_margin", {"virtual_zero": False}),
}
OLD_RATE = 5e-5
OLD_SETTINGS: dict[str, Any] = {
    "encoder.pooling": "cls_pooler",
    "encoder.attention_dropout": 0.1,
    "training.epochs": 3,
    "training.batch_size": 16,
    "training.learning_rate": OLD_RATE,
    "training.head_learning_rate": OLD_RATE,
    "training.weight_decay": 0.0,
    "training.warmup_share": 0.0,
    "training.prior_bias": False,
}
"""What run_bert_cls.py did before it was rewritten: run_glue's defaults of 2019."""
BAR = "linear bar"
CUTS = {"default": "fixed", "global": "global", "auto": "auto"}
"""column -> tuner; the default cut is a score of one half, which is logit 0"""
KEPT = ("micro_f1", "macro_f1_present", "exact_match", "labels_per_row_predicted")
OF_ORDER = ("map", "lrap", "precision_at_1", "precision_at_3", "precision_at_5")
GROUPS = ("macro_f1_head", "macro_f1_medium", "macro_f1_tail")
Part = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One network to train, or the linear bar."""

    data: str
    method: str
    rate: float
    seed: int

    @property
    def key(self) -> str:
        """Names the part within the results."""
        return f"{self.data} | {self.method} | {self.rate:g} | seed {self.seed}"


# --- one part, in a process of its own


def make_subset(name: str, folder: Path) -> Path:
    """The fixed rows of a data set, drawn with seed 0; made once."""
    if (folder / "test.json").is_file():
        return folder
    source = data_set(name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_bytes((source / "labels.json").read_bytes())
    for split, wanted in ROWS.items():
        rows = json.loads((source / f"{split}.json").read_text("utf-8"))
        drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:wanted])
        content = json.dumps([rows[i] for i in drawn.tolist()], ensure_ascii=False)
        scratch = folder / f".{split}.{os.getpid()}"
        scratch.write_text(content, "utf-8")
        scratch.replace(folder / f"{split}.json")
    return folder


def prepare_encoder(data: Path) -> Path:
    """The built-in encoder with 6 of its layers and the pieces of a data set; made once."""
    from bert_cls.data import Example, stream
    from bert_cls.encoders import open_tokenizer, pieces_of_texts, resolve, trim

    folder = data / "encoder"
    if not (folder / "config.json").is_file():
        source = resolve("multilingual-e5-small-zh")
        rows = [row for split in ROWS for row in stream(data / f"{split}.json")]
        texts = [row.text_a for row in rows if isinstance(row, Example)]
        keep = pieces_of_texts(open_tokenizer(source), texts)
        trim(source, folder, keep=keep, layers=list(LAYERS))
    return folder


def request_of(part: Wanted, place: Path) -> Any:
    """What is asked of the package for a part."""
    from bert_cls.config import resolve_config
    from bert_cls.training import Request

    flags: dict[str, Any] = {
        "encoder.name": str(place / part.data / "encoder"),
        "training.epochs": PASSES,
        "data.leak": "drop",
        "training.seed": part.seed,
    }
    if part.method in OLD:
        loss, options = OLD[part.method]
        flags |= OLD_SETTINGS
    else:
        loss, options = LOSSES.get(part.method, LOSSES[BASE])
        flags |= {"training.learning_rate": part.rate or None}
    flags |= {"loss.name": loss, "loss.options": options}
    config, origins = resolve_config(flags=flags)
    return Request(place / part.data, place / "unused", config, origins)


def run_part(part: Wanted, place: Path) -> Part:
    """Train, decide in every way, and measure on test."""
    import torch

    from bert_cls.engines.torch_engine import TorchEngine
    from bert_cls.losses import LOSSES as REGISTRY
    from bert_cls.training.loop import Silent
    from bert_cls.training.prepare import read_audited
    from bert_cls.training.ranks import Alone
    from bert_cls.training.setup import logits_of, make_trainer, set_up

    request, observer, alone = request_of(part, place), Silent(), Alone()
    prepared = read_audited(request.data, request.config, observer)
    found: Part = {"data": part.data, "method": part.method, "rate": part.rate, "seed": part.seed}
    setup = set_up(request, prepared, observer)
    if part.method == BAR:
        from bert_cls import baseline

        train, space = setup.splits["train"], prepared.dataset.space
        bar = baseline.fit(list(train.examples), "multilabel", space)
        logits = {n: bar.logits(list(setup.splits[n].examples)) for n in ("dev", "test")}
        return found | measure(setup, logits, calibrated=False)
    device = torch.device("cpu")
    trainer = make_trainer(setup, observer, request, device=device, ranks=alone)
    history = trainer.run()
    engine = TorchEngine(setup.network, precision=trainer.precision, device=device)
    logits = {name: logits_of(engine, setup, name, alone) for name in ("dev", "test")}
    best = max(history, key=lambda epoch: epoch.score or 0.0)
    found |= {
        "dev_map": round(best.score or 0.0, 5),
        "best_epoch": best.epoch,
        "epochs": len(history),
        "seconds": round(sum(epoch.seconds for epoch in history), 1),
        "rows": {name: len(split.examples) for name, split in setup.splits.items()},
    }
    return found | measure(setup, logits, calibrated=REGISTRY[setup.loss_name].calibrated)


def measure(setup: Any, logits: Mapping[str, Any], *, calibrated: bool) -> Part:
    """Figures on test at every cut, and what was decided there."""
    from bert_cls.decision import tune
    from bert_cls.metrics import evaluate

    dev, test = setup.splits["dev"].truth, setup.splits["test"].truth
    out: Part = {"cuts": {}, "decided": {}}
    for column, tuner in CUTS.items():
        tuned = tune(logits["dev"], dev, task="multilabel", tuner=tuner, calibrated=calibrated)
        # the cut a loss implies is on its raw logits
        raw = 1 / (1 + np.exp(-np.asarray(logits["test"], dtype=np.float64)))
        scores = raw if column == "default" else tuned.rule.scores(logits["test"])
        decided = raw >= 0.5 if column == "default" else tuned.rule.decide(scores)
        found = evaluate(
            "multilabel",
            setup.dataset.space,
            test,
            scores,
            decided,
            train_counts=setup.counts,
            calibrated=False,
            resamples=0,
        )
        kept = KEPT + (GROUPS if column == "auto" else ())
        out["cuts"][column] = _rounded(found.metrics, kept)
        out["decided"][column] = pack(decided)
        if column == "auto":
            out["of_order"] = _rounded(found.metrics, OF_ORDER)
            out["tuner"] = tuned.rule.tuner
    return out


def _rounded(metrics: Mapping[str, float | None], names: Sequence[str]) -> dict[str, float | None]:
    values = {name: metrics.get(name) for name in names}
    return {name: None if value is None else round(value, 5) for name, value in values.items()}


def pack(decided: Any) -> str:
    """Decisions, bool [rows, labels], as text."""
    bits = np.packbits(np.asarray(decided, dtype=bool), axis=None)
    return base64.b85encode(zlib.compress(bits.tobytes(), 9)).decode()


def unpack(text: str, shape: tuple[int, ...]) -> Any:
    """The reverse of `pack`."""
    bits = np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype=np.uint8)
    return np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape).astype(bool)


# --- which parts, and who trains them


def plan(args: argparse.Namespace, parts: Mapping[str, Part]) -> list[Wanted]:
    """What is to be done now; a loss's further seeds once its rate is known."""
    grid = [Wanted(data, BAR, 0.0, 0) for data in args.data]
    grid += [Wanted(data, method, OLD_RATE, 0) for data in args.data for method in OLD]
    for method in LOSSES:
        grid += [Wanted(data, method, rate, 0) for data in args.data for rate in RATES]
    further = []
    for seed in range(1, args.seeds):
        for method in (*OLD, *LOSSES):
            for data in args.data:
                rate = OLD_RATE if method in OLD else best_rate(parts, data, method)
                further += [Wanted(data, method, rate, seed)] if rate else []
    return [part for part in dict.fromkeys([*grid, *further]) if part.key not in parts]


def best_rate(parts: Mapping[str, Part], data: str, method: str) -> float | None:
    """The rate with the best mAP on dev at seed 0; None before all were tried."""
    tried = [parts.get(Wanted(data, method, rate, 0).key) for rate in RATES]
    whole = [part for part in tried if part is not None]
    if len(whole) < len(RATES):
        return None
    return float(max(whole, key=lambda part: part["dev_map"])["rate"])


def _start(threads: int) -> None:
    """A worker: few threads, and a signal to the group ends it quietly."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)


def run_all(args: argparse.Namespace) -> None:
    """Train what is missing, several at a time, each written down when it is done."""
    for data in args.data:
        prepare_encoder(make_subset(data, args.place / data))
    threads = max(1, len(os.sched_getaffinity(0)) // args.workers)
    os.environ |= {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    pool = ProcessPoolExecutor(
        args.workers, mp_context=get_context("spawn"), initializer=_start, initargs=(threads,)
    )
    running: dict[Future[Part], Wanted] = {}
    with pool:
        while True:
            parts = read_results(args.output).get("parts", {})
            missing = [p for p in plan(args, parts) if p not in running.values()]
            while missing and len(running) < args.workers:
                part = missing.pop(0)
                running[pool.submit(run_part, part, args.place)] = part
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                keep(args.output, part, future.result())
                console.print(f"{part.key}: done, {len(missing) + len(running)} or more to go")


def keep(path: Path, part: Wanted, found: Part) -> None:
    """Add a part to the results."""
    content = read_results(path)
    parts = content.get("parts", {}) | {part.key: found}
    write_results(path, {"machine": machine(), "parts": dict(sorted(parts.items()))})


# --- what was found


def of_method(parts: Mapping[str, Part], data: str, method: str) -> list[Part]:
    """The parts a method is judged by, one a seed."""
    rate = {BAR: 0.0}.get(method, OLD_RATE if method in OLD else best_rate(parts, data, method))
    return [
        part
        for part in parts.values()
        if part["data"] == data and part["method"] == method and part["rate"] == rate
    ]


def truth_of(data: str, place: Path) -> Any:
    """Bool [rows, labels] of the subset's test rows."""
    from bert_cls.data import load, targets

    dataset = load(make_subset(data, place / data))
    return targets(dataset.test or [], "multilabel", dataset.space)


def against(
    ours: Sequence[Part], others: Sequence[Part], truth: Any, metric: str
) -> tuple[float, float, float] | None:
    """Mean difference over seeds (ours - others) and its interval over rows, paired.

    Decisions are those by `auto`, of the old recipe those at its fixed cut.
    """
    from bert_cls.metrics import Outcome
    from bert_cls.metrics.families import FAMILIES
    from bert_cls.metrics.intervals import families_of
    from bert_cls.metrics.resampling import on_all_rows, percentile_interval, resample

    if (
        not ours
        or not others
        or metric not in {m for f in FAMILIES["multilabel"] for m in f.metrics}
    ):
        return None
    outcomes = []
    for part in (*ours, *others):
        column = "default" if part["method"] in OLD else "auto"
        decided = unpack(part["decided"][column], truth.shape)
        outcomes.append(Outcome("multilabel", truth, decided.astype(float), decided))
    families = families_of("multilabel", [metric])
    drawn = [values[metric] for values in resample(outcomes, families, resamples=1000, seed=0)]
    points = [on_all_rows(each, families[0])[metric] for each in outcomes]
    split = len(ours)
    difference = np.mean(drawn[:split], axis=0) - np.mean(drawn[split:], axis=0)
    point = float(np.mean(points[:split]) - np.mean(points[split:]))
    interval = percentile_interval(difference, point, level=0.95)
    return (point, *interval) if interval else None


def lines(parts: Mapping[str, Part], data: str, truth: Any) -> list[list[str]]:
    """A line a method: its rate, seeds, figures in points of 100, and differences from BCE."""
    out, base = [], of_method(parts, data, BASE)
    for method in (*LOSSES, *OLD, BAR):
        found = of_method(parts, data, method)
        if not found:
            continue
        line = [method, f"{found[0]['rate']:g}" if method != BAR else "–", str(len(found))]
        for column in CUTS:
            cut = [part["cuts"][column] for part in found]
            line.append("/".join(mean(cut, name) for name in KEPT[:2]))
        line += [mean([part["of_order"] for part in found], name) for name in OF_ORDER[:3]]
        line.append("/".join(mean([part["cuts"]["auto"] for part in found], g) for g in GROUPS))
        for metric in KEPT[:2]:
            gap = None if method == BASE else against(found, base, truth, metric)
            line.append("–" if gap is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*scaled(gap)))
        out.append(line)
    return out


COLUMNS = (
    "loss",
    "rate",
    "seeds",
    "default cut",
    "global",
    "auto",
    "mAP",
    "LRAP",
    "P@1",
    "head/medium/tail",
    "micro - bce",
    "macro - bce",
)


def mean(figures: Iterable[Mapping[str, float | None]], name: str) -> str:
    """The mean over seeds, in points of 100."""
    values = [100 * value for each in figures if (value := each[name]) is not None]
    return f"{statistics.fmean(values):.1f}" if values else "–"


def scaled(values: Iterable[float]) -> list[float]:
    """Points of 100."""
    return [100 * value for value in values]


def table(args: argparse.Namespace) -> None:
    """Everything that is there, a table a data set."""
    parts = read_results(args.output).get("parts", {})
    if not parts:
        sys.exit(f"{args.output.name} has no finished part.")
    for data in args.data:
        truth = truth_of(data, args.place)
        shown = lines(parts, data, truth)
        share = f"{truth.mean(axis=0).sum():.2f} labels a row, {100 * (~truth.any(1)).mean():.0f} %"
        title = f"{data}: {len(truth)} test rows, {truth.shape[1]} labels, {share} with none"
        if args.markdown:
            console.print(f"\n**{title}**\n", soft_wrap=True)
            for row in (COLUMNS, ["---"] * len(COLUMNS), *shown):
                console.print(f"| {' | '.join(row)} |", soft_wrap=True, markup=False)
        else:
            show(f"{title}; micro/macro-F1 over labels present", COLUMNS, shown)


def main() -> None:
    """Train what is missing, then show it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="*", help=f"of {', '.join(DATA)}; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="networks trained at a time")
    parser.add_argument("--table", action="store_true", help="show what is there, train nothing")
    parser.add_argument("--markdown", action="store_true", help="the tables as docs have them")
    parser.add_argument("--place", type=Path, default=ROOT / "bench-out" / "losses")
    parser.add_argument("--output", type=Path, default=RESULTS / "losses.json")
    args = parser.parse_args()
    if unknown := sorted(set(args.data) - set(DATA)):
        parser.error(f"data must be of {list(DATA)}. Got {unknown} instead.")
    args.data = args.data or list(DATA)
    if not args.table:
        run_all(args)
    table(args)


if __name__ == "__main__":
    main()
