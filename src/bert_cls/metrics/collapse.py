"""Signs that a model says the same whatever it reads: the alarm before the figures are believed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bert_cls.metrics.outcome import Bools, Floats, Ints, Outcome, indicator

ALARM = "warning: "
LEAST_SUPPORT = 5
"""Rows with (or without) a label from which never (or always) giving it is an alarm."""
LEAST_WRONG = 3
"""Rows of another answer from which giving all rows one and the same answer is an alarm."""
LEAST_ROWS = 5
"""Rows from which the spread of a regression's output says something."""
FLAT = 0.02
"""Spread of an output over the spread of the truth, below which it is constant."""
_SHOWN = 8


def alarms(outcome: Outcome, names: Sequence[str]) -> list[str]:
    """Sentences that begin with ALARM; none for a model that tells rows apart."""
    if outcome.task == "regression":
        if outcome.rows < LEAST_ROWS or not np.isfinite(outcome.scores).all():
            return []  # of scores that are no numbers the figures say so themselves
        with np.errstate(over="ignore"):  # squares of huge numbers; see `_flat`
            return _flat(float(np.std(outcome.scores)), float(np.std(outcome.truth)))
    truth, given = (indicator(each, outcome.labels) for each in (outcome.truth, outcome.decided))
    wrong, constant = int((truth != given).any(axis=1).sum()), _constant(outcome.scores, truth)
    if wrong >= LEAST_WRONG:
        count = f"wrong for {wrong} of {outcome.rows} rows"
        if (given == given[0]).all():
            why = _why(outcome, constant=constant)
            return [f"{ALARM}{_one_answer(given[0], names)}, which is {count}{why}"]
        # where all rows have the same labels, the scores of a good model hardly differ either
        if constant and (truth != truth[0]).any():
            return [f"{ALARM}the scores of every label are nearly constant, decisions are {count}."]
    said = []
    support, without = truth.sum(axis=0), (~truth).sum(axis=0)
    never = ~given.any(axis=0) & (support >= LEAST_SUPPORT)
    if never.any():
        said.append(f"{ALARM}never predicted: {_listed(names, never, support)}.")
    always = given.all(axis=0) & (without >= LEAST_SUPPORT)
    if always.any():
        said.append(f"{ALARM}given to every row: {_listed(names, always, support)}.")
    return said


def _one_answer(given: Bools, names: Sequence[str]) -> str:
    """What every row is given, bool [labels]."""
    only = [names[i] for i in np.flatnonzero(given)[:_SHOWN]]
    more = " …" if given.sum() > _SHOWN else ""
    if not only:
        return "no row is given any label"
    return f"every row is predicted as {', '.join(map(repr, only))}{more}"


def _constant(scores: Floats, truth: Bools) -> bool:
    """Whether the scores of all labels, [rows, labels], hardly spread beside their truth."""
    if not np.isfinite(scores).all():
        return False
    wanted = truth.std(axis=0)
    # of a label that all rows have, or none, as if half of them had it
    wanted[wanted == 0] = 0.5
    with np.errstate(over="ignore"):  # scores may be any numbers
        return bool((scores.std(axis=0) < FLAT * wanted).all())


def _why(outcome: Outcome, *, constant: bool) -> str:
    """Whether the model says the same of every text, or only the decision is the same."""
    if not np.isfinite(outcome.scores).all():
        return "."
    if constant:
        return ": the output does not depend on the text."
    highest = outcome.scores.argmax(axis=1)
    if outcome.task == "multiclass" or (
        outcome.task == "binary" and (highest == outcome.decided).all()
    ):
        others = "other" if outcome.labels == 2 else "others"
        return f", though the scores differ from row to row: one class outweighs the {others}."
    return ", though the scores differ from row to row: it is the threshold that is wrong."


def _flat(spread: float, wanted: float) -> list[str]:
    """Spreads of a regression's output and of the truth."""
    if not np.isfinite((spread, wanted)).all() or wanted == 0 or spread >= FLAT * wanted:
        return []
    said = f"the output is nearly constant (spread {spread:.3g}, of the truth {wanted:.3g})."
    return [ALARM + said]


def _listed(names: Sequence[str], which: Bools, support: Ints) -> str:
    """Names with the rows that have them, the most frequent first."""
    ids = sorted(np.flatnonzero(which).tolist(), key=lambda i: -int(support[i]))
    shown = ", ".join(f"{names[i]} ({int(support[i])} rows)" for i in ids[:_SHOWN])
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")
