"""Are scores probabilities after calibration, are certain rows right, are strange rows told?

Models on 3,000 training rows (6 layers, 4 passes), calibrated on dev and measured on test. The
peers are the uncalibrated scores and, for strange rows, the highest probability. Strange rows are
test texts of other data sets. Each model is a part, written down as soon as it is done.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parts import (
    Part,
    command_line,
    parsed,
    request_of,
    set_up_alone,
    there,
    train_alone,
    train_missing,
)
from record import data_set, show

STRANGE = {
    "car_aspect": ("waimai_10k", "thucnews_title"),
    "duee_event": ("waimai_10k", "car_aspect"),
    "kuake_qic": ("waimai_10k", "thucnews_title"),
    "thucnews_title": ("waimai_10k", "kuake_qic"),
    "waimai_10k": ("kuake_qic", "thucnews_title"),
    "ocnli": (),
    "cail_labor": (),
    "goemotions": (),
    "sms_spam": (),
}
"""data set -> those whose texts are strange to its model; of pairs and English none are"""
STRANGE_ROWS = 1000
METHODS = ("none", "temperature", "auto")
SHARES = (1.0, 0.8, 0.5)


@dataclass(frozen=True, slots=True)
class Model:
    """One network to train."""

    data: str

    @property
    def key(self) -> str:
        """Names the part within the results."""
        return self.data


def run_part(part: Model, place: Path) -> Part:
    """Train, and measure what its scores are worth."""
    request = request_of(part.data, place, {})
    setup = set_up_alone(request)
    _, logits, engine = train_alone(setup, request)
    found: Part = {"task": setup.dataset.task, "rows": {k: len(v) for k, v in logits.items()}}
    return found | calibration(setup, logits) | strangeness(part, setup, logits, engine)


def calibration(setup: Any, logits: dict[str, Any]) -> Part:
    """Calibration error on test before and after, and how right the most certain rows are."""
    from bert_cls.decision import confidence, tune
    from bert_cls.metrics import evaluate

    task, dev, test = setup.dataset.task, setup.splits["dev"].truth, setup.splits["test"].truth
    out: Part = {"ece": {}, "chosen": ""}
    for method in METHODS:
        tuned = tune(logits["dev"], dev, task=task, calibrate=method)
        scores = tuned.rule.scores(logits["test"])
        decided = tuned.rule.decide(scores)
        sure = confidence(tuned.rule, scores, decided)
        found = evaluate(
            task, setup.dataset.space, test, scores, decided, confidence=sure, resamples=0
        )
        metric = "ece_pooled" if task == "multilabel" else "ece"
        out["ece"][method] = round(found.metrics[metric] or 0.0, 5)
        if method == "auto":
            out["chosen"] = kind_of(tuned.rule)
            right = (decided == test).all(axis=1) if task == "multilabel" else decided == test
            order = np.argsort(-sure, kind="stable")
            out["accuracy"] = {
                str(share): round(float(right[order[: round(share * len(order))]].mean()), 4)
                for share in SHARES
            }
    return out


def kind_of(rule: Any) -> str:
    """What a rule does to logits before they are probabilities."""
    if rule.slopes:
        return "a slope and offset a label"
    if rule.power != 1:
        return "temperature and power"
    return "temperature" if rule.temperature != 1 or rule.bias else "none"


def strangeness(part: Model, setup: Any, logits: dict[str, Any], engine: Any) -> Part:
    """AUROC of telling texts of other data sets from test, by our score and by the peer."""
    from sklearn.metrics import roc_auc_score

    from bert_cls.data import Example
    from bert_cls.decision.domain import learn
    from bert_cls.engines import run
    from bert_cls.judging import encode_texts

    domain = learn(logits["dev"], setup.splits["dev"].truth)
    out: Part = {"auroc": {}}
    for name in STRANGE[part.data]:
        rows = json.loads((data_set(name) / "test.json").read_text("utf-8"))[:STRANGE_ROWS]
        examples = [Example(n, row["text_a"], None) for n, row in enumerate(rows)]
        tokens = encode_texts(examples, False, setup.text)
        theirs = run(engine, tokens.pieces, pad_id=setup.pad_id, outputs=setup.outputs)
        both = np.concatenate([logits["test"], tokens.pooled(theirs)])
        strange = np.arange(len(both)) >= len(logits["test"])
        out["auroc"][name] = {
            "highest probability": round(roc_auc_score(strange, -highest(both, setup)), 4),
            "ours": round(roc_auc_score(strange, domain.distances(both)), 4) if domain else None,
        }
    return out


def highest(logits: Any, setup: Any) -> Any:
    """The highest probability of each row, float64 [rows]."""
    z = np.asarray(logits, np.float64)
    if setup.dataset.task == "multilabel" or z.shape[1] == 1:
        p = 1 / (1 + np.exp(-z))
        return np.maximum(p, 1 - p).max(axis=1) if z.shape[1] == 1 else p.max(axis=1)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return z.max(axis=1) / z.sum(axis=1)


def table(args: argparse.Namespace) -> None:
    """Three tables of everything that is there."""
    kept = there(args.output)
    parts = {name: kept[name] for name in args.data if name in kept}
    lines = [
        [f"{name}, {part['task']}", *(f"{part['ece'][m]:.4f}" for m in METHODS), part["chosen"]]
        for name, part in parts.items()
    ]
    show(
        "expected calibration error on test, 15 bins; of label sets over all cells",
        ("", *METHODS, "auto took"),
        lines,
        markdown=args.markdown,
    )
    lines = [
        [name, *(f"{value:.3f}" for value in part["accuracy"].values())]
        for name, part in parts.items()
    ]
    show(
        "accuracy of the most certain rows, of label sets all labels right",
        ("", *(f"{share:.0%}" for share in SHARES)),
        lines,
        markdown=args.markdown,
    )
    lines = []
    for name, part in parts.items():
        for other, each in part["auroc"].items():
            shown = ["–" if v is None else f"{v:.3f}" for v in each.values()]
            lines.append([f"{name} from {other}", *shown])
    show(
        "telling rows of another data set, AUROC",
        ("", "highest probability", "ours"),
        lines,
        markdown=args.markdown,
    )


def main() -> None:
    """Train what is missing, then show it."""
    args = parsed(command_line(__doc__, STRANGE, "certainty.json"), STRANGE)
    if not args.table:
        train_missing(
            args, lambda parts: [Model(name) for name in args.data if name not in parts], run_part
        )
    table(args)


if __name__ == "__main__":
    main()
