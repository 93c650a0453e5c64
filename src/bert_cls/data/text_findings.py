"""What is wrong with the texts of all splits together: lengths, and rows that are the same.

A finding whose places are known only as row numbers is a Question: rows are numbered through all
files, and their words are read in the second pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import Hashes, Pairs, Rows, differing, repeats
from bert_cls.data.example import Example
from bert_cls.data.findings import Finding, Lengths, Severity, percent
from bert_cls.data.label_tally import shown_label
from bert_cls.data.lengths import TextLengths
from bert_cls.data.problems import count
from bert_cls.data.row_numbers import COLUMNS
from bert_cls.data.survey import HUGE_CHARACTERS, UNLABELLED, Survey, spot
from bert_cls.errors import pick

MANY_CUT = 0.01
MANY_UNKNOWN = 0.01
PART_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Seen:
    """A row as the second pass found it."""

    survey: Survey
    place: str
    example: Example

    @property
    def where(self) -> str:
        """File and row."""
        return f"{self.survey.file.name}: {self.place}"


Describe = Callable[[int, Seen, Seen], str]  # row number, the row, its partner


@dataclass(frozen=True, slots=True)
class Question:
    """A finding, the rows that show it, each with a partner or itself, and what to say of them."""

    finding: Finding
    pairs: Sequence[tuple[int, int]]
    describe: Describe

    def answer(self, seen: dict[int, Seen]) -> Finding:
        """The finding with its examples."""
        examples = []
        for a, b in self.pairs:
            if a in seen and b in seen:
                row, said = seen[a], self.describe(a, seen[a], seen[b])
                examples.append(spot(row.survey.file, row.place, row.example, said))
        return replace(self.finding, examples=tuple(examples))


class Corpus:
    """The numbers of all rows, one file after the other.

    They are looked at in parts by a hash, so that rows with the same one are in the same part and
    memory has a bound, whatever the rows; only rows that are all alike make a larger part.
    """

    def __init__(self, surveys: Sequence[Survey], *, shown: int) -> None:
        self.surveys = surveys
        self.shown = shown
        self.ends = np.cumsum([len(survey) for survey in surveys])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def has(self, split: str) -> bool:
        """Whether there is a file for it."""
        return any(survey.file.split == split for survey in self.surveys)

    def used(self, split: str, rows: Rows, labels: Hashes) -> NDArray[np.bool_]:
        """Which of some rows a run uses in this split: unlabelled ones only in test."""
        for survey, end in zip(self.surveys, self.ends, strict=True):
            if survey.file.split == split:
                inside: NDArray[np.bool_] = (rows >= end - len(survey)) & (rows < end)
                if split != "test":
                    inside &= labels != UNLABELLED
                return inside
        return np.zeros(len(rows), bool)

    def chunks(self, *names: str) -> Iterator[tuple[Rows, list[NDArray[Any]]]]:
        """Row numbers, and some columns of them (see row_numbers.COLUMNS), some rows at a time."""
        for survey, end in zip(self.surveys, self.ends.tolist(), strict=True):
            begin = end - len(survey)
            for first, found in survey.numbers.chunks(*names):
                yield np.arange(begin + first, begin + first + len(found[0])), found

    def parts(self, key: str, *names: str) -> Iterator[tuple[Rows, Hashes, list[NDArray[Any]]]]:
        """Rows that rise, their key, and other columns; equal keys are in one part."""
        parts = max(1, -(-len(self) // PART_ROWS))
        for part in range(parts):
            found: list[list[NDArray[Any]]] = [[rows] for rows in _nothing(key, *names)]
            for rows, columns in self.chunks(key, *names):
                inside = slice(None) if parts == 1 else columns[0] % parts == part
                for kept, column in zip(found, [rows, *columns], strict=True):
                    kept.append(column[inside])
            rows, keys, *others = [np.concatenate(kept) for kept in found]
            yield rows, keys, others

    def picked(self, name: str, rows: Rows) -> NDArray[Any]:
        """One column of chosen rows, which rise."""
        out = [np.empty(0, COLUMNS[name])]
        for numbers, (column,) in self.chunks(name):
            low, high = np.searchsorted(rows, (numbers[0], numbers[-1] + 1))
            out.append(column[rows[low:high] - numbers[0]])
        return np.concatenate(out)


class _Tally:
    """Counts that parts add to, and the first pairs of rows of them all."""

    def __init__(self, shown: int) -> None:
        self.pairs: list[tuple[int, int]] = []
        self.count = self.rows = 0
        self._shown = shown

    def add(self, pairs: Pairs, *, rows: int = 0) -> None:
        """Pairs of one part, by their first row."""
        self.count += len(pairs)
        self.rows += rows
        first = [(int(a), int(b)) for a, b in pairs[: self._shown]]
        self.pairs = sorted(self.pairs + first)[: self._shown]


def _nothing(*names: str) -> list[NDArray[Any]]:
    return [np.empty(0, np.int64), *(np.empty(0, COLUMNS[name]) for name in names)]


def indices_used_twice(corpus: Corpus, severity: Severity) -> list[Question]:
    """Rows of one file that have the index of an earlier one (D13)."""
    tallies = [_Tally(corpus.shown) for _ in corpus.surveys]
    for rows, keys, _ in corpus.parts("index"):
        for tally, survey, end in zip(tallies, corpus.surveys, corpus.ends, strict=True):
            low, high = np.searchsorted(rows, (end - len(survey), end))
            tally.add(rows[low:high][repeats(keys[low:high])])
    asked = []
    for tally, survey in zip(tallies, corpus.surveys, strict=True):
        if not tally.count:
            continue
        verb = "has" if tally.count == 1 else "have"
        message = f"{count(tally.count, 'row')} of {survey.file.name} {verb} the index of an "
        finding = Finding("D13", severity, tally.count, f"{message}earlier row.", TWICE)
        asked.append(Question(finding, tally.pairs, _index_again))
    return asked


def same_texts(corpus: Corpus, leak: str) -> list[Question]:
    """Texts of train in dev or test, of dev in test, and twice in one split (D34)."""
    splits = [survey.file.split for survey in corpus.surveys]
    leaked, between = _Tally(corpus.shown), _Tally(corpus.shown)
    again = {split: _Tally(corpus.shown) for split in splits}
    totals: Counter[str] = Counter()
    of_train: Counter[str] = Counter()
    of_held: Counter[str] = Counter()
    for rows, texts, (labels,) in corpus.parts("text", "label"):
        used = {s: np.flatnonzero(corpus.used(s, rows, labels)) for s in ("train", "dev", "test")}
        train, dev, test = used.values()
        inside = {split: np.isin(texts[train], texts[used[split]]) for split in ("dev", "test")}
        for split, found in inside.items():
            totals[split] += len(used[split])
            of_train[split] += int(found.sum())
            of_held[split] += int(np.isin(texts[used[split]], texts[train]).sum())
        chosen = train[inside["dev"] | inside["test"]]
        leaked.add(_twins(rows, texts, chosen, np.r_[dev, test]))
        between.add(_twins(rows, texts, dev[np.isin(texts[dev], texts[test])], test))
        for split in splits:
            again[split].add(rows[used[split]][repeats(texts[used[split]])])
    parts = [
        f"{of_train[split]:,} in {split} ({percent(of_held[split], totals[split])} of its rows)"
        for split in ("dev", "test")
        if of_train[split]
    ]
    return _leaks(leaked, parts, leak) + _in_dev_and_test(between) + _repeated(again, corpus.shown)


def _leaks(found: _Tally, parts: Sequence[str], leak: str) -> list[Question]:
    if not found.count:
        return []
    severity, effect = pick(LEAKS, leak, "leak")
    message = f"{count(found.count, 'row')} of train with a text that is also held out: "
    finding = Finding("D34", severity, found.count, f"{message}{', '.join(parts)}{effect}.", DROP)
    return [Question(finding, found.pairs, _same)]


def _in_dev_and_test(found: _Tally) -> list[Question]:
    if not found.count:
        return []
    message = f"{count(found.count, 'row')} of dev with a text that is also in test: the test "
    message += "figures are a little too good."
    finding = Finding("D34", "warning", found.count, message, "take them out of dev")
    return [Question(finding, found.pairs, _same)]


def _repeated(found: Mapping[str, _Tally], shown: int) -> list[Question]:
    parts = [f"{count(t.count, 'row')} of {split}" for split, t in found.items() if t.count]
    if not parts:
        return []
    message = f"{', '.join(parts)} with the text of an earlier row of the same split."
    rows = sum(tally.count for tally in found.values())
    finding = Finding("D34", "note", rows, message, "keep one, if they mean nothing")
    pairs = [pair for tally in found.values() for pair in tally.pairs]
    return [Question(finding, pairs[:shown], _same)]


def conflicts(corpus: Corpus, conflict: str) -> list[Question]:
    """Texts whose rows have different labels (D36)."""
    found = _Tally(corpus.shown)
    for rows, texts, (labels,) in corpus.parts("text", "label"):
        labelled = np.flatnonzero(labels != UNLABELLED)
        groups = differing(texts[labelled], labels[labelled])
        found.add(rows[labelled][groups.pairs], rows=groups.rows)
    if not found.count:
        return []
    severity, effect = pick(CONFLICTS, conflict, "conflict")
    message = f"{count(found.count, 'text')} with different labels, in {count(found.rows, 'row')}"
    remedy = "decide for one label a text, or train with --conflict drop; where raters disagree, "
    remedy += "figures cannot reach 1"
    finding = Finding("D36", severity, found.count, f"{message}{effect}.", remedy)
    return [Question(finding, found.pairs, _labels)]


def variants(corpus: Corpus) -> list[Question]:
    """Texts that differ from another one only in case, width or spaces (D42)."""
    found = _Tally(corpus.shown)
    for rows, folded, (raw,) in corpus.parts("folded", "raw"):
        groups = differing(folded, raw)
        found.add(rows[groups.pairs], rows=groups.rows)
    if not found.count:
        return []
    message = f"{count(found.count, 'text')} in several spellings that differ only in case, width "
    message += f"or spaces, in {count(found.rows, 'row')}."
    finding = Finding("D42", "note", found.count, message, "write them alike")
    return [Question(finding, found.pairs, _same)]


def full_width(corpus: Corpus) -> list[Finding]:
    """Full-width letters and digits, and half-width katakana (D42)."""
    rows = sum(survey.full_width.rows for survey in corpus.surveys)
    if not rows:
        return []
    message = f"{count(rows, 'row')} ({percent(rows, len(corpus))}) with full-width letters or "
    message += "digits, which an encoder may read as others than the usual ones."
    remedy = "train with --set text.normalise=nfkc"
    examples = [e for survey in corpus.surveys for e in survey.full_width.examples]
    return [Finding("D42", "note", rows, message, remedy, tuple(examples[: corpus.shown]))]


def huge(corpus: Corpus) -> list[Finding]:
    """Texts of over HUGE_CHARACTERS characters (D24)."""
    rows = sum(survey.huge.rows for survey in corpus.surveys)
    if not rows:
        return []
    longest = max(survey.huge.largest for survey in corpus.surveys)
    message = f"{count(rows, 'row')} of over {HUGE_CHARACTERS:,} characters, the longest "
    message += f"{longest:,}: of those only the ends are tokenised."
    examples = [e for survey in corpus.surveys for e in survey.huge.examples]
    remedy = "look whether several rows have run into one, or cut the text where it matters"
    return [Finding("D24", "warning", rows, message, remedy, tuple(examples[: corpus.shown]))]


def about_lengths(corpus: Corpus, by: TextLengths) -> tuple[Lengths | None, list[Question]]:
    """How long the rows are; what is cut (D23), and what the encoder has no piece for (D41)."""
    if not len(corpus):
        return None, []
    sizes: Counter[int] = Counter()
    unknown = with_one = 0
    for _, (lengths, without) in corpus.chunks("length", "unknown"):
        values, rows = np.unique(lengths, return_counts=True)
        sizes.update(dict(zip(values.tolist(), rows.tolist(), strict=True)))
        unknown += int(without.sum())
        with_one += int((without > 0).sum())
    read = sum(survey.tokens_read for survey in corpus.surveys)
    share = unknown / max(1, read) if by.has_unknown else None
    found = summed(sizes, share, max_length=by.max_length, estimated=not by.exact)
    asked = [
        _largest(corpus, f, "length", "token") for f in too_long(found, len(corpus), long=by.long)
    ]
    for finding in unknown_tokens(found, with_one, len(corpus)):
        asked.append(_largest(corpus, finding, "unknown", "unknown token"))
    return found, asked


def summed(
    sizes: Mapping[int, int], unknown_share: float | None, *, max_length: int, estimated: bool
) -> Lengths:
    """The lengths of rows in short; `sizes` has how many rows are of a length."""
    values = np.array(sorted(sizes))
    until = np.cumsum([sizes[value] for value in values.tolist()])
    places = np.floor(np.array([0.5, 0.99]) * (until[-1] - 1))
    median, p99 = values[np.searchsorted(until, places, "right")].tolist()
    over = sum(rows for value, rows in sizes.items() if value > max_length)
    return Lengths(estimated, max_length, median, p99, max(sizes), over, unknown_share)


def too_long(found: Lengths, rows: int, *, long: str = "head") -> list[Finding]:
    """What the maximum length costs, by what becomes of longer rows, `text.long` (D23)."""
    if not found.over or long == "windows":
        return []
    about = "an estimated " if found.estimated else ""
    what = "text.long=error refuses" if long == "error" else "are cut"
    message = (
        f"{about}{count(found.over, 'row')} ({percent(found.over, rows)}) of over "
        f"{found.max_length} tokens, which {what}; the middle row has {found.median:,}, 99 of "
        f"100 have at most {found.p99:,}, the longest has {found.longest:,}."
    )
    remedy = "read all in windows with --set text.long=windows"
    if long != "head_tail":
        remedy = (
            "keep head and tail with --set text.long=head_tail, or read all in windows (=windows)"
        )
    if long == "error":
        remedy = f"shorten or split them, {remedy}"
    if found.p99 > found.max_length:
        most = f"raise text.max_length towards {found.p99:,} if the encoder has as much"
        remedy = f"{most}, or {remedy}"
    if found.estimated:
        remedy += "; --encoder NAME counts instead of estimating"
    severity: Severity = "note"
    if not found.estimated:
        many = found.over >= MANY_CUT * rows
        severity = "error" if long == "error" else "warning" if many else "note"
    return [Finding("D23", severity, found.over, message, remedy)]


def unknown_tokens(found: Lengths, with_one: int, rows: int) -> list[Finding]:
    """Tokens the encoder has no piece for (D41), in `with_one` of the rows."""
    share = found.unknown_share
    if not share:
        return []
    message = f"{percent(share, 1)} of the tokens are unknown to the encoder, in "
    message += f"{count(with_one, 'row')} ({percent(with_one, rows)})."
    severity: Severity = "warning" if share >= MANY_UNKNOWN else "note"
    remedy = "take an encoder of this language; one piece stands for all that is unknown"
    return [Finding("D41", severity, with_one, message, remedy)]


def _largest(corpus: Corpus, finding: Finding, column: str, unit: str) -> Question:
    sizes: dict[int, int] = {}
    for rows, (of,) in corpus.chunks(column):
        sizes |= dict(zip(rows.tolist(), of.tolist(), strict=True))
        first = sorted(sizes, key=lambda row: (-sizes[row], row))
        sizes = {row: sizes[row] for row in first[: min(corpus.shown, finding.count)]}

    def describe(row: int, _seen: Seen, _partner: Seen) -> str:
        return count(sizes[row], unit)

    return Question(finding, [(row, row) for row in sizes], describe)


def _twins(rows: Rows, texts: Hashes, chosen: Rows, among: Rows) -> Pairs:
    """Row numbers of the chosen places, each with the first of the others that has its text."""
    values, first = np.unique(texts[among], return_index=True)
    partners = among[first][np.searchsorted(values, texts[chosen])]
    return np.stack([rows[chosen], rows[partners]], axis=1)


def _same(_row: int, _seen: Seen, partner: Seen) -> str:
    return f"the same at {partner.where}"


def _index_again(_row: int, seen: Seen, partner: Seen) -> str:
    return f"index {seen.example.index!r} is also at {partner.place}"


def _labels(_row: int, seen: Seen, partner: Seen) -> str:
    mine, other = shown_label(seen.example.label), shown_label(partner.example.label)
    return f"{mine} here, {other} at {partner.where}"


TWICE = "give each row an index of its own; --fix FOLDER leaves the later row out of a copy"
DROP = "--leak drop trains without them; --fix FOLDER leaves them out of a copy"
# option: severity of leaks, and what comes of them
LEAKS: dict[str, tuple[Severity, str]] = {
    "error": ("error", ""),
    "drop": ("note", "; dropped from train"),
    "allow": ("warning", "; kept, so scores are too good"),
}
CONFLICTS: dict[str, tuple[Severity, str]] = {
    "keep": ("warning", ""),
    "drop": ("note", "; their rows are dropped from train"),
    "error": ("error", ""),
}
