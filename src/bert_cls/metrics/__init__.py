"""Metrics: pure functions over arrays, and Evaluation, all of them for one model and one file."""

from bert_cls.metrics.calibration import (
    Reliability,
    brier,
    expected_calibration_error,
    label_calibration_errors,
    reliability,
    row_log_losses,
)
from bert_cls.metrics.counts import (
    Averages,
    Counts,
    class_counts,
    confusion_matrix,
    f1_of_means,
    frequency_groups,
    label_counts,
    label_f1,
    label_matthews,
    label_precision,
    label_recall,
    macro,
    matthews,
    micro,
    row_scores,
    weighted,
)
from bert_cls.metrics.curves import Curve, precision_recall, thinned
from bert_cls.metrics.definitions import DEFINITIONS, HEADLINES
from bert_cls.metrics.evaluation import Evaluation, LabelRow
from bert_cls.metrics.exact import McNemar, holm, mcnemar_exact, swap_test
from bert_cls.metrics.intervals import bootstrap_intervals
from bert_cls.metrics.legacy import legacy_block
from bert_cls.metrics.mistakes import largest_pairs, replacements
from bert_cls.metrics.outcome import Outcome
from bert_cls.metrics.paired import (
    Comparison,
    LabelChange,
    PairedDifference,
    compare_outcomes,
    corrected,
    paired_differences,
)
from bert_cls.metrics.ranking import (
    auroc,
    average_precision,
    mean_average_precision,
    rank_labels,
    rank_rows,
)
from bert_cls.metrics.regression import (
    mean_absolute_error,
    mean_squared_error,
    pearson,
    r_squared,
    spearman,
)
from bert_cls.metrics.rows import (
    Stretch,
    by_length,
    mean_interval,
    part,
    row_errors,
    worst_rows,
    wrong_confidence,
)
from bert_cls.metrics.tasks import evaluate

__all__ = [
    "DEFINITIONS",
    "HEADLINES",
    "Averages",
    "Comparison",
    "Counts",
    "Curve",
    "Evaluation",
    "LabelChange",
    "LabelRow",
    "McNemar",
    "Outcome",
    "PairedDifference",
    "Reliability",
    "Stretch",
    "auroc",
    "average_precision",
    "bootstrap_intervals",
    "brier",
    "by_length",
    "class_counts",
    "compare_outcomes",
    "confusion_matrix",
    "corrected",
    "evaluate",
    "expected_calibration_error",
    "f1_of_means",
    "frequency_groups",
    "holm",
    "label_calibration_errors",
    "label_counts",
    "label_f1",
    "label_matthews",
    "label_precision",
    "label_recall",
    "largest_pairs",
    "legacy_block",
    "macro",
    "matthews",
    "mcnemar_exact",
    "mean_absolute_error",
    "mean_average_precision",
    "mean_interval",
    "mean_squared_error",
    "micro",
    "paired_differences",
    "part",
    "pearson",
    "precision_recall",
    "r_squared",
    "rank_labels",
    "rank_rows",
    "reliability",
    "replacements",
    "row_errors",
    "row_log_losses",
    "row_scores",
    "spearman",
    "swap_test",
    "thinned",
    "weighted",
    "worst_rows",
    "wrong_confidence",
]
