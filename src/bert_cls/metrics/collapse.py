"""Signs that a model says the same whatever it reads: the alarm before the figures are believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_cls.metrics.outcome import Bools, Ints, Outcome, indicator

ALARM = "warning: "
LEAST_SUPPORT = 5
"""Rows with (or without) a label from which never (or always) giving it is an alarm."""
LEAST_ROWS = 20
FLAT = 0.02
"""Spread of a regression's output over the spread of the truth, below which it is constant."""
_SHOWN = 8


def alarms(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """Sentences that begin with ALARM; none for a model that tells rows apart."""
    if outcome.rows < LEAST_ROWS:
        return []
    if outcome.task == "regression":
        if not np.isfinite(outcome.scores).all():
            return []  # the figures say so themselves
        return _flat(float(np.std(outcome.scores)), float(np.std(outcome.truth)))
    truth, given = (indicator(each, outcome.labels) for each in (outcome.truth, outcome.decided))
    if outcome.task != "multilabel" and (given.all(axis=0) & ~truth.all(axis=0)).any():
        only = names[int(given.all(axis=0).argmax())]
        return [
            f"{ALARM}every row is predicted as {only!r}: the output does not depend on the text."
        ]
    said = []
    support, without = truth.sum(axis=0), (~truth).sum(axis=0)
    never = ~given.any(axis=0) & (support >= LEAST_SUPPORT)
    if never.any():
        said.append(f"{ALARM}never predicted: {_listed(names, never, support)}.")
    always = given.all(axis=0) & (without >= LEAST_SUPPORT)
    if always.any():
        said.append(f"{ALARM}given to every row: {_listed(names, always, support)}.")
    return said


def _flat(spread: float, wanted: float) -> list[str]:
    """Spreads of a regression's output and of the truth."""
    if not np.isfinite(spread) or wanted == 0 or spread >= FLAT * wanted:
        return []
    return [
        f"{ALARM}the output is nearly constant (spread {spread:.3g}, of the truth {wanted:.3g}): "
        "it does not depend on the text."
    ]


def _listed(names: Sequence[str], which: Bools, support: Ints) -> str:
    """Names with the rows that have them, the most frequent first."""
    ids = sorted(np.flatnonzero(which).tolist(), key=lambda i: -int(support[i]))
    shown = ", ".join(f"{names[i]} ({int(support[i])} rows)" for i in ids[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
