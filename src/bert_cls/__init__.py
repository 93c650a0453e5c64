"""bert-cls: a labelled JSON file becomes a BERT text classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bert_cls.errors import BertClsError

if TYPE_CHECKING:
    from bert_cls.classifier import Classifier
    from bert_cls.data import Example
    from bert_cls.prediction import Prediction

__version__ = "0.1.0"
__all__ = ["BertClsError", "Classifier", "Example", "Prediction"]

_HOMES = {
    "Classifier": "bert_cls.classifier",
    "Example": "bert_cls.data",
    "Prediction": "bert_cls.prediction",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `bert-cls --help` must not wait for numpy."""
    if name not in _HOMES:
        raise AttributeError(f"module 'bert_cls' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
