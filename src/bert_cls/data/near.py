"""Rows whose texts are nearly the same: candidates by their bands, then the texts themselves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import (
    BANDS,
    COMPARED_CHARACTERS,
    THRESHOLD,
    Band,
    Hashes,
    Pairs,
    Rows,
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
ASKED_AT_ONCE = 12_500
# Texts that wait for their partner, at four characters a token and what a row costs besides.
WAITING_CHARACTERS, CHARACTERS_A_ROW = 100_000_000, 300
Chosen = NDArray[np.bool_]  # [rows of all files]


@dataclass(frozen=True, slots=True)
class _Waiting:
    folded: tuple[str, str]
    words: str


class NearTexts:
    """Which rows have a near twin: rows of some splits in another; or inside train.

    Show the `wanted` rows to `see`, in rising order; then `findings` says it (D35).
    """

    def __init__(self, corpus: Corpus, held: Sequence[str], among_split: str) -> None:
        self._shown = corpus.shown
        self._held = " and ".join(held)
        self._other = among_split
        possible, among = _sides(corpus, held, among_split)
        self._all = int(np.count_nonzero(possible))
        asked = _evenly(possible)
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
            message = f"{rows} of {self._held} with a near-duplicate in {self._other}: scores may "
            message += f"be too good (trigram similarity from {THRESHOLD})."
            remedy = f"take such rows out of {self._other}, or put all rows of one source into "
            remedy += "one split"
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


def near_texts(corpus: Corpus) -> list[NearTexts]:
    """What is compared: dev and test with train, test with dev; train with itself without them."""
    held = [split for split in ("dev", "test") if corpus.has(split)]
    found = [NearTexts(corpus, held, "train")]
    return [*found, NearTexts(corpus, ["test"], "dev")] if len(held) > 1 else found


def _sides(corpus: Corpus, held: Sequence[str], other: str) -> tuple[Chosen, Chosen]:
    """The rows asked about and the rows they may be like, each text once, exact twins left out."""
    asked, among = np.zeros(len(corpus), bool), np.zeros(len(corpus), bool)
    for rows, texts, (labels,) in corpus.parts("text", "label"):
        known = _distinct(texts, np.flatnonzero(corpus.used(other, rows, labels)))
        among[rows[known]] = True
        if held:
            of_held = np.any([corpus.used(split, rows, labels) for split in held], axis=0)
            others = _distinct(texts, np.flatnonzero(of_held))
            asked[rows[others[~np.isin(texts[others], texts[known])]]] = True
    return (asked if held else among), among


def _distinct(texts: Hashes, places: Rows) -> Rows:
    _, first = np.unique(texts[places], return_index=True)
    return places[np.sort(first)]


def _evenly(chosen: Chosen) -> Rows:
    """At most ASKED_ROWS of the rows, spread evenly."""
    total = int(np.count_nonzero(chosen))
    places = np.linspace(0, total - 1, min(total, ASKED_ROWS)).astype(int)
    out, before = [np.empty(0, np.int64)], 0
    for begin in range(0, len(chosen), ASKED_ROWS):
        rows = np.flatnonzero(chosen[begin : begin + ASKED_ROWS])
        low, high = np.searchsorted(places, (before, before + len(rows)))
        out.append(begin + rows[places[low:high] - before])
        before += len(rows)
    return np.concatenate(out)


def _pairs(corpus: Corpus, asked: Rows, among: Chosen) -> Pairs:
    """Row numbers of candidates, int64 [pairs, 2]."""
    if not len(asked) or not among.any():
        return np.empty((0, 2), np.int64)
    names = [f"band {band}" for band in range(BANDS)]
    found = []
    for begin in range(0, len(asked), ASKED_AT_ONCE):
        part = asked[begin : begin + ASKED_AT_ONCE]
        bands = (corpus.picked(name, part) for name in names)
        found.append(candidates(part, bands, (_chunks(corpus, name, among) for name in names)))
    return np.concatenate(found)


def _chunks(corpus: Corpus, name: str, among: Chosen) -> Iterator[tuple[Rows, Band]]:
    for rows, (band,) in corpus.chunks(name):
        inside = among[rows]
        yield rows[inside], band[inside]


def _affordable(corpus: Corpus, asked: Rows, pairs: Pairs) -> tuple[Rows, Pairs]:
    """As many of the rows asked, evenly, and their pairs, as there is memory for their texts."""
    rows, places = np.unique(pairs, return_inverse=True)
    tokens = corpus.picked("length", rows)
    characters = np.minimum(tokens * NARROW_PER_TOKEN, COMPARED_CHARACTERS) + CHARACTERS_A_ROW
    needed = int(characters[places].sum())
    asked = asked[:: max(1, -(-needed // WAITING_CHARACTERS))]
    return asked, pairs[np.isin(pairs[:, 0], asked)]
