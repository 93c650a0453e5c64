"""The rows a model was surest of and wrong about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bert_cls import metrics
from bert_cls.bundle import Bundle
from bert_cls.data import Example
from bert_cls.report.data import Verdict, WorstRow
from bert_cls.report.judged import Judged

Explain = Callable[[Example, str], Sequence[tuple[str, float]]]
"""Pieces of an example's text_a, which joined make it, with how much each spoke for the label."""

WORST_ROWS = 50
VERDICTS = 6
TEXT_CHARACTERS = 1200


def worst_rows(
    judged: Judged, bundle: Bundle, *, texts: bool, explain: Explain | None
) -> tuple[WorstRow, ...]:
    """At most 50 wrong rows, those the model was surest of first; of numbers the largest errors."""
    outcome = judged.outcome
    sure = metrics.wrong_confidence(outcome)
    out = []
    for number in metrics.worst_rows(outcome, WORST_ROWS).tolist():
        example = judged.examples[number]
        true, given, wrong = _verdicts(judged, bundle, number)
        row = WorstRow(
            index=example.index,
            text_a=None,
            text_b=None,
            shortened=False,
            cut=bool(judged.cut[number]),
            confidence=float(sure[number]),
            true=true,
            given=given,
            wrong=wrong,
            spoke=None,
        )
        out.append(_with_texts(row, example, explain) if texts else row)
    return tuple(out)


def _with_texts(row: WorstRow, example: Example, explain: Explain | None) -> WorstRow:
    blamed = next((verdict.label for verdict in row.wrong if verdict.given), None)
    spoke = tuple(explain(example, blamed)) if explain is not None and blamed is not None else None
    second = example.text_b or ""
    return replace(
        row,
        text_a=example.text_a[:TEXT_CHARACTERS],
        text_b=None if example.text_b is None else second[:TEXT_CHARACTERS],
        shortened=max(len(example.text_a), len(second)) > TEXT_CHARACTERS,
        spoke=spoke,
    )


Names = tuple[str, ...] | float


def _verdicts(
    judged: Judged, bundle: Bundle, number: int
) -> tuple[Names, Names, tuple[Verdict, ...]]:
    """What the row has, what it was given, and its wrong labels, the surest first."""
    outcome, names = judged.outcome, bundle.space.names
    truth, decided = outcome.truth[number], outcome.decided[number]
    if outcome.task == "regression":
        return float(truth), float(decided), ()
    scores = outcome.scores[number]
    if outcome.task != "multilabel":
        verdicts = [
            Verdict(names[i], float(scores[i]), None, given=i == int(decided))
            for i in (int(decided), int(truth))
        ]
        return (names[truth],), (names[decided],), tuple(verdicts)
    wrong = np.flatnonzero(truth != decided)
    sure = np.where(decided, scores, 1 - scores)[wrong]
    thresholds = bundle.rule.thresholds
    listed = [
        Verdict(
            names[i],
            float(scores[i]),
            thresholds[i] if math.isfinite(thresholds[i]) else None,
            given=bool(decided[i]),
        )
        for i in wrong[np.argsort(-sure, kind="stable")][:VERDICTS].tolist()
    ]
    return (
        tuple(names[i] for i in np.flatnonzero(truth)),
        tuple(names[i] for i in np.flatnonzero(decided)),
        tuple(listed),
    )
