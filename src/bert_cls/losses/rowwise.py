"""Multilabel losses that compare the labels of a row with one another.

logits [rows, labels], targets bool or float multi-hot [rows, labels]; each gives [rows].
"""

from __future__ import annotations

import torch
from torch import Tensor

from bert_cls.losses.contract import known_cells, mean_over_labels


def zlpr(logits: Tensor, targets: Tensor) -> Tensor:
    """log(1 + sum of e^x over labels the row has not) + log(1 + sum of e^-x over those it has).

    The 1 is a threshold label with logit 0: a label is given when x > 0. Not divided by the
    number of labels. Soft targets weigh the summands.
    """
    positive, known = known_cells(logits, targets)
    zero = logits.new_zeros(len(logits), 1)
    not_had = (logits + (1 - positive).log()).masked_fill(~known, float("-inf"))
    had = (positive.log() - logits).masked_fill(~known, float("-inf"))
    return torch.cat([zero, not_had], 1).logsumexp(1) + torch.cat([zero, had], 1).logsumexp(1)


def multilabel_margin(logits: Tensor, targets: Tensor, *, virtual_zero: bool) -> Tensor:
    """Every label of a row should lead every other by 1: mean of max(0, 1 - (x_has - x_has_not)).

    The sum over pairs is divided by the number of labels, as in torch.nn.MultiLabelMarginLoss,
    which this is with `virtual_zero` false: adding a constant to a row then changes nothing, so no
    cut on the logits means anything, and rows with no label or all labels teach nothing. With
    `virtual_zero` a label with logit 0 stands between: max(0, 1 - x) for each label the row has,
    max(0, 1 + x) for each it has not; a label is given when x > 0.

    A target above 0.5 is a label the row has. Memory: floats of (labels in the batch) * labels.
    """
    target, known = known_cells(logits, targets)
    has = target > 0.5
    has_not = known & ~has
    rows, columns = has.nonzero(as_tuple=True)
    gaps = 1 - logits[rows, columns, None] + logits.index_select(0, rows)
    pairs = (gaps.relu() * has_not.index_select(0, rows)).sum(dim=1)
    loss = logits.new_zeros(len(logits)).index_add(0, rows, pairs) / logits.shape[1]
    if not virtual_zero:
        return loss
    return loss + mean_over_labels((1 - torch.where(has, logits, -logits)).relu(), known)
