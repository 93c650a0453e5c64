"""How long figures and report of 100,000 predicted rows take; scikit-learn's bare figures beside.

make bench-report
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

from bert_cls.bundle import Bundle
from bert_cls.data import Example, LabelSpace
from bert_cls.decision import Rule
from bert_cls.metrics import evaluate
from bert_cls.metrics.outcome import Outcome
from bert_cls.report import About, Judged, page, report_data
from bert_cls.text import TextSettings
from record import RESULTS, machine, show, write_results

RESAMPLES = 1000


def judged_rows(rows: int, labels: int) -> tuple[Judged, Bundle]:
    """Random label sets (2 % of the cells), scores that lean to them, texts of 60 characters."""
    rng = np.random.default_rng(0)
    names = tuple(f"label {i}" for i in range(labels))
    truth = rng.random((rows, labels)) < 0.02
    logits = rng.normal(size=truth.shape) + 5 * truth - 4
    rule = Rule(
        task="multilabel", activation="sigmoid", temperature=0.8, thresholds=(0.4,) * labels
    )
    scores = rule.scores(logits)
    lengths = rng.integers(5, 300, rows)
    examples = [
        Example(i, "尾灯采用LED光源" * 6, None, tuple(names[j] for j in np.flatnonzero(row)))
        for i, row in enumerate(truth)
    ]
    counts = dict(zip(names, truth.sum(axis=0).tolist(), strict=True))
    details = {"data": {"rows": {"train": rows, "test": rows}, "label_counts": counts}}
    bundle = Bundle(
        Path("model"), LabelSpace(names), rule, TextSettings(256), "mean", False, 0, details
    )
    outcome = Outcome("multilabel", truth, scores, rule.decide(scores))
    plain = Rule(task="multilabel", activation="sigmoid", thresholds=rule.thresholds).scores(logits)
    return Judged(examples, outcome, plain, lengths, lengths > 256), bundle


def scikit_learn(judged: Judged) -> None:
    """F1s, average precision, AUROC, LRAP and curves of every label, without any interval."""
    truth, scores, decided = (
        judged.outcome.truth,
        judged.outcome.scores,
        judged.outcome.decided,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sk.classification_report(truth, decided, output_dict=True, zero_division=0)
        sk.average_precision_score(truth, scores, average=None)
        sk.roc_auc_score(truth, scores, average=None)
        sk.label_ranking_average_precision_score(truth, scores)
        for i in range(truth.shape[1]):
            sk.precision_recall_curve(truth[:, i], scores[:, i])


def main() -> None:
    """Measure, print, and write benchmarks/results/report.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--labels", type=int, default=65)
    arguments = parser.parse_args()
    judged, bundle = judged_rows(arguments.rows, arguments.labels)
    counts = list(bundle.details["data"]["label_counts"].values())
    seconds: dict[str, float] = {}

    began = time.perf_counter()
    outcome = judged.outcome
    evaluation = evaluate(
        outcome.task,
        bundle.space,
        outcome.truth,
        outcome.scores,
        outcome.predicted,
        train_counts=counts,
        resamples=RESAMPLES,
    )
    seconds[f"figures, {RESAMPLES} resamples"] = time.perf_counter() - began
    began = time.perf_counter()
    about = About("model", "rows.json", "test", "2026-01-01", "0")
    found = report_data(judged, evaluation, bundle, about=about)
    seconds["report data"] = time.perf_counter() - began
    began = time.perf_counter()
    size = len(page(found).encode())
    seconds["page"] = time.perf_counter() - began
    began = time.perf_counter()
    scikit_learn(judged)
    peer = time.perf_counter() - began

    total = sum(seconds.values())
    rows = [[name, value] for name, value in seconds.items()]
    rows += [["all", total], ["scikit-learn, no intervals", peer], ["ratio", total / peer]]
    title = f"{arguments.rows:,} rows, {arguments.labels} labels; page of {size:,} bytes"
    show(title, ["", "seconds"], rows)
    content = {
        "machine": machine(),
        "rows": arguments.rows,
        "labels": arguments.labels,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "total_seconds": round(total, 2),
        "scikit_learn_seconds": round(peer, 2),
        "ratio": round(total / peer, 2),
        "page_bytes": size,
    }
    write_results(RESULTS / "report.json", content)


if __name__ == "__main__":
    sys.exit(main())
