"""int8 with a second look: rows whose int8 scores are too close to call are redone in float32.

int8 moves scores by a hundredth or so. That changes a label only where a score lies that close to
its threshold, or two classes that close to each other; how close was measured at export, on rows
that the quantisation had not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.decision import Rule, confidence
from bert_cls.engines.engine import FILES, Engine, Kind, Logits, Parallel
from bert_cls.engines.onnx_guard import check_onnx
from bert_cls.engines.openvino_guard import check_openvino
from bert_cls.text import PaddedBatch

GUARDS: dict[str, Callable[[Path], None]] = {".onnx": check_onnx, ".xml": check_openvino}
"""What looks at an exported file before a runtime does."""


class SecondLookEngine:
    """A fast engine, and an exact one that is opened when it is first needed."""

    def __init__(self, fast: Engine, open_exact: Callable[[], Engine], *, margin: float) -> None:
        self.name = f"{fast.name}, close calls in float32"
        self.max_tokens = fast.max_tokens
        self.margin = margin
        self.fast = fast
        self._open_exact = open_exact
        self._exact: Engine | None = None

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs] of the fast engine."""
        return self.fast.logits(batch)

    def logits_of(self, batches: Iterable[tuple[int, PaddedBatch]]) -> Iterator[tuple[int, Logits]]:
        """Logits of numbered batches by the fast engine."""
        if isinstance(self.fast, Parallel):
            yield from self.fast.logits_of(batches)
        else:
            yield from ((number, self.fast.logits(batch)) for number, batch in batches)

    def unsure(self, logits: Logits, rule: Rule) -> NDArray[np.bool_]:
        """Bool [rows]: labels that the measured error of int8 could change."""
        return np.asarray(margins(rule, logits) <= self.margin)

    def exact(self) -> Engine:
        """The float32 engine."""
        if self._exact is None:
            self._exact = self._open_exact()
        return self._exact


def open_exported(bundle: Bundle, kind: Kind, opened: Callable[[Path, str], Engine]) -> Engine:
    """The engine of `kind` as `opened(path, precision)` gives it; for int8 two, the second later.

    Every exported file is opened here.
    """

    def of(export: str, precision: str) -> Engine:
        path = bundle.folder / FILES[export]
        GUARDS[path.suffix](path)
        return opened(path, precision)

    if kind.precision != "int8":
        return of(kind.export, kind.precision)
    facts = bundle.details.get("engines", {}).get(kind.export, {})
    return SecondLookEngine(
        of(kind.export, "int8"),
        lambda: of(kind.export.removesuffix("-int8"), "float32"),
        margin=float(facts.get("margin", 0.0)),
    )


def margins(rule: Rule, logits: Logits) -> NDArray[np.float64]:
    """float64 [rows]: how far a score must move before a row's labels change.

    The distance of a score from its threshold, or half that between the two best classes; infinite
    for regression. Where the rule abstains, that of its confidence counts as well; with limits on
    the number of labels, the order of a row's scores.
    """
    if rule.task == "regression":
        return np.full(len(logits), np.inf)
    scores = rule.scores(logits)
    gaps = _gaps(rule, scores)
    if rule.min_confidence is None:
        return gaps
    sure = confidence(rule, scores, rule.decide(scores))
    return np.asarray(np.minimum(gaps, np.abs(sure - rule.min_confidence)))


def _gaps(rule: Rule, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if rule.task == "multilabel":
        gaps = np.abs(scores - np.asarray(rule.thresholds, dtype=np.float64))
        nearest = gaps.min(axis=1)
        if rule.min_labels == 0 and rule.max_labels is None:
            return np.asarray(nearest)
        return np.asarray(np.minimum(nearest, _closest_pair(scores)))
    if rule.task == "binary" and rule.thresholds:
        return np.asarray(np.abs(scores[:, 1] - rule.thresholds[0]))
    if rule.weights:
        scores = scores * np.asarray(rule.weights) / max(rule.weights)
    best = np.sort(scores, axis=1)
    return np.asarray((best[:, -1] - best[:, -2]) / 2)


def _closest_pair(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Half the smallest distance between two scores of a row."""
    if scores.shape[1] == 1:
        return np.full(len(scores), np.inf)
    return np.asarray(np.diff(np.sort(scores, axis=1), axis=1).min(axis=1) / 2)
