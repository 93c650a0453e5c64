"""Learning from a teacher's logits, and from labels where rows have them.

    loss = (1 - w) T^2 divergence(student / T, teacher / T) + w loss against the labels

w is the label weight of a labelled row and 0 of any other, T the temperature. The factor T^2 keeps
the gradient's size when T changes (Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a
Neural Network). Divergences are 0 where the student says what its teacher says, and differ from
cross-entropies against the teacher's probabilities by a constant of the teacher.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bert_cls.data.example import Task
from bert_cls.losses.contract import UNKNOWN, Formula


def label_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """[rows]: mean over labels of KL(teacher's || student's) yes or no, p = sigmoid(logit)."""
    log_p, log_not = functional.logsigmoid(teacher), functional.logsigmoid(-teacher)
    positive = log_p.exp() * (log_p - functional.logsigmoid(logits))
    negative = log_not.exp() * (log_not - functional.logsigmoid(-logits))
    return (positive + negative).mean(dim=1)


def class_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """[rows]: KL(teacher's || student's) classes, p = softmax(logits)."""
    log_p = teacher.log_softmax(dim=1)
    return (log_p.exp() * (log_p - logits.log_softmax(dim=1))).sum(dim=1)


def number_divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """[rows]: squared difference; times T^2 the temperature cancels."""
    return (logits - teacher).square().squeeze(1)


def pack(teacher: NDArray[np.float32], truth: NDArray[np.generic]) -> NDArray[np.float32]:
    """One target array of the teacher's logits [rows, outputs] and the labels of the first rows.

    float32 [rows, outputs + columns of the truth]: multi-hot labels, or one class index or number.
    NaN stands where a row has no label; rows beyond the length of `truth` have none.
    """
    known = np.asarray(truth, dtype=np.float32)
    known = known if known.ndim == 2 else known[:, None]
    labels = np.full((len(teacher), known.shape[1]), np.nan, dtype=np.float32)
    labels[: len(known)] = known
    return np.concatenate([teacher, labels], axis=1)


def distilled(formula: Formula, task: Task, *, temperature: float, label_weight: float) -> Formula:
    """`formula` against the labels, mixed with the divergence from the teacher.

    Its targets are what `pack` gives.
    """
    divergence, unpacked = DIVERGENCES[task], _LABELS[task]

    def per_row(logits: Tensor, targets: Tensor, **buffers: Tensor) -> Tensor:
        outputs = logits.shape[1]
        teacher, labels = targets[:, :outputs].to(logits.dtype), targets[:, outputs:]
        soft = temperature**2 * divergence(logits / temperature, teacher / temperature)
        weight = label_weight * (~labels[:, 0].isnan()).to(logits.dtype)
        return (1 - weight) * soft + weight * formula.per_row(logits, unpacked(labels), **buffers)

    return Formula(per_row, formula.buffers)


def _class_indices(labels: Tensor) -> Tensor:
    return labels[:, 0].nan_to_num(nan=float(UNKNOWN)).to(torch.int64)


DIVERGENCES: dict[Task, Callable[[Tensor, Tensor], Tensor]] = {
    "binary": class_divergence,
    "multiclass": class_divergence,
    "multilabel": label_divergence,
    "regression": number_divergence,
}
_LABELS: dict[Task, Callable[[Tensor], Tensor]] = {
    "binary": _class_indices,
    "multiclass": _class_indices,
    "multilabel": lambda labels: labels,
    "regression": lambda labels: labels[:, 0],
}
