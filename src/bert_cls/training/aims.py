"""What the training of a model aimed at, as its folder says."""

from __future__ import annotations

from bert_cls.bundle import Bundle
from bert_cls.errors import BundleError


def calibrated(bundle: Bundle) -> bool:
    """Whether training aimed at logits that are probabilities without a rule."""
    return _said(bundle, "calibrated")


def adjusted(bundle: Bundle) -> bool:
    """Whether training made up for rare classes, so that deciding must not do so again."""
    return _said(bundle, "adjusted")


def _said(bundle: Bundle, name: str) -> bool:
    tuning = bundle.details.get("tuning")
    value = tuning.get(name) if isinstance(tuning, dict) else None
    if not isinstance(value, bool):
        raise BundleError(
            f"{bundle.folder} does not say what its training aimed at (tuning.{name}).",
            hint="train it with this version.",
        )
    return value
