"""The training rows most like a text, in the eyes of the model.

Rows are alike when the vectors that the head sees point the same way. Engines that give nothing but
logits compare those: rows then are alike when the model answers alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bert_cls.classifier import Classifier
from bert_cls.data import Example, load
from bert_cls.engines.likeness import most_alike, unit_vectors
from bert_cls.errors import DataError
from bert_cls.report import Nearest
from bert_cls.request import RUN


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


def training_rows(model: Classifier, data: Path | None) -> list[Example]:
    """The labelled training rows in `data`, or where the model says it was trained.

    A model folder holds no rows. DataError when they are not given and no longer where they were,
    or have changed since.
    """
    recorded = model.bundle.folder / RUN
    if data is None:
        if not recorded.is_file():
            raise DataError(
                "the model does not say where its training rows are.", hint="give --train DATA."
            )
        data = Path(orjson.loads(recorded.read_bytes())["data"])
        if not data.exists():
            raise DataError(
                f"the training rows are no longer at {data}.", hint="give --train DATA."
            )
        loaded = load(data, task=model.bundle.task, on_bad_row="quarantine")
        before = model.bundle.details.get("data", {}).get("files", {})
        if any(loaded.files.get(name) != digest for name, digest in before.items()):
            raise DataError(
                f"{data} has changed since the model was trained.", hint="give --train DATA."
            )
    else:
        loaded = load(data, task=model.bundle.task, on_bad_row="quarantine")
    rows = [e for e in loaded.train or [] if (e.text_b is not None) == model.bundle.pair]
    if not rows:
        raise DataError(f"{data} has no training rows that this model can read.")
    return rows


def nearest(
    model: Classifier, texts: Sequence[Example], rows: Sequence[Example], *, count: int
) -> list[list[Neighbour]]:
    """The `count` rows most like each text, the most alike first."""
    known, asked = (
        unit_vectors(model.engine, model.tokens(part), pad_id=model.bundle.pad_id)
        for part in (rows, texts)
    )
    alike = most_alike(asked, known, count=count)
    return [[Neighbour(rows[i], similar) for i, similar in found] for found in alike]


def finder(model: Classifier, rows: Sequence[Example], *, count: int) -> Nearest:
    """A function of texts that reports take: the `count` rows most like each."""

    def find(texts: Sequence[Example]) -> list[list[tuple[Example, float]]]:
        found = nearest(model, texts, rows, count=count) if texts else []
        return [[(each.example, each.similarity) for each in near] for near in found]

    return find
