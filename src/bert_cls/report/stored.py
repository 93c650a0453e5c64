"""The linear bar that training stored, for a later evaluation of the very same rows."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import orjson

from bert_cls.bundle import Bundle
from bert_cls.errors import BundleError, DataError
from bert_cls.metrics import Evaluation
from bert_cls.report.data import LinearBar

_ROUNDING = 5e-5


def stored_bar(bundle: Bundle, file: Path, evaluation: Evaluation) -> LinearBar | None:
    """The bar's figures on the rows that were evaluated; None where training knew other rows.

    The file must be one that training read, by its sha256, and the bar's stored evaluation must
    have as many rows, and as many of each label. How far the model leads is kept for metrics that
    are what they were then. BundleError when evaluation.json is malformed.
    """
    path = bundle.folder / "evaluation.json"
    known = bundle.details.get("data", {}).get("files", {}).values()
    if not path.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() not in known:
        return None
    try:
        stored = orjson.loads(path.read_bytes())["linear_bar"].values()
        bars = [LinearBar.from_dict(entry) for entry in stored]
    except (ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise BundleError(f"{path} is malformed: {error!r}") from error
    same = (bar for bar in bars if _rows(bar.evaluation) == _rows(evaluation))
    if (bar := next(same, None)) is None:
        return None
    lead = (each for each in bar.lead if _is(each.a, evaluation.metrics.get(each.metric)))
    return replace(bar, lead=tuple(lead))


def _is(before: float, now: float | None) -> bool:
    return now is not None and abs(before - now) <= _ROUNDING


def _rows(evaluation: Evaluation) -> tuple[int, list[tuple[str, int]]]:
    return evaluation.rows, [(row.name, row.support) for row in evaluation.per_label]
