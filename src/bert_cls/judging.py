"""What a model can read, and what it makes of labelled rows: checked labels, and figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

from numpy.typing import ArrayLike

from bert_cls.bundle import Bundle
from bert_cls.cuts import cut_note
from bert_cls.data import Example, LabelSpace, Problem
from bert_cls.data.labels import SURROGATE, check_label
from bert_cls.data.problems import count
from bert_cls.data.raw import Fault
from bert_cls.data.rows import is_visible
from bert_cls.data.task import merged as merged_label
from bert_cls.decision import Rule, confidence
from bert_cls.errors import DataError
from bert_cls.metrics import Evaluation, Outcome, evaluate
from bert_cls.metrics.outcome import Bools
from bert_cls.ranges import check_ranges
from bert_cls.report import Judged
from bert_cls.text import TextEncoder, TextSettings, Tokens

Text = str | tuple[str, str] | Example
_KINDS = {"multilabel": tuple, "regression": (int, float)}
_WRITTEN = {"multilabel": 'a list of names, such as ["尾灯"]', "regression": "a number"}
_ROWS_HINT = "an Example is a row; those of a file are bert_cls.data.read(FILE).examples"


def misfit(bundle: Bundle, example: Example) -> str | None:
    """Why a model cannot read a row, or None."""
    if bundle.pair and example.text_b is None:
        return "this model reads pairs; text_b is missing."
    if not bundle.pair and example.text_b is not None:
        return "this model reads single texts; text_b was given."
    texts: tuple[object, ...] = (example.text_a, example.text_b or "")
    for text in texts if bundle.pair else texts[:1]:
        if not isinstance(text, str):
            return f"a text must be a string. Got {type(text).__name__} instead."
        if not is_visible(text) and not SURROGATE.search(text):  # the tokenizer's answer says more
            return "the text is empty."
    return None


def readable(bundle: Bundle, texts: Sequence[Text]) -> list[Example]:
    """Texts and pairs as examples; DataError for one that the model cannot read."""
    if isinstance(texts, (str, Example)):
        raise DataError(
            "one text was given where a list is expected.", hint="put it into one: [text]"
        )
    hint = 'give the texts themselves, such as list(table["text_a"])'
    examples = [_example(i, text) for i, text in enumerate(_several(texts, "texts", hint))]
    for example in examples:
        if problem := misfit(bundle, example):
            raise DataError(f"text {example.index}: {problem}")
    return examples


def encode_texts(examples: Sequence[Example], pair: bool, text: TextEncoder) -> Tokens:
    """Tokens of examples, of both texts where the model reads pairs."""
    second = [e.text_b or "" for e in examples] if pair else None
    return text.encode_in_chunks([e.text_a for e in examples], second)


def _several(given: Any, what: str, hint: str) -> Any:
    """What was given, unless it is one thing, a set, or a table, which goes through its columns."""
    table = isinstance(given, Mapping) or hasattr(given, "columns")
    one = isinstance(given, (str, bytes, PathLike, Example)) or not hasattr(given, "__iter__")
    unordered = isinstance(given, (set, frozenset))
    if unordered:
        hint = "a set has no order, so no answer could be told from another: give a list."
    if table or one or unordered:
        kind = type(given).__name__
        raise DataError(f"{kind} was given where a list of {what} is expected.", hint=hint)
    return given


def read_on(rows: Iterable[Example | Problem]) -> Iterator[Example | Problem]:
    """Rows and errors of a stream, without its notes; DataError for what is neither."""
    for place, row in enumerate(_several(rows, "rows", _ROWS_HINT)):
        if not isinstance(row, (Example, Problem)):
            raise _no_example(place, row)
        if isinstance(row, Example) or row.severity == "error":
            yield row


def _no_example(place: int, row: object) -> DataError:
    kind = type(row).__name__
    return DataError(
        f"row {place}: {kind} was given where an Example is expected.", hint=_ROWS_HINT
    )


def _example(index: int, text: Text) -> Example:
    if isinstance(text, Example):
        return text
    if isinstance(text, str):
        return Example(index, text)
    match text:
        case (str(first), str(second)):
            return Example(index, first, second)
    raise DataError(f"text {index}: {type(text).__name__} is neither a text nor a pair of texts.")


def merged(
    examples: Sequence[Example], merges: Mapping[str, str]
) -> tuple[list[Example], tuple[str, ...]]:
    """The examples with labels merged as a model's training did, and a note where some were."""
    after = [replace(e, label=merged_label(e.label, merges)) for e in examples]
    changed = sum(a.label != b.label for a, b in zip(after, examples, strict=True))
    note = f"labels of {count(changed, 'row')} merged as in training."
    return after, (note,) if changed else ()


def unlabelled_note(rows: int) -> tuple[str, ...]:
    """That so many rows have no label and are left out; nothing where there are none."""
    are = "is" if rows == 1 else "are"
    return (f"{count(rows, 'row')} without a label {are} not counted.",) if rows else ()


def labelled(bundle: Bundle, examples: Sequence[Example]) -> tuple[list[Example], tuple[str, ...]]:
    """The examples with a label, merged as in training, and what is to be said of that.

    DataError when none has one, one is not the model's, or the model cannot read one of the rows.
    """
    known = []
    for place, example in enumerate(_several(examples, "Examples", _ROWS_HINT)):
        if not isinstance(example, Example):
            raise _no_example(place, example)
        if example.label is not None:
            known.append(_with_label(bundle, example))
    if not known:
        raise DataError("no row has a label, so there is nothing to evaluate.")
    known, notes = merged(known, bundle.merges)
    for example in known:
        if problem := misfit(bundle, example):
            raise DataError(f"row {example.index}: {problem}")
        names = example.label if isinstance(example.label, tuple) else (example.label,)
        unknown = [n for n in names if len(bundle.space) and n not in bundle.space.ids]
        if unknown:
            raise DataError(
                f"row {example.index}: label {unknown[0]!r} is not one of the model's "
                f"{len(bundle.space)} labels."
            )
    return known, (*unlabelled_note(len(examples) - len(known)), *notes)


def _with_label(bundle: Bundle, example: Example) -> Example:
    """The example with its label as files have it checked; DataError for one of another kind."""
    label = check_label(example.label, set())
    kind: Any = _KINDS.get(bundle.task, str)
    if isinstance(label, Fault):
        raise DataError(f"row {example.index}: {label.message}", hint=label.hint)
    if not isinstance(label, kind):
        raise DataError(
            f"row {example.index}: label {example.label!r} does not fit a {bundle.task} model.",
            hint=f"write {_WRITTEN.get(bundle.task, 'one name')}",
        )
    return replace(example, label=label)


def evaluation_of(bundle: Bundle, judged: Judged, *, resamples: int, seed: int) -> Evaluation:
    """Figures of judged rows, every row decided; notes on the rows and on what cutting costs."""
    check_ranges(resamples=resamples, seed=seed)
    counts = bundle.details.get("data", {}).get("label_counts") or None
    return figures_of(
        judged.outcome,
        bundle.rule,
        bundle.space,
        cut=judged.cut,
        text=bundle.text,
        train_counts=[counts[name] for name in bundle.space.names] if counts else None,
        notes=judged.notes,
        resamples=resamples,
        seed=seed,
    )


def figures_of(
    outcome: Outcome,
    rule: Rule,
    space: LabelSpace,
    *,
    cut: Bools,
    text: TextSettings,
    train_counts: ArrayLike | None,
    notes: tuple[str, ...] = (),
    resamples: int,
    seed: int,
) -> Evaluation:
    """Figures of an outcome; `notes`, and one on what cutting costs, stand behind their own.

    `cut` bool [rows]: rows that lost tokens to the maximum length of `text`.
    """
    sure = confidence(rule, outcome.scores, outcome.decided)

    def figures(rows: Any, resamples: int) -> Evaluation:
        return evaluate(
            outcome.task,
            space,
            outcome.truth[rows],
            outcome.scores[rows],
            outcome.decided[rows],
            train_counts=train_counts,
            calibrated=rule.calibrated,
            confidence=sure[rows],
            resamples=resamples,
            seed=seed,
        )

    whole = figures(slice(None), resamples)
    note = cut_note(cut, text, lambda rows: figures(rows, 0))
    return replace(whole, notes=(*whole.notes, *notes, *((note,) if note else ())))
