"""From a data set on disk to the rows, settings and tokens that a run trains on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.config import RunConfig, TextConfig
from bert_cls.data import Dataset, Example, targets
from bert_cls.data.audit import Settings, audit_gathered
from bert_cls.data.dataset import assemble, gather, whole_names
from bert_cls.data.findings import Audit, Finding, Lengths
from bert_cls.data.lengths import EstimatedLengths, TokenLengths, unknown_id
from bert_cls.data.raw import Options
from bert_cls.data.text_findings import summed, too_long, unknown_tokens
from bert_cls.encoders import describe, open_tokenizer, resolve
from bert_cls.errors import ConfigError
from bert_cls.judging import encode_texts
from bert_cls.run_rows import Labels, merges_of, of_a_run
from bert_cls.text import TextEncoder, TextSettings, Tokens
from bert_cls.training.check_command import check_command
from bert_cls.training.loop import Observer

PLACES_SHOWN = 3


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
    merges = merges_of(config)
    names = whole_names(data, labels, merges, encoding=config.data.encoding)
    options = Options(
        config.data.coerce_numbers, config.data.fix_unicode, config.data.task, names=names
    )
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
    return Prepared(of_a_run(dataset, data, config, observer.noticed), audit)


def _token_lengths(folder: Path, text: TextConfig) -> TokenLengths:
    """Lengths as the encoder in a folder has them."""
    check_length(text.max_length, describe(folder).positions)
    # the head is read, for an encoder that refuses a long text could not count the others
    settings = TextSettings(text.max_length, normalise=text.normalise)
    encoder = TextEncoder(open_tokenizer(folder, lowercase=text.lowercase), settings)
    unknown = unknown_id(encoder.tokenizer.to_str())
    return TokenLengths(encoder, text.max_length, unknown, text.long)


def _say(audit: Audit, observer: Observer, command: str) -> None:
    """The audit in short: a line for each warning; errors come as an exception."""
    observer.phase(f"audit: {audit.totals()}; to see them all: {command}")
    for finding in audit.of("warning"):
        observer.noticed(f"{finding.code} {finding.title}: {finding.message}")
    notes = [entry for entry in audit.summary() if entry["severity"] == "note"]
    if notes:
        kinds = (f"{entry['code']} {entry['title']} ({entry['count']:,})" for entry in notes)
        observer.noticed(f"besides: {', '.join(kinds)}")


def encode(examples: Sequence[Example], dataset: Dataset, text: TextEncoder) -> Encoded:
    """Tokens and targets of labelled examples."""
    return Encoded(
        examples,
        encode_texts(examples, dataset.pair, text),
        targets(examples, dataset.task, dataset.space),
    )


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
