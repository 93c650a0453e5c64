"""Judged rows of every task, drawn with a seed: what report tests are made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bert_cls.bundle import Bundle
from bert_cls.data import Example, LabelSpace
from bert_cls.decision import Rule
from bert_cls.metrics import evaluate
from bert_cls.metrics.outcome import Outcome
from bert_cls.report import About, Judged, ReportData, report_data
from bert_cls.text import TextSettings

MAX_LENGTH = 40
NAMES = {
    "multilabel": ("尾灯", "天窗", "轮胎", "油耗"),
    "multiclass": ("体育", "财经", "教育"),
    "binary": ("差", "好"),
    "regression": (),
}
TASKS = tuple(NAMES)


def judged_case(
    task: str, *, rows: int = 40, seed: int = 0, names: tuple[str, ...] | None = None
) -> tuple[Judged, Bundle]:
    """Random truth, scores that lean to it, and a bundle with the rule that decided."""
    names = NAMES[task] if names is None else names
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(rows, max(1, len(names))))
    if task == "regression":
        truth = rng.integers(0, 6, rows).astype(np.float64)
        logits = truth[:, None] + logits * 0.7
        label = truth.tolist()
        rule = Rule(task="regression", activation="identity")
    elif task == "multilabel":
        truth = rng.random(logits.shape) < 0.3
        logits += 3 * truth - 1.5
        label = [tuple(names[i] for i in np.flatnonzero(row)) for row in truth]
        cuts = tuple(0.4 + 0.05 * (i % 4) for i in range(len(names)))
        rule = Rule(task="multilabel", activation="sigmoid", temperature=0.7, thresholds=cuts)
    else:
        truth = rng.integers(0, len(names), rows)
        logits[np.arange(rows), truth] += 1.5
        label = [names[i] for i in truth]
        rule = Rule(task=task, activation="softmax", temperature=1.3)
    scores = rule.scores(logits)
    lengths = rng.integers(4, 60, rows)
    examples = [
        Example(i, f"第{i}行的文本" + "长" * int(n), None, label[i]) for i, n in enumerate(lengths)
    ]
    plain = Rule(task=task, activation=rule.activation, thresholds=rule.thresholds)
    judged = Judged(
        examples=examples,
        outcome=Outcome(task, truth, scores, rule.decide(scores)),
        uncalibrated=None if task == "regression" else plain.scores(logits),
        lengths=lengths,
        cut=lengths > MAX_LENGTH,
    )
    return judged, _bundle(names, rule)


def _bundle(names: tuple[str, ...], rule: Rule) -> Bundle:
    details = {
        "preset": "fast",
        "config": {"training": {"epochs": 3}},
        "origins": {"training.epochs": "flag"},
        "data": {
            "rows": {"train": 300, "dev": 40, "test": 40},
            "label_counts": {name: 100 - 3 * i for i, name in enumerate(names)},
            "audit": [
                {"code": "D34", "severity": "warning", "count": 12},
                {"code": "D42", "severity": "note", "count": 1},
            ],
        },
        "history": [
            {"epoch": i + 1, "step": 9 * i, "loss": 0.9 / (i + 1), "score": s, "seconds": 2.0}
            for i, s in enumerate((0.5, 0.7, 0.65))
        ],
    }
    return Bundle(
        folder=Path("model"),
        space=LabelSpace(names),
        rule=rule,
        text=TextSettings(MAX_LENGTH),
        pooling="mean",
        pair=False,
        pad_id=0,
        details=details,
    )


def report_case(task: str, *, split: str = "test", **options) -> ReportData:
    """The report of a judged case; `texts` and `explain` are report_data's, the rest the case's."""
    kept = {key: options.pop(key) for key in ("texts", "explain", "linear_bar") if key in options}
    judged, bundle = judged_case(task, **options)
    counts = list(bundle.details["data"]["label_counts"].values()) or None
    evaluation = evaluate(
        task,
        bundle.space,
        judged.outcome.truth,
        judged.outcome.scores,
        judged.outcome.predicted,
        train_counts=counts,
        resamples=50,
    )
    about = About("model", "rows.json", split, "2026-01-02", "0.1.0")
    return report_data(judged, evaluation, bundle, about=about, **kept)
