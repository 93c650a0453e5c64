"""The rows an export is calibrated and checked on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert_cls.bundle import Bundle, open_text
from bert_cls.config import RunConfig
from bert_cls.encoders.facts import read_config
from bert_cls.errors import BertClsError, EngineError
from bert_cls.judging import encode_texts
from bert_cls.request import read_run
from bert_cls.run_rows import is_of_the_run, read_dataset
from bert_cls.sample import read_sample
from bert_cls.text import Tokens
from bert_cls.tokens import subset

_ROWS = 300


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows to set scales by, rows to judge by, and where the latter are from."""

    calibration: Tokens
    check: Tokens
    origin: str


def rows_of(bundle: Bundle) -> Rows:
    """The data the model was trained on where it still lies unchanged, else the model's sample.

    EngineError when there is neither.
    """
    sample = read_sample(
        bundle.folder,
        bundle.text.window_pooling,
        vocabulary=read_config(bundle.folder)["vocab_size"],
        longest=bundle.text.max_length,
    )
    found = _from_data(bundle)
    if found is not None:
        train, dev = found
        seed = bundle.details.get("config", {}).get("training", {}).get("seed", 0)
        chosen = np.random.default_rng(seed).permutation(len(train))[:_ROWS]
        calibration = sample.get("train") or subset(train, np.sort(chosen))
        return _judging(calibration, dev, f"all {len(dev)} development rows")
    if "train" not in sample or "dev" not in sample:
        raise EngineError(
            f"{bundle.folder} keeps no sample of its rows, and the data it was trained on is not "
            "where it was (or has changed), so an export cannot be checked.",
            hint="put the data back, or train with export.calibration_rows above 0.",
        )
    dev = sample["dev"]
    origin = f"the {len(dev)} development rows kept in the model folder"
    return _judging(sample["train"], dev, origin)


def _judging(calibration: Tokens, check: Tokens, origin: str) -> Rows:
    """EngineError where there is nothing to judge by: of no rows all get the same labels."""
    if not len(calibration) or not len(check):
        raise EngineError(
            f"an export is calibrated on {len(calibration)} rows and checked on {len(check)}. "
            "It needs at least one of each.",
            hint="train with development rows, and export.calibration_rows above 0.",
        )
    return Rows(calibration, check, origin)


def _from_data(bundle: Bundle) -> tuple[Tokens, Tokens] | None:
    """Tokens of train and dev, read as training read them; None where the data is not the same."""
    try:
        content = read_run(bundle.folder)
        config = RunConfig.model_validate(content["config"])
        data = Path(str(content["data"]))
        if not is_of_the_run(data, bundle.data_files):
            return None
        names, merges = bundle.space.names or None, bundle.merges or None
        dataset = read_dataset(data, config, lambda note: None, labels=names, merges=merges)
    except (OSError, ValueError, KeyError, BertClsError):
        return None
    text = open_text(bundle)
    labelled = [
        [e for e in rows or [] if e.label is not None] for rows in (dataset.train, dataset.dev)
    ]
    train, dev = (encode_texts(rows, bundle.pair, text) for rows in labelled)
    return train, dev
