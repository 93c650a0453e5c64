"""What is gained by leaving the least certain rows to people: accuracy at a coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bert_cls.metrics.outcome import Bools, Floats

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, slots=True)
class CoverageRow:
    """Rows at least so confident: their share of all, and how many of them are right.

    `accuracy` is the share right, exact match for label sets.
    """

    min_confidence: float
    coverage: float
    rows: int
    accuracy: float


def coverage_table(confidence: Floats, right: Bools) -> tuple[CoverageRow, ...]:
    """One row for each of COVERAGES, from all rows down; rows of equal confidence stay together.

    Where several of COVERAGES fall on such rows, the next higher confidence has a row too.
    confidence float64 [rows] and right bool [rows], one row or more.
    """
    ordered = -np.sort(-confidence)
    counts = dict.fromkeys(max(1, round(share * len(ordered))) for share in COVERAGES)
    cuts: set[float] = set()
    for cut in (ordered[count - 1] for count in counts):
        above = ordered[ordered > cut]
        cuts.add(float(above[-1] if cut in cuts and len(above) else cut))
    return tuple(at_confidence(cut, confidence, right) for cut in sorted(cuts))


def at_confidence(cut: float, confidence: Floats, right: Bools) -> CoverageRow:
    """The rows with at least this confidence; an accuracy of 0 when there are none."""
    kept = confidence >= cut
    rows = int(kept.sum())
    return CoverageRow(cut, rows / len(kept), rows, float(right[kept].mean()) if rows else 0.0)
