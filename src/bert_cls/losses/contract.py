"""What every loss keeps to: what it is told about the labels, its options, its call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bert_cls.data.example import Task

UNKNOWN = -100
"""Target of a cell (multilabel) or row (classes) nobody has labelled; NaN in float targets."""

OptionValue = float | bool


@dataclass(frozen=True, slots=True, eq=False)
class LabelStatistics:
    """How often each label occurs in the training rows.

    `counts` is int64 [labels], the rows that have the label, empty for regression; `rows` is how
    many training rows there are. ValueError when the two cannot belong together.
    """

    counts: NDArray[np.int64]
    rows: int

    def __post_init__(self) -> None:
        if self.counts.ndim != 1 or np.any((self.counts < 0) | (self.counts > self.rows)):
            raise ValueError(f"counts must be [labels], each 0 to {self.rows}. Got {self.counts}.")


def label_statistics(targets: NDArray[np.generic], task: Task, *, labels: int) -> LabelStatistics:
    """Count the labels of the training targets; unknown cells and rows count for no label.

    `targets` as `bert_cls.data.example.targets` gives them: [rows, labels] for multilabel data,
    int64 [rows] for classes, [rows] for regression. `labels` is the number of label names.
    """
    values = np.asarray(targets)
    if task == "regression":
        counts = np.zeros(0, dtype=np.int64)
    elif task == "multilabel":
        counts = (values > 0).sum(axis=0, dtype=np.int64)
    else:
        counts = np.bincount(values[values != UNKNOWN].astype(np.int64), minlength=labels)
    return LabelStatistics(counts=counts, rows=len(values))


def seen_counts(statistics: LabelStatistics) -> NDArray[np.float64]:
    """float64 [labels]: rows with the label, at least 1, so that an unseen label divides by 1."""
    return np.maximum(statistics.counts, 1).astype(np.float64)


def priors(statistics: LabelStatistics) -> NDArray[np.float64]:
    """float64 [labels]: share of the rows that have the label, within [1/2N, 1 - 1/2N].

    N is the number of rows. The bounds keep log-odds finite for a label that no row or every row
    has.
    """
    rows = max(statistics.rows, 1)
    return np.clip(statistics.counts / rows, 0.5 / rows, 1 - 0.5 / rows)


@dataclass(frozen=True, slots=True)
class Option:
    """A number or switch of a loss; a number lies within [low, high]."""

    default: OptionValue
    meaning: str
    low: float = 0.0
    high: float = float("inf")


@dataclass(frozen=True, slots=True)
class Formula:
    """A loss with its options filled in.

    `per_row(logits, targets, **buffers)` gives one value a row; `buffers` are float32 [labels]
    arrays made from the label statistics.
    """

    per_row: Callable[..., Tensor]
    buffers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """An entry of LOSSES.

    `make(statistics, **options)` gives the Formula. `calibrated`: with the default options, the
    best logits are those whose sigmoid (multilabel) or softmax (classes) are the probabilities.
    """

    tasks: frozenset[Task]
    make: Callable[..., Formula]
    calibrated: bool
    source: str
    options: Mapping[str, Option] = field(default_factory=dict)

    @property
    def defaults(self) -> dict[str, OptionValue]:
        """Option names with their default values."""
        return {name: option.default for name, option in self.options.items()}


class Loss(nn.Module):
    """A loss ready for training: `loss(logits, targets)` gives float32 [rows], nothing reduced.

    The training loop sums the rows and divides by the rows of the effective batch, so that uneven
    parts of an accumulated batch weigh exactly what they should.

    `logits` is float [rows, outputs], one output for regression. `targets` is bool or float
    multi-hot [rows, labels] in [0, 1] for multilabel data, int64 [rows] for classes, float [rows]
    for regression. Unknown targets cost nothing and give no gradient: UNKNOWN or NaN cells, rows
    whose class is UNKNOWN, rows whose number is NaN.

    Half-precision logits are computed in float32 outside autocast; float64 stays float64. What
    the loss knows about the labels is in its buffers, so it moves and saves with the model.
    ValueError when shapes or dtypes do not fit.

    `calibrated` is false as soon as an option differs from its default.
    """

    def __init__(
        self,
        name: str,
        spec: LossSpec,
        formula: Formula,
        *,
        outputs: int,
        options: Mapping[str, OptionValue],
    ) -> None:
        super().__init__()
        self.name = name
        self.options = dict(options)
        self.outputs = outputs
        self.calibrated = spec.calibrated and self.options == spec.defaults
        self._per_row = formula.per_row
        for buffer, values in formula.buffers.items():
            self.register_buffer(buffer, torch.from_numpy(values.astype(np.float32)))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """One loss value a row."""
        if logits.ndim != 2 or logits.shape[1] != self.outputs:
            raise ValueError(
                f"logits must be [rows, {self.outputs}]. Got {list(logits.shape)} instead."
            )
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            values: Tensor = self._per_row(wide, targets, **dict(self.named_buffers()))
            return values

    if TYPE_CHECKING:

        def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
            """One loss value a row."""


def known_cells(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Multi-hot targets as numbers, 0 where unknown, and bool where known; both [rows, labels].

    Integers are refused: label indices of the same shape would be taken for multi-hot rows.
    """
    if targets.shape != logits.shape or not (
        targets.dtype == torch.bool or targets.is_floating_point()
    ):
        raise ValueError(
            f"multilabel targets must be multi-hot, bool or float {list(logits.shape)}. "
            f"Got {targets.dtype} {list(targets.shape)} instead."
        )
    values = targets.to(logits.dtype)
    known = values >= 0
    return torch.where(known, values, 0.0), known


def known_classes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Class indices, 0 where unknown, and bool where known; both [rows]."""
    if targets.dtype != torch.int64 or targets.shape != logits.shape[:1]:
        raise ValueError(
            f"class targets must be int64 [{len(logits)}]. "
            f"Got {targets.dtype} {list(targets.shape)} instead."
        )
    known = targets != UNKNOWN
    return targets.masked_fill(~known, 0), known


def mean_over_labels(cells: Tensor, known: Tensor) -> Tensor:
    """[rows]: sum of the known cells over the number of labels, known or not.

    Dividing by the number of labels keeps every loss on the scale of binary cross-entropy; papers
    that sum over labels (ASL, Hill) mean the same times the number of labels.
    """
    return cells.masked_fill(~known, 0.0).mean(dim=1)


def without_statistics(per_row: Callable[..., Tensor]) -> Callable[..., Formula]:
    """The `make` of a loss that needs no label statistics."""

    def make(_statistics: LabelStatistics, **options: OptionValue) -> Formula:
        return Formula(partial(per_row, **options))

    return make
