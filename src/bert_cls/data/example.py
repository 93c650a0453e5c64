"""What a row is once it has been read: an Example, and the names its labels come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bert_cls.errors import DataError

Task = Literal["binary", "multiclass", "multilabel", "regression"]
CLASS_TASKS: frozenset[Task] = frozenset({"binary", "multiclass"})
"""one label a row"""
Label = str | tuple[str, ...] | float


@dataclass(frozen=True, slots=True)
class Example:
    """One row. `label` is a name, a tuple of names, a number, or None for a row without a label.

    `()` is a multilabel row that is known to have no label; None is a row nobody has labelled.
    """

    index: int | str
    text_a: str
    text_b: str | None = None
    label: Label | None = None


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """The label names of a model in the order of its outputs; empty for regression."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            repeated = sorted({n for n in self.names if self.names.count(n) > 1})
            raise DataError(f"labels must be distinct. Got {repeated} more than once.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ids(self) -> dict[str, int]:
        """Name to position."""
        return {name: i for i, name in enumerate(self.names)}

    def multi_hot(self, labels: Sequence[Iterable[str]]) -> NDArray[np.bool_]:
        """Bool [rows, labels]: True where a row has the label. KeyError for an unknown name."""
        ids = self.ids
        out = np.zeros((len(labels), len(self.names)), dtype=bool)
        for row, names in enumerate(labels):
            for name in names:
                out[row, ids[name]] = True
        return out


def targets(examples: Sequence[Example], task: Task, space: LabelSpace) -> NDArray[np.generic]:
    """What the examples' labels are as numbers; every example must be labelled.

    multilabel: bool [rows, labels]; binary and multiclass: int64 [rows];
    regression: float64 [rows].
    """
    if task == "regression":
        return np.array([example.label for example in examples], dtype=np.float64)
    if task == "multilabel":
        return space.multi_hot([e.label for e in examples if isinstance(e.label, tuple)])
    ids = space.ids
    return np.array([ids[str(example.label)] for example in examples], dtype=np.int64)
