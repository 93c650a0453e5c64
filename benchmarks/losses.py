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
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loss_parts import (
    BAR,
    BASE,
    CUTS,
    DATA,
    GROUPS,
    KEPT,
    LOSSES,
    OF_ORDER,
    OLD,
    OLD_RATE,
    RATES,
    SLOW,
    Wanted,
    run_part,
)
from parts import (
    Part,
    command_line,
    make_subset,
    paired_gap,
    parsed,
    there,
    train_missing,
    unpack,
)
from record import show

# --- which parts, and who trains them


def plan(args: argparse.Namespace, parts: Mapping[str, Part]) -> list[Wanted]:
    """What is to be done now; a loss's further seeds once its rate is known."""
    grid = [Wanted(data, BAR, 0.0, 0) for data in args.data]
    grid += [Wanted(data, method, OLD_RATE, 0) for data in args.data for method in OLD]
    for method in args.losses:
        grid += [Wanted(data, method, rate, 0) for data in args.data for rate in RATES]
    further = []
    for seed in range(1, args.seeds):
        for method in (*OLD, *args.losses):
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


def outcomes(parts: Sequence[Part], truth: Any) -> list[Any]:
    """The decisions by `auto`, of the old recipe those at its fixed cut, beside the truth."""
    from bert_cls.metrics import Outcome

    decided = [unpack(part["decided"], truth.shape) for part in parts]
    return [Outcome("multilabel", truth, each.astype(float), each) for each in decided]


def lines(parts: Mapping[str, Part], data: str, truth: Any) -> list[list[str]]:
    """A line a method: its rate, seeds, figures in points of 100, and differences from BCE."""
    out = []
    for method in (*LOSSES, *(f"{name}{SLOW}" for name in LOSSES), *OLD, BAR):
        slow = method.endswith(SLOW)
        base = of_method(parts, data, f"{BASE}{SLOW}" if slow else BASE)
        found = of_method(parts, data, method)
        if not found:
            continue
        line = [method, shown_rate(method, found[0]["rate"]), str(len(found))]
        for column in CUTS:
            cut = [part["cuts"][column] for part in found]
            line.append("/".join(mean(cut, name) for name in KEPT[:2]))
        of_order = [part["of_order"] for part in found]
        line += [mean(of_order, name) for name in OF_ORDER[:2]]
        line.append("/".join(mean(of_order, name) for name in OF_ORDER[2:]))
        line.append("/".join(mean([part["cuts"]["auto"] for part in found], g) for g in GROUPS))
        for metric in KEPT[:2]:
            gap = None
            if base and found != base:
                gap = paired_gap(outcomes(found, truth), outcomes(base, truth), metric)
            line.append("–" if gap is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*scaled(gap)))
        out.append(line)
    return out


def shown_rate(method: str, rate: float) -> str:
    """The rate; starred where it is at an edge of the grid, so that a better one may lie beyond."""
    if method == BAR:
        return "–"
    edge = method not in OLD and rate in (min(RATES), max(RATES))
    return f"{rate:g}{'*' if edge else ''}"


COLUMNS = (
    "loss",
    "rate",
    "seeds",
    "default cut",
    "global",
    "auto",
    "mAP",
    "LRAP",
    "P@1/3/5",
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
    parts = there(args.output)
    for data in args.data:
        truth = truth_of(data, args.place)
        shown = lines(parts, data, truth)
        share = f"{truth.mean(axis=0).sum():.2f} labels a row, {100 * (~truth.any(1)).mean():.0f} %"
        title = f"{data}: {len(truth)} test rows, {truth.shape[1]} labels, {share} with none"
        title = title if args.markdown else f"{title}; micro/macro-F1 over labels present"
        show(title, COLUMNS, shown, markdown=args.markdown)


def main() -> None:
    """Train what is missing, then show it."""
    parser = command_line(__doc__, DATA, "losses.json")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS")
    args = parsed(parser, DATA)
    if not args.table:
        train_missing(args, lambda parts: plan(args, parts), run_part)
    table(args)


if __name__ == "__main__":
    main()
