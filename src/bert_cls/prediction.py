"""What a model says about one row, and how it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.example import LabelSpace
from bert_cls.decision import Rule, undecided

_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Prediction:
    """Labels and scores of one row.

    `labels` are the decided names (one for classes, any number for multilabel, none for
    regression); `scores` every label's score; `score` the value of a regression; `truncated`
    whether some of the text was not read. `abstained` rows have no labels: the model is less sure
    of them than its rule demands. `out_of_domain`, when asked for, is the share of development rows
    that are less strange to the model, 0..1.
    """

    labels: tuple[str, ...] = ()
    scores: dict[str, float] | None = None
    score: float | None = None
    truncated: bool = False
    abstained: bool = False
    out_of_domain: float | None = None

    def as_written(self) -> Prediction:
        """With the digits a file of predictions keeps."""
        scores = self.scores and {name: round(v, _DIGITS) for name, v in self.scores.items()}
        score = None if self.score is None else round(self.score, _DIGITS)
        return replace(self, scores=scores, score=score)

    def to_dict(self, *, top: int | None = None) -> dict[str, Any]:
        """JSON-ready; scores rounded to 6 digits.

        With `top` only the decided labels' scores and the `top` highest ones, highest first.
        """
        if self.score is not None:
            body: dict[str, Any] = {"score": round(self.score, _DIGITS)}
        else:
            scores = list((self.scores or {}).items())
            if top is not None:
                ranked = sorted(scores, key=lambda entry: -entry[1])
                scores = [s for i, s in enumerate(ranked) if i < top or s[0] in self.labels]
            rounded = {name: round(value, _DIGITS) for name, value in scores}
            body = {"labels": list(self.labels), "scores": rounded}
        if self.abstained:
            body["abstained"] = True
        if self.out_of_domain is not None:
            body["out_of_domain"] = round(self.out_of_domain, _DIGITS)
        return body | ({"truncated": True} if self.truncated else {})


def predictions(
    rule: Rule, space: LabelSpace, logits: NDArray[np.float32], cut: Sequence[bool]
) -> list[Prediction]:
    """Logits float32 [rows, outputs] become one Prediction a row."""
    scores = rule.scores(logits)
    decided = rule.decide(scores)
    if rule.task == "regression":
        return [
            Prediction(score=float(value), truncated=bool(was_cut))
            for value, was_cut in zip(scores, cut, strict=True)
        ]
    names = space.names
    chosen = (
        [tuple(names[i] for i in np.flatnonzero(row)) for row in decided]
        if rule.task == "multilabel"
        else [(names[int(i)],) for i in decided]
    )
    open_rows = undecided(rule, scores, decided)
    return [
        Prediction(
            () if left else labels,
            dict(zip(names, row.tolist(), strict=True)),
            None,
            bool(was_cut),
            bool(left),
        )
        for labels, row, was_cut, left in zip(chosen, scores, cut, open_rows, strict=True)
    ]
