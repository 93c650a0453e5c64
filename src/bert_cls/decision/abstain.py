"""How sure a rule is of a row, and leaving the rows it is least sure of to people.

The confidence of a row is the probability that its labels are exactly right: of classes the score
of the one decided; of label sets the product over labels of the score, or one minus it where the
label is not given (labels taken as independent). It orders rows whatever the scores are, and is a
probability as far as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bert_cls.decision.rule import Bools, Decided, Floats, Rule
from bert_cls.errors import ConfigError


def confidence(rule: Rule, scores: Floats, decided: Decided) -> Floats:
    """float64 [rows] in 0..1; of regression, which has no probabilities, 1."""
    if rule.task == "regression":
        return np.ones(len(scores))
    if rule.task == "multilabel":
        right = np.where(decided == 1, scores, 1 - scores)
        return np.asarray(np.exp(np.log(np.maximum(right, 1e-300)).sum(axis=1)))
    return np.asarray(scores[np.arange(len(scores)), decided.astype(np.int64)])


def undecided(rule: Rule, scores: Floats, decided: Decided) -> Bools:
    """Rows that the rule leaves to people, bool [rows]; none without `min_confidence`."""
    if rule.min_confidence is None:
        return np.zeros(len(scores), dtype=bool)
    return np.asarray(confidence(rule, scores, decided) < rule.min_confidence)


def with_abstention(
    rule: Rule, scores: Floats, *, share: float | None, least: float | None
) -> Rule:
    """The rule that leaves out a share of these (development) rows, or all below a confidence.

    ConfigError when both are given, or either in regression.
    """
    if share is None and least is None:
        return rule
    if share is not None and least is not None:
        raise ConfigError("give one of decision.abstain and decision.min_confidence, not both.")
    if rule.task == "regression":
        raise ConfigError("abstaining is for labels; a regression has no confidence.")
    if share is not None:
        sure = np.sort(confidence(rule, scores, rule.decide(scores)))
        left = int(round(share * len(sure), 9))  # 0.29 of 100 is 28.999999999999996 in floats
        least = float(sure[min(left, len(sure) - 1)])
    return replace(rule, min_confidence=least)
