"""The ways to explain a model's answers, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bert_cls.bundle import Bundle
from bert_cls.data.example import Example
from bert_cls.decision import undecided
from bert_cls.engines import Engine
from bert_cls.errors import ConfigError, pick
from bert_cls.explain import (
    Explanation,
    Floats,
    Span,
    check_lengths,
    label_weights,
    occlude,
    only_read,
    put_back,
    stand_in,
    whole_text,
)
from bert_cls.ranges import check_ranges
from bert_cls.text import TextEncoder, Tokens

ROWS_AT_ONCE = 64
"""Rows whose hidden versions are held in memory together."""
SCORE = "score"
"""What the one output of a regression is called."""


class Model(Protocol):
    """What explaining needs of a Classifier."""

    bundle: Bundle
    engine: Engine
    text: TextEncoder

    def tokens(self, examples: Sequence[Example]) -> Tokens:
        """Token ids of rows."""

    def logits(self, tokens: Tokens) -> Any:
        """float32 [rows, outputs]."""


def explain(
    method: str,
    model: Model,
    examples: list[Example],
    labels: Sequence[str] | str | None,
    *,
    passes: int,
) -> list[Explanation]:
    """See `Classifier.explain`; every example is one the model can read."""
    check_ranges(passes=passes)
    labels = [labels] if isinstance(labels, str) else labels
    if labels is not None and not len(labels):
        raise ConfigError(
            "labels must be one label or more. Got none instead.",
            hint="None explains those that the model gives.",
        )
    explainer = pick(EXPLAINERS, method, "method")
    out = []
    for at in range(0, len(examples), ROWS_AT_ONCE):
        out += explainer(model, examples[at : at + ROWS_AT_ONCE], labels, passes)
    return out


def _columns(
    model: Model, logits: Any, labels: Sequence[str] | None
) -> tuple[list[list[int]], Any]:
    """The outputs to explain of each row, and all scores float64 [rows, labels]."""
    rule = model.bundle.rule
    scores = rule.scores(logits)
    if rule.task == "regression":
        for name in labels or ():
            pick({SCORE: 0}, name, "label")
        return [[0]] * len(scores), scores[:, None]
    if labels is not None:
        ids = model.bundle.space.ids
        chosen = [pick(ids, name, "label") for name in dict.fromkeys(labels)]
        return [chosen] * len(scores), scores
    decided = rule.decide(scores)
    if rule.task == "multilabel":
        given = [
            row.nonzero()[0].tolist() or [int(s.argmax())]
            for row, s in zip(decided, scores, strict=True)
        ]
        return given, scores
    return [[int(label)] for label in decided], scores


def _occlusion(
    model: Model, examples: list[Example], labels: Sequence[str] | None, passes: int
) -> list[Explanation]:

    def margins(rows: Sequence[Example]) -> Any:
        return model.bundle.rule.margins(model.logits(model.tokens(rows)))

    check_lengths(examples)
    tokens = model.tokens(examples)
    columns, scores = _columns(model, model.logits(tokens), labels)
    hidden = stand_in(model.text)
    read = [
        model.text.stretches(each.text_a, each.text_b) if cut else None
        for each, cut in zip(examples, tokens.cut.tolist(), strict=True)
    ]
    shown = [
        example if stretches is None else only_read(example, stretches)
        for example, stretches in zip(examples, read, strict=True)
    ]
    found = occlude(shown, columns, margins, passes=passes, hidden=hidden)
    found = [
        (spans if stretches is None else put_back(spans, stretches), weights, asked)
        for (spans, weights, asked), stretches in zip(found, read, strict=True)
    ]
    return _explanations(model, examples, tokens, columns, scores, found, "occlusion")


def _gradient(
    model: Model, examples: list[Example], labels: Sequence[str] | None, passes: int
) -> list[Explanation]:
    from bert_cls.engines.gradients import STEPS, gradient_spans  # needs torch

    tokens = model.tokens(examples)
    columns, scores = _columns(model, model.logits(tokens), labels)
    found = gradient_spans(
        model.engine,
        model.text,
        examples,
        tokens,
        columns,
        rule=model.bundle.rule,
        pad_id=model.bundle.pad_id,
    )
    counted = [(*each, STEPS * len(wanted)) for each, wanted in zip(found, columns, strict=True)]
    return _explanations(model, examples, tokens, columns, scores, counted, "gradient")


def _explanations(
    model: Model,
    examples: list[Example],
    tokens: Tokens,
    columns: list[list[int]],
    scores: Any,
    found: Sequence[tuple[list[Span], Floats, int]],
    method: str,
) -> list[Explanation]:
    """`found` has spans, weights and network calls of each row; its scores took one call more."""
    names = model.bundle.space.names or (SCORE,)
    left = undecided(model.bundle.rule, scores, model.bundle.rule.decide(scores)).tolist()
    out = []
    for example, cut, abstained, wanted, row, (spans, weights, asked) in zip(
        examples, tokens.cut.tolist(), left, columns, scores, found, strict=True
    ):
        spans, weights = whole_text(example, spans, weights)
        why = label_weights([names[i] for i in wanted], [row[i] for i in wanted], spans, weights)
        out.append(Explanation(example, method, why, asked + 1, cut, abstained))
    return out


EXPLAINERS: dict[str, Callable[..., list[Explanation]]] = {
    "occlusion": _occlusion,
    "gradient": _gradient,
}
