"""Which characters a model's answer rests on: what changes when they are hidden.

A label's margin is its log-odds (of a regression, the value itself). Parts of the text are hidden
by a character the tokenizer does not know, one for each word or Chinese character, so that the rest
of the text stays where it was; the weight of a part is the margin lost. Works through any engine.

A word of several characters often survives the loss of one, so windows of one, two and three units
are hidden, and a unit's weight is the mean over the windows that cover it, each shared among its
units. In long texts whole chunks are hidden first and windows only inside the chunks that matter
most, so the number of forward passes of a text has a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.example import Example
from bert_cls.errors import DataError
from bert_cls.text import TextEncoder
from bert_cls.units import units

Floats = NDArray[np.float64]
Margins = Callable[[Sequence[Example]], Floats]
"""Rows to float64 [rows, outputs]."""
Pieces = list[tuple[str, float]]
"""A text cut into pieces, which joined make it, with how much each speaks for a label."""
Stretches = tuple[Sequence[tuple[int, int]], Sequence[tuple[int, int]]]
"""First character and end of what is read of the first text and of the second."""
Part = Literal["a", "b"]
PARTS: tuple[Part, Part] = ("a", "b")

PASSES = 128
"""Hidden versions of a text at most."""
WIDEST = 3
_LOOKS = 4
LONGEST = 100_000
"""Characters a text may have."""
# rare in every language; the first that a tokenizer does not know stands for hidden text. Letters
# beside it stay words of their own if it is an ideograph, which BERT sets apart
_STRANGE = ("\U0002a6d6", "\U0002b73a", "\U00012000", "\ua66e", "\u1bc9", "\u2d5f")
_UNKNOWN = ("[UNK]", "<unk>")


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` of a text; `weight` above 0 speaks for the label."""

    part: Part
    start: int
    end: int
    weight: float


@dataclass(frozen=True, slots=True)
class LabelWeights:
    """Why one label: its score, and the weights of the whole text (or both) in order."""

    label: str
    score: float
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What one row's labels rest on.

    `passes` is how often the network read the row or a version of it; `truncated` whether some of
    the text was not read, and so has no weight; `abstained` whether the model leaves the row
    undecided: `labels` are then those that it would give.
    """

    example: Example
    method: str
    labels: tuple[LabelWeights, ...]
    passes: int
    truncated: bool
    abstained: bool = False

    def parts(self, label: str) -> tuple[Pieces, Pieces]:
        """The first text and the second (of single texts nothing), in pieces."""
        found = next(each for each in self.labels if each.label == label)
        parts: dict[Part, Pieces] = {"a": [], "b": []}
        for span in found.spans:
            piece = _text(self.example, span.part)[span.start : span.end]
            parts[span.part].append((piece, span.weight))
        return parts["a"], parts["b"]

    def pieces(self, label: str) -> Pieces:
        """The text in pieces; " | " lies between the texts of a pair."""
        first, second = self.parts(label)
        return [*first, (" | ", 0.0), *second] if second else first

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        out: dict[str, Any] = {"index": self.example.index, "text_a": self.example.text_a}
        if self.example.text_b is not None:
            out["text_b"] = self.example.text_b
        labels = [
            {
                "label": each.label,
                "score": round(each.score, 6),
                "spans": [
                    {
                        "part": span.part,
                        "start": span.start,
                        "end": span.end,
                        "text": _text(self.example, span.part)[span.start : span.end],
                        "weight": round(span.weight, 6),
                    }
                    for span in each.spans
                ],
            }
            for each in self.labels
        ]
        out |= {"method": self.method, "passes": self.passes, "labels": labels}
        said = {"truncated": self.truncated, "abstained": self.abstained}
        return out | {name: True for name, holds in said.items() if holds}


class Explains(Protocol):
    """What `weigher` needs of a model."""

    def explain(
        self, texts: Sequence[Example], labels: Sequence[str] | None = None, *, passes: int = PASSES
    ) -> list[Explanation]:
        """One Explanation a row."""


def weigher(
    model: Explains,
    *,
    passes: int = PASSES,
    passed_over: Callable[[str], None] = lambda reason: None,
) -> Callable[[Sequence[tuple[Example, str]]], list[tuple[Pieces, Pieces] | None]]:
    """A function of rows, each with a label, that reports take: the pieces of both texts.

    A row that cannot be explained has None, and `passed_over` is told why.
    """

    def weigh(rows: Sequence[tuple[Example, str]]) -> list[tuple[Pieces, Pieces] | None]:
        out: list[tuple[Pieces, Pieces] | None] = []
        for example, label in rows:
            try:
                out.append(model.explain([example], [label], passes=passes)[0].parts(label))
            except DataError as error:
                passed_over(error.message)
                out.append(None)
        return out

    return weigh


def unknown_id(text: TextEncoder) -> int | None:
    """The id of the unknown token, None where the vocabulary has none."""
    known = [text.tokenizer.token_to_id(name) for name in _UNKNOWN]
    return next((number for number in known if number is not None), None)


def stand_in(text: TextEncoder) -> str:
    """A character that is an unknown token by itself, or "" (deletion) where there is none such."""
    unknown = unknown_id(text)
    for character in _STRANGE:
        # what stands beside it must stay what it was
        found = text.tokenizer.encode(f"a{character}a", add_special_tokens=False)
        if unknown is not None and (unknown, (1, 2)) in zip(found.ids, found.offsets, strict=True):
            return character
    return ""


@dataclass(slots=True)
class _Row:
    """A row while it is being explained."""

    example: Example
    spans: list[tuple[Part, int, int]]
    targets: list[int]
    windows: list[tuple[int, int]]
    """unit ranges that were or will be hidden"""
    drops: list[Floats]
    """[targets] margin lost, one a window"""
    chunks: set[tuple[int, int]]
    """the windows that are parts of a long text, to be looked into"""


def occlude(
    examples: Sequence[Example],
    targets: Sequence[Sequence[int]],
    margins: Margins,
    *,
    passes: int = PASSES,
    hidden: str = "",
) -> list[tuple[list[Span], Floats, int]]:
    """The spans of each row, their weights float64 [spans, targets of the row], network calls.

    `targets` are the output columns to explain, by row. The network is asked at most `passes` + 1
    times about each row. Texts are to hold what the model reads, no more (`only_read`): where a
    word is hidden, the rest would move up; and `check_lengths` is to have passed them.
    """
    rows = [_row(example, list(wanted)) for example, wanted in zip(examples, targets, strict=True)]
    whole = margins(examples)
    for row in rows:
        row.windows = _all_windows(len(row.spans), passes)
        if not row.windows:
            row.windows = list(_parts(0, len(row.spans), max(2, passes // 4)))
            row.chunks.update(row.windows)
    _measure(rows, whole, margins, hidden)
    for _ in range(_LOOKS):
        for row in rows:
            row.windows += _inside(row, passes - len(row.windows))
        _measure(rows, whole, margins, hidden)
    out = []
    for row in rows:
        weights = _weights(row)
        spans = [Span(part, start, end, 0.0) for part, start, end in row.spans]
        out.append((spans, weights, len(row.drops) + 1))
    return out


def check_lengths(examples: Sequence[Example]) -> None:
    """DataError for a text too long to be explained."""
    for example in examples:
        for part in PARTS:
            if (length := len(_text(example, part))) > LONGEST:
                raise DataError(
                    f"text {example.index}: it has {length:,} characters; at most {LONGEST:,} can "
                    "be explained."
                )


def only_read(example: Example, stretches: Stretches) -> Example:
    """The row without what the model does not read; a space where something is left out."""
    a, b = (
        " ".join(_text(example, part)[start:end] for start, end in kept)
        for part, kept in zip(PARTS, stretches, strict=True)
    )
    return Example(example.index, a, None if example.text_b is None else b)


def put_back(spans: Sequence[Span], stretches: Stretches) -> list[Span]:
    """Spans of `only_read` as spans of the whole texts."""
    out = []
    for span in spans:
        at = 0
        for start, end in stretches[PARTS.index(span.part)]:
            if span.start < at + end - start:
                moved = start - at
                out.append(replace(span, start=span.start + moved, end=min(span.end + moved, end)))
                break
            at += end - start + 1
    return out


def _row(example: Example, targets: list[int]) -> _Row:
    spans: list[tuple[Part, int, int]] = []
    for part in PARTS:
        spans += [(part, start, end) for start, end in units(_text(example, part))]
    return _Row(example, spans, targets, [], [], set())


def _all_windows(count: int, passes: int) -> list[tuple[int, int]]:
    """All windows of a short text, without the wider ones if they are too many; else none."""
    for widest in range(WIDEST, 0, -1):
        windows = [
            (at, at + width) for width in range(1, widest + 1) for at in range(count - width + 1)
        ]
        if len(windows) <= passes:
            return windows
    return []


def _inside(row: _Row, left: int) -> list[tuple[int, int]]:
    """At most `left` windows of one and two units inside the chunks that mattered most.

    Where not even the first chunk's windows fit, the parts of that chunk, for another look.
    """
    drops = dict(zip(row.windows, row.drops, strict=True))
    leaves = [c for c in row.chunks if c[1] - c[0] > 1 and not _is_parted(c, row.windows)]
    found: list[tuple[int, int]] = []
    for a, b in sorted(leaves, key=lambda c: (-float(np.abs(drops[c]).max(initial=0.0)), c)):
        # a window may reach one unit over the end: a word may lie across it
        fine = [(at, min(at + width, len(row.spans))) for width in (1, 2) for at in range(a, b)]
        fine = [w for w in dict.fromkeys(fine) if w not in found and w not in drops]
        if len(found) + len(fine) <= left:
            found += fine
            continue
        if not found and left > 3:
            found = list(_parts(a, b, max(2, left // 2)))
            row.chunks.update(found)
        break
    return found


def _is_parted(window: tuple[int, int], windows: Sequence[tuple[int, int]]) -> bool:
    return any(window != w and window[0] <= w[0] and w[1] <= window[1] for w in windows)


def _parts(start: int, end: int, count: int) -> Iterator[tuple[int, int]]:
    edges = [start + round(i * (end - start) / count) for i in range(count + 1)]
    yield from ((a, b) for a, b in pairwise(edges) if b > a)


def _measure(rows: Sequence[_Row], whole: Floats, margins: Margins, hidden: str) -> None:
    """Hide the windows that have no drop yet, of all rows in one go."""
    versions = [
        _without(row, window, hidden) for row in rows for window in row.windows[len(row.drops) :]
    ]
    if not versions:
        return
    asked = iter(margins(versions))
    for row, before in zip(rows, whole, strict=True):
        for _ in row.windows[len(row.drops) :]:
            row.drops.append((before - next(asked))[row.targets])


def _without(row: _Row, window: tuple[int, int], hidden: str) -> Example:
    """The row with some of its units hidden; white space stays."""
    texts = {"a": row.example.text_a, "b": row.example.text_b}
    for part, start, end in reversed(row.spans[slice(*window)]):
        text = texts[part] or ""
        space = text[start:end][len(text[start:end].rstrip()) :]
        texts[part] = text[:start] + hidden + space + text[end:]
    return Example(row.example.index, texts["a"] or "", texts["b"])


def _weights(row: _Row) -> Floats:
    """Each unit's mean share of the drops of the windows that cover it, the narrowest kind known.

    A unit in no narrow window takes its share of the smallest chunk it lies in.
    """
    count, wide = len(row.spans), []
    total, covered = np.zeros((count, len(row.targets))), np.zeros(count)
    for (a, b), drop in zip(row.windows, row.drops, strict=True):
        if (a, b) in row.chunks:
            wide.append((a, b, drop))
            continue
        total[a:b] += drop / (b - a)
        covered[a:b] += 1
    for a, b, drop in sorted(wide, key=lambda chunk: chunk[1] - chunk[0]):
        empty = np.flatnonzero(covered[a:b] == 0) + a
        total[empty], covered[empty] = drop / (b - a), 1
    return total / np.maximum(covered, 1)[:, None]


def whole_text(
    example: Example, spans: Sequence[Span], weights: Floats
) -> tuple[list[Span], Floats]:
    """Spans that follow one another over all of the text(s), gaps with weight 0.

    Tokens that share a character (bytes of it) become one span with the sum of their weights.
    """
    out: list[Span] = []
    rows: list[Floats] = []
    nothing = np.zeros(weights.shape[1])
    order = sorted(range(len(spans)), key=lambda i: (spans[i].part, spans[i].start, spans[i].end))
    for part in PARTS:
        end = 0
        for i in (i for i in order if spans[i].part == part):
            span = spans[i]
            if span.start < end and out:
                out[-1] = Span(part, out[-1].start, max(end, span.end), 0.0)
                rows[-1] = rows[-1] + weights[i]
            else:
                if span.start > end:
                    out.append(Span(part, end, span.start, 0.0))
                    rows.append(nothing)
                out.append(span)
                rows.append(weights[i])
            end = out[-1].end
        if end < len(_text(example, part)):
            out.append(Span(part, end, len(_text(example, part)), 0.0))
            rows.append(nothing)
    return out, np.array(rows).reshape(len(out), weights.shape[1])


def label_weights(
    names: Sequence[str], scores: Sequence[float], spans: Sequence[Span], weights: Floats
) -> tuple[LabelWeights, ...]:
    """One LabelWeights a name; `weights` [spans, names]."""
    return tuple(
        LabelWeights(
            name,
            float(score),
            tuple(
                Span(s.part, s.start, s.end, float(w))
                for s, w in zip(spans, weights[:, place], strict=True)
            ),
        )
        for place, (name, score) in enumerate(zip(names, scores, strict=True))
    )


def _text(example: Example, part: str) -> str:
    return example.text_a if part == "a" else example.text_b or ""
