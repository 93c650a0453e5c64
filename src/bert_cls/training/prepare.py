"""From a data set on disk to the rows, settings and tokens that a run trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.config import RunConfig
from bert_cls.data import Dataset, Example, load, read_label_merges, targets
from bert_cls.data.split import split, text_key
from bert_cls.errors import ConfigError, DataError
from bert_cls.text import TextEncoder, Tokens
from bert_cls.training.loop import Observer


@dataclass(frozen=True, slots=True)
class Encoded:
    """Labelled rows of one split as arrays."""

    examples: Sequence[Example]
    tokens: Tokens
    truth: NDArray[Any]
    """bool [rows, labels], int64 [rows] or float64 [rows], by task"""


def read_dataset(data: Path, config: RunConfig, observer: Observer, **options: Any) -> Dataset:
    """Load, drop or refuse leaks, split what is not split, and sample; everything is said."""
    merges = read_label_merges(config.data.merge_labels) if config.data.merge_labels else None
    dataset = load(
        data,
        task=config.data.task,
        encoding=config.data.encoding,
        on_bad_row=config.data.on_bad_row,
        coerce_numbers=config.data.coerce_numbers,
        fix_unicode=config.data.fix_unicode,
        label_merges=merges,
        **options,
    )
    for problem in dataset.problems:
        observer.noticed(str(problem))
    if dataset.train is None or not dataset.train:
        raise DataError(f"{data} has no labelled training rows.")
    if dataset.dev is not None and not dataset.dev:
        raise DataError(
            f"{data}: no row of the dev file has a label.",
            hint="label some, or take the file away: dev rows are then held out of train.",
        )
    seed = config.training.seed
    if dataset.test is None and dataset.dev is None and config.data.test_share > 0:
        dataset = _hold_out(dataset, "test", config.data.test_share, seed, observer)
    if dataset.dev is None:
        dataset = _hold_out(dataset, "dev", config.data.dev_share, seed, observer)
    dataset = _without_leaks(dataset, config, observer)
    return _sampled(dataset, config.data.train_rows, seed, observer)


def _hold_out(dataset: Dataset, name: str, share: float, seed: int, observer: Observer) -> Dataset:
    rows = dataset.train or []
    kept, held = split(rows, share, task=dataset.task, seed=seed)
    if not held or not kept:
        raise DataError(
            f"{len(rows)} rows are too few to hold out a {name} split.",
            hint=f"label more rows, or give a {name} file.",
        )
    observer.noticed(
        f"no {name} file: held out {len(held)} of {len(rows)} rows (stratified, seed {seed})"
    )
    parts: dict[str, Any] = {"train": [rows[i] for i in kept], name: [rows[i] for i in held]}
    return replace(dataset, **parts)


def _without_leaks(dataset: Dataset, config: RunConfig, observer: Observer) -> Dataset:
    held = {
        name: {text_key(e) for e in rows or []}
        for name, rows in (("dev", dataset.dev), ("test", dataset.test))
    }
    train = dataset.train or []
    keys = [text_key(example) for example in train]
    counts = {name: sum(key in texts for key in keys) for name, texts in held.items()}
    if not any(counts.values()) or config.data.leak == "allow":
        if any(counts.values()):
            observer.noticed(f"{_leaks(counts)}; kept, so scores are too good")
        return dataset
    if config.data.leak == "error":
        first = next(
            e for e, key in zip(train, keys, strict=True) if key in held["dev"] | held["test"]
        )
        raise DataError(
            f"{_leaks(counts)}, for example index {first.index!r}: {first.text_a[:40]!r}.",
            hint="--leak drop removes them from train, --leak allow keeps them.",
        )
    observer.noticed(f"{_leaks(counts)}; dropped from train")
    both = held["dev"] | held["test"]
    return replace(
        dataset, train=[e for e, key in zip(train, keys, strict=True) if key not in both]
    )


def _leaks(counts: dict[str, int]) -> str:
    return " and ".join(
        f"{count} training texts are also in {name}" for name, count in counts.items() if count
    )


def _sampled(dataset: Dataset, wanted: int | None, seed: int, observer: Observer) -> Dataset:
    rows = dataset.train or []
    if wanted is None:
        return dataset
    if wanted >= len(rows):
        observer.noticed(f"{wanted} training rows were asked for; all {len(rows)} are used")
        return dataset
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:wanted])
    observer.noticed(f"training on a seeded sample of {wanted} of {len(rows)} rows")
    return replace(dataset, train=[rows[int(i)] for i in chosen])


def encode(examples: Sequence[Example], dataset: Dataset, text: TextEncoder) -> Encoded:
    """Tokens and targets of labelled examples."""
    return Encoded(
        examples,
        encode_texts(examples, dataset.pair, text),
        targets(examples, dataset.task, dataset.space),
    )


def encode_texts(examples: Sequence[Example], pair: bool, text: TextEncoder) -> Tokens:
    """Tokens of examples, of both texts where the model reads pairs."""
    second = [e.text_b or "" for e in examples] if pair else None
    return text.encode_in_chunks([e.text_a for e in examples], second)


def check_length(max_length: int, positions: int) -> None:
    """ConfigError when the encoder has fewer positions than the texts may have tokens."""
    if max_length > positions:
        raise ConfigError(
            f"text.max_length must be at most {positions} with this encoder. Got {max_length}."
        )
