"""What a model said about rows whose labels are known: the arrays every metric reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.example import Task
from bert_cls.errors import DataError

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def indicator(truth: NDArray[Any], labels: int) -> Bools:
    """Which labels each row has, bool [rows, labels], from that or from class ids int64 [rows]."""
    matrix = truth if truth.ndim == 2 else truth[:, None] == np.arange(labels)
    return np.asarray(matrix, dtype=bool)


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """Truth, scores and predictions of the same rows, checked and in one dtype.

    multilabel: truth and predicted bool [rows, labels], scores float64 [rows, labels];
    binary and multiclass: truth and predicted int64 [rows], scores float64 [rows, classes];
    regression: truth and scores float64 [rows], predicted the scores or None.
    DataError when the arrays do not fit together, or when there are no rows.
    """

    task: Task
    truth: NDArray[Any]
    scores: Floats
    predicted: NDArray[Any] | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.asarray(self.scores, dtype=np.float64))
        object.__setattr__(self, "truth", np.asarray(self.truth))
        predicted = self.scores if self.predicted is None else np.asarray(self.predicted)
        object.__setattr__(self, "predicted", predicted)
        if self.truth.ndim == 0 or len(self.truth) == 0:
            raise DataError("there are no rows to evaluate.", hint="evaluation needs labelled rows")
        if self.task == "regression":
            self._check_numbers(predicted)
        elif self.task == "multilabel":
            self._check_matrix("truth", self.truth)
            self._check_matrix("predicted", predicted)
        else:
            self._check_scores_of_classes()
            object.__setattr__(self, "truth", self._classes("truth", self.truth))
            object.__setattr__(self, "predicted", self._classes("predicted", predicted))

    @property
    def rows(self) -> int:
        """How many rows there are, at least 1."""
        return len(self.truth)

    @property
    def labels(self) -> int:
        """How many labels or classes the scores have; 0 for regression."""
        return 0 if self.task == "regression" else self.scores.shape[1]

    @property
    def decided(self) -> NDArray[Any]:
        """`predicted`, never None."""
        return self.scores if self.predicted is None else self.predicted

    @property
    def right(self) -> Bools:
        """Where what was decided is the truth, of label sets all of it, bool [rows]."""
        same: Bools = self.decided == self.truth
        return np.asarray(same.all(axis=1)) if same.ndim == 2 else same

    def _check_numbers(self, predicted: NDArray[Any]) -> None:
        truth = self.truth.astype(np.float64)
        object.__setattr__(self, "truth", truth)
        if truth.ndim != 1 or self.scores.shape != truth.shape:
            raise DataError(
                "truth and scores must be float64 [rows] in regression. "
                f"Got {list(truth.shape)} and {list(self.scores.shape)} instead."
            )
        if not np.isfinite(truth).all():
            row = int(np.flatnonzero(~np.isfinite(truth))[0])
            raise DataError(f"truth must be finite. Got {truth[row]} in row {row} instead.")
        if predicted is not self.scores and not np.array_equal(
            predicted, self.scores, equal_nan=True
        ):
            raise DataError("predicted must be None or the scores themselves in regression.")

    def _check_matrix(self, field: str, array: NDArray[Any]) -> None:
        if self.scores.ndim == 2 and self.scores.shape[1] == 0:
            raise DataError("scores must have at least one label. Got 0 instead.")
        if array.dtype != np.bool_ or array.ndim != 2 or array.shape != self.scores.shape:
            raise DataError(
                f"{field} must be bool {list(self.scores.shape)} like the scores in multilabel "
                f"data. Got {array.dtype} {list(array.shape)} instead."
            )

    def _check_scores_of_classes(self) -> None:
        shape = self.scores.shape
        if len(shape) != 2 or shape[0] != len(self.truth) or shape[1] == 0:
            raise DataError(
                f"scores must be float64 [{len(self.truth)}, classes]. Got {list(shape)} instead."
            )
        if self.task == "binary" and shape[1] != 2:
            raise DataError(f"scores must have 2 columns in binary data. Got {shape[1]} instead.")

    def _classes(self, field: str, array: NDArray[Any]) -> Ints:
        if not np.issubdtype(array.dtype, np.integer) or array.shape != (len(self.truth),):
            raise DataError(
                f"{field} must be int64 [{len(self.truth)}]. "
                f"Got {array.dtype} {list(array.shape)} instead."
            )
        outside = np.flatnonzero((array < 0) | (array >= self.scores.shape[1]))
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"{field} must be in 0..{self.scores.shape[1] - 1}. "
                f"Got {int(array[row])} in row {row} instead."
            )
        return array.astype(np.int64)
