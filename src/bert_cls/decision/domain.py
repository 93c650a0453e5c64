"""How strange a row is: how far its logits lie from those of the development rows.

A row's distance is that to the nearest group of development rows with the same labels, in units of
the spread within groups (class-conditional Mahalanobis distance, Lee et al. 2018, here on logits,
which every engine gives). It is told as the share of development rows that lie nearer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from bert_cls.decision.rule import Bools, Floats, Ints
from bert_cls.decision.tuners import deal
from bert_cls.errors import BundleError

FILE = "domain.safetensors"
SHRINKAGE = 0.3
"""Share of the covariance that is replaced by a multiple of the identity."""
FEWEST_ROWS = 50
MOST_OUTPUTS = 512
LEAST_OF_GROUP = 5
"""Rows with the same labels that make a group; others are one group together."""
FOLDS = 5
_POINTS = 1001


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """What the development rows' logits are like.

    `means` float64 [groups, outputs], `precision` float64 [outputs, outputs], and `quantiles`
    float64 [1001] of the distances of rows that were not used to make them.
    """

    means: Floats
    precision: Floats
    quantiles: Floats

    def distances(self, logits: ArrayLike) -> Floats:
        """Distance of each row of logits [rows, outputs] to its nearest group, float64 [rows]."""
        x = np.asarray(logits, dtype=np.float64)
        nearest = np.full(len(x), np.inf)
        for mean in self.means:
            away = x - mean
            nearest = np.minimum(nearest, np.einsum("ij,jk,ik->i", away, self.precision, away))
        return np.sqrt(np.maximum(nearest, 0.0))

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


def learn(logits: ArrayLike, cells: Bools) -> Domain | None:
    """The domain of development rows: logits [rows, outputs], `cells` bool [rows, labels].

    `cells` are the true labels, one-hot for classes. None for fewer than 50 rows, one output, or
    more than 512.
    """
    x = np.asarray(logits, dtype=np.float64)
    rows, outputs = x.shape
    if rows < FEWEST_ROWS or not 2 <= outputs <= MOST_OUTPUTS:
        return None
    group_of = _groups(cells)
    fold_of = deal(x, cells, folds=FOLDS, seed=0)
    distances = np.empty(rows)
    for fold in range(FOLDS):
        held = fold_of == fold
        part = Domain(*_shape(x[~held], group_of[~held]), np.zeros(1))
        distances[held] = part.distances(x[held])
    quantiles = np.quantile(distances, np.linspace(0, 1, _POINTS))
    return Domain(*_shape(x, group_of), quantiles)


def _groups(cells: Bools) -> Ints:
    """The group of each row, int64 [rows]: 0 for rare sets of labels."""
    _, set_of, sizes = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    common = np.flatnonzero(sizes >= LEAST_OF_GROUP)
    number = np.zeros(len(sizes), dtype=np.int64)
    number[common] = np.arange(1, len(common) + 1)
    groups: Ints = number[set_of.reshape(-1)]
    return groups


def _shape(x: Floats, group_of: Ints) -> tuple[Floats, Floats]:
    """Mean of every group, and the inverse of the shrunk covariance within groups."""
    numbers, place = np.unique(group_of, return_inverse=True)
    means = np.stack([x[group_of == number].mean(axis=0) for number in numbers])
    away = x - means[place]
    covariance = away.T @ away / len(x)
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    return means, np.linalg.inv(shrunk)
