"""The rows a model was surest of and wrong about."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bert_cls import metrics
from bert_cls.bundle import Bundle
from bert_cls.data import Example
from bert_cls.report.data import NearRow, Verdict, WorstRow
from bert_cls.report.judged import Judged

Pieces = Sequence[tuple[str, float]]
Explain = Callable[[Sequence[tuple[Example, str]]], Sequence[tuple[Pieces, Pieces] | None]]
"""Rows, each with a label that is wrong, given in error or missed: the pieces of text_a and of
text_b, which joined make them, with how much each spoke for that label; None for a row that cannot
be explained."""

Nearest = Callable[[Sequence[Example]], Sequence[Sequence[tuple[Example, float]]]]
"""Rows to the training rows most like each, with their cosines."""

WORST_ROWS = 50
VERDICTS = 6
TEXT_CHARACTERS = 1200
NEAR_CHARACTERS = 200
MARKED = 100
"""Pieces of a text that keep their weight, the greatest first: more would make a page too large."""


def worst_rows(
    judged: Judged, bundle: Bundle, *, explain: Explain | None, nearest: Nearest | None
) -> tuple[WorstRow, ...]:
    """At most 50 wrong rows, those the model was surest of first; of numbers the largest errors."""
    outcome = judged.outcome
    sure = metrics.wrong_confidence(outcome)
    numbers = metrics.worst_rows(outcome, WORST_ROWS).tolist()
    examples = [judged.examples[number] for number in numbers]
    shown = []
    for number, example in zip(numbers, examples, strict=True):
        true, given, wrong = _verdicts(judged, bundle, number)
        second = example.text_b or ""
        row = WorstRow(
            index=example.index,
            text_a=example.text_a[:TEXT_CHARACTERS],
            text_b=None if example.text_b is None else second[:TEXT_CHARACTERS],
            shortened=max(len(example.text_a), len(second)) > TEXT_CHARACTERS,
            cut=bool(judged.cut[number]),
            confidence=float(sure[number]),
            true=true,
            given=given,
            wrong=wrong,
            spoke=None,
            spoke_b=None,
        )
        shown.append(row)
    if explain is not None:
        shown = _explained(shown, examples, explain)
    if nearest is not None:
        alike = nearest(examples)
        shown = [
            replace(row, nearest=tuple(_near(*each) for each in found))
            for row, found in zip(shown, alike, strict=True)
        ]
    return tuple(shown)


def _near(example: Example, similarity: float) -> NearRow:
    second = example.text_b
    return NearRow(
        index=example.index,
        text_a=_short(example.text_a),
        text_b=None if second is None else _short(second),
        label=example.label,
        similarity=similarity,
    )


def _short(text: str) -> str:
    return text if len(text) <= NEAR_CHARACTERS else text[:NEAR_CHARACTERS] + " …"


def _explained(
    rows: list[WorstRow], examples: Sequence[Example], explain: Explain
) -> list[WorstRow]:
    """The rows with what spoke for the surest label that each was given in error.

    Of rows that only miss labels, with what spoke against the surest of these.
    """
    blamed = {
        place: next((verdict for verdict in row.wrong if verdict.given), row.wrong[0])
        for place, row in enumerate(rows)
        if row.wrong
    }
    found = explain([(examples[place], verdict.label) for place, verdict in blamed.items()])
    out = list(rows)
    for (place, verdict), spoken in zip(blamed.items(), found, strict=True):
        if spoken is not None:
            sign = 1 if verdict.given else -1
            first, second = (_shown([(text, sign * w) for text, w in each]) for each in spoken)
            both = examples[place].text_b is not None
            second_shown = second if both else None
            out[place] = replace(
                rows[place], spoke=first, spoke_b=second_shown, explained=verdict.label
            )
    return out


def _shown(pieces: Pieces) -> tuple[tuple[str, float], ...]:
    """The first characters of a text; the pieces that spoke most keep their weights.

    The others are joined with their neighbours and have weight 0.
    """
    cut, left = [], TEXT_CHARACTERS
    for piece, weight in pieces:
        if left > 0:
            cut.append((piece[:left], max(0.0, weight)))
        left -= len(piece)
    marked = set(sorted(range(len(cut)), key=lambda i: -cut[i][1])[:MARKED])
    out: list[tuple[str, float]] = []
    for place, (piece, weight) in enumerate(cut):
        kept = float(f"{weight:.3g}") if place in marked else 0.0
        if out and not kept and not out[-1][1]:
            out[-1] = (out[-1][0] + piece, 0.0)
        else:
            out.append((piece, kept))
    return tuple(out)


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
