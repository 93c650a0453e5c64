"""A folder of train, dev and test files, or one file, as one checked Dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bert_cls.data.example import Example, LabelSpace, Task
from bert_cls.data.label_files import checked_names, merged_names, read_labels
from bert_cls.data.problems import Problem, count, raise_errors, some
from bert_cls.data.raw import Options, number
from bert_cls.data.read import (
    READERS,
    OnBadRow,
    check_any,
    check_on_bad_row,
    collect,
    without_keyless,
)
from bert_cls.data.rows import Rows
from bert_cls.data.source import check_is_file
from bert_cls.data.task import (
    counts_of,
    fit_labels,
    infer_task,
    label_space,
    merge_labels,
    space_of,
    unmatched_merges,
)
from bert_cls.errors import DataError
from bert_cls.folders import sha256

LABELS_FILE = "labels.json"
SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "dev": ("dev", "valid", "validation"),
    "test": ("test",),
}
WHOLE = "data"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows by split, the task they make, and the label names in the order of the outputs.

    A split that has no file is None; a single file is all `train`. `unlabelled` are rows of train
    and dev without a label; rows of test without one stay in `test`. `pair`: every row has a
    text_b. `problems` are notes, and the errors of quarantined rows. `files`: name to SHA-256.
    `merges`: label names that others replaced, old to new.
    """

    train: list[Example] | None
    dev: list[Example] | None
    test: list[Example] | None
    task: Task
    space: LabelSpace
    problems: list[Problem]
    files: dict[str, str]
    unlabelled: list[Example]
    pair: bool
    merges: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files of a data set read one by one, before anybody looks at them together.

    `rows` has what a file holds, or the error of one that is broken; `notes` are on files that are
    passed over.
    """

    path: Path
    paths: dict[str, Path]
    rows: dict[str, Rows | DataError]
    notes: list[Problem]
    encoding: str | None = None


def load(
    path: str | Path,
    *,
    task: Task | None = None,
    labels: str | Path | Sequence[str] | None = None,
    label_merges: Mapping[str, str] | None = None,
    encoding: str | None = None,
    on_bad_row: OnBadRow = "fail",
    coerce_numbers: bool = False,
    fix_unicode: bool = False,
) -> Dataset:
    """Read a folder with train, dev and test files of any format, or one file, and check it all.

    `dev` may be called valid or validation; a folder with `data` and no splits is like one file.
    `labels` are the label names in their order, or a file of them; labels.json in the folder is
    taken when it is there. DataError lists everything that is wrong.
    """
    check_on_bad_row(on_bad_row)
    path, merges = Path(path), label_merges or {}
    whole = whole_names(path, labels, merges, encoding=encoding)
    options = Options(coerce_numbers, fix_unicode, task, names=whole)
    gathered = gather(path, options, encoding=encoding)
    return assemble(gathered, task=task, labels=labels, label_merges=merges, on_bad_row=on_bad_row)


def gather(path: str | Path, options: Options, *, encoding: str | None = None) -> Gathered:
    """Read every file of a folder, or one file; DataError when there is none."""
    path = Path(path)
    paths, notes = find_splits(path)
    rows: dict[str, Rows | DataError] = {}
    for split, file in paths.items():
        try:
            rows[split] = collect(file, options, encoding=encoding)
        except DataError as error:
            rows[split] = error
    return Gathered(path, paths, rows, notes, encoding)


def assemble(
    gathered: Gathered,
    *,
    task: Task | None,
    labels: str | Path | Sequence[str] | None,
    label_merges: Mapping[str, str],
    on_bad_row: OnBadRow,
) -> Dataset:
    """One data set of files that were read; see `load`."""
    names, labels_path = declared_names(
        gathered.path, labels, label_merges, encoding=gathered.encoding
    )
    splits = _whole(gathered)
    if on_bad_row == "fail":
        raise_errors(problem for rows in splits.values() for problem in rows.problems)
    stated, task = (
        task,
        infer_task(list(splits.values()), task=task, names=names, merges=label_merges),
    )
    if task == "multilabel":
        if on_bad_row == "fail":
            raise_errors(rows.keyless.problem() for rows in splits.values() if rows.keyless)
        splits = {split: without_keyless(rows, on_bad_row) for split, rows in splits.items()}
    fitted = [fit_labels(rows, task) for rows in splits.values()]
    found = [name for rows in fitted for name in counts_of(rows)]
    unmatched = unmatched_merges(label_merges, found, gathered.path.name)
    splits = {
        split: merge_labels(rows, label_merges) for split, rows in zip(splits, fitted, strict=True)
    }
    pair = check_pairs(list(splits.values()))
    splits, unlabelled, set_aside = _set_unlabelled_aside(splits)
    space, about_labels = _space(splits, task, names)
    raise_errors(about_labels)
    notes = [*gathered.notes, *(p for rows in splits.values() for p in rows.problems)]
    notes += unmatched + set_aside + about_labels
    if stated is None and names is None:
        notes += _doubts(splits, task, space)
    if task == "regression" and names is not None:
        notes.append(_note("D33", "", "the label names are not used in regression."))
    examples = {split: rows.examples for split, rows in splits.items()}
    ids = space.ids
    hashed = [p for p in (*gathered.paths.values(), labels_path) if p is not None]
    return Dataset(
        examples.get("train"),
        examples.get("dev"),
        examples.get("test"),
        task,
        space,
        notes,
        {p.name: sha256(p) for p in hashed},
        unlabelled,
        pair,
        {old: new for old, new in label_merges.items() if old != new and new in ids},
    )


def _whole(gathered: Gathered) -> dict[str, Rows]:
    """The rows of each split; DataError for a file that is broken or has no good row."""
    splits: dict[str, Rows] = {}
    for split, rows in gathered.rows.items():
        if isinstance(rows, DataError):
            raise rows
        check_any(rows)
        splits[split] = rows
    return splits


def find_splits(path: Path) -> tuple[dict[str, Path], list[Problem]]:
    """The file of each split, and notes on files that are passed over; DataError without any."""
    if not path.is_dir():
        check_is_file(path)
        return {"train": path}, []
    found: dict[str, Path] = {}
    notes: list[Problem] = []
    for split, stems in SPLITS.items():
        candidates = _candidates(path, stems)
        if candidates:
            found[split] = candidates[0]
            notes += [_passed_over(other, candidates[0]) for other in candidates[1:]]
    whole = _candidates(path, (WHOLE,))
    if found:
        first = next(iter(found.values()))
        return found, notes + [_passed_over(other, first) for other in whole]
    if not whole:
        names = sorted(p.name for p in path.iterdir())
        raise DataError(
            f"{path}: no train, dev, test or data file with one of the suffixes {list(READERS)}. "
            f"The folder holds {some(names) or 'nothing'}.",
            hint="give the file itself, or rename it to train.json",
        )
    return {"train": whole[0]}, [_passed_over(other, whole[0]) for other in whole[1:]]


def declared_names(
    path: Path,
    labels: str | Path | Sequence[str] | None,
    merges: Mapping[str, str],
    *,
    encoding: str | None = None,
) -> tuple[tuple[str, ...] | None, Path | None]:
    """The declared label names, merged, and the file they are from; None when there is none.

    `encoding` is that of the data, for label files that do not say their own. DataError when
    `labels` and the folder's labels.json differ (D28).
    """
    folder_path = labels_beside(path)
    folder_names = (
        None if folder_path is None else read_labels(folder_path, encoding=encoding, merges=merges)
    )
    if labels is None:
        return folder_names, folder_path
    if isinstance(labels, (str, Path)):
        names, given_path = read_labels(labels, encoding=encoding, merges=merges), Path(labels)
    else:
        names, given_path = checked_names(merged_names(list(labels), merges), "labels"), None
    if folder_names is not None and folder_names != names:
        kind = "order" if set(folder_names) == set(names) else "set"
        raise DataError(
            f"{LABELS_FILE}: another {kind} of labels than the one given: {some(folder_names)} "
            f"and {some(names)}.",
            hint=f"take one of them away, or make {folder_path} the same",
        )
    return names, folder_path if given_path is None else given_path


def labels_beside(data: Path) -> Path | None:
    """The labels.json of a folder; DataError when it is no regular file, None without one."""
    path = data / LABELS_FILE
    if not os.path.lexists(path):
        return None
    check_is_file(path)
    return path


def whole_names(
    path: Path,
    labels: str | Path | Sequence[str] | None,
    merges: Mapping[str, str],
    *,
    encoding: str | None = None,
) -> frozenset[str]:
    """Names that stay whole in cells of several: declared ones, and those of merges.

    What is wrong with the declared ones is not said here.
    """
    try:
        names = declared_names(path, labels, merges, encoding=encoding)[0] or ()
    except DataError:
        names = ()
    return frozenset((*names, *merges, *merges.values()))


def check_pairs(files: Sequence[Rows]) -> bool:
    """Whether the rows are pairs. DataError when some have a text_b and others have none (D37)."""
    single, pairs = (
        [f"{r.file}: {r.place(i)}" for r in files for i in _rows_with(r, text_b=text_b)]
        for text_b in (False, True)
    )
    if single and pairs:
        rare, what = (single, "no text_b") if len(single) < len(pairs) else (pairs, "a text_b")
        raise DataError(
            f"{count(len(rare), 'row')} of {len(single) + len(pairs):,} with {what}, against the "
            f"others: {', '.join(rare[:5])}{' ...' if len(rare) > 5 else ''}.",
            hint="in pair data every row needs both texts, in other data none has text_b",
        )
    return bool(pairs)


def _rows_with(rows: Rows, *, text_b: bool) -> list[int]:
    return [i for i, e in enumerate(rows.examples) if (e.text_b is not None) == text_b]


def is_read_from_folder(name: str) -> bool:
    """Whether a file of this name, in a folder of data, is taken for a part of the data."""
    stems = (WHOLE, *(stem for stems in SPLITS.values() for stem in stems))
    return name == LABELS_FILE or name in _names(stems)


def split_names(split: str) -> list[str]:
    """The names that the file of a split may have."""
    return _names(SPLITS[split])


def _names(stems: Sequence[str]) -> list[str]:
    return [f"{stem}{suffix}{gz}" for stem in stems for gz in ("", ".gz") for suffix in READERS]


def _candidates(folder: Path, stems: Sequence[str]) -> list[Path]:
    # also what is no file: a link to nowhere stands for data that somebody wanted to be read
    return [folder / name for name in _names(stems) if os.path.lexists(folder / name)]


def _passed_over(other: Path, taken: Path) -> Problem:
    return _note("D39", other.name, f"not read, because {taken.name} is there.")


def _set_unlabelled_aside(
    splits: Mapping[str, Rows],
) -> tuple[dict[str, Rows], list[Example], list[Problem]]:
    kept: dict[str, Rows] = {}
    unlabelled: list[Example] = []
    notes: list[Problem] = []
    for split, rows in splits.items():
        without = [example for example in rows.examples if example.label is None]
        kept[split] = rows
        if not without:
            continue
        what = "kept for prediction, not for evaluation"
        if split != "test":
            what = "set aside"
            unlabelled += without
            kept[split] = rows.only([i for i, e in enumerate(rows.examples) if e.label is not None])
        message = f"{count(len(without), 'row')} without a label: {what}."
        notes.append(_note("D31", rows.file, message))
    return kept, unlabelled, notes


def _space(
    splits: Mapping[str, Rows], task: Task, names: Sequence[str] | None
) -> tuple[LabelSpace, list[Problem]]:
    others = [rows for split, rows in splits.items() if split != "train"]
    if "train" not in splits:
        return space_of(others, task=task, names=names)
    return label_space(splits["train"], others, task=task, names=names)


def _doubts(splits: Mapping[str, Rows], task: Task, space: LabelSpace) -> list[Problem]:
    """Where the labels can be read as another task too."""
    rows = next(iter(splits.values()))
    if task == "multilabel":
        if all(len(e.label) == 1 for e in rows.examples if isinstance(e.label, tuple)):
            message = "each list has exactly one label: read as multilabel all the same."
            hint = "if the labels exclude each other, write names without lists (of an export of "
            hint += "Label Studio or doccano, give the task multiclass)"
            return [replace(_note("D33", rows.file, message), hint=hint)]
    elif task != "regression" and all(number(name) is not None for name in space.names):
        message = "labels are numbers written as text: read as class names."
        return [replace(_note("D11", rows.file, message), hint="or give the task regression")]
    return []


def _note(code: str, file: str, message: str) -> Problem:
    return Problem(code, file, "", None, message, "note")
