"""A copy of a Classifier, in this process or another: its folder opened again, with its rule.

What an engine holds is no data that could be copied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bert_cls.bundle import Bundle
from bert_cls.engines import Engine
from bert_cls.engines.process import opened_as
from bert_cls.errors import BundleError, EngineError


def recipe(kind: Any, bundle: Bundle, engine: Engine) -> tuple[Any, ...]:
    """What `again` needs. EngineError where the engine was not opened from the folder by name."""
    name = opened_as(engine)
    if name is None:
        raise EngineError(
            f"a copy opens its folder again, and the engine {engine.name!r} is from no folder.",
            hint="copy what Classifier.load gives.",
        )
    return kind, replace(bundle, folder=bundle.folder.absolute(), details={}), name


def again(kind: Any, kept: Bundle, engine: str) -> Any:
    """`kind.load` of the folder. BundleError when it is another model than the one copied."""
    model = kind.load(kept.folder, engine=engine, check=kept.weights is not None)
    if replace(model.bundle, details={}, rule=kept.rule) != kept:
        raise BundleError(
            f"{kept.folder} became another model since the Classifier was opened that was copied.",
            hint="load the model anew and copy that.",
        )
    return kind(replace(model.bundle, rule=kept.rule), model.engine, model.text)
