"""How logits become scores and scores become labels. A Rule is stored in the model folder as JSON.

The comparison `score >= threshold` is written once, in `fires`; tuning and predicting both use it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bert_cls.data.example import Task
from bert_cls.errors import BundleError, ConfigError, EngineError, pick, shortened

Activation = Literal["sigmoid", "softmax", "identity"]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Decided = Bools | Ints | Floats
"""bool [rows, labels] (multilabel), ids [rows] (binary, multiclass), values [rows]"""

NEVER = "never"
# far beyond what fitting gives (decision/calibration.py), and far from where floats run over
LEAST, MOST = 1e-3, 1e3
LEAST_WEIGHT, MOST_SHIFT = 1e-12, 1e9
LEAST_POWER, MOST_POWER = 0.25, 8.0
LINE = 1e-6
"""Part of a straight line in a power: else close logits would be equal scores, by rounding."""
_POSITIVE = f"from {LEAST:g} to {MOST:g}"
_SHIFT = f"from {-MOST_SHIFT:g} to {MOST_SHIFT:g}"
ACTIVATIONS: dict[Task, tuple[Activation, ...]] = {
    "multilabel": ("sigmoid",),
    "binary": ("softmax", "sigmoid"),
    "multiclass": ("softmax",),
    "regression": ("identity",),
}


def fires(scores: Floats, thresholds: ArrayLike) -> Bools:
    """Where a score reaches its threshold; the shapes broadcast, an infinite threshold never."""
    return np.asarray(scores >= np.asarray(thresholds, dtype=np.float64))


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e^-x) without overflow on either side."""
    shrunk = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, shrunk) / (1.0 + shrunk)


def softmax(x: Floats) -> Floats:
    """e^x over its sum along the last axis, without overflow."""
    grown = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def log_sum_exp(x: Floats) -> Floats:
    """The logarithm of the sum of each row's exponentials, float64 [rows]."""
    top = x.max(axis=1)
    return np.asarray(top + np.log(np.exp(x - top[:, None]).sum(axis=1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How logits become labels. ConfigError when the values contradict each other."""

    task: Task
    """binary, multiclass, multilabel or regression"""
    activation: Activation
    """sigmoid (multilabel; binary with one logit), softmax (classes), identity (regression)"""
    temperature: float = 1.0
    """logits are divided by it before the activation"""
    bias: float = 0.0
    """added after the division; only with sigmoid (Platt scaling)"""
    power: float = 1.0
    """the distance of a class's logit from the row's highest, over the temperature, is raised to
    it; only with softmax"""
    slopes: tuple[float, ...] = ()
    """multilabel: logits are multiplied by these instead, one a label (Platt scaling per label)"""
    offsets: tuple[float, ...] = ()
    """added after slopes, one a label"""
    weights: tuple[float, ...] = ()
    """classes: scores are multiplied by these before the highest is taken (logit adjustment)"""
    min_confidence: float | None = None
    """rows the rule is less sure of are left undecided; None decides every row"""
    thresholds: tuple[float, ...] = ()
    """multilabel: one a label, in [0, 1] or inf for never; binary: none, or one for names[1]"""
    min_labels: int = 0
    """multilabel: rows with fewer labels are filled up with their highest scores"""
    max_labels: int | None = None
    """multilabel: rows with more labels keep their highest scores"""
    tuner: str = "fixed"
    """what chose the thresholds"""
    objective: str = "none"
    """what the tuner maximised"""
    calibrated: bool = True
    """whether scores may be read as probabilities"""

    def __post_init__(self) -> None:
        if self.task not in ACTIVATIONS:
            raise ConfigError(
                f"task must be one of {list(ACTIVATIONS)}. Got {shortened(self.task)} instead."
            )
        if self.activation not in ACTIVATIONS[self.task]:
            raise ConfigError(
                f"activation of a {self.task} rule must be one of "
                f"{list(ACTIVATIONS[self.task])}. Got {shortened(self.activation)} instead."
            )
        if not LEAST <= self.temperature <= MOST:
            raise ConfigError(f"temperature must be {_POSITIVE}. Got {self.temperature!r} instead.")
        if not -MOST_SHIFT <= self.bias <= MOST_SHIFT or (
            self.bias and self.activation != "sigmoid"
        ):
            raise ConfigError(
                f"bias must be {_SHIFT}, and 0 without sigmoid. Got {self.bias!r} instead."
            )
        if not LEAST_POWER <= self.power <= MOST_POWER or (
            self.power != 1 and self.activation != "softmax"
        ):
            raise ConfigError(
                f"power must be from {LEAST_POWER:g} to {MOST_POWER:g}, and 1 without softmax. "
                f"Got {self.power!r} instead."
            )
        self._check_thresholds()
        self._check_cardinality()
        self._check_of_labels()

    def _check_of_labels(self) -> None:
        """Slopes, offsets, weights and the least confidence."""
        platt = (self.slopes, self.offsets)
        fits = self.task == "multilabel" and all(len(p) == len(self.thresholds) for p in platt)
        if any(platt) and not (fits and self.temperature == 1 and self.bias == 0):
            raise ConfigError(
                "slopes and offsets must be one a label of multilabel data, without temperature "
                "and bias."
            )
        if not all(LEAST <= n <= MOST for n in self.slopes):
            raise ConfigError(f"slopes must be {_POSITIVE}.")
        if not all(-MOST_SHIFT <= n <= MOST_SHIFT for n in self.offsets):
            raise ConfigError(f"offsets must be {_SHIFT}.")
        if not all(LEAST_WEIGHT <= n <= MOST_SHIFT for n in self.weights):
            raise ConfigError(f"weights must be from {LEAST_WEIGHT:g} to {MOST_SHIFT:g}.")
        if self.weights and (self.activation != "softmax" or self.thresholds):
            raise ConfigError("weights are for classes decided by their highest score.")
        if self.min_confidence is not None and not (
            self.task != "regression" and 0 <= self.min_confidence <= 1
        ):
            raise ConfigError(
                "min_confidence must be between 0 and 1, and is not for regression. "
                f"Got {self.min_confidence!r} instead."
            )

    def check_fits(self, labels: int) -> None:
        """ConfigError for a rule that is not one for so many labels."""
        if self.weights and len(self.weights) != labels:
            raise ConfigError(
                f"weights must be {labels}, one a label. Got {len(self.weights)} instead."
            )
        if self.task != "multilabel":
            return
        if len(self.thresholds) != labels:
            raise ConfigError(
                f"thresholds must be {labels}, one a label. Got {len(self.thresholds)} instead."
            )
        if self.min_labels > labels:
            raise ConfigError(
                f"min_labels must be at most {labels}, which are all labels there are. "
                f"Got {self.min_labels} instead."
            )

    def _check_thresholds(self) -> None:
        wanted = {"multilabel": "one or more", "binary": "no or one"}.get(self.task, "no")
        count = len(self.thresholds)
        if not {"multilabel": count > 0, "binary": count < 2}.get(self.task, count == 0):
            raise ConfigError(f"a {self.task} rule has {wanted} thresholds. Got {count} instead.")
        for label, threshold in enumerate(self.thresholds):
            if not (0 <= threshold <= 1 or threshold == math.inf):
                raise ConfigError(
                    f"thresholds[{label}] must be between 0 and 1, or infinite for never. "
                    f"Got {threshold!r} instead."
                )

    def _check_cardinality(self) -> None:
        most = self.max_labels
        if self.min_labels < 0 or (most is not None and most < max(1, self.min_labels)):
            raise ConfigError(
                "min_labels must be 0 or more and max_labels at least 1 and at least min_labels. "
                f"Got min_labels={self.min_labels}, max_labels={most} instead."
            )
        if self.task != "multilabel" and (self.min_labels or most is not None):
            raise ConfigError(f"min_labels and max_labels are for multilabel, not {self.task}.")

    def scores(self, logits: ArrayLike) -> Floats:
        """Scores of logits [rows, labels]: float64 [rows, labels]; regression: [rows].

        Binary with sigmoid takes [rows, 1] and gives both columns. Regression takes [rows] or
        [rows, 1]. EngineError where the shape is wrong or a logit is not a finite number.
        """
        x = _checked(np.asarray(logits), self)
        if self.activation == "identity":
            return x.reshape(len(x))
        x = self.scaled(x)
        if self.activation == "softmax":
            return softmax(x)
        return sigmoid(np.concatenate([-x, x], axis=1) if self.task == "binary" else x)

    def scaled(self, x: Floats) -> Floats:
        """The logits [rows, columns] that an activation makes scores of."""
        if self.slopes:
            return np.asarray(x * np.array(self.slopes) + np.array(self.offsets))
        if self.power != 1:  # the order of a row stays
            behind = (x.max(axis=1, keepdims=True) - x) / self.temperature
            return np.asarray(-(behind**self.power) - LINE * behind)
        return x / self.temperature + self.bias

    def margins(self, logits: ArrayLike) -> Floats:
        """How far each label is from undecided: float64 [rows, labels], log-odds of its score.

        Regression: the value itself, [rows, 1].
        """
        x = _checked(np.asarray(logits), self)
        if self.activation == "identity":
            return x.reshape(len(x), 1)
        x = self.scaled(x)
        if self.activation == "sigmoid":
            return np.concatenate([-x, x], axis=1) if self.task == "binary" else x
        others = np.empty_like(x)
        for label in range(x.shape[1]):
            others[:, label] = log_sum_exp(np.delete(x, label, axis=1))
        return x - others

    def decide(self, scores: Floats) -> Decided:
        """Labels of scores [rows, labels].

        multilabel: bool [rows, labels]; binary and multiclass: int64 [rows], ties to the lower id;
        regression: the scores themselves.
        """
        if self.task == "regression":
            return scores
        if self.task == "binary" and self.thresholds:
            return fires(scores[:, 1], self.thresholds[0]).astype(np.int64)
        if self.task != "multilabel":
            if self.weights:
                scores = scores * np.array(self.weights)
            ids: Ints = scores.argmax(axis=1).astype(np.int64)
            return ids
        fired = fires(scores, self.thresholds)
        if self.min_labels == 0 and self.max_labels is None:
            return fired
        return _limited(fired, scores, least=self.min_labels, most=self.max_labels)

    def changed(self, changes: Mapping[str, Any]) -> Rule:
        """The rule with some values replaced. ConfigError for unknown and impossible ones.

        A threshold takes the place of weights, where a binary rule has them.
        """
        read = {
            name: pick(_READERS, name, "a part of the rule")(name, value)
            for name, value in changes.items()
        }
        if read.get("thresholds"):
            read = {"weights": (), **read}
        return replace(self, **read)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an infinite threshold is written "never"."""
        written = {field.name: getattr(self, field.name) for field in fields(self)}
        written["thresholds"] = [NEVER if t == math.inf else t for t in self.thresholds]
        return written

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Rule:
        """The rule `to_dict` wrote. BundleError for unknown, missing or impossible values."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(stored) - known):
            raise BundleError(
                f"decision rule: {shortened(unknown)} unknown. Known are {sorted(known)}."
            )
        if missing := sorted({"task", "activation"} - set(stored)):
            raise BundleError(f"decision rule: {missing} missing.")
        try:
            return cls(**{name: _READERS[name](name, value) for name, value in stored.items()})
        except ConfigError as error:
            raise BundleError(f"decision rule: {error.message}", hint=error.hint) from None


def _checked(logits: NDArray[Any], rule: Rule) -> Floats:
    """Contiguous float64 logits [rows, columns] that fit the rule."""
    if rule.activation == "identity" and logits.ndim == 1:
        logits = logits[:, None]
    columns = {"regression": 1, "binary": 1 if rule.activation == "sigmoid" else 2}.get(
        rule.task, len(rule.thresholds) or len(rule.weights) or None
    )
    if logits.ndim != 2 or logits.shape[1] != (columns or max(2, logits.shape[-1])):
        raise EngineError(
            f"logits of this {rule.task} model must be [rows, {columns or 'labels'}]. "
            f"Got {list(logits.shape)} instead."
        )
    x = np.ascontiguousarray(logits, dtype=np.float64)
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise EngineError(f"logits of row {row} are not finite numbers.")
    return x


def _limited(fired: Bools, scores: Floats, *, least: int, most: int | None) -> Bools:
    """`fired` with at least and at most so many labels a row: highest scores, then lowest ids."""
    labels = scores.shape[1]
    ids = np.broadcast_to(np.arange(labels), scores.shape)
    order = np.lexsort((ids, -scores, ~fired), axis=1)
    keep = np.clip(fired.sum(axis=1), min(least, labels), labels if most is None else most)
    kept = np.zeros_like(fired)
    np.put_along_axis(kept, order, np.arange(labels) < keep[:, None], axis=1)
    return kept


def _word(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a string. Got {shortened(value)} instead.")
    return value


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):  # those of numpy as well
        raise ConfigError(f"{name} must be a number. Got {shortened(value)} instead.")
    return float(value)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise ConfigError(f"{name} must be a whole number. Got {shortened(value)} instead.")
    return int(value)


def _count_or_none(name: str, value: object) -> int | None:
    return None if value is None else _count(name, value)


def _truth_value(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false. Got {shortened(value)} instead.")
    return value


def _thresholds(name: str, value: object) -> tuple[float, ...]:
    return tuple(math.inf if t == NEVER else _number(name, t) for t in _list(name, value))


def _numbers(name: str, value: object) -> tuple[float, ...]:
    return tuple(_number(name, v) for v in _list(name, value))


def _list(name: str, value: object) -> Iterable[object]:
    if not isinstance(value, list | tuple | np.ndarray):
        raise ConfigError(
            f"{name} must be a list of numbers, one a label in their order. "
            f"Got {shortened(value)} instead."
        )
    return value


def _number_or_none(name: str, value: object) -> float | None:
    return None if value is None else _number(name, value)


_READERS: dict[str, Any] = {
    "slopes": _numbers,
    "offsets": _numbers,
    "weights": _numbers,
    "min_confidence": _number_or_none,
    "task": _word,
    "activation": _word,
    "temperature": _number,
    "bias": _number,
    "power": _number,
    "thresholds": _thresholds,
    "min_labels": _count,
    "max_labels": _count_or_none,
    "tuner": _word,
    "objective": _word,
    "calibrated": _truth_value,
}
