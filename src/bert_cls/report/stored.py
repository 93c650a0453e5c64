"""What a model folder knows of a file: whether training saw it, and the linear bar on its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson

from bert_cls.bundle import Bundle
from bert_cls.data.dataset import SPLITS
from bert_cls.errors import BundleError, DataError
from bert_cls.folders import sha256
from bert_cls.metrics import Evaluation
from bert_cls.report.data import LinearBar, Seen

_ROUNDING = 5e-5
SEEN: dict[Seen, str] = {
    "trained": "the model was trained on rows of this file, so these figures are too good: "
    "evaluation.json in the model folder has those on rows that were held out",
    "tuned": "thresholds, calibration and the best epoch were chosen on these rows, so these "
    "figures are too good: evaluation.json in the model folder has them cross-fitted",
}
"""What is to be said of figures on such rows."""


def seen_rows(bundle: Bundle, file: Path) -> Seen | None:
    """Whether training read this very file (by its sha256) to learn from, or to tune on.

    A file that held all splits was trained on. None for test files and files it never saw.
    """
    files = bundle.data_files
    digest = sha256(file)
    found = {_split(name) for name, known in files.items() if known == digest}
    if not found:
        return None
    if "train" in found or "train" not in map(_split, files):
        return "trained"
    return "tuned" if "dev" in found else None


def _split(name: str) -> str | None:
    stem = name.partition(".")[0]
    return next((split for split, stems in SPLITS.items() if stem in stems), None)


def stored_bar(bundle: Bundle, file: Path, evaluation: Evaluation) -> LinearBar | None:
    """The bar's figures on the rows that were evaluated; None where training knew other rows.

    The file must be the test file that training read, by its sha256, and the bar's stored
    evaluation must have as many rows, and as many of each label. (On development rows the bar was
    cross-fitted, so a model is not to be held against it that is judged on the rows it was tuned
    on.) How far the model leads is kept for metrics that are what they were then, and that the bar
    has a figure of. BundleError when evaluation.json is malformed.
    """
    path = bundle.folder / "evaluation.json"
    if not path.is_file() or sha256(file) not in bundle.data_files.values():
        return None
    if seen_rows(bundle, file):
        return None
    try:
        stored = orjson.loads(path.read_bytes())["linear_bar"].values()
        bars = [LinearBar.from_dict(entry) for entry in stored]
    except (ValueError, KeyError, TypeError, AttributeError, DataError) as error:
        raise BundleError(f"{path} is malformed: {error!r}") from error
    same = (bar for bar in bars if _rows(bar.evaluation) == _rows(evaluation))
    if (bar := next(same, None)) is None:
        return None
    known = bar.evaluation.metrics
    lead = (
        each
        for each in bar.lead
        if known.get(each.metric) is not None and _is(each.a, evaluation.metrics.get(each.metric))
    )
    return replace(bar, lead=tuple(lead))


def _is(before: float, now: float | None) -> bool:
    return now is not None and abs(before - now) <= _ROUNDING


def _rows(evaluation: Evaluation) -> tuple[int, list[tuple[str, int]]]:
    return evaluation.rows, [(row.name, row.support) for row in evaluation.per_label]
