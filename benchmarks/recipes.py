"""What the recipe rests on: rates, pooling, the head's rate and passes, varied one at a time.

The rows and the encoder of `losses.py` (3,000 of train, 6 layers, 4 passes), one seed; the base has
the head at 5 times the encoder's rate, and all else as the package does it. A line says what
differs from the base, what came out by the score that chooses epochs on dev, and on test with the
paired interval against the base over the same rows. Each trained network is a part, written down as
soon as it is done.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from parts import (
    Part,
    command_line,
    make_subset,
    pack,
    paired_gap,
    parsed,
    request_of,
    set_up_alone,
    there,
    train_alone,
    train_missing,
    unpack,
)
from record import show

DATA = ("kuake_qic", "waimai_10k", "ocnli", "stsb_zh", "car_aspect", "duee_event")
BASE = "base"
CHANGES: dict[str, dict[str, Any]] = {
    BASE: {},
    "rate 5e-5": {"training.learning_rate": 5e-5},
    "rate 1e-4": {"training.learning_rate": 1e-4},
    "rate 2e-4": {"training.learning_rate": 2e-4},
    "rate 4e-4": {"training.learning_rate": 4e-4},
    "pooling cls": {"encoder.pooling": "cls"},
    "pooling cls_pooler": {"encoder.pooling": "cls_pooler"},
    "head as encoder": {"head": 1},
    "head 10 times": {"head": 10},
    "head 25 times": {"head": 25},
    "head 50 times": {"head": 50},
    "2 passes": {"training.epochs": 2},
    "8 passes": {"training.epochs": 8},
    "no prior bias": {"training.prior_bias": False},
}
"""name -> settings; `head` is the head's rate in rates of the encoder, 5 where nothing is said"""
METRICS = {
    "binary": "accuracy",
    "multiclass": "accuracy",
    "multilabel": "micro_f1",
    "regression": "spearman",
}


@dataclass(frozen=True, slots=True)
class Change:
    """One network to train."""

    data: str
    name: str

    @property
    def key(self) -> str:
        """Names the part within the results."""
        return f"{self.data} | {self.name}"


def run_part(part: Change, place: Path) -> Part:
    """Train with one change, decide as the package does, keep figures and answers on test."""
    from bert_cls.decision import tune
    from bert_cls.losses import LOSSES
    from bert_cls.metrics import evaluate

    request = request_of(part.data, place, settings_of(part))
    setup = set_up_alone(request)
    recipe, task = setup.recipe, setup.dataset.task
    history, logits, _ = train_alone(setup, request)
    calibrated = LOSSES[setup.loss_name].calibrated
    dev, test = setup.splits["dev"].truth, setup.splits["test"].truth
    rule = tune(logits["dev"], dev, task=task, tuner="auto", calibrated=calibrated).rule
    scores = rule.scores(logits["test"])
    decided = None if task == "regression" else rule.decide(scores)
    found = evaluate(task, setup.dataset.space, test, scores, decided, resamples=0)
    answers = np.asarray(scores, np.float32) if decided is None else np.asarray(decided)
    if answers.dtype.kind == "i":
        answers = answers.astype(np.uint8)
    return {
        "data": part.data,
        "change": part.name,
        "task": task,
        "settled": {
            "learning_rate": recipe.training.learning_rate,
            "head_learning_rate": recipe.training.head_learning_rate,
            "pooling": recipe.pooling,
            "epochs": recipe.training.epochs,
            "batch_size": recipe.training.batch_size,
            "prior_bias": recipe.training.prior_bias,
        },
        "dev_score": round(max(epoch.score or 0.0 for epoch in history), 5),
        "best_epoch": max(history, key=lambda epoch: epoch.score or 0.0).epoch,
        "test": round(found.metrics[METRICS[task]] or 0.0, 5),
        "seconds": round(sum(epoch.seconds for epoch in history), 1),
        "answers": {
            "dtype": answers.dtype.name,
            "shape": list(answers.shape),
            "content": pack(answers),
        },
    }


def settings_of(part: Change) -> dict[str, Any]:
    """What a part sets, its head's rate spelt out."""
    settings = dict(CHANGES[part.name])
    rate = settings.get("training.learning_rate", default_rate(part.data))
    settings["training.head_learning_rate"] = settings.pop("head", 5) * rate
    return settings


def default_rate(data: str) -> float:
    """The encoder's rate by default."""
    return 1e-4 if data in ("kuake_qic", "waimai_10k", "ocnli") else 2e-4


def applies(data: str, change: str) -> bool:
    """Whether a change is one: a rate may be the default, and a number has no prior."""
    settings = CHANGES[change]
    if settings.get("training.learning_rate") == default_rate(data):
        return False
    return not (data == "stsb_zh" and "training.prior_bias" in settings)


def wanted(args: argparse.Namespace, parts: Mapping[str, Part]) -> list[Change]:
    """Every network that is not there, the base first."""
    all_of_them = [Change(data, name) for name in args.changes for data in args.data]
    return [each for each in all_of_them if applies(each.data, each.name) and each.key not in parts]


# --- what was found


@cache
def truth_of(data: str, place: Path) -> Any:
    """The truth of the subset's test rows, and their task."""
    from bert_cls.data import load, targets

    dataset = load(make_subset(data, place / data))
    return targets(dataset.test or [], dataset.task, dataset.space), dataset


def outcome(part: Part, place: Path) -> Any:
    """A part's answers on test beside the truth."""
    from bert_cls.metrics import Outcome

    truth, dataset = truth_of(part["data"], place)
    kept = part["answers"]
    dtype = bool if kept["dtype"] == "bool" else kept["dtype"]
    answers = unpack(kept["content"], tuple(kept["shape"]), dtype)
    if dataset.task == "regression":
        return Outcome("regression", truth, answers.astype(float), None)
    if dataset.task == "multilabel":
        return Outcome("multilabel", truth, answers.astype(float), answers)
    classes = answers.astype(np.int64)
    return Outcome(dataset.task, truth, np.eye(len(dataset.space))[classes], classes)


def lines(parts: Mapping[str, Part], data: str, place: Path) -> list[list[str]]:
    """A line a change, the base first."""
    out = []
    base = parts.get(Change(data, BASE).key)
    for name in CHANGES:
        part = parts.get(Change(data, name).key)
        if part is None:
            continue
        gap = None
        if base and name != BASE:
            ours, others = ([outcome(each, place)] for each in (part, base))
            gap = paired_gap(ours, others, METRICS[part["task"]])
        shown = "–" if gap is None else "{:+.1f} [{:+.1f}, {:+.1f}]".format(*_points(gap))
        settled = part["settled"]
        said = name
        if name == BASE:
            said = (
                f"{name}: rate {settled['learning_rate']:g}, head 5 times, "
                f"{settled['pooling']}, {settled['epochs']} passes"
            )
        figures = [f"{value:.1f}" for value in _points((part["dev_score"], part["test"]))]
        out.append([said, *figures, shown])
    return out


def _points(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def table(args: argparse.Namespace) -> None:
    """Everything that is there, a table a data set."""
    parts = there(args.output)
    for data in args.data:
        shown = lines(parts, data, args.place)
        if shown:
            task = next(part["task"] for part in parts.values() if part["data"] == data)
            metric = METRICS[task]
            columns = ("", "dev score", f"test {metric}", "minus base")
            show(f"{data}, {task}", columns, shown, markdown=args.markdown)


def main() -> None:
    """Train what is missing, then show it."""
    parser = command_line(__doc__, DATA, "recipes.json")
    parser.add_argument(
        "--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME"
    )
    args = parsed(parser, DATA)
    if not args.table:
        train_missing(args, lambda parts: wanted(args, parts), run_part)
    table(args)


if __name__ == "__main__":
    main()
