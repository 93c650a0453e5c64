"""How much each label counts in training: by name, or by how rare it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bert_cls.errors import ConfigError, pick
from bert_cls.losses.contract import LabelStatistics, seen_counts

WEIGHTED = {"cross_entropy": "class_weight", "bce": "positive_weight"}
"""Losses that take a weight for each label, and the name it has in them."""
POWERS = {"balanced": 1.0, "sqrt": 0.5}
CAP = 20.0
"""Greatest weight of a label's positives that its rarity gives (multilabel)."""
LEAST, MOST = 1e-6, 1e6
"""Bounds of a weight given by name."""
LOPSIDED = 10.0
"""Ratio of the most to the least frequent class from which `auto` weighs."""


def label_weights(
    wanted: str | Mapping[str, float],
    loss: str,
    names: Sequence[str],
    statistics: LabelStatistics,
    *,
    adjusted_later: bool = False,
    drawn_evenly: bool = False,
) -> tuple[NDArray[np.float64] | None, str]:
    """float64 [labels], or None for no weights, and why.

    `wanted` is none, balanced (1 / rows; of label sets rows without / rows with, 20 at most), sqrt
    (the root of that), auto, or {label: weight}, others 1. Class weights are scaled to mean 1 over
    the training rows. `auto` is sqrt for classes of which one has ten times the rows of another,
    unless the decision will be adjusted to the priors anyway, or rows are drawn evenly. ConfigError
    for a loss that takes no weights, an unknown label, or a weight out of bounds.
    """
    if wanted == "none":
        return None, wanted
    if loss not in WEIGHTED:
        raise ConfigError(
            f"loss.class_weights is for the losses {sorted(WEIGHTED)}. The loss is {loss!r}.",
            hint="leave loss.class_weights out, or use the loss's own options.",
        )
    why = "by name" if isinstance(wanted, Mapping) else wanted
    if wanted == "auto":
        wanted, why = _auto(loss, statistics, adjusted_later, drawn_evenly)
        if wanted == "none":
            return None, why
    if isinstance(wanted, Mapping):
        weights = _by_name(wanted, names)
    else:
        power = pick(POWERS, wanted, "loss.class_weights")
        counts = seen_counts(statistics)
        if loss == "bce":
            weights = np.clip((statistics.rows - statistics.counts) / counts, 1.0, CAP) ** power
        else:
            weights = counts**-power
    if loss == "cross_entropy":
        weights = weights * statistics.counts.sum() / float((weights * statistics.counts).sum())
    return weights, why


def _auto(
    loss: str, statistics: LabelStatistics, adjusted_later: bool, drawn_evenly: bool
) -> tuple[str, str]:
    if loss != "cross_entropy":
        return "none", "auto: none, it weighs one class a row only, not label sets"
    if drawn_evenly:
        return "none", "auto: none, rows are drawn evenly"
    if adjusted_later:
        return "none", "auto: none, the decision is adjusted to the priors"
    counts = seen_counts(statistics)
    ratio = float(counts.max() / counts.min())
    if ratio < LOPSIDED:
        return "none", f"auto: none, the classes' rows differ {ratio:.3g}-fold"
    return "sqrt", f"auto: sqrt, the classes' rows differ {ratio:.3g}-fold"


def _by_name(wanted: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    ids = {name: i for i, name in enumerate(names)}
    weights = np.ones(len(names))
    for name, weight in wanted.items():
        place = pick(ids, name, "a label of loss.class_weights")
        if not LEAST <= weight <= MOST:
            raise ConfigError(
                f"loss.class_weights: {name!r} must weigh from {LEAST:g} to {MOST:g}. "
                f"Got {weight!r} instead."
            )
        weights[place] = weight
    return weights
