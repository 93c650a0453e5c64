"""Metrics: pure functions over arrays, and Evaluation, all of them for one model and one file."""

from bert_cls.metrics.calibration import (
    expected_calibration_error,
    reliability,
    reliability_of,
    row_log_losses,
)
from bert_cls.metrics.counts import (
    Counts,
    frequency_groups,
    label_counts,
    label_f1,
    label_matthews,
)
from bert_cls.metrics.curves import precision_recall, thinned
from bert_cls.metrics.definitions import DEFINITIONS, HEADLINES
from bert_cls.metrics.evaluation import Evaluation, LabelRow
from bert_cls.metrics.exact import holm, mcnemar_exact, swap_test
from bert_cls.metrics.intervals import headline_value
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
from bert_cls.metrics.ranking import average_precision, mean_average_precision
from bert_cls.metrics.regression import pearson, spearman
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
    "Comparison",
    "Counts",
    "Evaluation",
    "LabelChange",
    "LabelRow",
    "Outcome",
    "PairedDifference",
    "Stretch",
    "average_precision",
    "by_length",
    "compare_outcomes",
    "corrected",
    "evaluate",
    "expected_calibration_error",
    "frequency_groups",
    "headline_value",
    "holm",
    "label_counts",
    "label_f1",
    "label_matthews",
    "largest_pairs",
    "legacy_block",
    "mcnemar_exact",
    "mean_average_precision",
    "mean_interval",
    "paired_differences",
    "part",
    "pearson",
    "precision_recall",
    "reliability",
    "reliability_of",
    "replacements",
    "row_errors",
    "row_log_losses",
    "spearman",
    "swap_test",
    "thinned",
    "worst_rows",
    "wrong_confidence",
]
