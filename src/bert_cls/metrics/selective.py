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

    confidence float64 [rows] and right bool [rows], one row or more.
    """
    ordered = -np.sort(-confidence)
    cuts = [ordered[max(1, round(share * len(ordered))) - 1] for share in COVERAGES]
    return tuple(at_confidence(float(cut), confidence, right) for cut in dict.fromkeys(cuts))


def at_confidence(cut: float, confidence: Floats, right: Bools) -> CoverageRow:
    """The rows with at least this confidence; an accuracy of 0 when there are none."""
    kept = confidence >= cut
    rows = int(kept.sum())
    return CoverageRow(cut, rows / len(kept), rows, float(right[kept].mean()) if rows else 0.0)
