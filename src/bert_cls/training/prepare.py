"""From a data set on disk to the rows, settings and tokens that a run trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.config import RunConfig, TextConfig
from bert_cls.data import Dataset, Example, Label, load, read_label_merges, targets
from bert_cls.data.audit import Settings, audit_gathered
from bert_cls.data.dataset import assemble, gather
from bert_cls.data.findings import Audit, Finding, Lengths
from bert_cls.data.label_findings import UNJUDGED
from bert_cls.data.lengths import EstimatedLengths, TokenLengths, unknown_id
from bert_cls.data.problems import count, some
from bert_cls.data.raw import Options
from bert_cls.data.split import split, text_key
from bert_cls.data.text_findings import summed, too_long, unknown_tokens
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.errors import ConfigError, DataError
from bert_cls.text import TextEncoder, TextSettings, Tokens
from bert_cls.training.check_command import check_command
from bert_cls.training.loop import Observer

PLACES_SHOWN = 3
Labels = Path | Sequence[str] | None


@dataclass(frozen=True, slots=True)
class Encoded:
    """Labelled rows of one split as arrays."""

    examples: Sequence[Example]
    tokens: Tokens
    truth: NDArray[Any]
    """bool [rows, labels], int64 [rows] or float64 [rows], by task"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A data set that passed its audit, split and sampled."""

    dataset: Dataset
    audit: Audit


def read_audited(
    data: Path,
    config: RunConfig,
    observer: Observer,
    *,
    labels: Labels = None,
    teacher: Path | None = None,
) -> Prepared:
    """Read the files once, audit them, and make the data set of a run; everything is said.

    Lengths are estimated, for the encoder may have to be fetched; they are counted, by its
    tokenizer or the `teacher`'s, only when a text that is too long stops the run. DataError with
    all errors of the audit, and the `bert-cls check` that has the rest.
    """
    merges = _merges(config)
    options = Options(config.data.coerce_numbers, config.data.fix_unicode, config.data.task)
    gathered = gather(data, options, encoding=config.data.encoding)
    settings = Settings(
        labels=labels,
        label_merges=merges,
        encoding=config.data.encoding,
        on_bad_row=config.data.on_bad_row,
        leak=config.data.leak,
        conflict=config.data.conflict,
        text_lengths=EstimatedLengths(config.text.max_length, config.text.long),
        shown=PLACES_SHOWN,
    )
    audit = audit_gathered(gathered, options, settings)
    if config.text.long == "error" and not audit.of("error"):
        folder = teacher or resolve(config.encoder.name, notify=observer.phase)
        settings = replace(settings, text_lengths=_token_lengths(folder, config.text))
        audit = audit_gathered(gathered, options, settings)
    command = check_command(data, config, labels=labels, teacher=teacher)
    _say(audit, observer, command)
    audit.raise_errors(command)
    dataset = assemble(
        gathered,
        task=config.data.task,
        labels=labels,
        label_merges=merges,
        on_bad_row=config.data.on_bad_row,
    )
    return Prepared(_of_a_run(dataset, data, config, observer), audit)


def read_dataset(
    data: Path, config: RunConfig, observer: Observer, *, labels: Labels = None
) -> Dataset:
    """The data set of a run made again, without an audit."""
    dataset = load(
        data,
        task=config.data.task,
        encoding=config.data.encoding,
        on_bad_row=config.data.on_bad_row,
        coerce_numbers=config.data.coerce_numbers,
        fix_unicode=config.data.fix_unicode,
        label_merges=_merges(config),
        labels=labels,
    )
    return _of_a_run(dataset, data, config, observer)


def _token_lengths(folder: Path, text: TextConfig) -> TokenLengths:
    """Lengths as the encoder in a folder has them."""
    check_length(text.max_length, describe(folder).positions)
    # the head is read, for an encoder that refuses a long text could not count the others
    settings = TextSettings(text.max_length, normalise=text.normalise)
    encoder = TextEncoder(open_tokenizer(folder, lowercase=text.lowercase), settings)
    unknown = unknown_id(encoder.tokenizer.to_str())
    return TokenLengths(encoder, text.max_length, unknown, text.long)


def _merges(config: RunConfig) -> dict[str, str]:
    path = config.data.merge_labels
    return read_label_merges(path, encoding=config.data.encoding) if path else {}


def _say(audit: Audit, observer: Observer, command: str) -> None:
    """The audit in short: a line for each warning; errors come as an exception."""
    observer.phase(f"audit: {audit.totals()}; to see them all: {command}")
    for finding in audit.of("warning"):
        observer.noticed(f"{finding.code} {finding.title}: {finding.message}")
    notes = [entry for entry in audit.summary() if entry["severity"] == "note"]
    if notes:
        kinds = (f"{entry['code']} {entry['title']} ({entry['count']:,})" for entry in notes)
        observer.noticed(f"besides: {', '.join(kinds)}")


def _of_a_run(dataset: Dataset, data: Path, config: RunConfig, observer: Observer) -> Dataset:
    """Drop conflicts, split what is not split, drop or refuse leaks, and sample; all is said."""
    if config.data.conflict == "drop":
        dataset = _without_conflicts(dataset, observer)
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
    if not dataset.train:
        raise DataError(
            f"{data}: every labelled row of train has a text that is also held out.",
            hint="take such rows out of dev or test instead, or --leak allow keeps them.",
        )
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
    if dataset.task == "multilabel" and not any(rows[i].label for i in held):
        observer.noticed(
            f"no row held out for {name} has any label: {UNJUDGED[name]}. Label more rows, give a "
            f"{name} file, or hold out more (--set data.{name}_share=0.3)"
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


def _without_conflicts(dataset: Dataset, observer: Observer) -> Dataset:
    labels: dict[tuple[str, str], set[object]] = {}
    for example in chain(dataset.train or (), dataset.dev or (), dataset.test or ()):
        if example.label is not None:
            labels.setdefault(text_key(example), set()).add(_as_set(example.label))
    train = dataset.train or []
    kept = [example for example in train if len(labels[text_key(example)]) == 1]
    if len(kept) < len(train):
        dropped = len(train) - len(kept)
        observer.noticed(f"{dropped} training texts have other labels elsewhere; dropped")
    return replace(dataset, train=kept)


def _as_set(label: Label) -> object:
    return frozenset(label) if isinstance(label, tuple) else label


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
    kept = [rows[int(i)] for i in chosen]
    _check_sampled(dataset, kept, observer)
    return replace(dataset, train=kept)


def _check_sampled(dataset: Dataset, kept: Sequence[Example], observer: Observer) -> None:
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
        observer.noticed(f"{count(len(gone), 'label')} without a row in the sample: {some(gone)}")


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


def lengths_of(
    tokens: Sequence[Tokens], max_length: int, unknown_id: int | None
) -> tuple[Lengths, list[Finding]]:
    """How long all rows are, counted; and what is cut (D23) or unknown to the encoder (D41).

    Rows that are read in windows are not called cut.
    """
    full = np.concatenate([part.full_lengths for part in tokens]).astype(np.int64)
    unknown: NDArray[np.int64] | None = None
    if unknown_id is not None:
        unknown = np.concatenate([_of_each_row(part, part.ids == unknown_id) for part in tokens])
    read = sum(len(part.ids) for part in tokens)
    share = None if unknown is None else float(unknown.sum() / max(1, read))
    sizes = dict(zip(*(part.tolist() for part in np.unique(full, return_counts=True)), strict=True))
    found = summed(sizes, share, max_length=max_length, estimated=False)
    with_one = 0 if unknown is None else int((unknown > 0).sum())
    cut = [] if tokens[0].windows is not None else too_long(found, len(full))
    return found, [*cut, *unknown_tokens(found, with_one, len(full))]


def _of_each_row(tokens: Tokens, marked: NDArray[np.bool_]) -> NDArray[np.int64]:
    """int64 [rows]: how many tokens of each row are marked."""
    counts: NDArray[np.int64] = np.diff(np.r_[0, np.cumsum(marked)][tokens.row_starts])
    return counts
