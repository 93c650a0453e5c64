"""How strange a row is: how far its logits lie from those of the development rows.

Of classes it is the distance to the nearest class of the development rows, in units of the spread
within classes, less the distance to their middle, in units of the whole spread (relative
Mahalanobis distance, Ren et al. 2021, here on logits, which every engine gives): without the second
part texts that are nothing in particular pass for near. Of label sets it is how little evidence
there is for any label, the sum over labels of -log(1 + e^logit) (joint energy, Wang et al. 2021).
Both are told as the share of development rows less strange.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from bert_cls.decision.rule import Floats
from bert_cls.decision.tuners import deal
from bert_cls.errors import BundleError, shortened
from bert_cls.files import read_bounded

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

    `means` float64 [classes, outputs] and `precision` float64 [outputs, outputs], within classes;
    both are empty for label sets. `quantiles` float64 [1001] are those of the distances of rows
    that were not used to make them. `centre` float64 [1, outputs] and `spread` float64 [outputs,
    outputs] are mean and precision of all rows; empty for label sets.
    """

    means: Floats
    precision: Floats
    quantiles: Floats
    centre: Floats
    spread: Floats

    def distances(self, logits: ArrayLike) -> Floats:
        """How strange each row of logits [rows, outputs] is, float64 [rows], higher is stranger."""
        x = np.asarray(logits, dtype=np.float64)
        if not len(self.means):
            return np.asarray(-np.logaddexp(0.0, x).sum(axis=1))
        return _nearest(x, self.means, self.precision) - _nearest(x, self.centre, self.spread)

    def strangeness(self, logits: ArrayLike) -> Floats:
        """Share of development rows that lie nearer, float64 [rows] in 0..1."""
        below = np.searchsorted(self.quantiles, self.distances(logits), side="left")
        return np.asarray(below / len(self.quantiles))

    @classmethod
    def of(cls, folder: Path, *, outputs: int) -> Domain:
        """That of a model folder. BundleError for a model that does not know."""
        file = folder / FILE
        if not file.is_file():
            raise BundleError(
                f"{folder} has no {FILE}, so it cannot say what is out of domain.",
                hint="models of labels have it when they were trained with 50 development rows.",
            )
        return cls.from_bytes(read_bounded(file, BundleError), outputs=outputs)

    def to_bytes(self) -> bytes:
        """What `FILE` holds."""
        return to_bytes({each.name: getattr(self, each.name) for each in fields(self)})

    @classmethod
    def from_bytes(cls, content: bytes, *, outputs: int) -> Domain:
        """The reverse of `to_bytes`; BundleError when it is damaged, or not of so many outputs."""
        try:
            arrays = from_bytes(content)
        except (SafetensorError, KeyError) as error:  # KeyError: numpy has not all kinds of floats
            raise BundleError(f"{FILE} is damaged: {error}") from error
        known = [each.name for each in fields(cls)]
        if set(arrays) != set(known):
            raise BundleError(
                f"{FILE} is damaged: it must have the tensors {known}. "
                f"Got {shortened(sorted(arrays))} instead."
            )
        found = cls(**arrays)
        if not found._fits(outputs):
            raise BundleError(f"{FILE} is damaged: its shapes do not fit each other or the model.")
        if not found._is_sound():
            raise BundleError(f"{FILE} is damaged: its values are none of a domain.")
        return found

    def _is_sound(self) -> bool:
        arrays = [getattr(self, each.name) for each in fields(self)]
        finite = all(a.dtype == np.float64 and np.isfinite(a).all() for a in arrays)
        return finite and len(self.quantiles) > 0 and bool((np.diff(self.quantiles) >= 0).all())

    def _fits(self, outputs: int) -> bool:
        matrices = (self.means, self.precision, self.centre, self.spread)
        if any(each.ndim != 2 for each in matrices) or self.quantiles.ndim != 1:
            return False
        if self.means.shape[1] != outputs:
            return False
        if not len(self.means):
            return not len(self.centre)
        square = self.precision.shape == self.spread.shape == (outputs, outputs)
        return square and self.centre.shape == (1, outputs)


def learn(logits: ArrayLike, truth: NDArray[Any]) -> Domain | None:
    """The domain of development rows: logits [rows, outputs] and the true labels.

    `truth` is bool [rows, labels] of label sets, int64 [rows] of classes. None for fewer than 50
    rows; of classes also for one output or more than 512.
    """
    x = np.asarray(logits, dtype=np.float64)
    rows, outputs = x.shape
    if rows < FEWEST_ROWS:
        return None
    steps = np.linspace(0, 1, _POINTS)
    if truth.ndim == 2:
        none = np.zeros((0, 0))
        energy = Domain(np.zeros((0, outputs)), none, np.zeros(1), none, none)
        return replace(energy, quantiles=np.quantile(energy.distances(x), steps))
    if not 2 <= outputs <= MOST_CLASSES:
        return None
    fold_of = deal(x, truth[:, None] == np.arange(outputs), folds=FOLDS, seed=0)
    distances = np.empty(rows)
    for fold in range(FOLDS):
        held = fold_of == fold
        distances[held] = _shaped(x[~held], truth[~held]).distances(x[held])
    return replace(_shaped(x, truth), quantiles=np.quantile(distances, steps))


def _shaped(x: Floats, truth: NDArray[Any]) -> Domain:
    """Means of every class with a row and of all rows, and their precisions; no quantiles yet."""
    numbers, place = np.unique(truth, return_inverse=True)
    means = np.stack([x[truth == number].mean(axis=0) for number in numbers])
    centre = x.mean(axis=0, keepdims=True)
    return Domain(means, _precision(x - means[place]), np.zeros(1), centre, _precision(x - centre))


def _nearest(x: Floats, means: Floats, precision: Floats) -> Floats:
    """Squared Mahalanobis distance of each row to the nearest of some means, float64 [rows]."""
    nearest = np.full(len(x), np.inf)
    for mean in means:
        away = x - mean
        nearest = np.minimum(nearest, np.einsum("ij,jk,ik->i", away, precision, away))
    return nearest


def _precision(away: Floats) -> Floats:
    """The inverse of the shrunk covariance of rows [rows, outputs] around their means."""
    covariance = away.T @ away / len(away)
    level = max(float(np.trace(covariance)) / len(covariance), 1e-12)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    return np.asarray(np.linalg.inv(shrunk))
