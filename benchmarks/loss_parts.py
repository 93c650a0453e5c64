"""One part of `losses.py`: what is trained on which rows, how it is decided, what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parts import Part, pack, request_of, set_up_alone, train_alone

DATA = ("car_aspect", "duee_event", "cail_labor", "goemotions")
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
SLOW = ", head x5"
"""what a method's name ends in where its head learns at 5 times the encoder's rate, which was the
default; the others have the recipe's own rate, 25 times"""
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


def column_compared(method: str) -> str:
    """The cut whose decisions are compared: the old recipe's fixed one, else `auto`."""
    return "default" if method in OLD else "auto"


CUTS = {"default": "fixed", "global": "global", "auto": "auto"}
"""column -> tuner; the default cut is a score of one half, which is logit 0"""
KEPT = ("micro_f1", "macro_f1_present", "exact_match", "labels_per_row_predicted")
OF_ORDER = ("map", "lrap", "precision_at_1", "precision_at_3", "precision_at_5")
GROUPS = ("macro_f1_head", "macro_f1_medium", "macro_f1_tail")


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


def settings_of(part: Wanted) -> dict[str, Any]:
    """What a part sets."""
    flags: dict[str, Any] = {"training.seed": part.seed}
    if part.method in OLD:
        loss, options = OLD[part.method]
        flags |= OLD_SETTINGS
    else:
        loss, options = LOSSES.get(part.method.removesuffix(SLOW), LOSSES[BASE])
        flags |= {"training.learning_rate": part.rate or None}
        if part.method.endswith(SLOW):
            flags["training.head_learning_rate"] = 5 * part.rate
    return flags | {"loss.name": loss, "loss.options": options}


def run_part(part: Wanted, place: Path) -> Part:
    """Train, decide in every way, and measure on test."""
    from bert_cls.losses import LOSSES as REGISTRY

    request = request_of(part.data, place, settings_of(part))
    setup = set_up_alone(request)
    found: Part = {"data": part.data, "method": part.method, "rate": part.rate, "seed": part.seed}
    if part.method == BAR:
        from bert_cls import baseline

        train, space = setup.splits["train"], setup.dataset.space
        bar = baseline.fit(list(train.examples), "multilabel", space)
        logits = {n: bar.logits(list(setup.splits[n].examples)) for n in ("dev", "test")}
        return found | measure(setup, logits, calibrated=False, compared=column_compared(BAR))
    history, logits, _ = train_alone(setup, request)
    best = max(history, key=lambda epoch: epoch.score or 0.0)
    found |= {
        "dev_map": round(best.score or 0.0, 5),
        "best_epoch": best.epoch,
        "epochs": len(history),
        "seconds": round(sum(epoch.seconds for epoch in history), 1),
        "rows": {name: len(split.examples) for name, split in setup.splits.items()},
    }
    calibrated = REGISTRY[setup.loss_name].calibrated
    compared = column_compared(part.method)
    return found | measure(setup, logits, calibrated=calibrated, compared=compared)


def measure(setup: Any, logits: Mapping[str, Any], *, calibrated: bool, compared: str) -> Part:
    """Figures on test at every cut, and what was decided at the one that is compared."""
    from bert_cls.decision import tune
    from bert_cls.metrics import evaluate

    dev, test = setup.splits["dev"].truth, setup.splits["test"].truth
    out: Part = {"cuts": {}}
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
            train_counts=setup.statistics.counts,
            calibrated=False,
            resamples=0,
        )
        kept = KEPT + (GROUPS if column == "auto" else ())
        out["cuts"][column] = _rounded(found.metrics, kept)
        if column == compared:
            out["decided"] = pack(decided)
        if column == "auto":
            out["of_order"] = _rounded(found.metrics, OF_ORDER)
            out["tuner"] = tuned.rule.tuner
    return out


def _rounded(metrics: Mapping[str, float | None], names: Sequence[str]) -> dict[str, float | None]:
    values = {name: metrics.get(name) for name in names}
    return {name: None if value is None else round(value, 5) for name, value in values.items()}
