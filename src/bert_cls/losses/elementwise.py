"""Multilabel losses that look at one cell at a time.

logits [rows, labels], targets bool or float multi-hot [rows, labels]; each gives [rows], the mean
over labels. Soft targets mix the two sides: y * positive side + (1 - y) * negative side.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bert_cls.losses.contract import (
    Formula,
    LabelStatistics,
    known_cells,
    mean_over_labels,
    priors,
    seen_counts,
)


def bce(
    logits: Tensor,
    targets: Tensor,
    positive_weight: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy, -[w y log p + (1 - y) log(1 - p)] with p = sigmoid(logit).

    Smoothing keeps the number of positives of a row: y (1 - label_smoothing) + label_smoothing *
    mean(y). The usual label_smoothing / 2 would add as many positives as there are labels / 2.
    """
    positive, known = known_cells(logits, targets)
    if label_smoothing > 0:
        mean = positive.mean(dim=1, keepdim=True)
        positive = (1 - label_smoothing) * positive + label_smoothing * mean
    cells = functional.binary_cross_entropy_with_logits(
        logits, positive, pos_weight=positive_weight, reduction="none"
    )
    return mean_over_labels(cells, known)


def make_bce_weighted(statistics: LabelStatistics, *, cap: float) -> Formula:
    """Binary cross-entropy whose positives count rows without / rows with, within [1, cap]."""
    counts = seen_counts(statistics)
    weight = np.clip((statistics.rows - statistics.counts) / counts, 1.0, cap)
    return Formula(bce, {"positive_weight": weight})


def _focused(logits: Tensor, gamma: float, *, detach: bool = False) -> Tensor:
    """-(1 - p) ** gamma * log p: the cost of a positive, or of a negative at the negated logit.

    From log-sigmoids only, so no power or logarithm meets 0 at large logits.
    """
    focus = (gamma * functional.logsigmoid(-logits)).exp()
    return -(focus.detach() if detach else focus) * functional.logsigmoid(logits)


def focal(
    logits: Tensor,
    targets: Tensor,
    label_weight: Tensor | None = None,
    *,
    gamma: float,
    alpha: float = 0.5,
) -> Tensor:
    """2 a_t (1 - p_t) ** gamma times binary cross-entropy; a_t is alpha, or 1 - alpha if negative.

    The 2 makes alpha 0.5 neutral: gamma 0 is then binary cross-entropy itself.
    """
    positive, known = known_cells(logits, targets)
    cells = 2 * alpha * positive * _focused(logits, gamma) + 2 * (1 - alpha) * (
        1 - positive
    ) * _focused(-logits, gamma)
    return mean_over_labels(cells if label_weight is None else cells * label_weight, known)


def make_class_balanced(statistics: LabelStatistics, *, beta: float, gamma: float) -> Formula:
    """Focal loss (gamma 0: binary cross-entropy) whose labels weigh (1 - beta) / (1 - beta ** n).

    n is the rows of the label; the weights are scaled to mean 1. Both sides of a label weigh the
    same, so its best logit stays where it was.
    """
    weight = (1 - beta) / (1 - beta ** seen_counts(statistics))
    return Formula(partial(focal, gamma=gamma), {"label_weight": weight / weight.mean()})


def asl(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma_negative: float,
    gamma_positive: float,
    clip: float,
    detach_focus: bool,
) -> Tensor:
    """Asymmetric loss: -[y (1-p)^g+ log p + (1-y) q^g- log(1-q)], q = max(p - clip, 0).

    `detach_focus` takes the powers as constants in the gradient.
    """
    positive, known = known_cells(logits, targets)
    if torch.ones((), dtype=logits.dtype) - clip == 1:  # no clip, or one lost in rounding
        negative_side = _focused(-logits, gamma_negative, detach=detach_focus)
    else:
        # Not 0: the slope of 0 ** gamma is infinite where gamma is below 1.
        q = (logits.sigmoid() - clip).clamp(min=1e-12)
        focus = q**gamma_negative
        negative_side = -(focus.detach() if detach_focus else focus) * torch.log1p(-q)
    positive_side = _focused(logits, gamma_positive, detach=detach_focus)
    return mean_over_labels(positive * positive_side + (1 - positive) * negative_side, known)


def hill(logits: Tensor, targets: Tensor, *, gamma: float, margin: float, limit: float) -> Tensor:
    """Hill loss: -y (1-s)^gamma log s + (1-y) (limit - p) p^2, with s = sigmoid(logit - margin).

    A negative the network is sure of (p above 2/3 limit) is no longer pushed down.
    """
    positive, known = known_cells(logits, targets)
    p = logits.sigmoid()
    cells = positive * _focused(logits - margin, gamma) + (1 - positive) * (limit - p) * p.square()
    return mean_over_labels(cells, known)


def distribution_balanced(
    logits: Tensor,
    targets: Tensor,
    inverse_count: Tensor,
    shift: Tensor,
    *,
    alpha: float,
    beta: float,
    mu: float,
    scale: float,
    gamma: float,
) -> Tensor:
    """Re-balanced weights times a negative-tolerant focal loss on logits moved by `shift`.

    r = (1/n_c) / (sum of 1/n over the row's labels), weight = alpha + sigmoid(beta (r - mu)),
    positive side with sigmoid(x - shift), negative side with sigmoid(scale (x - shift)) / scale.
    A row without labels has r = infinity, hence weight alpha + 1. The paper's focal factor of 0.5
    and its balance factor of 2 cancel and are left out.
    """
    positive, known = known_cells(logits, targets)
    of_row = (positive * inverse_count).sum(dim=1, keepdim=True)
    ratio = inverse_count / of_row.clamp(min=torch.finfo(torch.float32).tiny)
    weight = alpha + (beta * (ratio - mu)).sigmoid()
    moved = logits - shift
    cells = positive * _focused(moved, gamma)
    cells = cells + (1 - positive) * _focused(-scale * moved, gamma) / scale
    return mean_over_labels(weight * cells, known)


def make_distribution_balanced(
    statistics: LabelStatistics,
    *,
    alpha: float,
    beta: float,
    mu: float,
    scale: float,
    kappa: float,
    gamma: float,
) -> Formula:
    """Distribution-balanced loss with shift = kappa * log(1 / share of the label - 1).

    alpha 0.5 and beta 0 leave only the negative-tolerant part (NTR-FL in the paper).
    """
    formula = partial(
        distribution_balanced, alpha=alpha, beta=beta, mu=mu, scale=scale, gamma=gamma
    )
    shift = kappa * np.log(1 / priors(statistics) - 1)
    return Formula(formula, {"inverse_count": 1 / seen_counts(statistics), "shift": shift})
