"""int8 with a second look: rows whose int8 scores are too close to call are computed again.

int8 moves scores by a hundredth or so. That changes a label only where a score lies that close to
its threshold, or two classes that close to each other; how close was measured at export, on rows
that the quantisation had not seen. The second look is float32's; where the processor multiplies
bfloat16 itself it is bfloat16's, several times as exact as int8 and twice as fast as float32, and
what is too close for that as well is left to float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.decision import Rule, confidence_margins, label_margins
from bert_cls.engines.engine import FILES, Engine, Kind, Logits, Parallel
from bert_cls.engines.machine import multiplies_bfloat16
from bert_cls.engines.onnx_guard import check_onnx
from bert_cls.engines.openvino_guard import check_openvino
from bert_cls.errors import BundleError, in_shell
from bert_cls.folders import MANIFEST, listed
from bert_cls.text import PaddedBatch

GUARDS: dict[str, Callable[[Path], None]] = {".onnx": check_onnx, ".xml": check_openvino}
"""What looks at an exported file before a runtime does."""
MARGINS = ("margin", "margin_elsewhere", "margin_confidence")
"""What an export measures of an engine that is not exact; see Stage."""
Margins = tuple[float, float, float]
_SCALE = ("activation", "temperature", "bias", "power", "slopes", "offsets", "weights")
"""The parts of a rule that make of logits what is compared; margins are distances of that."""
_CUTS = ("thresholds", "min_labels", "max_labels")
"""The parts that say where it is compared."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One of the engines that look at a row in turn."""

    precision: str
    open: Callable[[], Engine]
    margin: float = 0.0
    """within this distance of other labels the next stage is asked, where there is one"""
    margin_elsewhere: float = 0.0
    """the same where other thresholds or limits than the model's own decide: errors differ there"""
    margin_confidence: float = 0.0
    """the same of a row's confidence from the one below which it is left undecided"""


class SecondLookEngine:
    """The first of two or more stages; each later one is opened when it is first needed.

    `rule` is the one that the margins were measured for.
    """

    def __init__(self, stages: Sequence[Stage], rule: Rule) -> None:
        self._first, *self._later = stages
        self._rule = rule
        self.fast = self._first.open()
        later = " and ".join(stage.precision for stage in self._later)
        self.name = f"{self.fast.name}, close calls in {later}"
        self.max_tokens = self.fast.max_tokens
        self.at_once = self.fast.at_once if isinstance(self.fast, Parallel) else 1
        self._surer: Engine | None = None
        self._opening = Lock()

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs] of the first stage."""
        return self.fast.logits(batch)

    def logits_of(self, batches: Iterable[tuple[int, PaddedBatch]]) -> Iterator[tuple[int, Logits]]:
        """Logits of numbered batches by the first stage."""
        if isinstance(self.fast, Parallel):
            yield from self.fast.logits_of(batches)
        else:
            yield from ((number, self.fast.logits(batch)) for number, batch in batches)

    def unsure(self, logits: Logits, rule: Rule) -> NDArray[np.bool_]:
        """Bool [rows]: answers that the measured error of the first stage could change.

        All are, under a rule with another scale: the error of its scores was not measured.
        """
        if self._differs(rule, _SCALE):
            return np.ones(len(logits), dtype=np.bool_)
        first = self._first
        margin = first.margin_elsewhere if self._differs(rule, _CUTS) else first.margin
        unsure = label_margins(rule, logits) <= margin
        return unsure | (confidence_margins(rule, logits) <= first.margin_confidence)

    def _differs(self, rule: Rule, parts: Sequence[str]) -> bool:
        return any(getattr(rule, part) != getattr(self._rule, part) for part in parts)

    def surer(self) -> Engine:
        """The stages that follow."""
        with self._opening:  # threads that need it at once wait for one
            if self._surer is None:
                self._surer = in_turn(self._later, self._rule)
            return self._surer


def in_turn(stages: Sequence[Stage], rule: Rule) -> Engine:
    """The engine of one stage by itself, or of several that look in turn."""
    return stages[0].open() if len(stages) == 1 else SecondLookEngine(stages, rule)


def open_exported(bundle: Bundle, kind: Kind, opened: Callable[[Path, str], Engine]) -> Engine:
    """The engine of `kind` as `opened(path, precision)` gives it; for int8 the first of several.

    Every exported file is opened here.
    """
    weights = _weights(bundle)

    def stage(export: str, precision: str, within: Margins = (0.0, 0.0, 0.0)) -> Stage:
        def open_file() -> Engine:
            path = bundle.folder / FILES[export]
            if _weights(bundle) != weights:  # its answers would be mixed with those so far
                raise BundleError(
                    f"{bundle.folder} became another model while it was in use.",
                    hint="give the command again, or load the model anew.",
                )
            GUARDS[path.suffix](path)
            return opened(path, precision)

        return Stage(precision, open_file, *within)

    stages = [stage(kind.export, kind.precision)]
    if kind.precision == "int8":
        exact = kind.export.removesuffix("-int8")
        within = _measured(bundle, kind.export)
        if within is None:  # taken for sure of everything, it would change labels in silence
            raise _malformed(bundle, [kind.export, MARGINS[0]])
        stages = [stage(kind.export, "int8", within), stage(exact, "float32")]
        between = _measured(bundle, exact, "bfloat16")
        if between is not None and between < within and multiplies_bfloat16():
            stages.insert(1, stage(exact, "bfloat16", between))
    return in_turn(stages, bundle.rule)


def _weights(bundle: Bundle) -> str | None:
    """The sha256 of the weights as the manifest has it; another export leaves them as they are."""
    if not (bundle.folder / MANIFEST).is_file():
        return None
    return listed(bundle.folder).get("model.safetensors")


def _measured(bundle: Bundle, *keys: str) -> Margins | None:
    """The MARGINS that an export wrote; None where it wrote none. BundleError for other values.

    NaN is none either: no score is within it, and labels of int8 would pass for those of float32.
    """
    found: Any = bundle.details.get("engines", {})
    for key in keys:
        if not isinstance(found, Mapping):
            raise _malformed(bundle, keys)
        if key not in found:
            return None
        found = found[key]
    if not isinstance(found, Mapping):
        raise _malformed(bundle, keys)
    if not set(MARGINS) & set(found):
        return None
    for name in MARGINS:
        value: Any = found.get(name)
        if type(value) not in (int, float) or not 0 <= value < np.inf:
            raise _malformed(bundle, [*keys, name])
    labels, elsewhere, sure = (float(found[name]) for name in MARGINS)
    return labels, elsewhere, sure


def _malformed(bundle: Bundle, keys: Sequence[str]) -> BundleError:
    return BundleError(
        f"{bundle.folder} has changed since it was exported: "
        f"engines.{'.'.join(keys)} is missing or no distance between scores.",
        hint=f"bert-cls export {in_shell(bundle.folder)} --to {keys[0]}",
    )
