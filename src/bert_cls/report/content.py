"""Judged rows become ReportData: pure functions of arrays, no files, no page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_cls import metrics
from bert_cls.bundle import Bundle
from bert_cls.data.problems import KINDS, NONE_OF_THE_LABELS
from bert_cls.metrics import Evaluation
from bert_cls.metrics.counts import GROUPS, class_counts, confusion_matrix, label_counts
from bert_cls.metrics.outcome import Bools, Ints, Outcome
from bert_cls.report.data import (
    About,
    Found,
    Group,
    LinearBar,
    Mistakes,
    Numbers,
    Pair,
    Part,
    ReportData,
    Truncation,
)
from bert_cls.report.judged import Judged
from bert_cls.report.scores import calibration_curves, label_curves
from bert_cls.report.worst import Explain, Nearest, worst_rows

MATRIX_LABELS = 24
COUNTED_LABELS = 512
PAIRS = 10
SCATTER_ROWS = 1500
RESIDUAL_BINS = 31
_SEVERITIES = ("error", "warning", "note")


def report_data(
    judged: Judged,
    evaluation: Evaluation,
    bundle: Bundle,
    *,
    about: About,
    linear_bar: LinearBar | None = None,
    texts: bool = True,
    explain: Explain | None = None,
    nearest: Nearest | None = None,
) -> ReportData:
    """Everything a report says of rows that a model was evaluated on.

    `evaluation` is that of the judged rows, `linear_bar` the linear model on them.
    `texts=False` leaves all texts of the data out. `explain` is asked what spoke for the labels
    that the worst rows were given in error or miss, `nearest` for training rows like them; see
    `worst`.
    """
    outcome = judged.outcome
    errors = metrics.row_errors(outcome)
    data = bundle.details.get("data", {})
    found = ReportData(
        about=about,
        evaluation=evaluation,
        linear_bar=linear_bar,
        rule=bundle.rule.to_dict(),
        groups=_groups(evaluation),
        curves=label_curves(outcome, evaluation, bundle.rule),
        calibration=calibration_curves(judged, bundle.rule),
        mistakes=_mistakes(outcome, bundle.space.names),
        numbers=_numbers(outcome) if outcome.task == "regression" else None,
        lengths=metrics.by_length(judged.lengths, errors, shares=outcome.task != "regression"),
        truncation=_truncation(judged, evaluation, bundle),
        worst=worst_rows(
            judged, bundle, explain=explain if texts else None, nearest=nearest if texts else None
        ),
        wrong_rows=int(np.count_nonzero(errors)),
        texts=True,
        history=tuple(bundle.details.get("history", ())),
        split_rows=dict(data.get("rows", {})),
        audit=_found(data.get("audit")),
        settings=_settings(bundle.details),
    )
    return found if texts else found.without_texts()


def _groups(evaluation: Evaluation) -> tuple[Group, ...]:
    """Head, medium and tail labels, where training counts are known and each has a label."""
    rows = evaluation.per_label
    counts = [row.train_count for row in rows if row.train_count is not None]
    if len(counts) < max(len(GROUPS), len(rows)):
        return ()
    parts: Mapping[Any, Ints] = metrics.frequency_groups(counts)
    return tuple(
        Group(
            name=name,
            labels=tuple(rows[i].name for i in ids),
            fewest=min(counts[i] for i in ids),
            most=max(counts[i] for i in ids),
            f1=evaluation.metrics.get(f"macro_f1_{name}"),
        )
        for name, ids in parts.items()
    )


def _mistakes(outcome: Outcome, names: Sequence[str]) -> Mistakes | None:
    """What is taken for what among the labels with most mistakes; None for numbers."""
    if outcome.task == "regression":
        return None
    tally = _tally(outcome)
    most_wrong = np.argsort(-(tally.fp + tally.fn), kind="stable")
    counted = np.sort(most_wrong[:COUNTED_LABELS])
    shown = np.flatnonzero(np.isin(counted, most_wrong[:MATRIX_LABELS]))
    table = _table(outcome, counted)
    extra = [len(counted)] if outcome.task == "multilabel" else []
    picked = np.concatenate([shown, extra]).astype(np.int64)
    return Mistakes(
        labels=tuple(names[counted[i]] for i in shown),
        matrix=tuple(tuple(row) for row in table[np.ix_(picked, picked)].tolist()),
        left_out=len(names) - len(shown),
        pairs=_pairs(table, [names[i] for i in counted]),
    )


def _pairs(table: Ints, names: Sequence[str]) -> tuple[Pair, ...]:
    """The largest counts of one label for another, then of labels missed or given alone."""
    inner, alone = table.copy(), table.copy()
    inner[len(names) :], inner[:, len(names) :] = 0, 0
    alone[: len(names), : len(names)] = 0
    called = [*names, None]
    return tuple(
        Pair(called[i], called[j], int(counts[i, j]))
        for counts in (inner, alone)
        for i, j in metrics.largest_pairs(counts, PAIRS)
    )


def _tally(outcome: Outcome) -> metrics.Counts:
    if outcome.task == "multilabel":
        return label_counts(outcome.truth, outcome.decided)
    return class_counts(confusion_matrix(outcome.truth, outcome.decided, outcome.labels))


def _table(outcome: Outcome, counted: Ints) -> Ints:
    """Counts of pairs of the counted labels; of label sets with a row and column for none."""
    if outcome.task == "multilabel":
        return metrics.replacements(outcome.truth, outcome.decided, counted)
    whole = confusion_matrix(outcome.truth, outcome.decided, outcome.labels)
    return whole[np.ix_(counted, counted)]


def _numbers(outcome: Outcome) -> Numbers:
    """A sample for the scatter, and the residuals of all rows."""
    rows = np.arange(outcome.rows)
    if len(rows) > SCATTER_ROWS:
        rows = np.sort(np.random.default_rng(0).choice(outcome.rows, SCATTER_ROWS, replace=False))
    residuals = outcome.scores - outcome.truth
    widest = float(np.abs(residuals).max()) or 1.0
    counts, edges = np.histogram(residuals, bins=RESIDUAL_BINS, range=(-widest, widest))
    return Numbers(
        truth=tuple(outcome.truth[rows].tolist()),
        scores=tuple(outcome.scores[rows].tolist()),
        edges=tuple(edges.tolist()),
        residuals=tuple(counts.tolist()),
    )


def _truncation(judged: Judged, evaluation: Evaluation, bundle: Bundle) -> Truncation:
    """What the maximum length costs: rows that are read whole beside rows that are cut."""
    name = evaluation.headline[0]

    def half(rows: Bools) -> Part | None:
        if not rows.any():
            return None
        chosen = metrics.part(judged.outcome, rows)
        errors = metrics.row_errors(chosen)
        bounds = metrics.mean_interval(errors, shares=chosen.task != "regression")
        return Part(len(errors), float(errors.mean()), bounds, metrics.headline_value(chosen, name))

    return Truncation(
        max_length=bundle.text.max_length,
        windows=bundle.text.max_windows if bundle.text.long == "windows" else 1,
        metric=name,
        whole=half(~judged.cut),
        cut=half(judged.cut),
    )


def _found(stored: object) -> tuple[Found, ...]:
    """The audit as it is stored: a list of {code, severity, count}; other entries are left out."""
    entries = stored if isinstance(stored, list) else []
    found = [
        Found(entry["severity"], entry["code"], _title(entry), entry["count"])
        for entry in entries
        if isinstance(entry, dict)
        and isinstance(entry.get("code"), str)
        and entry["code"] in KINDS
        and entry.get("severity") in _SEVERITIES
        and isinstance(entry.get("count"), int)
    ]
    return tuple(sorted(found, key=lambda f: (_SEVERITIES.index(f.severity), f.code)))


def _title(entry: Mapping[str, Any]) -> str:
    title = entry.get("title")
    return NONE_OF_THE_LABELS if title == NONE_OF_THE_LABELS else KINDS[entry["code"]]


def _settings(details: Mapping[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Settings with an origin, by name."""
    config, out = details.get("config", {}), []
    for key, why in sorted(details.get("origins", {}).items()):
        section, _, field = key.partition(".")
        out.append((key, str(config.get(section, {}).get(field)), str(why)))
    return tuple(out)
