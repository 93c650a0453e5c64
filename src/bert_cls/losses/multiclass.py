"""Losses for one class a row: logits [rows, classes], targets int64 [rows]."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from bert_cls.losses.contract import Formula, LabelStatistics, known_classes, priors


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    class_weight: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy with the target (1 - label_smoothing) one-hot + label_smoothing / classes.

    A row counts `class_weight[its class]` times, smoothed part and all; torch weighs the smoothed
    part of each class by that class's weight, and divides by the sum of the weights in a batch,
    which lets a small batch of one rare class count as much as any other.
    """
    classes, known = known_classes(logits, targets)
    log_p = logits.log_softmax(dim=1)
    loss = -log_p.gather(1, classes[:, None]).squeeze(1)
    if label_smoothing > 0:
        loss = (1 - label_smoothing) * loss - label_smoothing * log_p.mean(dim=1)
    if class_weight is not None:
        loss = loss * class_weight[classes]
    return loss.masked_fill(~known, 0.0)


def focal_softmax(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """(1 - p) ** gamma times cross-entropy, p the probability of the right class.

    1 - p is summed from the other classes in log space: finite loss and gradient at any logits.
    """
    classes, known = known_classes(logits, targets)
    log_p = logits.log_softmax(dim=1)
    right = classes[:, None]
    log_right = log_p.gather(1, right).squeeze(1)
    log_wrong = log_p.scatter(1, right, float("-inf")).logsumexp(dim=1)
    return (-(gamma * log_wrong).exp() * log_right).masked_fill(~known, 0.0)


def logit_adjustment(logits: Tensor, targets: Tensor, log_prior: Tensor) -> Tensor:
    """Cross-entropy of logits + log_prior; predictions use the logits as they are."""
    return cross_entropy(logits + log_prior, targets)


def make_logit_adjustment(statistics: LabelStatistics, *, tau: float) -> Formula:
    """Logit-adjusted cross-entropy, log_prior = tau * log(share of the class)."""
    return Formula(logit_adjustment, {"log_prior": tau * np.log(priors(statistics))})
