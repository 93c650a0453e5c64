"""Decision rules: logits to scores to labels, and how their thresholds are chosen."""

from bert_cls.decision.abstain import confidence, undecided, with_abstention
from bert_cls.decision.closeness import confidence_margins, label_margins, margins
from bert_cls.decision.crossfit import Tuned, check_settings, tune
from bert_cls.decision.domain import Domain
from bert_cls.decision.objectives import OBJECTIVES
from bert_cls.decision.rule import Rule, fires
from bert_cls.decision.tuners import TUNERS

__all__ = [
    "OBJECTIVES",
    "TUNERS",
    "Domain",
    "Rule",
    "Tuned",
    "check_settings",
    "confidence",
    "confidence_margins",
    "fires",
    "label_margins",
    "margins",
    "tune",
    "undecided",
    "with_abstention",
]
