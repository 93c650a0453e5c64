"""What is wrong with the texts of all splits together: lengths, and rows that are the same.

A finding whose places are known only as row numbers is a Question: rows are numbered through all
files, and their words are read in the second pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.duplicates import Hashes, Pairs, differing, repeats
from bert_cls.data.example import Example
from bert_cls.data.findings import Finding, Lengths, Severity, percent
from bert_cls.data.label_tally import shown_label
from bert_cls.data.lengths import TextLengths
from bert_cls.data.problems import count
from bert_cls.data.survey import HUGE_CHARACTERS, UNLABELLED, Survey, spot
from bert_cls.errors import pick

MANY_CUT = 0.01
MANY_UNKNOWN = 0.01


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
    """The numbers of all rows, one file after the other."""

    def __init__(self, surveys: Sequence[Survey], *, shown: int) -> None:
        self.surveys = surveys
        self.shown = shown
        self.ends = np.cumsum([len(survey) for survey in surveys])
        self.text: Hashes = self.column("text")
        self.label: Hashes = self.column("label")

    def __len__(self) -> int:
        return len(self.text)

    def rows(self, split: str) -> NDArray[np.int64]:
        """The row numbers of a split; none when it has no file."""
        for survey, end in zip(self.surveys, self.ends, strict=True):
            if survey.file.split == split:
                return np.arange(end - len(survey), end)
        return np.arange(0)

    def used(self, split: str) -> NDArray[np.int64]:
        """Those of them a run uses: without unlabelled ones, save in test."""
        rows = self.rows(split)
        return rows if split == "test" else rows[self.label[rows] != UNLABELLED]

    def has(self, split: str) -> bool:
        """Whether there is a file for it."""
        return any(survey.file.split == split for survey in self.surveys)

    def column(self, name: str) -> NDArray[Any]:
        """A column of all rows (see row_numbers.COLUMNS)."""
        parts = [survey.numbers.column(name) for survey in self.surveys]
        return np.concatenate(parts) if parts else np.empty(0, np.int64)


def indices_used_twice(corpus: Corpus, severity: Severity) -> list[Question]:
    """Rows of one file that have the index of an earlier one (D13)."""
    asked = []
    for survey, end in zip(corpus.surveys, corpus.ends, strict=True):
        pairs = repeats(survey.numbers.column("index")) + (end - len(survey))
        if not len(pairs):
            continue
        verb = "has" if len(pairs) == 1 else "have"
        message = f"{count(len(pairs), 'row')} of {survey.file.name} {verb} the index of an earlier"
        finding = Finding("D13", severity, len(pairs), f"{message} row.", TWICE)
        asked.append(Question(finding, _first(pairs, corpus), _index_again))
    return asked


def leaks(corpus: Corpus, leak: str) -> list[Question]:
    """Texts of train that are also in dev or test, and of dev in test (D34)."""
    train, found = corpus.used("train"), []
    held = {split: corpus.used(split) for split in ("dev", "test")}
    inside = {split: np.isin(corpus.text[train], corpus.text[r]) for split, r in held.items()}
    parts = []
    for split, rows in held.items():
        if inside[split].any():
            leaked = int(np.isin(corpus.text[rows], corpus.text[train]).sum())
            share = percent(leaked, len(rows))
            parts.append(f"{int(inside[split].sum()):,} in {split} ({share} of its rows)")
    rows = train[inside["dev"] | inside["test"]]
    if len(rows):
        severity, effect = pick(LEAKS, leak, "leak")
        message = f"{count(len(rows), 'row')} of train with a text that is also held out: "
        finding = Finding("D34", severity, len(rows), f"{message}{', '.join(parts)}{effect}.", DROP)
        found.append(
            Question(finding, _twins(corpus, rows, np.r_[held["dev"], held["test"]]), _same)
        )
    rows = held["dev"][np.isin(corpus.text[held["dev"]], corpus.text[held["test"]])]
    if len(rows):
        message = f"{count(len(rows), 'row')} of dev with a text that is also in test: the test "
        message += "figures are a little too good."
        finding = Finding("D34", "warning", len(rows), message, "take them out of dev")
        found.append(Question(finding, _twins(corpus, rows, held["test"]), _same))
    return found


def repeated_texts(corpus: Corpus) -> list[Question]:
    """Texts that come more than once in one split (D34)."""
    parts: list[str] = []
    found: list[Pairs] = []
    for survey in corpus.surveys:
        rows = corpus.used(survey.file.split)
        pairs = repeats(corpus.text[rows])
        if len(pairs):
            parts.append(f"{count(len(pairs), 'row')} of {survey.file.split}")
            found.append(rows[pairs])
    if not found:
        return []
    every = np.concatenate(found)
    message = f"{', '.join(parts)} with the text of an earlier row of the same split."
    finding = Finding("D34", "note", len(every), message, "keep one, if they mean nothing")
    return [Question(finding, _first(every, corpus), _same)]


def conflicts(corpus: Corpus, conflict: str) -> list[Question]:
    """Texts whose rows have different labels (D36)."""
    rows = np.flatnonzero(corpus.label != UNLABELLED)
    groups = differing(corpus.text[rows], corpus.label[rows])
    if not groups.keys:
        return []
    severity, effect = pick(CONFLICTS, conflict, "conflict")
    message = f"{count(groups.keys, 'text')} with different labels, in {count(groups.rows, 'row')}"
    remedy = "decide for one label a text, or train with --conflict drop; where raters disagree, "
    remedy += "figures cannot reach 1"
    finding = Finding("D36", severity, groups.keys, f"{message}{effect}.", remedy)
    return [Question(finding, _first(rows[groups.pairs], corpus), _labels)]


def variants(corpus: Corpus) -> list[Question]:
    """Texts that differ from another one only in case, width or spaces (D42)."""
    groups = differing(corpus.column("folded"), corpus.column("raw"))
    if not groups.keys:
        return []
    message = f"{count(groups.keys, 'text')} in several spellings that differ only in case, width "
    message += f"or spaces, in {count(groups.rows, 'row')}."
    finding = Finding("D42", "note", groups.keys, message, "write them alike")
    return [Question(finding, _first(groups.pairs, corpus), _same)]


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
    lengths = corpus.column("length")
    if not len(lengths):
        return None, []
    unknown = corpus.column("unknown") if by.has_unknown else None
    read = sum(survey.tokens_read for survey in corpus.surveys)
    found = summed(lengths, unknown, read, max_length=by.max_length, estimated=not by.exact)
    asked = [_largest(corpus, f, lengths, "token") for f in too_long(found, len(lengths))]
    if unknown is not None:
        for finding in unknown_tokens(found, int((unknown > 0).sum()), len(lengths)):
            asked.append(_largest(corpus, finding, unknown, "unknown token"))
    return found, asked


def summed(
    lengths: NDArray[np.int64],
    unknown: NDArray[np.int64] | None,
    read: int,
    *,
    max_length: int,
    estimated: bool,
) -> Lengths:
    """The lengths of rows in short; `unknown` tokens of each row, of `read` in all."""
    median, p99 = np.percentile(lengths, (50, 99), method="lower").tolist()
    share = None if unknown is None else float(unknown.sum() / max(1, read))
    over = int((lengths > max_length).sum())
    return Lengths(estimated, max_length, median, p99, int(lengths.max()), over, share)


def too_long(found: Lengths, rows: int) -> list[Finding]:
    """What the maximum length costs (D23)."""
    if not found.over:
        return []
    about = "an estimated " if found.estimated else ""
    message = (
        f"{about}{count(found.over, 'row')} ({percent(found.over, rows)}) of over "
        f"{found.max_length} tokens, which are cut; the middle row has {found.median:,}, 99 of "
        f"100 have at most {found.p99:,}, the longest has {found.longest:,}."
    )
    remedy = "keep head and tail with --set text.long=head_tail, or read all in windows (=windows)"
    if found.p99 > found.max_length:
        remedy = f"raise --max-length towards {found.p99:,} if the encoder has as much, or {remedy}"
    if found.estimated:
        remedy += "; --encoder NAME counts instead of estimating"
    many = found.over >= MANY_CUT * rows and not found.estimated
    return [Finding("D23", "warning" if many else "note", found.over, message, remedy)]


def unknown_tokens(found: Lengths, with_one: int, rows: int) -> list[Finding]:
    """Tokens the encoder has no piece for (D41), in `with_one` of the rows."""
    share = found.unknown_share
    if not share:
        return []
    said = "under 0.1 %" if share < 0.001 else f"{share:.1%}"
    message = f"{said} of the tokens are unknown to the encoder, in {count(with_one, 'row')} "
    message += f"({percent(with_one, rows)})."
    severity: Severity = "warning" if share >= MANY_UNKNOWN else "note"
    remedy = "take an encoder of this language; one piece stands for all that is unknown"
    return [Finding("D41", severity, with_one, message, remedy)]


def _largest(corpus: Corpus, finding: Finding, of: NDArray[np.int64], unit: str) -> Question:
    rows = np.argsort(-of, kind="stable")[: min(corpus.shown, finding.count)].tolist()

    def describe(row: int, _seen: Seen, _partner: Seen) -> str:
        return count(int(of[row]), unit)

    return Question(finding, [(row, row) for row in rows], describe)


def _first(pairs: Pairs, corpus: Corpus) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in pairs[: corpus.shown]]


def _twins(
    corpus: Corpus, rows: NDArray[np.int64], among: NDArray[np.int64]
) -> list[tuple[int, int]]:
    """The first rows, each with the first row of `among` that has its text."""
    chosen = rows[: corpus.shown].tolist()
    texts = corpus.text[among]
    return [(row, int(among[np.argmax(texts == corpus.text[row])])) for row in chosen]


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
