"""How strange a row is: how far its logits lie from those of the development rows.

Of classes it is the distance to the nearest class of the development rows, in units of the spread
within classes (class-conditional Mahalanobis distance, Lee et al. 2018, here on logits, which every
engine gives). Of label sets it is how little evidence there is for any label, the sum over labels
of -log(1 + e^logit) (joint energy, Wang et al. 2021): there the distance was the worse of the two,
and with classes the energy was. Both are told as the share of development rows less strange.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from bert_cls.decision.rule import Floats
from bert_cls.decision.tuners import deal
from bert_cls.errors import BundleError

FILE = "domain.safetensors"
SHRINKAGE = 0.3
"""Share of the covariance that is replaced by a multiple of the identity."""
FEWEST_ROWS = 50
MOST_CLASSES = 512
FOLDS = 5
_POINTS = 1001


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """What the development rows' logits are like.

    `means` float64 [classes, outputs] and `precision` float64 [outputs, outputs]; both are empty
    for label sets. `quantiles` float64 [1001] are those of the distances of rows that were not used
    to make them.
    """

    means: Floats
    precision: Floats
    quantiles: Floats

    def distances(self, logits: ArrayLike) -> Floats:
        """How strange each row of logits [rows, outputs] is, float64 [rows], higher is stranger."""
        x = np.asarray(logits, dtype=np.float64)
        if not len(self.means):
            return np.asarray(-np.logaddexp(0.0, x).sum(axis=1))
        nearest = np.full(len(x), np.inf)
        for mean in self.means:
            away = x - mean
            nearest = np.minimum(nearest, np.einsum("ij,jk,ik->i", away, self.precision, away))
        return np.asarray(np.sqrt(np.maximum(nearest, 0.0)))

    def strangeness(self, logits: ArrayLike) -> Floats:
        """Share of development rows that lie nearer, float64 [rows] in 0..1."""
        below = np.searchsorted(self.quantiles, self.distances(logits), side="left")
        return np.asarray(below / len(self.quantiles))

    def to_bytes(self) -> bytes:
        """What `FILE` holds."""
        return to_bytes(
            {"means": self.means, "precision": self.precision, "quantiles": self.quantiles}
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Domain:
        """The reverse of `to_bytes`; BundleError when the content is damaged."""
        try:
            return cls(**from_bytes(content))
        except (SafetensorError, TypeError) as error:
            raise BundleError(f"{FILE} is damaged: {error}") from error


def learn(logits: ArrayLike, truth: NDArray[Any]) -> Domain | None:
    """The domain of development rows: logits [rows, outputs] and the true labels.

    `truth` is bool [rows, labels] of label sets, int64 [rows] of classes. None for fewer than 50
    rows, one output, or more than 512 classes.
    """
    x = np.asarray(logits, dtype=np.float64)
    rows, outputs = x.shape
    if rows < FEWEST_ROWS or outputs < 2:
        return None
    steps = np.linspace(0, 1, _POINTS)
    if truth.ndim == 2:
        energy = Domain(np.zeros((0, outputs)), np.zeros((0, 0)), np.zeros(1))
        return replace(energy, quantiles=np.quantile(energy.distances(x), steps))
    if outputs > MOST_CLASSES:
        return None
    fold_of = deal(x, truth[:, None] == np.arange(outputs), folds=FOLDS, seed=0)
    distances = np.empty(rows)
    for fold in range(FOLDS):
        held = fold_of == fold
        part = Domain(*_shape(x[~held], truth[~held]), np.zeros(1))
        distances[held] = part.distances(x[held])
    return Domain(*_shape(x, truth), np.quantile(distances, steps))


def _shape(x: Floats, truth: NDArray[Any]) -> tuple[Floats, Floats]:
    """Mean of every class with a row, and the inverse of the shrunk covariance within classes."""
    numbers, place = np.unique(truth, return_inverse=True)
    means = np.stack([x[truth == number].mean(axis=0) for number in numbers])
    away = x - means[place]
    covariance = away.T @ away / len(x)
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    return means, np.linalg.inv(shrunk)
