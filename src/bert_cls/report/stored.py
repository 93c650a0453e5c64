"""The linear bar that training stored, for a later evaluation of the very same rows."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

from bert_cls.bundle import Bundle
from bert_cls.errors import BundleError
from bert_cls.metrics import Evaluation


def stored_bar(bundle: Bundle, file: Path, evaluation: Evaluation) -> Evaluation | None:
    """The bar's figures on the rows that were evaluated; None where training knew other rows.

    The file must be one that training read, by its sha256, and the bar's stored evaluation must
    have as many rows, and as many of each label. BundleError when evaluation.json is malformed.
    """
    path = bundle.folder / "evaluation.json"
    known = bundle.details.get("data", {}).get("files", {}).values()
    if not path.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() not in known:
        return None
    try:
        bars = orjson.loads(path.read_bytes())["linear_bar"].values()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is malformed: {error!r}") from error
    same = (bar for bar in map(Evaluation.from_dict, bars) if _rows(bar) == _rows(evaluation))
    return next(same, None)


def _rows(evaluation: Evaluation) -> tuple[int, list[tuple[str, int]]]:
    return evaluation.rows, [(row.name, row.support) for row in evaluation.per_label]
