"""The score that picks the best epoch: free of any threshold, higher is better."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.data.example import Task
from bert_cls.decision.rule import softmax
from bert_cls.metrics import mean_average_precision, spearman

_TIE = 1e-6


def selection_score(task: Task, logits: NDArray[np.float32], truth: NDArray[Any]) -> float:
    """MAP over the labels present (multilabel), accuracy (classes), Spearman (regression).

    Equal accuracies are told apart by the log loss. A score that is not defined counts as -1.
    """
    if task == "multilabel":
        score = mean_average_precision(truth, logits.astype(np.float64))
    elif task == "regression":
        score = spearman(truth, logits[:, 0].astype(np.float64))
    else:
        chosen = softmax(logits.astype(np.float64))[np.arange(len(truth)), truth]
        loss = float(-np.log(np.maximum(chosen, 1e-12)).mean())
        score = float((logits.argmax(1) == truth).mean()) - _TIE * loss
    return float(score) if np.isfinite(score) else -1.0
