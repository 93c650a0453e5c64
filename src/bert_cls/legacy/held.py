"""The rows that are held out: of a dev or test file, or of the split that training made."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bert_cls.bundle import Bundle
from bert_cls.config import RunConfig
from bert_cls.data import Example, raise_errors, read, unknown_labels
from bert_cls.data.dataset import find_splits, split_names
from bert_cls.errors import BundleError, DataError
from bert_cls.folders import sha256
from bert_cls.judging import merged
from bert_cls.legacy.flags import is_divided
from bert_cls.legacy.log import LOG
from bert_cls.run_rows import check_held_out, read_dataset
from bert_cls.training import aims

HeldOut = Literal["dev", "test"]
_STEP: dict[HeldOut, str] = {"dev": "--do_eval", "test": "--do_predict"}


def file_of(folder: Path, split: HeldOut) -> Path | None:
    """The file of a split; None when the folder has none."""
    return find_splits(folder)[0].get(split)


def check_test_rows(folder: Path) -> None:
    """DataError when there will be no rows to predict after training."""
    if file_of(folder, "test") is None and is_divided(folder):
        raise DataError(
            f"{folder} has no test.json, which --do_predict needs.",
            hint="give one (labels may be null), or leave --do_predict out.",
        )


def _check_described(bundle: Bundle) -> None:
    """BundleError for a model that does not say how and on what it was trained."""
    details = bundle.details
    try:
        RunConfig.model_validate(details["config"])
        _ = details["data"]["files"], details["data"]["rows"], details["tuning"]["crossfit"]
        _ = aims.calibrated(bundle), aims.adjusted(bundle)
        _ = [details["data"]["label_counts"][name] for name in bundle.space.names]
        _ = bundle.task != "regression" or details["data"]["scale"]
    except (KeyError, TypeError, ValueError):
        raise BundleError(
            f"{bundle.folder} does not say how and on what it was trained.",
            hint="bert-cls evaluate and bert-cls predict take such a model.",
        ) from None


def held_rows(folder: Path, split: HeldOut, bundle: Bundle) -> tuple[list[Example], bool]:
    """The rows of dev or test, and whether training had the same ones.

    Without a file for them the split that training made is made again. DataError when that cannot
    be: training had a file for them, nothing was split off, or the file has changed; and for
    labels the model does not have. BundleError for a model that does not say what it learnt from.
    """
    _check_described(bundle)
    before = bundle.details["data"]["files"]
    path = file_of(folder, split)
    if path is not None:
        known = dict.fromkeys([*bundle.space.names, *bundle.merges], 0)
        rows = read(path, task=bundle.task, names=known)
        if bundle.space.names:
            raise_errors(unknown_labels(rows, known, "the model"))
        examples, notes = merged(rows.examples, bundle.merges)
        for note in notes:
            LOG.info("%s: %s", path.name, note)
        return examples, before.get(path.name) == sha256(path)
    if gone := [name for name in split_names(split) if name in before]:
        raise DataError(
            f"{folder} has no {gone[0]}, which the model's training had.",
            hint=f"put it back, give another one, or leave {_STEP[split]} out.",
        )
    whole = find_splits(folder)[0].get("train")
    if whole is None or split not in bundle.details["data"]["rows"]:
        raise DataError(f"{folder} has no {split}.json, and the model's training split none off.")
    if before.get(whole.name) != sha256(whole):
        raise DataError(
            f"{whole.name} is not the file the model was trained on, so the {split} rows that were "
            "held out of it cannot be told from the others.",
            hint=f"give {split}.json.",
        )
    config = RunConfig.model_validate(bundle.details["config"])
    names = bundle.space.names or None
    merges = bundle.merges or None
    dataset = read_dataset(folder, config, lambda note: None, labels=names, merges=merges)
    check_held_out(folder, dataset, bundle, lambda note: None)
    return list((dataset.dev if split == "dev" else dataset.test) or []), True
