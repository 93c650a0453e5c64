"""Two or more models, or files of their predictions, on the same labelled rows.

Rows are matched by index. Each model decides by its own rule; a label that a model does not know
counts as never given by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from bert_cls.bundle import Bundle
from bert_cls.classifier import Classifier
from bert_cls.data import Example, LabelSpace, Rows, Task, infer_task, read, targets
from bert_cls.data.example import CLASS_TASKS
from bert_cls.errors import DataError, pick
from bert_cls.judging import merged, misfit, unlabelled_note
from bert_cls.metrics import Comparison, Outcome, compare_outcomes, corrected
from bert_cls.predicted import read_predictions
from bert_cls.prediction import Prediction
from bert_cls.ranges import LEAST, check_ranges
from bert_cls.report import SEEN, seen_rows

_TEXT_SHOWN = 80
_MISSING_SHOWN = 3
_TASKS: dict[str, Task] = {task: task for task in get_args(Task)}


@dataclass(frozen=True, slots=True)
class Answers:
    """What one model said, one Prediction a row.

    `names` are all labels it can give, or of a prediction file (`known` False) those it mentions:
    what else its model knows cannot be told. `ordered` says that their order is the model's.
    """

    name: str
    names: tuple[str, ...]
    predictions: Sequence[Prediction]
    known: bool
    ordered: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """`others`, each against `base`, on the labelled rows of one file."""

    task: Task
    file: str
    examples: Sequence[Example]
    base: Answers
    others: tuple[Answers, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...]

    def changed(self, other: int, rows: Sequence[int]) -> list[dict[str, Any]]:
        """Rows by their numbers, ready for JSON: index, text, truth and both answers."""
        out = []
        for row in rows:
            example = self.examples[row]
            text = example.text_a + (f" | {example.text_b}" if example.text_b is not None else "")
            truth = list(example.label) if isinstance(example.label, tuple) else example.label
            before, after = (
                answers.predictions[row] for answers in (self.base, self.others[other])
            )
            out.append(
                {
                    "index": example.index,
                    "text": text[:_TEXT_SHOWN] + ("…" if len(text) > _TEXT_SHOWN else ""),
                    "truth": truth,
                    "before": _said(before, self.task),
                    "after": _said(after, self.task),
                }
            )
        return out

    def to_dict(self, *, examples: int | None = None) -> dict[str, Any]:
        """JSON-ready: everything, with at most `examples` fixed and broken rows written out."""
        comparisons = []
        for i, (other, found) in enumerate(zip(self.others, self.comparisons, strict=True)):
            comparisons.append(
                {
                    "model": other.name,
                    "differences": [asdict(d) | {"verdict": d.verdict} for d in found.differences],
                    "rows_test": asdict(found.rows_test),
                    "labels": [asdict(row) | {"verdict": row.verdict} for row in found.labels],
                    "fixed": self.changed(i, found.fixed.tolist()[:examples]),
                    "broken": self.changed(i, found.broken.tolist()[:examples]),
                    "notes": list(found.notes),
                }
            )
        return {
            "task": self.task,
            "file": self.file,
            "rows": len(self.examples),
            "base": self.base.name,
            "comparisons": comparisons,
            "notes": list(self.notes),
        }


def compare(
    sources: Sequence[Path],
    file: Path,
    *,
    task: str | None = None,
    encoding: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Compared:
    """Compare each further source with the first one on the labelled rows of `file`.

    A source is a model folder, or a .jsonl or .json file written by `bert-cls predict`. Where all
    are files, `task` says what they hold; without it the labels of `file` do. DataError when the
    tasks differ (binary and multiclass are both classes), when a prediction file and `file` do not
    hold the same rows, or when all sources are models and a row has a label that none knows.
    """
    check_ranges(LEAST | {"resamples": 1}, resamples=resamples, seed=seed)
    _check_sources(sources)
    models = {path: Classifier.load(path) for path in dict.fromkeys(sources) if path.is_dir()}
    bundles_read = [each.bundle for each in models.values()]
    rows, kind, notes = _labelled(file, encoding, bundles_read, task)
    named = list(zip(sources, _names(sources), strict=True))
    bundles = {name: models[path].bundle for path, name in named if path in models}
    _check_readable(rows, bundles)
    written = len(models) < len(named)
    answers = [
        _from_model(models[path], name, rows, written=written)
        if path in models
        else _from_file(path, name, rows, kind)
        for path, name in named
    ]
    rows, about_merges = _merged(rows, bundles, {n for each in answers for n in each.names})
    space = _space(answers, rows)
    kind, about_classes = _positive(kind, answers, space)
    truth = targets(rows.examples, kind, space)
    outcomes = [_outcome(each, kind, space, truth) for each in answers]
    drawn: dict[str, Any] = {"resamples": resamples, "seed": seed}
    unfit = [_uncalibrated(bundles.get(each.name), each.name) for each in answers]
    comparisons = tuple(
        compare_outcomes(other, outcomes[0], space.names, unfit=unfit[0] or why, **drawn)
        for other, why in zip(outcomes[1:], unfit[1:], strict=True)
    )
    return Compared(
        task=kind,
        file=file.name,
        examples=rows.examples,
        base=answers[0],
        others=tuple(answers[1:]),
        comparisons=_corrected(comparisons),
        notes=(
            *notes,
            *about_merges,
            *about_classes,
            *(f"{n}: {SEEN[how]}" for n, b in bundles.items() if (how := seen_rows(b, file))),
            *_abstaining(bundles),
            *_unknown(answers, space),
        ),
    )


def _corrected(comparisons: Sequence[Comparison]) -> tuple[Comparison, ...]:
    """The same with Holm's correction over the labels of all of them, not of each alone."""
    over_all = iter(corrected([row for each in comparisons for row in each.labels]))
    return tuple(
        replace(each, labels=tuple(islice(over_all, len(each.labels)))) for each in comparisons
    )


def _check_sources(sources: Sequence[Path]) -> None:
    if len(sources) < 2:
        raise DataError("comparing needs at least two models or prediction files.")
    for i, path in enumerate(sources):
        for other in sources[:i]:
            if path.exists() and other.exists() and path.samefile(other):
                kind = "folder" if path.is_dir() else "file"
                also = "" if path == other else f", which is {other}"
                raise DataError(
                    f"{path}{also} is given twice: the same {kind} cannot differ from itself.",
                    hint="name two models, or two files of their predictions.",
                )


def _names(sources: Sequence[Path]) -> list[str]:
    """Short names that differ: the last part of each path, or all of it."""
    paths = {path.absolute(): path.name or str(path) for path in sources}
    distinct = len(set(paths.values())) == len(paths)
    return [paths[path.absolute()] if distinct else str(path) for path in sources]


def _labelled(
    file: Path, encoding: str | None, bundles: Sequence[Bundle], said: str | None
) -> tuple[Rows, Task, tuple[str, ...]]:
    """The rows with a label, the task (`said` if there is no model), and a note on the others."""
    stated = None if said is None else pick(_TASKS, said, "task")
    tasks = [bundle.task for bundle in bundles]
    names = {name for bundle in bundles for name in (*bundle.space.names, *bundle.merges)}
    if len(set(tasks)) > 1 and not CLASS_TASKS.issuperset(tasks):
        raise DataError(f"the models are for different tasks: {', '.join(tasks)}.")
    # of both kinds: two classes are classes
    known: Task | None = "multiclass" if len(set(tasks)) > 1 else next(iter(tasks), stated)
    if known != (stated or known):
        raise DataError(
            f"the models are for {known} data. Got the task {stated} instead.",
            hint="leave the task out: it is for prediction files alone.",
        )
    rows = read(file, encoding=encoding, task=known, names=names)
    task = known or infer_task([rows])
    if known is None:
        rows = read(file, encoding=encoding, task=task)
    kept = [i for i, e in enumerate(rows.examples) if e.label is not None]
    if not kept:
        raise DataError(f"{file}: no row has a label, so there is nothing to compare.")
    return rows.only(kept), task, unlabelled_note(len(rows.examples) - len(kept))


def _check_readable(rows: Rows, bundles: Mapping[str, Bundle]) -> None:
    for name, bundle in bundles.items():
        for i, example in enumerate(rows.examples):
            if problem := misfit(bundle, example):
                raise DataError(f"{rows.file}: {rows.place(i)}: {name}: {problem}")


def _merged(
    rows: Rows, bundles: Mapping[str, Bundle], known: Set[str]
) -> tuple[Rows, tuple[str, ...]]:
    """The rows with names that no source knows merged as the models' training did, and a note.

    DataError where two models merged a name into different ones.
    """
    merges: dict[str, str] = {}
    for name, bundle in bundles.items():
        for old, new in bundle.merges.items():
            if old not in known and merges.setdefault(old, new) != new:
                raise DataError(
                    f"{name} was trained with {old!r} merged into {new!r}, a model before it with "
                    f"{old!r} merged into {merges[old]!r}: rows of {old!r} cannot be compared."
                )
    examples, notes = merged(rows.examples, merges)
    return replace(rows, examples=examples), notes


def _from_model(model: Classifier, name: str, rows: Rows, *, written: bool) -> Answers:
    """A model's answers; `written` where they meet those of a file, which has fewer digits."""
    if model.bundle.rule.min_confidence is not None:
        model = model.with_rule(min_confidence=None)  # every row is decided
    predictions = model.predict(rows.examples)
    if written:
        predictions = [each.as_written() for each in predictions]
    return Answers(name, model.labels, predictions, known=True, ordered=True)


def _uncalibrated(bundle: Bundle | None, name: str) -> str | None:
    """Why a model's scores are no probabilities; of a file of predictions that cannot be told."""
    if bundle is None or bundle.rule.calibrated:
        return None
    return f"the scores of {name} are not calibrated probabilities"


def _abstaining(bundles: Mapping[str, Bundle]) -> list[str]:
    return [
        f"{name} leaves rows below confidence {least:.4f} undecided; here every row is decided."
        for name, bundle in bundles.items()
        if (least := bundle.rule.min_confidence)
    ]


def _from_file(path: Path, name: str, rows: Rows, task: Task) -> Answers:
    """The predictions of the labelled rows, in their order."""
    by_index = read_predictions(path, task)
    seen: set[int | str] = set()
    for i, example in enumerate(rows.examples):
        if example.index in seen:
            raise DataError(
                f"{rows.file}: {rows.place(i)}: index {example.index!r} is there twice, so "
                f"{path.name} cannot be matched with it."
            )
        seen.add(example.index)
    missing = [e.index for e in rows.examples if e.index not in by_index]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of {len(rows.examples)} labelled rows of {rows.file} have no "
            f"prediction, for example index {missing[:_MISSING_SHOWN]}.",
            hint="predict the file itself: bert-cls predict MODEL FILE -o OUT.jsonl",
        )
    said = [by_index[e.index] for e in rows.examples]
    names = {label for each in said for label in (*(each.scores or ()), *each.labels)}
    orders = {tuple(each.scores or ()) for each in said}
    order = orders.pop()
    # all lines have it, which is the model's; but `--top` writes the highest score first
    falling = all(
        list(s) == sorted(s, reverse=True)
        for each in said
        if (s := tuple((each.scores or {}).values()))
    )
    ordered = not orders and len(order) == len(names) and not falling
    return Answers(name, order if ordered else tuple(sorted(names)), said, False, ordered)


def _positive(
    task: Task, answers: Sequence[Answers], space: LabelSpace
) -> tuple[Task, tuple[str, ...]]:
    """Binary where the sources that have an order agree on it, else multiclass; and a note.

    So the positive class never hangs on which source comes first.
    """
    if task != "binary":
        return task, ()
    if len(space) != 2:
        return "multiclass", (f"there are {len(space)} labels, so no class is the positive one.",)
    sure = [each for each in answers if each.known] or answers
    orders = {each.names for each in sure if each.ordered and len(each.names) == 2}
    if orders == {space.names}:
        return task, (f"positive class: {space.names[1]}",)
    why = "the sources differ in their" if orders else "no source says the"
    return "multiclass", (f"{why} order of labels, so no class is the positive one.",)


def _space(answers: Sequence[Answers], rows: Rows) -> LabelSpace:
    """The labels of models in their order, then those of files, then what only rows have.

    DataError for a label that no model knows, where all sources are models.
    """
    first = sorted(answers, key=lambda e: (not e.known, not e.ordered, len(e.names) < 2))
    names = dict.fromkeys(name for each in first for name in each.names)
    only_rows: set[str] = set()
    for i, example in enumerate(rows.examples):
        for name in example.label if isinstance(example.label, tuple) else (example.label,):
            if not isinstance(name, str) or name in names:
                continue
            if all(each.known for each in answers):
                raise DataError(f"{rows.file}: {rows.place(i)}: no model knows the label {name!r}.")
            only_rows.add(name)
    if len(names) < 2:  # no order: one label that all rows were given
        return LabelSpace(tuple(sorted({*names, *only_rows})))
    return LabelSpace((*names, *sorted(only_rows)))


def _unknown(answers: Sequence[Answers], space: LabelSpace) -> list[str]:
    notes = []
    for each in answers:
        absent = [name for name in space.names if name not in set(each.names)]
        if absent and each.known:
            shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
            notes.append(
                f"{each.name} does not know {len(absent)} of {len(space)} labels ({shown}): they "
                "count as never given by it."
            )
    mentioned = {name for each in answers for name in each.names}
    absent = [name for name in space.names if name not in mentioned]
    if absent and not any(each.known for each in answers):
        shown = ", ".join(absent[:5]) + (" …" if len(absent) > 5 else "")
        notes.append(f"{len(absent)} of {len(space)} labels are in no prediction ({shown}).")
    return notes


def _outcome(answers: Answers, task: Task, space: LabelSpace, truth: Any) -> Outcome:
    said = answers.predictions
    if task == "regression":
        return Outcome(task, truth, np.array([p.score for p in said], dtype=np.float64), None)
    ids = space.ids
    scores = np.full((len(said), len(space)), np.nan)  # unknown, which is not impossible
    for row, prediction in zip(scores, said, strict=True):
        for name, score in (prediction.scores or {}).items():
            row[ids[name]] = score
    if task == "multilabel":
        return Outcome(task, truth, scores, space.multi_hot([p.labels for p in said]))
    return Outcome(task, truth, scores, np.array([ids[p.labels[0]] for p in said]))


def _said(prediction: Prediction, task: Task) -> Any:
    if task == "regression":
        return None if prediction.score is None else float(f"{prediction.score:.5g}")
    return list(prediction.labels) if task == "multilabel" else prediction.labels[0]
