"""Losses for a number a row: logits [rows, 1], targets float [rows]."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def _known_values(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Predicted and true numbers, both [rows]; an unknown one is replaced by its prediction.

    Both shapes are fixed: [rows, 1] against [rows] would otherwise compare every row with every
    other.
    """
    if targets.shape != logits.shape[:1] or not targets.is_floating_point():
        raise ValueError(
            f"regression targets must be float [{len(logits)}]. "
            f"Got {targets.dtype} {list(targets.shape)} instead."
        )
    predicted = logits.squeeze(1)
    true = targets.to(logits.dtype)
    return predicted, torch.where(true.isnan(), predicted, true)


def mse(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared error."""
    predicted, true = _known_values(logits, targets)
    return (predicted - true).square()


def huber(logits: Tensor, targets: Tensor, *, delta: float) -> Tensor:
    """Half the squared error up to `delta`, beyond it delta * (error - delta / 2)."""
    predicted, true = _known_values(logits, targets)
    return functional.huber_loss(predicted, true, delta=delta, reduction="none")
