"""Which task the labels of whole files make, and the names they use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bert_cls.data.example import CLASS_TASKS, Example, Label, LabelSpace, Task
from bert_cls.data.labels import look, show
from bert_cls.data.nearest import nearest
from bert_cls.data.problems import Problem, count, some
from bert_cls.data.rows import Rows
from bert_cls.errors import DataError, pick

Shape = Literal["list", "name", "number"]
PLACES_SHOWN = 3
NEAREST_SHOWN = 20  # unknown names that are compared with all known ones


@dataclass(slots=True)
class _Seen:
    """The rows of one shape."""

    rows: int = 0
    places: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def infer_task(
    files: Sequence[Rows],
    *,
    task: Task | None = None,
    names: Sequence[str] | None = None,
    merges: Mapping[str, str] | None = None,
) -> Task:
    """The task of all labelled rows together: lists, numbers, or one name each.

    A stated `task` is checked instead. `names` are declared label names: integers that are among
    them are classes. Labels count as what `merges` makes of them. DataError for mixed labels (D11,
    D33), none at all, or a task that does not fit.
    """
    seen = _survey(files)
    if not seen:
        raise DataError(
            f"{', '.join(rows.file for rows in files)}: no row has a label.",
            hint="training needs labelled rows; unlabelled rows are for prediction",
        )
    if task is not None:
        for rows in files:
            check_task(rows, task)
        return task
    shape = _only_shape(seen)
    if shape == "list":
        return "multilabel"
    found = {_name(example.label) for rows in files for example in _labelled(rows)}
    found = {merges.get(name, name) for name in found} if merges else found
    if shape == "number":
        if names is None:
            return "regression"
        if not found <= set(names):
            raise DataError(
                f"{seen[shape].places[0]}: labels are numbers such as {some(found, 3)}, and the "
                f"label names are {some(names)}.",
                hint="write names as labels, or for regression leave the label names out",
            )
    return "binary" if len(found if names is None else names) == 2 else "multiclass"


def check_task(rows: Rows, task: Task) -> None:
    """DataError unless the labels of a file, if it has any, fit the task (D11, D33)."""
    fitting = pick(SHAPES, task, "task")
    wanted = fitting[0]
    # the task may be a model's, which nobody can choose anew: the way out is in the labels
    hint = f"write every label as {WORDS[wanted][0]}, such as {EXAMPLES[wanted]}"
    seen = _survey([rows])
    if not seen:
        return
    shape = _only_shape(seen, fitting)
    if shape not in fitting:
        raise DataError(
            f"{seen[shape].places[0]}: the task {task} needs {WORDS[wanted][1]} as labels. "
            f"Got {WORDS[shape][1]} in {count(seen[shape].rows, 'row')}, the first is "
            f"{seen[shape].shown[0]}: the file is {DETECTED[shape]}.",
            hint=hint,
        )
    if shape == "number" and task != "regression":
        for i, example in enumerate(rows.examples):
            if isinstance(example.label, float) and not example.label.is_integer():
                raise DataError(
                    f"{rows.file}: {rows.place(i)}: the task {task} needs names as labels. "
                    f"Got {example.label} instead.",
                    hint=hint,
                )


def fit_labels(rows: Rows, task: Task) -> Rows:
    """The rows with integers as class names in class tasks, said as a note; checks the task."""
    check_task(rows, task)
    if task not in CLASS_TASKS:
        return rows
    numbers = sum(isinstance(e.label, (int, float)) for e in rows.examples)
    if not numbers:
        return rows
    message = f"{count(numbers, 'integer label')} read as class names: 1 is the class '1'."
    note = Problem("D11", rows.file, "", "label", message, "note")
    examples = [
        replace(e, label=_name(e.label)) if isinstance(e.label, (int, float)) else e
        for e in rows.examples
    ]
    return replace(rows, examples=examples, problems=[*rows.problems, note])


def merge_labels(rows: Rows, merges: Mapping[str, str]) -> Rows:
    """The rows with some label names replaced by others, counted in a note."""
    examples = [replace(e, label=merged(e.label, merges)) for e in rows.examples]
    changed = sum(a.label != b.label for a, b in zip(examples, rows.examples, strict=True))
    if not changed:
        return rows
    message = f"labels of {count(changed, 'row')} merged."
    note = Problem("D27", rows.file, "", "label", message, "note")
    return replace(rows, examples=examples, problems=[*rows.problems, note])


def unmatched_merges(merges: Mapping[str, str], found: Iterable[str], file: str) -> list[Problem]:
    """A note (D27) when labels are to be merged that no row has; `found` are those of all rows."""
    names = sorted(set(found))
    problems: list[Problem] = []
    missing = [old for old, new in merges.items() if old != new and old not in names]
    if missing:
        near = nearest(missing[0], names, furthest=max(1, len(missing[0]) - 1))
        hint = f"the label nearest to {missing[0]!r} is {near!r}" if near else None
        message = f"labels are to be merged that no row has: {some(missing)}."
        problems.append(Problem("D27", file, "", "label", message, "note", hint))
    return problems


def label_space(
    train: Rows, others: Sequence[Rows] = (), *, task: Task, names: Sequence[str] | None = None
) -> tuple[LabelSpace, list[Problem]]:
    """The label names in the order of the model's outputs, and what is wrong with them.

    The order is that of `names` when declared, else sorted (D28). Problems: names unknown (D25),
    without rows (D26) or alike (D27), and rows with an empty list (D31). DataError below two
    classes (D29).
    """
    if task == "regression":
        return LabelSpace(()), []
    in_train = counts_of(train)
    space = LabelSpace(tuple(sorted(in_train) if names is None else names))
    _check_classes(train, in_train, space, task)
    problems = _alike([*space.names, *(n for rows in others for n in counts_of(rows))], train.file)
    declared = "train" if names is None else "the label names"
    checked = others if names is None else [train, *others]
    for rows in checked:
        problems += unknown_labels(rows, {n: in_train[n] for n in space.names}, declared)
    for rows in others:
        problems += _without_rows(rows, [n for n in space.names if n in in_train])
    if unused := [name for name in space.names if name not in in_train]:
        message = f"no row has the declared labels {some(unused)}: they cannot be learned."
        problems.append(Problem("D26", train.file, "", "label", message, "note"))
    for rows in (train, *others):
        problems += _empty_lists(rows)
    return space, problems


def space_of(
    files: Sequence[Rows], *, task: Task, names: Sequence[str] | None
) -> tuple[LabelSpace, list[Problem]]:
    """The label names when there is no train file: the declared ones, else all, sorted."""
    if task == "regression":
        return LabelSpace(()), []
    found = {name for rows in files for name in counts_of(rows)}
    space = LabelSpace(tuple(sorted(found) if names is None else names))
    problems = _alike(sorted(found | set(space.names)), files[0].file)
    for rows in files:
        problems += unknown_labels(rows, dict.fromkeys(space.names, 0)) + _empty_lists(rows)
    return space, problems


def unknown_labels(
    rows: Rows, known: Mapping[str, int], declared: str = "the label names"
) -> list[Problem]:
    """An error (D25) for each label of the file that is not in `known`: name to rows in train."""
    counts = counts_of(rows)
    unknown = [name for name in counts if name not in known]
    first = _first_places(rows, set(unknown))
    problems: list[Problem] = []
    for name in unknown:
        near = None
        if len(problems) < NEAREST_SHOWN:
            near = nearest(name, known, furthest=max(1, len(name) - 1))
        message = f"label {name!r} is not in {declared}; {count(counts[name], 'row')} with it."
        if near is not None:
            rows_in_train = f", with {count(known[near], 'row')} in train" if known[near] else ""
            message += f" The nearest is {near!r}{rows_in_train}."
        problems.append(Problem("D25", rows.file, first[name], "label", message))
    return problems


def _survey(files: Iterable[Rows]) -> dict[Shape, _Seen]:
    seen: dict[Shape, _Seen] = {}
    for rows in files:
        for i, example in enumerate(rows.examples):
            if example.label is None:
                continue
            entry = seen.setdefault(_shape(example.label), _Seen())
            entry.rows += 1
            if len(entry.places) < PLACES_SHOWN:
                entry.places.append(f"{rows.file}: {rows.place(i)}")
                entry.shown.append(_shown(example.label))
    return seen


def _shape(label: Label) -> Shape:
    if isinstance(label, str):
        return "name"
    return "list" if isinstance(label, tuple) else "number"


def _only_shape(seen: Mapping[Shape, _Seen], fitting: Sequence[Shape] | None = None) -> Shape:
    if len(seen) == 1:
        return next(iter(seen))
    common, *rare = sorted(seen, key=lambda shape: -seen[shape].rows)
    parts = [
        f"{count(seen[shape].rows, 'row')} with {WORDS[shape][0]} "
        f"({_quoted(seen[shape])}{' ...' if seen[shape].rows > PLACES_SHOWN else ''})"
        for shape in rare
    ]
    wanted: Shape = "list" if "list" in seen else common
    wanted = fitting[0] if fitting else wanted
    raise DataError(
        f"labels are of different types: {count(seen[common].rows, 'row')} with "
        f"{WORDS[common][0]}, {', '.join(parts)}.",
        hint=f"write every label as {WORDS[wanted][0]}, such as {EXAMPLES[wanted]}",
    )


def _quoted(seen: _Seen) -> str:
    return ", ".join(f"{p}: {shown}" for p, shown in zip(seen.places, seen.shown, strict=True))


def _shown(label: Label) -> str:
    return show(list(label) if isinstance(label, tuple) else label)


def _labelled(rows: Rows) -> list[Example]:
    return [example for example in rows.examples if example.label is not None]


def _name(label: Label | None) -> str:
    whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if whole and isinstance(label, float) else label)


def merged(label: Label | None, merges: Mapping[str, str]) -> Label | None:
    """A label with names replaced as `merges` says, each name once."""
    if isinstance(label, str):
        return merges.get(label, label)
    if isinstance(label, tuple):
        return tuple(dict.fromkeys(merges.get(name, name) for name in label))
    return label


def _names_of(label: Label | None) -> tuple[str, ...]:
    if isinstance(label, str):
        return (label,)
    return label if isinstance(label, tuple) else ()


def counts_of(rows: Rows) -> Counter[str]:
    """Rows by label name; numbers are no names."""
    return Counter(name for example in rows.examples for name in _names_of(example.label))


def _first_places(rows: Rows, names: set[str]) -> dict[str, str]:
    first: dict[str, str] = {}
    for i, example in enumerate(rows.examples if names else ()):
        for name in _names_of(example.label):
            if name in names and name not in first:
                first[name] = rows.place(i)
    return first


def _check_classes(train: Rows, in_train: Mapping[str, int], space: LabelSpace, task: Task) -> None:
    if not in_train:
        raise DataError(f"{train.file}: no row has any label.")
    if task == "multilabel":
        return
    if len(in_train) < 2:
        raise DataError(
            f"{train.file}: needs at least 2 classes. Got only {some(in_train)}.",
            hint="add rows of another class, or write labels as lists for multilabel data",
        )
    if task == "binary" and len(space) != 2:
        raise DataError(
            f"{train.file}: the task binary needs 2 classes. Got {len(space)}: {some(space.names)}."
        )


def _alike(names: Iterable[str], file: str) -> list[Problem]:
    groups: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        groups.setdefault(look(name), []).append(name)
    hint = "mend the data, or say which to keep with --merge-labels FILE"
    return [
        Problem("D27", file, "", "label", f"labels look the same: {some(group)}.", "error", hint)
        for group in groups.values()
        if len(group) > 1
    ]


def _without_rows(rows: Rows, names: Sequence[str]) -> list[Problem]:
    counts = counts_of(rows)
    missing = [name for name in names if name not in counts]
    if not missing or not counts:
        return []
    message = (
        f"no row has {count(len(missing), 'label')} of train: {some(missing)}; "
        "metrics show support 0 for them."
    )
    return [Problem("D26", rows.file, "", "label", message, "note")]


def _empty_lists(rows: Rows) -> list[Problem]:
    empty = sum(example.label == () for example in rows.examples)
    if not empty:
        return []
    message = f"{count(empty, 'row')} of {len(rows.examples):,} labelled []."
    return [Problem("D31", rows.file, "", "label", message, "note")]


SHAPES: dict[str, tuple[Shape, ...]] = {
    "binary": ("name", "number"),
    "multiclass": ("name", "number"),
    "multilabel": ("list",),
    "regression": ("number",),
}
WORDS: dict[Shape, tuple[str, str]] = {
    "list": ("a list", "lists of names"),
    "name": ("a name", "single names"),
    "number": ("a number", "numbers"),
}
DETECTED: dict[Shape, str] = {"list": "multilabel", "name": "multiclass", "number": "regression"}
EXAMPLES: dict[Shape, str] = {"list": '["a"]', "name": '"1"', "number": "1.0"}
