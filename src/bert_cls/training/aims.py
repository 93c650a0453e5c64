"""What the training of a model aimed at, as its folder says."""

from __future__ import annotations

from typing import Any

from bert_cls.bundle import Bundle
from bert_cls.losses import LOSSES


def calibrated(bundle: Bundle) -> bool:
    """Whether training aimed at logits that are probabilities without a rule.

    Older folders name the loss only, and of classes what their rule makes of it.
    """
    stored = bundle.details["tuning"].get("calibrated")
    if stored is not None:
        return bool(stored)
    aimed = LOSSES[str(bundle.details["config"]["loss"]["name"])].calibrated
    return aimed and (bundle.task == "multilabel" or bundle.rule.calibrated)


def adjusted(bundle: Bundle) -> bool:
    """Whether training made up for rare classes, so that deciding must not do so again.

    Of older folders it follows from their settings and from what was tried in tuning.
    """
    tuning, config = bundle.details.get("tuning", {}), bundle.details.get("config", {})
    stored = tuning.get("adjusted")
    if stored is not None:
        return bool(stored)
    loss: dict[str, Any] = config.get("loss", {})
    asked = (
        loss.get("name") == "logit_adjustment"
        or loss.get("class_weights", "none") != "none"
        or "class_weight_power" in loss.get("options", {})
        or config.get("training", {}).get("sampling") == "balanced"
    )
    return asked and "adjusted" not in tuning.get("crossfit", {})
