"""The rows a run works with: conflicts dropped, split, leaks dropped, sampled; made again alike."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bert_cls.bundle import Bundle
from bert_cls.config import RunConfig
from bert_cls.data import Dataset, Example, Label, load, read_label_merges
from bert_cls.data.dataset import LABELS_FILE, find_splits, is_read_from_folder
from bert_cls.data.label_findings import UNJUDGED
from bert_cls.data.problems import count, some
from bert_cls.data.split import RARE_ROWS, split, text_key
from bert_cls.errors import ConfigError, DataError
from bert_cls.folders import sha256

Noticed = Callable[[str], None]
Labels = Path | Sequence[str] | None


def read_dataset(
    data: Path,
    config: RunConfig,
    noticed: Noticed,
    *,
    labels: Labels = None,
    merges: Mapping[str, str] | None = None,
) -> Dataset:
    """The data set of a run made again, without an audit.

    `merges` are the label names that were merged, where they are known better than from the file
    that the configuration names.
    """
    dataset = load(
        data,
        task=config.data.task,
        encoding=config.data.encoding,
        on_bad_row=config.data.on_bad_row,
        coerce_numbers=config.data.coerce_numbers,
        fix_unicode=config.data.fix_unicode,
        label_merges=merges_of(config) if merges is None else merges,
        labels=labels,
    )
    return of_a_run(dataset, data, config, noticed)


def is_of_the_run(data: Path, files: Mapping[str, str]) -> bool:
    """Whether `data` holds exactly the split files (name to sha256) that a run read.

    Label names are no rows: where they were from does not matter. DataError where no data is.
    """
    here = {path.name: path for path in find_splits(data)[0].values()}
    gone = {name for name in files if is_read_from_folder(name)} - {*here, LABELS_FILE}
    return not gone and all(files.get(name) == sha256(path) for name, path in here.items())


def held_out(dataset: Dataset) -> str:
    """sha256 of the texts that judge a model: those of its dev and test rows, in order."""
    digest = hashlib.sha256()
    for name, rows in (("dev", dataset.dev), ("test", dataset.test)):
        for example in rows or []:
            if example.label is not None:
                line = "\0".join((name, *text_key(example), ""))
                digest.update(line.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def check_held_out(data: Path, dataset: Dataset, model: Bundle, noticed: Noticed) -> None:
    """DataError where other rows are held out of a model's files than its training held out.

    Of files that are not the model's it is only said that they may hold rows it learnt.
    """
    known = model.details.get("data", {})
    if "dev" in find_splits(data)[0] or held_out(dataset) == known.get("held_out"):
        return
    files = known.get("files", {})
    if all(files.get(name) == sha for name, sha in dataset.files.items()):
        raise DataError(
            f"{data}: other rows are held out than when {model.folder} was trained, which has "
            "learnt from some of these.",
            hint="keep the model's settings of data, train it anew, or give train, dev and test "
            "files.",
        )
    noticed(
        f"rows are held out of other files than those {model.folder.name} learnt from: its own may "
        "be among them, and flatter its figures"
    )


def merges_of(config: RunConfig) -> dict[str, str]:
    """The label names that a run merges: old to new."""
    path = config.data.merge_labels
    return read_label_merges(path, encoding=config.data.encoding) if path else {}


def of_a_run(dataset: Dataset, data: Path, config: RunConfig, noticed: Noticed) -> Dataset:
    """Drop conflicts, split what is not split, drop or refuse leaks, and sample; all is said."""
    if config.data.conflict == "drop":
        dataset = _without_conflicts(dataset, noticed)
    if dataset.train is None or not dataset.train:
        raise DataError(f"{data} has no labelled training rows.")
    if dataset.dev is not None and not dataset.dev:
        raise DataError(
            f"{data}: no row of the dev file has a label.",
            hint="label some, or take the file away: dev rows are then held out of train.",
        )
    seed, dev_share = config.training.seed, config.data.dev_share
    test_share = config.data.test_share
    if dataset.test is None and dataset.dev is None and test_share > 0:
        if dev_share + test_share >= 1:
            raise ConfigError(
                f"data.dev_share {dev_share:g} and data.test_share {test_share:g} leave no row to "
                "train on.",
                hint="both are shares of all rows.",
            )
        dataset = _hold_out(dataset, "test", test_share, seed, noticed)
        dev_share /= 1 - test_share  # of the rows that are left
    if dataset.dev is None:
        dataset = _hold_out(dataset, "dev", dev_share, seed, noticed)
    dataset = without_leaks(dataset, config, noticed)
    if not dataset.train:
        raise DataError(
            f"{data}: every labelled row of train has a text that is also held out.",
            hint="take such rows out of dev or test instead, or --leak allow keeps them.",
        )
    return _sampled(dataset, config.data.train_rows, seed, noticed)


def _hold_out(dataset: Dataset, name: str, share: float, seed: int, noticed: Noticed) -> Dataset:
    rows = dataset.train or []
    kept, held = split(rows, share, task=dataset.task, seed=seed)
    if not held or not kept:
        why = f"{count(len(rows), 'row')}: too few different texts to hold out a {name} split."
        hint = f"label more rows, or give a {name} file."
        if dataset.task != "regression":
            why = f"no label has rows enough to give one up for a {name} split: {RARE_ROWS} of "
            why += "each stay in train, and rows with one text go together."
            hint = f"label more rows, merge labels (--merge-labels), or give a {name} file."
        raise DataError(why, hint=hint)
    noticed(f"no {name} file: held out {len(held)} of {len(rows)} rows (stratified, seed {seed})")
    if dataset.task == "multilabel" and not any(rows[i].label for i in held):
        noticed(
            f"no row held out for {name} has any label: {UNJUDGED[name]}. Label more rows, give a "
            f"{name} file, or hold out more (--set data.{name}_share=0.3)"
        )
    parts: dict[str, Any] = {"train": [rows[i] for i in kept], name: [rows[i] for i in held]}
    return replace(dataset, **parts)


def without_leaks(dataset: Dataset, config: RunConfig, noticed: Noticed) -> Dataset:
    """Drop, keep or refuse (DataError) texts of train that are also in dev or test."""
    held = {
        name: {text_key(e) for e in rows or []}
        for name, rows in (("dev", dataset.dev), ("test", dataset.test))
    }
    train = dataset.train or []
    keys = [text_key(example) for example in train]
    counts = {name: sum(key in texts for key in keys) for name, texts in held.items()}
    if not any(counts.values()) or config.data.leak == "allow":
        if any(counts.values()):
            noticed(f"{_leaks(counts)}; kept, so scores are too good")
        return dataset
    if config.data.leak == "error":
        first = next(
            e for e, key in zip(train, keys, strict=True) if key in held["dev"] | held["test"]
        )
        raise DataError(
            f"{_leaks(counts)}, for example index {first.index!r}: {first.text_a[:40]!r}.",
            hint="--leak drop removes them from train, --leak allow keeps them.",
        )
    noticed(f"{_leaks(counts)}; dropped from train")
    both = held["dev"] | held["test"]
    return replace(
        dataset, train=[e for e, key in zip(train, keys, strict=True) if key not in both]
    )


def _without_conflicts(dataset: Dataset, noticed: Noticed) -> Dataset:
    labels: dict[tuple[str, str], set[object]] = {}
    for example in chain(dataset.train or (), dataset.dev or (), dataset.test or ()):
        if example.label is not None:
            labels.setdefault(text_key(example), set()).add(_as_set(example.label))
    train = dataset.train or []
    kept = [example for example in train if len(labels[text_key(example)]) == 1]
    if len(kept) < len(train):
        dropped = len(train) - len(kept)
        noticed(f"{dropped} training texts have other labels elsewhere; dropped")
    return replace(dataset, train=kept)


def _as_set(label: Label) -> object:
    return frozenset(label) if isinstance(label, tuple) else label


def _leaks(counts: dict[str, int]) -> str:
    return " and ".join(
        f"{count} training texts are also in {name}" for name, count in counts.items() if count
    )


def _sampled(dataset: Dataset, wanted: int | None, seed: int, noticed: Noticed) -> Dataset:
    rows = dataset.train or []
    if wanted is None:
        return dataset
    if wanted >= len(rows):
        noticed(f"{wanted} training rows were asked for; all {len(rows)} are used")
        return dataset
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:wanted])
    noticed(f"training on a seeded sample of {wanted} of {len(rows)} rows")
    kept = [rows[int(i)] for i in chosen]
    _check_sampled(dataset, kept, noticed)
    return replace(dataset, train=kept)


def _check_sampled(dataset: Dataset, kept: Sequence[Example], noticed: Noticed) -> None:
    """Say which labels the sample has no row of; DataError where too few are left (D29)."""
    if dataset.task == "regression":
        return
    left = {n for e in kept for n in (e.label if isinstance(e.label, tuple) else (e.label,))}
    gone = [name for name in dataset.space.names if name not in left]
    if len(left - {None}) < (1 if dataset.task == "multilabel" else 2):
        raise DataError(
            f"D29 the sample of {len(kept)} rows has too few labels to learn from.",
            hint="take more rows (data.train_rows).",
        )
    if gone:
        noticed(f"{count(len(gone), 'label')} without a row in the sample: {some(gone)}")
