"""Evaluation: every metric of one model on one set of rows, with what could not be computed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from bert_cls.data.example import Task
from bert_cls.errors import DataError
from bert_cls.metrics.selective import CoverageRow

Confusion = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label or class: its rows (support), how often it was predicted, and its own metrics.

    Precision, recall and F1 are 0 where they would be 0/0; average precision and AUROC are None
    where they are undefined; `train_count` is None when the training counts were not given.
    """

    name: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float
    average_precision: float | None
    auroc: float | None
    train_count: int | None


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """Scores between `low` and `high`: how many, their mean, and the share that came true.

    Counted are the rows' best classes, of binary data the positive class, of label sets all cells.
    """

    low: float
    high: float
    count: int
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of one model on one set of labelled rows.

    A metric that cannot be computed is None in `metrics`, with its reason in `notes`. `headline`
    names the metrics to show first, in order; `intervals` holds 95 % bootstrap intervals of them
    (Wilson's of shares of rows that are alike in every resample); `confusion` counts [true
    class][predicted class] of binary and multiclass data. `reliability` compares scores with what
    came true, where scores are probabilities; `coverage` is the accuracy of the most certain rows,
    where confidences were given.
    """

    task: Task
    rows: int
    headline: tuple[str, ...]
    metrics: dict[str, float | None]
    per_label: tuple[LabelRow, ...]
    intervals: dict[str, tuple[float, float]]
    confusion: Confusion | None
    notes: tuple[str, ...]
    reliability: tuple[ReliabilityRow, ...] = ()
    coverage: tuple[CoverageRow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The evaluation as JSON types; every number is finite or None."""
        return {
            "task": self.task,
            "rows": self.rows,
            "headline": list(self.headline),
            "metrics": dict(self.metrics),
            "per_label": [asdict(row) for row in self.per_label],
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "confusion": None if self.confusion is None else [list(row) for row in self.confusion],
            "notes": list(self.notes),
            "reliability": [asdict(row) for row in self.reliability],
            "coverage": [asdict(row) for row in self.coverage],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. DataError when a field is missing or malformed."""
        try:
            confusion = values["confusion"]
            return cls(
                task=values["task"],
                rows=values["rows"],
                headline=tuple(values["headline"]),
                metrics=dict(values["metrics"]),
                per_label=tuple(LabelRow(**row) for row in values["per_label"]),
                intervals={name: (low, high) for name, (low, high) in values["intervals"].items()},
                confusion=None if confusion is None else tuple(tuple(row) for row in confusion),
                notes=tuple(values["notes"]),
                reliability=tuple(ReliabilityRow(**r) for r in values.get("reliability", ())),
                coverage=tuple(CoverageRow(**r) for r in values.get("coverage", ())),
            )
        except KeyError as error:
            raise DataError(f"evaluation: field {error} is missing.") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise DataError(f"evaluation: a field is malformed ({error}).") from error


@dataclass(slots=True)
class Sheet:
    """Where an evaluation's metrics are written down, each as a finite number or with a reason."""

    metrics: dict[str, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def put(self, name: str, value: float, reason: str = "it does not fit a float") -> None:
        """Write a value; one that is not finite becomes None with the reason."""
        if math.isfinite(value):
            self.metrics[name] = float(value)
        else:
            self.skip([name], reason)

    def skip(self, names: Iterable[str], reason: str) -> None:
        """Write None for metrics that one reason rules out."""
        left_out = list(names)
        self.metrics.update(dict.fromkeys(left_out))
        self.notes.append(f"{', '.join(left_out)}: {reason}")
