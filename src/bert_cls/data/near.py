"""Rows whose texts are nearly the same: candidates by their bands, then the texts themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import (
    BANDS,
    COMPARED_CHARACTERS,
    THRESHOLD,
    Band,
    Pairs,
    candidates,
    fold,
    similarity,
)
from bert_cls.data.findings import Finding, Occurrence, excerpt, percent
from bert_cls.data.lengths import NARROW_PER_TOKEN
from bert_cls.data.problems import count
from bert_cls.data.split import text_key
from bert_cls.data.survey import spot
from bert_cls.data.text_findings import Corpus, Seen

ASKED_ROWS = 50_000
# Texts that wait for their partner, at four characters a token and what a row costs besides.
WAITING_CHARACTERS, CHARACTERS_A_ROW = 100_000_000, 300
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Waiting:
    folded: tuple[str, str]
    words: str


class NearTexts:
    """Which rows have a near twin: rows of dev and test in train; of train, when that is all.

    Show the `wanted` rows to `see`, in rising order; then `findings` says it (D35).
    """

    def __init__(self, corpus: Corpus) -> None:
        self._shown = corpus.shown
        self._held = corpus.has("dev") or corpus.has("test")
        asked, among = _sides(corpus, held=self._held)
        self._all = len(asked)
        asked = asked[np.linspace(0, len(asked) - 1, min(len(asked), ASKED_ROWS)).astype(int)]
        pairs = _pairs(corpus, asked, among)
        asked, pairs = _affordable(corpus, asked, pairs)
        self._asked = set(asked.tolist())
        self._before: defaultdict[int, list[int]] = defaultdict(list)
        self._later: Counter[int] = Counter()
        for first, second in np.unique(np.sort(pairs, axis=1), axis=0).tolist():
            self._before[second].append(first)
            self._later[first] += 1
        self._waiting: dict[int, _Waiting] = {}
        self._near: set[int] = set()
        self._examples: list[Occurrence] = []

    @property
    def wanted(self) -> set[int]:
        """Numbers of the rows whose texts are needed."""
        return {*self._before, *self._later}

    def see(self, row: int, seen: Seen) -> None:
        """Compare a row with its partners among the rows before it."""
        if row not in self._before and row not in self._later:
            return
        first, second = text_key(seen.example)
        mine = _Waiting(
            (fold(first), fold(second)), f'{seen.where}: "{excerpt(seen.example.text_a)}"'
        )
        for partner in self._before.pop(row, ()):
            other = self._waiting.get(partner)
            if other is not None and not {row, partner} & self._asked <= self._near:
                self._compare((row, partner), mine, other, seen)
            self._later[partner] -= 1
            if not self._later[partner]:
                self._waiting.pop(partner, None)
        if self._later[row]:
            self._waiting[row] = mine

    def findings(self) -> list[Finding]:
        """The finding, once all rows were seen."""
        if not self._near:
            return []
        compared = len(self._asked)
        some = f" of {compared:,} compared" if compared < self._all else ""
        rows = f"{count(len(self._near), 'text')}{some} ({percent(len(self._near), compared)})"
        if self._held:
            message = f"{rows} of dev and test with a near-duplicate in train: scores may be too "
            message += f"good (trigram similarity from {THRESHOLD})."
            remedy = "take such rows out of train, or put all rows of one source into one split"
        else:
            message = f"{rows} with a near-duplicate in the file: a random split would put some on "
            message += f"both sides (trigram similarity from {THRESHOLD})."
            remedy = "split it yourself, all rows of one source into one file"
        found = Finding("D35", "warning", len(self._near), message, remedy, tuple(self._examples))
        return [found]

    def _compare(self, rows: tuple[int, int], mine: _Waiting, other: _Waiting, seen: Seen) -> None:
        pairs = zip(mine.folded, other.folded, strict=True)
        alike = min(similarity(a, b) for a, b in pairs)
        if alike < THRESHOLD:
            return
        self._near |= set(rows) & self._asked
        if len(self._examples) < self._shown:
            detail = f"{alike:.2f} like {other.words}"
            self._examples.append(spot(seen.survey.file, seen.place, seen.example, detail))


def _sides(corpus: Corpus, *, held: bool) -> tuple[Rows, Rows]:
    """The rows asked about and the rows they may be like, each text once, exact twins left out."""
    train = _distinct(corpus, corpus.used("train"))
    if not held:
        return train, train
    rows = _distinct(corpus, np.r_[corpus.used("dev"), corpus.used("test")])
    return rows[~np.isin(corpus.text[rows], corpus.text[train])], train


def _distinct(corpus: Corpus, rows: Rows) -> Rows:
    _, first = np.unique(corpus.text[rows], return_index=True)
    return rows[np.sort(first)]


def _pairs(corpus: Corpus, asked: Rows, among: Rows) -> Pairs:
    """Row numbers of candidates, int64 [pairs, 2]."""
    if not len(asked) or not len(among):
        return np.empty((0, 2), np.int64)
    itself = np.searchsorted(among, asked)
    same = among[np.minimum(itself, len(among) - 1)] == asked
    found = candidates(
        _bands(corpus, asked), _bands(corpus, among), itself=np.where(same, itself, -1)
    )
    return np.stack([asked[found[:, 0]], among[found[:, 1]]], axis=1)


def _bands(corpus: Corpus, rows: Rows) -> Iterator[Band]:
    for band in range(BANDS):
        yield corpus.column(f"band {band}")[rows]


def _affordable(corpus: Corpus, asked: Rows, pairs: Pairs) -> tuple[Rows, Pairs]:
    """As many of the rows asked, evenly, and their pairs, as there is memory for their texts."""
    characters = np.minimum(corpus.column("length") * NARROW_PER_TOKEN, COMPARED_CHARACTERS)
    needed = int((characters[pairs] + CHARACTERS_A_ROW).sum())
    asked = asked[:: max(1, -(-needed // WAITING_CHARACTERS))]
    return asked, pairs[np.isin(pairs[:, 0], asked)]
