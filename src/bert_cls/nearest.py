"""The training rows most like a text, in the eyes of the model.

Rows are alike when the vectors that the head sees point the same way. Engines that give nothing but
logits compare those: rows then are alike when the model answers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bert_cls.bundle import Bundle
from bert_cls.classifier import Classifier
from bert_cls.config import RunConfig
from bert_cls.data import Example, load
from bert_cls.data.problems import count
from bert_cls.engines.likeness import most_alike
from bert_cls.errors import BundleError, DataError, in_shell
from bert_cls.judging import misfit
from bert_cls.report import Nearest
from bert_cls.request import RUN, data_of
from bert_cls.run_rows import Noticed, is_of_the_run, read_dataset, without_leaks


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training row and how like it is: a cosine, -1..1."""

    example: Example
    similarity: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        label = self.example.label
        return {
            "index": self.example.index,
            "text_a": self.example.text_a,
            "text_b": self.example.text_b,
            "label": list(label) if isinstance(label, tuple) else label,
            "similarity": round(self.similarity, 4),
        }


def files_searched(model: Path, data: Path | None) -> list[Path]:
    """What `training_rows` reads besides the model: `data`, or what the model folder names."""
    if data is not None:
        return [data]
    recorded = data_of(model)
    return [model / RUN] if recorded is None else [model / RUN, recorded]


def training_rows(model: Classifier, data: Path | None, noticed: Noticed) -> list[Example]:
    """The rows a model was trained on, from `data` or where the model says it was trained.

    A model folder holds no rows. They are made again as the run made them: split, leaks, sample,
    merged labels. Of other files that are given all labelled training rows count, read as the run
    read its own; what is done is said. DataError when the rows are not given and no longer where
    they were, have changed since, or cannot be made again.
    """
    bundle = model.bundle
    config = _config(bundle)
    place = data_of(bundle.folder) if data is None else data
    if place is None:
        raise DataError(
            "the model does not say where its training rows are.", hint="give --train DATA."
        )
    if data is None and not place.exists():
        raise DataError(f"the training rows are no longer at {place}.", hint="give --train DATA.")
    if is_of_the_run(place, bundle.data_files):
        return _made_again(bundle, place, config, noticed)
    if data is None:
        raise DataError(
            f"{place} has changed since the model was trained.", hint="give --train DATA."
        )
    return _all_of(bundle, place, config, noticed)


def _config(bundle: Bundle) -> RunConfig:
    try:
        return RunConfig.model_validate(bundle.details.get("config", {}))
    except ValueError as error:
        raise BundleError(f"{bundle.folder}: its stored configuration is malformed.") from error


def _made_again(bundle: Bundle, data: Path, config: RunConfig, noticed: Noticed) -> list[Example]:
    names = bundle.space.names or None
    dataset = read_dataset(data, config, noticed, labels=names, merges=bundle.merges or None)
    rows = dataset.train or []
    if len(rows) != (then := bundle.details.get("data", {}).get("rows", {}).get("train")):
        raise DataError(
            f"{data}: the model was trained on {then} rows of it. {len(rows)} are found now, so "
            "they cannot be told from the others.",
            hint="use the version of bert-cls that trained it, or give --train FILE with the rows.",
        )
    return rows


def _all_of(bundle: Bundle, data: Path, config: RunConfig, noticed: Noticed) -> list[Example]:
    """All labelled training rows of files that the run did not read."""
    dataset = load(
        data,
        task=bundle.task,
        encoding=config.data.encoding,
        on_bad_row="quarantine",
        coerce_numbers=config.data.coerce_numbers,
        fix_unicode=config.data.fix_unicode,
        label_merges=bundle.merges,
    )
    noticed(f"{data} is not what the model was trained on: all its labelled rows of train count")
    for problem in dataset.problems:
        if problem.severity == "note":
            noticed(str(problem))
    if bad := sum(problem.severity == "error" for problem in dataset.problems):
        noticed(f"{count(bad, 'bad row')} left out; bert-cls check {in_shell(data)} shows them")
    if config.data.leak == "drop":
        dataset = without_leaks(dataset, config, noticed)
    rows = [e for e in dataset.train or [] if misfit(bundle, e) is None]
    if not rows:
        raise DataError(f"{data} has no training rows that this model can read.")
    return rows


def nearest(
    model: Classifier, texts: Sequence[Example], rows: Sequence[Example], *, count: int
) -> list[list[Neighbour]]:
    """The `count` rows most like each text, the most alike first."""
    asked, known = model.tokens(texts), model.tokens(rows)
    alike = most_alike(model.engine, asked, known, count=count, pad_id=model.bundle.pad_id)
    return [[Neighbour(rows[i], similar) for i, similar in found] for found in alike]


def finder(model: Classifier, rows: Sequence[Example], *, count: int) -> Nearest:
    """A function of texts that reports take: the `count` rows most like each."""

    def find(texts: Sequence[Example]) -> list[list[tuple[Example, float]]]:
        found = nearest(model, texts, rows, count=count) if texts else []
        return [[(each.example, each.similarity) for each in near] for near in found]

    return find
