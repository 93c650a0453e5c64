"""What is wrong with a data set before anything is trained on it.

Each file is read twice: once for counts and a few numbers a row (survey.py), then for the words of
the rows that findings show. Memory hardly grows with the rows: docs/check.md has the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bert_cls.data.dataset import Gathered, declared_names, find_splits, whole_names
from bert_cls.data.example import CLASS_TASKS, Task
from bert_cls.data.findings import (
    Audit,
    Finding,
    Lengths,
    Occurrence,
    Severity,
    SplitCounts,
    Values,
    in_order,
    plain,
)
from bert_cls.data.held_rows import HeldRows
from bert_cls.data.joined_labels import about_joined
from bert_cls.data.label_counts import counted, dropped_rows, names_of
from bert_cls.data.label_findings import (
    Labels,
    about_labels,
    about_pairs,
    settle_task,
)
from bert_cls.data.lengths import EstimatedLengths, TextLengths
from bert_cls.data.near import near_texts
from bert_cls.data.problem_tally import ProblemTally
from bert_cls.data.problems import Problem
from bert_cls.data.raw import Options
from bert_cls.data.read import OnBadRow, check_on_bad_row
from bert_cls.data.rows import KEYLESS_HINT
from bert_cls.data.survey import DataFile, FileRows, OpenRows, Survey, survey
from bert_cls.data.task import SHAPES, unmatched_merges
from bert_cls.data.text_findings import (
    CONFLICTS,
    LEAKS,
    Corpus,
    Question,
    Seen,
    about_lengths,
    conflicts,
    full_width,
    huge,
    indices_used_twice,
    same_texts,
    variants,
)
from bert_cls.data.unlabelled import about_unlabelled
from bert_cls.errors import DataError, pick


def audit(
    path: str | Path,
    *,
    task: Task | None = None,
    labels: str | Path | Sequence[str] | None = None,
    label_merges: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_bad_row: OnBadRow = "fail",
    coerce_numbers: bool = False,
    fix_unicode: bool = False,
    leak: str = "error",
    conflict: str = "keep",
    text_lengths: TextLengths | None = None,
    shown: int = 5,
) -> Audit:
    """Everything that is wrong with a folder of train, dev and test files, or with one file.

    The options are those of `load`, and its errors are findings here; `leak` is what becomes of
    texts of train that are held out (error, drop, allow), `conflict` of texts with different labels
    (keep, drop, error). `text_lengths` counts tokens (None estimates them for 256). A finding has
    at most `shown` examples. DataError when there is no data at `path` to begin with.
    """
    path = Path(path)
    whole = whole_names(path, labels, label_merges or {}, encoding=encoding)
    options = Options(coerce_numbers, fix_unicode, task, names=whole)
    settings = Settings(
        labels=labels,
        label_merges=label_merges or {},
        encoding=encoding,
        on_bad_row=on_bad_row,
        leak=leak,
        conflict=conflict,
        text_lengths=text_lengths,
        shown=shown,
    )
    settings.check(task)
    paths, passed_over = find_splits(path)
    return _audited(path, paths, passed_over, options, settings, FileRows)


def audit_gathered(gathered: Gathered, options: Options, settings: Settings) -> Audit:
    """The audit of files that were read with these options; they are not read again."""
    settings.check(options.task)

    def open_rows(file: DataFile, problems: ProblemTally) -> HeldRows:
        return HeldRows(file, problems, gathered.rows[file.split])

    return _audited(gathered.path, gathered.paths, gathered.notes, options, settings, open_rows)


@dataclass(frozen=True, slots=True)
class Settings:
    """How an audit looks at what was read; see `audit`."""

    labels: str | Path | Sequence[str] | None = None
    label_merges: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    on_bad_row: OnBadRow = "fail"
    leak: str = "error"
    conflict: str = "keep"
    text_lengths: TextLengths | None = None
    shown: int = 5

    @property
    def row_severity(self) -> Severity:
        """What a row that cannot be read is: an error, or set aside."""
        return "error" if self.on_bad_row == "fail" else "warning"

    def check(self, task: Task | None) -> None:
        """ConfigError for a word that is none of those allowed."""
        check_on_bad_row(self.on_bad_row)
        pick(LEAKS, self.leak, "leak")
        pick(CONFLICTS, self.conflict, "conflict")
        if task is not None:
            pick(SHAPES, task, "task")


def _audited(
    path: Path,
    paths: Mapping[str, Path],
    passed_over: Sequence[Problem],
    options: Options,
    settings: Settings,
    open_rows: OpenRows,
) -> Audit:
    shown, merges = settings.shown, settings.label_merges
    problems = ProblemTally(shown=shown, row_severity=settings.row_severity)
    problems.noticed(passed_over)
    names = _declared(path, settings, problems)
    lengths = EstimatedLengths() if settings.text_lengths is None else settings.text_lengths
    files = [DataFile(split, p, options, settings.encoding, merges) for split, p in paths.items()]
    surveys = [survey(f, lengths, problems, open_rows=open_rows, shown=shown) for f in files]
    strict = settings.row_severity == "error"
    settled, about_task = settle_task(surveys, options.task, names, shown=shown, strict=strict)
    if settled == "multilabel":
        about_task += _keyless(surveys, settings.row_severity)
    sides = _sides(surveys, keyless=strict or settled != "multilabel")
    counts = counted(surveys, settled, merges)
    problems.noticed(unmatched_merges(merges, _names_before(surveys, settled), plain(path.name)))
    found = problems.findings() + about_task + about_pairs(surveys, sides, shown=shown)
    corpus = Corpus(surveys, shown=shown)
    if settled is not None:
        dropped = dropped_rows(corpus, leak=settings.leak, conflict=settings.conflict)
        lost: Counter[str] = Counter()
        for _, seen in _second_pass(corpus, dropped.tolist(), open_rows):
            lost.update(names_of(seen.example.label, settled, merges))
        left = counts.get("train", Counter()) - lost
        labels = Labels(surveys, settled, names, counts, left, len(dropped), shown, strict)
        found += about_labels(labels) + about_unlabelled(labels) + about_joined(labels)
    measured, about_texts = _about_texts(corpus, lengths, settings, open_rows)
    for found_in in surveys:
        found_in.numbers.close()
    return Audit(
        data=plain(str(path)),
        task=settled,
        pair=sides[True] > 0,
        splits={s.file.split: _counts(s) for s in surveys},
        labels=_by_label(counts),
        values=_values(surveys) if settled == "regression" else {},
        lengths=measured,
        findings=in_order(found + about_texts),
    )


def _names_before(surveys: Sequence[Survey], task: Task | None) -> set[str]:
    """All label names of the rows, those merged into others too."""
    tallies = [survey.labels for survey in surveys]
    numbers = {name for tally in tallies for name in tally.whole_numbers}
    names = {name for tally in tallies for name in (*tally.names, *tally.merged_names)}
    return names | numbers if task in CLASS_TASKS else names


def _sides(surveys: Sequence[Survey], *, keyless: bool) -> Counter[bool]:
    """How many rows have no second text (False) and how many one, `keyless` ones too if asked."""
    sides: Counter[bool] = Counter()
    for found in surveys:
        sides += found.labels.sides
        if found.keyless is not None and not keyless:
            pairs = found.keyless.pairs
            sides -= Counter({True: pairs, False: found.keyless.rows - pairs})
    return sides


def _keyless(surveys: Sequence[Survey], severity: Severity) -> list[Finding]:
    """Rows of multilabel data that do not say whether they have no label or are not labelled."""
    found = []
    for found_in in surveys:
        if (said := found_in.keyless) is not None:
            places = tuple(Occurrence(found_in.file.name, place) for place in said.places)
            finding = Finding("D31", severity, said.rows, said.message, KEYLESS_HINT, places)
            found.append(finding)
    return found


def _declared(path: Path, settings: Settings, problems: ProblemTally) -> tuple[str, ...] | None:
    try:
        return declared_names(
            path, settings.labels, settings.label_merges, encoding=settings.encoding
        )[0]
    except DataError as error:
        problems.broken(error, plain(path.name))
        return None


def _about_texts(
    corpus: Corpus, lengths: TextLengths, settings: Settings, open_rows: OpenRows
) -> tuple[Lengths | None, list[Finding]]:
    found = full_width(corpus) + huge(corpus)
    if not corpus.has("train"):
        message = "there is no file train: nothing to learn from."
        found.append(Finding("D39", "error", 0, message, "name the training rows' file train"))
    measured, questions = about_lengths(corpus, lengths)
    questions += indices_used_twice(corpus, settings.row_severity)
    questions += same_texts(corpus, settings.leak)
    questions += conflicts(corpus, settings.conflict) + variants(corpus)
    return measured, found + _answers(corpus, questions, open_rows)


def _answers(corpus: Corpus, questions: Sequence[Question], open_rows: OpenRows) -> list[Finding]:
    """The findings with the rows they show, and near-duplicates; a second pass over the files."""
    nears = near_texts(corpus)
    shown = {row for question in questions for pair in question.pairs for row in pair}
    seen: dict[int, Seen] = {}
    wanted = shown.union(*(near.wanted for near in nears))
    for row, found in _second_pass(corpus, wanted, open_rows):
        for near in nears:
            near.see(row, found)
        if row in shown:
            seen[row] = found
    about_near = [finding for near in nears for finding in near.findings()]
    return [question.answer(seen) for question in questions] + about_near


def _second_pass(
    corpus: Corpus, wanted: Iterable[int], open_rows: OpenRows
) -> Iterable[tuple[int, Seen]]:
    """The wanted rows, by their numbers through all files and in that order."""
    rows = np.array(sorted(wanted), np.int64)
    for first, end in zip(corpus.surveys, corpus.ends.tolist(), strict=True):
        begin = end - len(first)
        inside = rows[(rows >= begin) & (rows < end)]
        positions = corpus.picked("position", rows)[np.searchsorted(rows, begin) :][: len(inside)]
        numbers = dict(zip(positions.tolist(), inside.tolist(), strict=True))
        # what is wrong with the file was said in the first pass
        again = open_rows(first.file, ProblemTally(shown=0))
        for position, number, example in again.at(list(numbers)):
            yield numbers[position], Seen(first, again.place(position, number), example)


def _counts(found: Survey) -> SplitCounts:
    return SplitCounts(found.file.name, len(found), found.labels.labelled, found.refused)


def _by_label(counts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Label to rows by split, the most frequent of train (else of all) first."""
    names = {name for counter in counts.values() for name in counter}
    table = {
        plain(name): {split: counter.get(name, 0) for split, counter in counts.items()}
        for name in sorted(names)
    }
    return dict(
        sorted(table.items(), key=lambda item: (-item[1].get("train", 0), -sum(item[1].values())))
    )


def _values(surveys: Sequence[Survey]) -> dict[str, Values]:
    return {
        s.file.split: Values(
            s.labels.smallest, s.labels.total / s.labels.labelled, s.labels.largest
        )
        for s in surveys
        if s.labels.labelled
    }
