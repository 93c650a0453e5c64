"""Which metrics each task has, and the one way in: evaluate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bert_cls.data.example import LabelSpace, Task
from bert_cls.errors import DataError
from bert_cls.metrics import calibration, counts, ranking, regression
from bert_cls.metrics.collapse import alarms
from bert_cls.metrics.counts import Averages, Counts
from bert_cls.metrics.definitions import DEPTHS, HEADLINES
from bert_cls.metrics.evaluation import Confusion, Evaluation, LabelRow, ReliabilityRow, Sheet
from bert_cls.metrics.intervals import RESAMPLES, bootstrap_intervals
from bert_cls.metrics.outcome import Floats, Ints, Outcome, indicator
from bert_cls.metrics.selective import CoverageRow, coverage_table

# A larger table is for no eye and, as JSON, for no file.
CONFUSION_CLASSES = 256
# A softmax in float32 can end this far above 1.
FLOAT32_ROUNDING = 1e-6
NO_LABEL = "no row has a label"
NO_ORDER = "the scores hold values that are not finite"


def evaluate(
    task: Task,
    space: LabelSpace,
    truth: ArrayLike,
    scores: ArrayLike,
    predicted: ArrayLike | None,
    *,
    train_counts: ArrayLike | None = None,
    calibrated: bool = True,
    confidence: ArrayLike | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Every metric of the task, with bootstrap intervals of the headline ones.

    The arrays are those of `Outcome`. `train_counts`, int [labels], is how many training rows
    have each label; with it come the head, medium and tail scores of multilabel and multiclass
    data. `calibrated=False` says that scores are no probabilities, so metrics of probabilities are
    None. `confidence`, float64 [rows], is how sure each prediction is; with it comes `coverage`.
    `resamples=0` leaves the intervals out. DataError when the arrays do not fit the space.
    """
    outcome = Outcome(task, np.asarray(truth), np.asarray(scores, np.float64), _array(predicted))
    if outcome.labels != len(space):
        raise DataError(
            f"scores must have one column for each of the {len(space)} labels. "
            f"Got {outcome.labels} instead."
        )
    support = None if train_counts is None else np.asarray(train_counts, dtype=np.int64)
    if support is not None and support.shape != (len(space),):
        raise DataError(
            f"train_counts must be int [{len(space)}], one a label. Got {list(support.shape)}."
        )
    sheet = Sheet()
    case = Case(outcome, space.names, support, _unfit_for_probability(outcome, calibrated))
    per_label, confusion = DESCRIBE[task](case, sheet)
    shown = {name: sheet.metrics[name] for name in HEADLINES[task]}
    points = {name: value for name, value in shown.items() if value is not None}
    intervals, notes = bootstrap_intervals(outcome, points, resamples=resamples, seed=seed)
    return Evaluation(
        task=task,
        rows=outcome.rows,
        headline=HEADLINES[task],
        metrics=sheet.metrics,
        per_label=per_label,
        intervals=intervals,
        confusion=confusion,
        notes=(*alarms(outcome, space.names), *sheet.notes, *notes),
        reliability=_reliability(case),
        coverage=() if confidence is None else _coverage(outcome, np.asarray(confidence)),
    )


def _reliability(case: Case) -> tuple[ReliabilityRow, ...]:
    """Bins that hold a score, lowest first; none where scores are no probabilities."""
    outcome = case.outcome
    if outcome.task == "regression" or case.unfit is not None:
        return ()
    table = calibration.reliability_of(outcome, outcome.scores)
    edges = np.arange(calibration.BINS + 1) / calibration.BINS
    return tuple(
        ReliabilityRow(
            low=float(edges[i]),
            high=float(edges[i + 1]),
            count=int(table.rows[i]),
            score=float(table.confidence[i] / table.rows[i]),
            share=float(table.hits[i] / table.rows[i]),
        )
        for i in np.flatnonzero(table.rows)
    )


def _coverage(outcome: Outcome, confidence: Floats) -> tuple[CoverageRow, ...]:
    if outcome.task == "regression":
        return ()
    return coverage_table(confidence, outcome.right)


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """What is evaluated: arrays, label names, training counts int64 [labels] if known.

    `unfit` says why the scores cannot be read as probabilities; None if they can.
    """

    outcome: Outcome
    names: tuple[str, ...]
    train_counts: Ints | None
    unfit: str | None

    @property
    def ordered(self) -> bool:
        """Whether the scores are finite, so that they can be put in order."""
        return bool(np.isfinite(self.outcome.scores).all())


def _array(values: ArrayLike | None) -> NDArray[np.generic] | None:
    return None if values is None else np.asarray(values)


def _unfit_for_probability(outcome: Outcome, calibrated: bool) -> str | None:
    """Why the scores cannot be read as probabilities; None if they can."""
    if not np.isfinite(outcome.scores).all():
        return NO_ORDER
    if not calibrated:
        return "the scores are not calibrated probabilities"
    if outcome.scores.min() < 0 or outcome.scores.max() > 1 + FLOAT32_ROUNDING:
        return "the scores reach outside 0..1, so they are no probabilities"
    return None


def _put_averages(sheet: Sheet, prefix: str, averages: Averages, *, scope: str = "") -> None:
    for name in ("precision", "recall", "f1"):
        sheet.put(f"{prefix}_{name}{scope}", getattr(averages, name), NO_LABEL)


def _put_label_averages(sheet: Sheet, tally: Counts) -> None:
    """Micro, macro and weighted averages, of labels or of classes."""
    everything = counts.macro(tally, np.ones(len(tally.tp), dtype=bool))
    _put_averages(sheet, "micro", counts.micro(tally))
    _put_averages(sheet, "macro", everything, scope="_all")
    _put_averages(sheet, "macro", counts.macro(tally, tally.present), scope="_present")
    sheet.put("macro_f1_of_means", counts.f1_of_means(everything))
    _put_averages(sheet, "weighted", counts.weighted(tally))


def _put_groups(sheet: Sheet, tally: Counts, train_counts: Ints | None) -> None:
    """Macro F1 of the head, medium and tail labels, where counts are known and each has one."""
    if train_counts is None or len(train_counts) < len(counts.GROUPS):
        return
    for name, ids in counts.frequency_groups(train_counts).items():
        value = counts.macro(tally, ids[tally.present[ids]]).f1
        sheet.put(f"macro_f1_{name}", value, "no row has a label of this group")


def _label_ranks(case: Case) -> tuple[Floats, Floats]:
    """Average precision and AUROC per label, all NaN when the scores cannot be ordered."""
    if case.ordered:
        outcome = case.outcome
        return ranking.rank_labels(indicator(outcome.truth, outcome.labels), outcome.scores)
    return np.full(len(case.names), np.nan), np.full(len(case.names), np.nan)


def _label_rows(case: Case, tally: Counts, ranks: tuple[Floats, Floats]) -> tuple[LabelRow, ...]:
    precision, recall = counts.label_precision(tally), counts.label_recall(tally)
    f1 = counts.label_f1(tally)
    return tuple(
        LabelRow(
            name=name,
            support=int(tally.support[i]),
            predicted=int(tally.predicted[i]),
            precision=float(precision[i]),
            recall=float(recall[i]),
            f1=float(f1[i]),
            average_precision=_known(ranks[0][i]),
            auroc=_known(ranks[1][i]),
            train_count=None if case.train_counts is None else int(case.train_counts[i]),
        )
        for i, name in enumerate(case.names)
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


Description = tuple[tuple[LabelRow, ...], Confusion | None]


def describe_multilabel(case: Case, sheet: Sheet) -> Description:
    """Write the metrics of multilabel data on the sheet; returns its label rows, no confusion."""
    outcome, truth, predicted = case.outcome, case.outcome.truth, case.outcome.decided
    tally = counts.label_counts(truth, predicted)
    _put_label_averages(sheet, tally)
    rows = counts.row_scores(truth, predicted)
    _put_averages(sheet, "samples", Averages(*(float(values.mean()) for values in rows)))
    sheet.put("exact_match", float((truth == predicted).all(axis=1).mean()))
    sheet.put("hamming_loss", float((tally.fp + tally.fn).sum() / truth.size))
    sheet.put("macro_mcc", float(counts.label_matthews(tally).mean()))
    ranks = _label_ranks(case)
    _put_order(sheet, case, ranks)
    if case.unfit is None:
        each, pooled = calibration.label_calibration_errors(truth, outcome.scores)
        sheet.put("ece_pooled", pooled)
        sheet.put("ece_label_mean", float(each.mean()))
        sheet.put("brier", calibration.brier(truth, outcome.scores))
    else:
        sheet.skip(("ece_pooled", "ece_label_mean", "brier"), case.unfit)
    sheet.put("labels_per_row_true", float(tally.support.sum() / tally.rows))
    sheet.put("labels_per_row_predicted", float(tally.predicted.sum() / tally.rows))
    sheet.put("empty_rows_true", float(np.mean(~truth.any(axis=1))))
    sheet.put("empty_rows_predicted", float(np.mean(~predicted.any(axis=1))))
    _put_groups(sheet, tally, case.train_counts)
    return _label_rows(case, tally, ranks), None


def _put_order(sheet: Sheet, case: Case, ranks: tuple[Floats, Floats]) -> None:
    """What the scores of multilabel data are worth without thresholds."""
    outcome = case.outcome
    names = [f"{kind}_at_{k}" for k in DEPTHS for kind in ("precision", "recall")]
    if not case.ordered:
        skipped = ("map", "map_labels", "macro_auroc", "auroc_labels", "lrap", "lrap_excluded")
        sheet.skip((*skipped, *names), NO_ORDER)
        return
    sheet.put("map", ranking.mean_defined(ranks[0]), NO_LABEL)
    sheet.put("map_labels", int(np.count_nonzero(~np.isnan(ranks[0]))))
    _put_macro_auroc(sheet, ranks[1])
    precision, hits = ranking.rank_rows(outcome.truth, outcome.scores, deepest=max(DEPTHS))
    sheet.put("lrap", ranking.mean_defined(precision), "every row has no label or every label")
    sheet.put("lrap_excluded", float(np.isnan(precision).mean()))
    support = np.count_nonzero(outcome.truth, axis=1)
    for k in DEPTHS:
        if k > outcome.labels:
            too_deep = (f"precision_at_{k}", f"recall_at_{k}")
            sheet.skip(too_deep, f"the model has {outcome.labels} labels")
            continue
        found = np.count_nonzero(hits[:, :k], axis=1)
        sheet.put(f"precision_at_{k}", float(found.mean() / k))
        sheet.put(f"recall_at_{k}", float(counts.ratio(found, support).mean()))


def _put_macro_auroc(sheet: Sheet, areas: Floats) -> None:
    reason = "no label is had by some rows and lacked by others"
    sheet.put("macro_auroc", ranking.mean_defined(areas), reason)
    sheet.put("auroc_labels", int(np.count_nonzero(~np.isnan(areas))))


def _describe_classes(
    case: Case, sheet: Sheet
) -> tuple[Counts, tuple[Floats, Floats], Description]:
    """What binary and multiclass data share: averages, accuracy, MCC, confusion, label rows."""
    outcome = case.outcome
    confusion = counts.confusion_matrix(outcome.truth, outcome.decided, outcome.labels)
    tally = counts.class_counts(confusion)
    sheet.put("accuracy", float(tally.tp.sum() / tally.rows))
    sheet.put("balanced_accuracy", counts.macro(tally, tally.present).recall)
    _put_label_averages(sheet, tally)
    sums = (tally.tp, tally.support, tally.predicted)
    sheet.put("mcc", float(counts.matthews(*(each.astype(np.float64) for each in sums))))
    ranks = _label_ranks(case)
    table = None
    if outcome.labels <= CONFUSION_CLASSES:
        table = tuple(tuple(row) for row in confusion.tolist())
    else:
        sheet.notes.append(f"confusion: left out with more than {CONFUSION_CLASSES} classes")
    return tally, ranks, (_label_rows(case, tally, ranks), table)


def describe_binary(case: Case, sheet: Sheet) -> Description:
    """Write the metrics of binary data on the sheet; the second label is the positive class."""
    outcome = case.outcome
    tally, ranks, description = _describe_classes(case, sheet)
    sheet.put("precision", float(counts.label_precision(tally)[1]))
    sheet.put("recall", float(counts.label_recall(tally)[1]))
    sheet.put("f1", float(counts.label_f1(tally)[1]))
    if case.ordered:
        sheet.put("auroc", float(ranks[1][1]), "the rows have one class only")
        sheet.put("average_precision", float(ranks[0][1]), "no row has the positive class")
    else:
        sheet.skip(("auroc", "average_precision"), NO_ORDER)
    if case.unfit is None:
        table = calibration.reliability_of(outcome, outcome.scores)
        sheet.put("ece", calibration.expected_calibration_error(table))
        sheet.put("brier", calibration.brier(outcome.truth == 1, outcome.scores[:, 1]))
    else:
        sheet.skip(("ece", "brier"), case.unfit)
    return description


def describe_multiclass(case: Case, sheet: Sheet) -> Description:
    """Write the metrics of multiclass data on the sheet."""
    outcome = case.outcome
    tally, ranks, description = _describe_classes(case, sheet)
    if case.ordered:
        _put_macro_auroc(sheet, ranks[1])
    else:
        sheet.skip(("macro_auroc", "auroc_labels"), NO_ORDER)
    _put_groups(sheet, tally, case.train_counts)
    if case.unfit is not None:
        sheet.skip(("ece", "brier", "log_loss"), case.unfit)
        return description
    table = calibration.reliability_of(outcome, outcome.scores)
    sheet.put("ece", calibration.expected_calibration_error(table))
    if reason := calibration.no_distribution(outcome):
        sheet.skip(("brier", "log_loss"), reason)
    else:
        truth = indicator(outcome.truth, outcome.labels)
        # a row counts once, whatever the number of classes: their sum, not their mean
        sheet.put("brier", outcome.labels * calibration.brier(truth, outcome.scores))
        losses = calibration.row_log_losses(outcome.truth, outcome.scores)
        sheet.put("log_loss", float(losses.mean()))
    return description


def describe_regression(case: Case, sheet: Sheet) -> Description:
    """Write the metrics of regression on the sheet; there are no labels and no confusion."""
    truth, scores = case.outcome.truth, case.outcome.scores
    if not case.ordered:
        sheet.skip(HEADLINES["regression"], NO_ORDER)
        return (), None
    squared = regression.mean_squared_error(truth, scores)
    sheet.put("mse", squared)
    sheet.put("rmse", float(np.sqrt(squared)))
    sheet.put("mae", regression.mean_absolute_error(truth, scores))
    constant = [
        name
        for name, values in (("truth", truth), ("scores", scores))
        if regression.is_constant(values)
    ]
    reason = f"constant {' and '.join(constant)}" if constant else "it does not fit a float"
    sheet.put("r2", regression.r_squared(truth, scores), reason)
    sheet.put("pearson", regression.pearson(truth, scores), reason)
    sheet.put("spearman", regression.spearman(truth, scores), reason)
    return (), None


Describe = Callable[[Case, Sheet], Description]

DESCRIBE: dict[Task, Describe] = {
    "binary": describe_binary,
    "multiclass": describe_multiclass,
    "multilabel": describe_multilabel,
    "regression": describe_regression,
}
