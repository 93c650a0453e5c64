"""How close a row is to other labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bert_cls.decision.abstain import confidence
from bert_cls.decision.rule import Rule, fires


def margins(rule: Rule, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far a score, or the confidence, must move before an answer changes, float64 [rows].

    `logits` is float32 [rows, outputs]. It is the smaller one of the two distances below.
    """
    return np.asarray(np.minimum(label_margins(rule, logits), confidence_margins(rule, logits)))


def label_margins(rule: Rule, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far a score must move before a row's labels change, float64 [rows].

    It is the distance of a score from its threshold, or half that between the two best classes;
    with limits on the number of labels, the order of a row's scores counts as well. Infinite for
    regression.
    """
    if rule.task == "regression":
        return np.full(len(logits), np.inf)
    return _gaps(rule, rule.scores(logits))


def confidence_margins(rule: Rule, logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """How far a row's confidence is from where the rule abstains, float64 [rows].

    Infinite where it never does. Of label sets confidence is a product of scores and errs otherwise
    than they do.
    """
    if rule.task == "regression" or rule.min_confidence is None:
        return np.full(len(logits), np.inf)
    scores = rule.scores(logits)
    return np.asarray(np.abs(confidence(rule, scores, rule.decide(scores)) - rule.min_confidence))


def _gaps(rule: Rule, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if rule.task == "multilabel":
        gaps = np.abs(scores - np.asarray(rule.thresholds, dtype=np.float64))
        nearest = np.asarray(gaps.min(axis=1))
        if rule.min_labels == 0 and rule.max_labels is None:
            return nearest
        return _limited_gaps(rule, scores, gaps, nearest)
    if rule.task == "binary" and rule.thresholds:
        return np.asarray(np.abs(scores[:, 1] - rule.thresholds[0]))
    if rule.weights:
        scores = scores * np.asarray(rule.weights) / max(rule.weights)
    best = np.sort(scores, axis=1)
    return np.asarray((best[:, -1] - best[:, -2]) / 2)


def _limited_gaps(
    rule: Rule,
    scores: NDArray[np.float64],
    gaps: NDArray[np.float64],
    nearest: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Where a row has too many or too few labels over their thresholds, the order counts as well.

    A label that is left out comes in when it is over its threshold and above the lowest kept one,
    each moved half the way; with too few labels, either of the two is enough.
    """
    fired = fires(scores, rule.thresholds)
    kept = np.asarray(rule.decide(scores), dtype=bool)
    inf = np.inf
    lowest = np.where(kept, scores, inf).min(axis=1, keepdims=True)
    behind = (lowest - scores) / 2
    left_out = np.where(fired, behind, np.maximum(gaps, behind))
    too_many = np.where(kept, gaps, left_out).min(axis=1)
    added = kept & ~fired
    behind = (np.where(added, scores, inf).min(axis=1, keepdims=True) - scores) / 2
    ahead = (scores - np.where(kept, -inf, scores).max(axis=1, keepdims=True)) / 2
    stays = np.where(fired, np.maximum(gaps, ahead), inf)
    too_few = np.where(kept, stays, np.minimum(gaps, behind)).min(axis=1)
    count = fired.sum(axis=1)
    limited = [count > (rule.max_labels or scores.shape[1]), count < rule.min_labels]
    return np.select(limited, [too_many, too_few], nearest)
