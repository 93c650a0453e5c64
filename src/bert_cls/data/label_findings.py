"""What the labels of all splits together make, and what is wrong with them.

The rules are those of `load` (task.py, dataset.py); here they are said all at once, with counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bert_cls.data.cells import SEPARATORS
from bert_cls.data.example import CLASS_TASKS, Task
from bert_cls.data.findings import Finding, Occurrence, Severity, plain
from bert_cls.data.labels import look, tidy
from bert_cls.data.nearest import nearest
from bert_cls.data.problems import count, some
from bert_cls.data.raw import number
from bert_cls.data.split import RARE_ROWS
from bert_cls.data.survey import Survey
from bert_cls.data.task import (
    DETECTED,
    EXAMPLES,
    NEAREST_SHOWN,
    SHAPES,
    WORDS,
    Shape,
)


@dataclass(frozen=True, slots=True)
class Labels:
    """What is known of the labels: rows by name for each split, as the task reads them.

    `declared` are the names of labels.json or --labels. `names` are those a model would have,
    `shown` how many places a finding gets. `train` counts the rows of train that a run trains on:
    `dropped` labelled rows are not among them. `strict`: rows that were refused are errors.
    """

    surveys: Sequence[Survey]
    task: Task
    declared: tuple[str, ...] | None
    counts: Mapping[str, Counter[str]]
    train: Counter[str]
    dropped: int
    shown: int
    strict: bool

    @property
    def has_train(self) -> bool:
        """Whether train has any row."""
        return any(len(survey) for survey in self.surveys if survey.file.split == "train")

    @property
    def names(self) -> tuple[str, ...]:
        """The model's labels: declared, else of train, else (without train) all."""
        if self.declared is not None:
            return self.declared
        known = [self.counts["train"]] if self.has_train else self.counts.values()
        return tuple(sorted({name for counter in known for name in counter}))

    @property
    def complete(self) -> bool:
        """Whether every name was counted."""
        return not any(survey.labels.names_left_out for survey in self.surveys)

    def first(self, splits: Sequence[str], names: Sequence[str]) -> tuple[Occurrence, ...]:
        """The first place of each of some names in some splits."""
        chosen = [survey for survey in self.surveys if survey.file.split in splits]
        places = [p for s in chosen for name in names for p in s.labels.first("name", name)]
        return tuple(places[: self.shown])


def settle_task(
    surveys: Sequence[Survey],
    stated: Task | None,
    declared: Sequence[str] | None,
    *,
    shown: int,
    strict: bool,
) -> tuple[Task | None, list[Finding]]:
    """The task that is stated or that the labels make; None with an error when there is none.

    `strict`: rows that were refused are errors; where they alone may have labels that is said.
    """
    shapes: Counter[Shape] = Counter()
    for survey in surveys:
        shapes += survey.labels.shapes
    if not any(map(len, surveys)):
        return None, []
    if not shapes and strict and any(survey.refused for survey in surveys):
        return None, []
    if not shapes:
        remedy = "training needs labelled rows; unlabelled rows are for prediction"
        return None, [Finding("D31", "error", 0, "no row has a label.", remedy)]
    wrong = _misfits(surveys, stated, shapes, shown)
    if wrong:
        return None, wrong
    if stated is not None:
        return stated, []
    (shape,) = shapes
    if shape == "list":
        return "multilabel", []
    if shape == "number" and declared is None:
        return "regression", []
    found = {n for s in surveys for n in (*s.labels.names, *s.labels.whole_numbers)}
    if shape == "number" and (wrong := _numbers_not_declared(surveys, found, declared or ())):
        return None, wrong
    return "binary" if len(found if declared is None else declared) == 2 else "multiclass", []


def _misfits(
    surveys: Sequence[Survey], stated: Task | None, shapes: Counter[Shape], shown: int
) -> list[Finding]:
    """Rows whose label has another shape than the task wants, or than most rows have."""
    fitting = tuple(shapes) if stated is None else SHAPES[stated]
    strange: list[Shape] = [shape for shape in shapes if shape not in fitting]
    if strange:
        kinds = " and ".join(f"{WORDS[s][1]} in {count(shapes[s], 'row')}" for s in sorted(strange))
        message = f"the task {stated} needs {WORDS[fitting[0]][1]} as labels. Got {kinds}."
        remedy = f"give the task {DETECTED[strange[0]]}, or write the labels anew"
        if sum(shapes[shape] for shape in strange) < shapes.total() / 2:
            remedy = f"write {WORDS[fitting[0]][0]} there, such as {EXAMPLES[fitting[0]]}, or null"
        return [_of_shapes("D33", surveys, strange, shapes, message, remedy, shown)]
    groups = [shapes] if stated is None else [survey.labels.shapes for survey in surveys]
    mixed = [group for group in groups if len(group) > 1]
    if mixed:
        common, *rare = sorted(shapes, key=lambda shape: (-shapes[shape], shape))
        parts = [f"{count(shapes[shape], 'row')} with {WORDS[shape][0]}" for shape in rare]
        message = (
            f"labels are of different types: {count(shapes[common], 'row')} with "
            f"{WORDS[common][0]}, {', '.join(parts)}."
        )
        wanted: Shape = "list" if "list" in shapes else common if stated is None else fitting[0]
        remedy = f"write every label as {WORDS[wanted][0]}, such as {EXAMPLES[wanted]}"
        return [_of_shapes("D11", surveys, rare, shapes, message, remedy, shown)]
    fractions = sum(survey.labels.fractions for survey in surveys)
    if stated in CLASS_TASKS and fractions:
        message = f"the task {stated} needs names as labels. Got fractions in "
        message += f"{count(fractions, 'row')}."
        places = _places(surveys, "fraction", [None])[:shown]
        return [Finding("D11", "error", fractions, message, "give the task regression", places)]
    return []


def _of_shapes(
    code: str,
    surveys: Sequence[Survey],
    chosen: Sequence[Shape],
    shapes: Mapping[Shape, int],
    message: str,
    remedy: str,
    shown: int,
) -> Finding:
    rows = sum(shapes[shape] for shape in chosen)
    places = _places(surveys, "shape", chosen)[:shown]
    return Finding(code, "error", rows, message, remedy, places)


def _places(
    surveys: Sequence[Survey], kind: str, values: Sequence[object]
) -> tuple[Occurrence, ...]:
    return tuple(p for s in surveys for value in values for p in s.labels.first(kind, value))


def _numbers_not_declared(
    surveys: Sequence[Survey], found: set[str], declared: Sequence[str]
) -> list[Finding]:
    rows = sum(survey.labels.shapes["number"] for survey in surveys)
    fractions = any(survey.labels.fractions for survey in surveys)
    if found <= set(declared) and not fractions:
        return []
    message = f"labels are numbers such as {some(sorted(found - set(declared)), 3)}, and the "
    message += f"label names are {some(declared)}."
    remedy = "write names as labels, or for regression leave the label names out"
    return [Finding("D11", "error", rows, plain(message), remedy)]


def about_pairs(surveys: Sequence[Survey], sides: Counter[bool], *, shown: int) -> list[Finding]:
    """An error when some rows have a second text and others have none (D37), of those that stay."""
    if len(sides) < 2:
        return []
    rare = sides[True] <= sides[False]
    what = "a text_b" if rare else "no text_b"
    message = f"{count(sides[rare], 'row')} of {sides.total():,} with {what}, against the others."
    remedy = "in pair data every row needs both texts, in other data none has text_b"
    return [
        Finding(
            "D37", "error", sides[rare], message, remedy, _places(surveys, "side", [rare])[:shown]
        )
    ]


def about_labels(labels: Labels) -> list[Finding]:
    """Everything there is to say once the task is known; regression has its own rules."""
    if labels.task == "regression":
        return _about_values(labels)
    found = []
    for rule in RULES:
        found += rule(labels)
    return found


def _about_values(labels: Labels) -> list[Finding]:
    found = []
    if labels.declared is not None:
        message = "the label names are not used in regression."
        found.append(_finding("D33", "note", len(labels.declared), message))
    for survey in labels.surveys:
        tally, is_train = survey.labels, survey.file.split == "train"
        if is_train and 0 < tally.labelled == labels.dropped:
            message = "all labelled rows of train are dropped for their texts."
            found.append(_finding("D31", "error", labels.dropped, message, UNDROP))
        elif is_train and tally.labelled > 1 and tally.smallest == tally.largest:
            message = f"all numbers in train are {tally.smallest:g}: there is nothing to learn."
            found.append(_finding("D29", "warning", tally.labelled, message, "label rows anew"))
    return found


def _too_few(labels: Labels) -> list[Finding]:
    if not labels.has_train:
        return []
    left, remedy = (f" left without {count(labels.dropped, 'dropped row')}", UNDROP)
    if not labels.dropped:
        left, remedy = "", "label some rows"
    if not labels.train:
        if labels.strict and any(s.refused for s in labels.surveys if s.file.split == "train"):
            return []
        return [_finding("D29", "error", 0, f"no row of train{left} has any label.", remedy)]
    if labels.task == "multilabel":
        return []
    if len(labels.train) < 2:
        message = f"train{left} needs at least 2 classes. Got only {some(labels.train)}."
        if not labels.dropped:
            remedy = "add rows of another class, or write labels as lists for multilabel data"
        return [_finding("D29", "error", labels.train.total(), message, remedy)]
    if labels.task == "binary" and len(labels.names) != 2:
        message = f"the task binary needs 2 classes. Got {len(labels.names)}: {some(labels.names)}."
        return [_finding("D29", "error", len(labels.names), message, "give the task multiclass")]
    return []


def _alike(labels: Labels) -> list[Finding]:
    total: Counter[str] = Counter()
    for counter in labels.counts.values():
        total += counter
    groups: dict[str, list[str]] = {}
    for name in sorted({*labels.names, *total}, key=lambda n: (-total[n], n != tidy(n), n)):
        groups.setdefault(look(name), []).append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    words = [" and ".join(f"{name!r} ({total[name]:,})" for name in group) for group in alike]
    message = f"labels look the same: {'; '.join(words[:10])}{' ...' if len(words) > 10 else ''}."
    kept = {name: group[0] for group in alike[:3] for name in group[1:]}
    example = json.dumps(kept, ensure_ascii=False)
    rarer = [name for group in alike for name in group[1:]]
    remedy = f"mend the data, or give --merge-labels a file such as {example}"
    remedy = _if_several(rarer, labels) or remedy
    rows = sum(total[name] for name in rarer)
    return [_finding("D27", "error", rows, message, remedy, labels.first(SPLITS, rarer))]


def _if_several(names: Sequence[str], labels: Labels) -> str | None:
    """What to do first about names that are, most of them, several labels of a cell; else None."""
    several = sum(any(s in name for s in SEPARATORS) for name in names)
    tables = any(survey.file.is_table for survey in labels.surveys)
    if labels.task == "multilabel" or not tables or several <= len(names) / 2:
        return None
    return "if each is several labels, rename the column to labels, or give --task multilabel"


def _unknown(labels: Labels) -> list[Finding]:
    if labels.declared is None and not labels.has_train:
        return []
    known = set(labels.names)
    declared = labels.declared is not None
    checked = {s: c for s, c in labels.counts.items() if declared or s != "train"}
    unknown: Counter[str] = Counter()
    for counter in checked.values():
        unknown += Counter({name: rows for name, rows in counter.items() if name not in known})
    if not unknown or (not declared and not labels.complete):
        return []
    ordered = sorted(unknown, key=lambda name: (-unknown[name], name))
    words = [_with_nearest(name, unknown[name], labels) for name in ordered[:NEAREST_SHOWN]]
    more = " ..." if len(ordered) > NEAREST_SHOWN else ""
    where = "the label names" if declared else "train"
    message = f"{count(len(unknown), 'label')} not in {where}: {', '.join(words)}{more}."
    remedy = "mend the label, add it to the label names, or put rows of it into train"
    places = labels.first(list(checked), ordered)
    return [_finding("D25", "error", unknown.total(), message, remedy, places)]


def _with_nearest(name: str, rows: int, labels: Labels) -> str:
    near = nearest(name, labels.names, furthest=max(1, len(name) - 1))
    said = f"{name!r} ({count(rows, 'row')}"
    if near is not None:
        said += f"; the nearest is {near!r}, with {count(labels.train[near], 'row')} in train"
    return f"{said})"


def _without_rows(labels: Labels) -> list[Finding]:
    found = []
    rows = {survey.file.split: survey.labels.labelled for survey in labels.surveys}
    for split in (s for s in UNJUDGED if rows.get(s) and not labels.counts.get(s)):
        message = f"no row of {split} has any label: {UNJUDGED[split]}."
        remedy = f"put rows with labels into {split}"
        found.append(_finding("D26", "warning", rows[split], message, remedy))
    in_train = [name for name in labels.names if name in labels.train]
    for split, counter in labels.counts.items():
        missing = [name for name in in_train if name not in counter]
        if split != "train" and counter and missing:
            message = f"{split} has no row of {count(len(missing), 'label')} of train: "
            message += f"{some(missing)}; metrics show support 0 for them."
            remedy = f"move rows of them to {split}, or read its macro averages with that in mind"
            found.append(_finding("D26", "warning", len(missing), message, remedy))
    unused = [name for name in labels.names if name not in labels.counts.get("train", ())]
    if unused and labels.has_train:
        message = f"no row of train has the declared labels {some(unused)}: they cannot be learned."
        remedy = "add rows of them, or take them out of the label names"
        found.append(_finding("D26", "warning", len(unused), message, remedy))
    gone = [name for name in labels.counts.get("train", ()) if name not in labels.train]
    if gone:
        message = f"all rows of train with the labels {some(gone)} are dropped: they cannot be "
        found.append(_finding("D26", "warning", len(gone), f"{message}learned.", UNDROP))
    return found


def _rare(labels: Labels) -> list[Finding]:
    rare = sorted((n, name) for name, n in labels.train.items() if n <= RARE_ROWS)
    if not rare:
        return []
    words = [f"{name!r} ({n})" for n, name in rare[:10]]
    message = f"{count(len(rare), 'label')} with one or two rows in train: {', '.join(words)}"
    message += f" and {len(rare) - 10:,} more." if len(rare) > 10 else "."
    remedy = "add rows, or merge them with --merge-labels FILE; a split leaves them in train"
    if len(rare) == len(labels.train) and "dev" not in labels.counts:
        remedy = f"{remedy}, so give a dev file: none can be held out"
    remedy = _if_several([name for _, name in rare], labels) or remedy
    places = labels.first(["train"], [name for _, name in rare])
    return [_finding("D30", "warning", len(rare), message, remedy, places)]


def _too_many(labels: Labels) -> list[Finding]:
    left_out = sum(survey.labels.names_left_out for survey in labels.surveys)
    if not left_out:
        return []
    names = max(len(survey.labels.names) for survey in labels.surveys)
    message = f"over {names:,} different labels: is this the column of the labels?"
    return [_finding("D40", "warning", left_out, message, "name the right column label")]


def _other_readings(labels: Labels) -> list[Finding]:
    """Integers as names, merges that were made, and labels that could make another task."""
    found = []
    tallies, names = [survey.labels for survey in labels.surveys], labels.names
    if integers := sum(t.shapes["number"] for t in tallies):
        message = f"{count(integers, 'integer label')} read as class names: 1 is the class '1'."
        found.append(_finding("D11", "note", integers, message))
    if changed := sum(tally.merged for tally in tallies):
        message = f"labels of {count(changed, 'row')} merged."
        found.append(_finding("D27", "note", changed, message))
    lists = sum(t.shapes["list"] for t in tallies)
    if lists and lists == sum(t.one_each for t in tallies):
        message = "each list has exactly one label: read as multilabel all the same."
        remedy = "if the labels exclude each other, write names without lists"
        found.append(_finding("D33", "note", lists, message, remedy))
    if not lists and not integers and names and all(number(name) is not None for name in names):
        message = "labels are numbers written as text: read as class names."
        remedy = "for regression give the task regression and write numbers"
        found.append(_finding("D11", "note", len(names), message, remedy))
    return found


def _finding(
    code: str,
    severity: Severity,
    rows: int,
    message: str,
    remedy: str | None = None,
    places: tuple[Occurrence, ...] = (),
) -> Finding:
    return Finding(code, severity, rows, plain(message), remedy and plain(remedy), places)


SPLITS = ("train", "dev", "test")
UNDROP = "take such texts out of dev and test, or settle their labels, instead of dropping rows"
UNJUDGED = {
    "dev": "neither can the best epoch be chosen nor thresholds be tuned on it",
    "test": "its figures say nothing of labels",
}
"""what held-out rows that have no label at all cannot show"""
RULES = (_too_few, _alike, _unknown, _without_rows, _rare, _too_many, _other_readings)
