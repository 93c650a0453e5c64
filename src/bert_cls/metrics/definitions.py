"""What each metric means, in one sentence, and which metrics a task shows first."""

from __future__ import annotations

import math

from bert_cls.data.example import Task

DEPTHS = (1, 3, 5)

HEADLINES: dict[Task, tuple[str, ...]] = {
    "multilabel": (
        "micro_f1",
        "macro_f1_all",
        "macro_f1_present",
        "samples_f1",
        "exact_match",
        "map",
        "lrap",
    ),
    "binary": (
        "f1",
        "precision",
        "recall",
        "accuracy",
        "macro_f1_all",
        "mcc",
        "auroc",
        "average_precision",
    ),
    "multiclass": (
        "accuracy",
        "macro_f1_all",
        "macro_f1_present",
        "weighted_f1",
        "balanced_accuracy",
        "mcc",
        "log_loss",
    ),
    "regression": ("mse", "rmse", "mae", "r2", "pearson", "spearman"),
}

_SHARE, _SIGNED, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)

# The lowest and highest value of each metric that has an interval.
RANGES: dict[str, tuple[float, float]] = {
    **{name: _SHARE for names in HEADLINES.values() for name in names},
    **dict.fromkeys(("mcc", "pearson", "spearman"), _SIGNED),
    **dict.fromkeys(("log_loss", "mae", "mse", "rmse"), _POSITIVE),
    "r2": (-math.inf, 1.0),
}

DEFINITIONS: dict[str, str] = {
    "accuracy": "Share of rows whose predicted class is the true one, 0..1.",
    "auroc": (
        "Chance that a row of the positive class (the second label) outscores one of the other, "
        "ties one half, 0..1; none unless both classes occur."
    ),
    "auroc_labels": (
        "Number of labels averaged in macro_auroc: those that some rows have and some lack."
    ),
    "average_precision": (
        "Precision averaged over the recall gained at each distinct score of the positive class "
        "(the second label), no interpolation, 0..1; none without positives."
    ),
    "balanced_accuracy": "Mean recall over the classes that at least one row has, 0..1.",
    "brier": (
        "Mean squared difference between probability and 0/1 truth over all rows and labels, or "
        "over rows for the positive class of binary data, 0..1; of multiclass data summed over the "
        "classes and averaged over rows, 0..2; lower is better; needs calibrated probabilities, of "
        "multiclass data ones that sum to 1."
    ),
    "ece": (
        "Expected calibration error, 15 equal-width bins: gap between probability and share that "
        "came true, of the positive class (binary) or of the top-scored class (multiclass), 0..1, "
        "lower is better; needs calibrated probabilities."
    ),
    "ece_label_mean": (
        "Expected calibration error (15 equal-width bins) of each label, averaged over all "
        "labels, 0..1, lower is better; needs calibrated probabilities."
    ),
    "ece_pooled": (
        "Expected calibration error (15 equal-width bins) of all rows and labels together, 0..1, "
        "lower is better; easy negatives dominate it; needs calibrated probabilities."
    ),
    "empty_rows_predicted": "Share of rows that were given no label, 0..1.",
    "empty_rows_true": "Share of rows that have no label, 0..1.",
    "exact_match": "Share of rows whose predicted label set equals the true one, 0..1.",
    "f1": (
        "F1 = 2tp/(2tp+fp+fn) of the positive class (the second label), 0..1; 0 if it neither "
        "occurs nor is predicted."
    ),
    "hamming_loss": (
        "Share of row-label decisions that are wrong, 0..1, lower is better; near 0 on sparse "
        "labels whatever the model does."
    ),
    "labels_per_row_predicted": "Mean number of labels given to a row.",
    "labels_per_row_true": "Mean number of labels a row has.",
    "log_loss": (
        "Mean of -ln p of the true class, p kept 2.2e-16 away from 0 and 1, 0 or more, lower is "
        "better; needs calibrated probabilities that sum to 1."
    ),
    "lrap": (
        "Label ranking average precision: for each true label the share of true labels among "
        "those scored at least as high, averaged over the row's true labels, then over rows, "
        "0..1; rows that have no label or every label are left out."
    ),
    "lrap_excluded": "Share of rows left out of lrap because they have no label or every label.",
    "macro_auroc": (
        "Mean AUROC of the labels, each against the rest, ties one half, 0..1; labels that no row "
        "or every row has are left out."
    ),
    "macro_f1_all": (
        "Mean of per-label F1 over all labels of the model, 0..1; a label that neither occurs nor "
        "is predicted counts as 0."
    ),
    "macro_f1_head": (
        "Mean of per-label F1 over the third of labels with most training rows, only labels that "
        "at least one row has, 0..1."
    ),
    "macro_f1_medium": (
        "Mean of per-label F1 over the middle third of labels by training rows, only labels that "
        "at least one row has, 0..1."
    ),
    "macro_f1_of_means": (
        "F1 of macro_precision_all and macro_recall_all (not the mean of F1), 0..1; 0 if both are "
        "0; given for comparison with papers that use it."
    ),
    "macro_f1_present": (
        "Mean of per-label F1 over labels that at least one row has, 0..1; other labels of the "
        "model are left out, even if predicted."
    ),
    "macro_f1_tail": (
        "Mean of per-label F1 over the third of labels with fewest training rows, only labels "
        "that at least one row has, 0..1."
    ),
    "macro_mcc": (
        "Mean Matthews correlation over all labels of the model, -1..1; a label whose truth or "
        "prediction is constant counts as 0."
    ),
    "macro_precision_all": (
        "Mean of per-label precision over all labels of the model, 0..1; a label that was never "
        "predicted counts as 0."
    ),
    "macro_precision_present": (
        "Mean of per-label precision over labels that at least one row has, 0..1; a label that "
        "was never predicted counts as 0."
    ),
    "macro_recall_all": (
        "Mean of per-label recall over all labels of the model, 0..1; a label that no row has "
        "counts as 0."
    ),
    "macro_recall_present": (
        "Mean of per-label recall over labels that at least one row has, 0..1."
    ),
    "mae": "Mean absolute error, in the unit of the truth, lower is better.",
    "map": (
        "Mean average precision: the labels' average precision (no interpolation, ties one step) "
        "averaged over labels that at least one row has, 0..1."
    ),
    "map_labels": "Number of labels averaged in map: those that at least one row has.",
    "mcc": (
        "Matthews correlation between true and predicted classes, -1..1; 0 if either is constant."
    ),
    "micro_f1": (
        "F1 = 2tp/(2tp+fp+fn) of all row-label decisions together, 0..1; 0 if there is no true "
        "and no predicted label; equals accuracy where each row has one class."
    ),
    "micro_precision": (
        "Share of all predicted labels that are true, 0..1; 0 if none was predicted; equals "
        "accuracy where each row has one class."
    ),
    "micro_recall": (
        "Share of all true labels that were predicted, 0..1; 0 if there is none; equals accuracy "
        "where each row has one class."
    ),
    "mse": "Mean squared error, in the squared unit of the truth, lower is better.",
    "pearson": "Linear correlation of truth and scores, -1..1; none if either is constant.",
    "precision": (
        "Share of rows predicted positive (the second label) that are, 0..1; 0 if none was "
        "predicted."
    ),
    "precision_at_1": (
        "Share of true labels among the 1 best-scored of each row, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0."
    ),
    "precision_at_3": (
        "Share of true labels among the 3 best-scored of each row, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0; none with fewer than 3 labels."
    ),
    "precision_at_5": (
        "Share of true labels among the 5 best-scored of each row, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0; none with fewer than 5 labels."
    ),
    "r2": (
        "1 minus squared error over squared spread of the truth, at most 1, 0 for always "
        "predicting the mean; none if the truth is constant."
    ),
    "recall": (
        "Share of positive rows (the second label) that were predicted so, 0..1; 0 if there is "
        "none."
    ),
    "recall_at_1": (
        "Share of a row's labels that are among its 1 best-scored, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0."
    ),
    "recall_at_3": (
        "Share of a row's labels that are among its 3 best-scored, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0; none with fewer than 3 labels."
    ),
    "recall_at_5": (
        "Share of a row's labels that are among its 5 best-scored, ties in label order, averaged "
        "over all rows, 0..1; a row without label counts as 0; none with fewer than 5 labels."
    ),
    "rmse": "Root of the mean squared error, in the unit of the truth, lower is better.",
    "samples_f1": (
        "F1 of each row's label set, averaged over rows, 0..1; a row empty in truth and "
        "prediction counts as 1."
    ),
    "samples_precision": (
        "Precision of each row's label set, averaged over rows, 0..1; a row empty in truth and "
        "prediction counts as 1, any other row given no label as 0."
    ),
    "samples_recall": (
        "Recall of each row's label set, averaged over rows, 0..1; a row empty in truth and "
        "prediction counts as 1, any other row without label as 0."
    ),
    "spearman": (
        "Correlation of the ranks of truth and scores, equal values sharing their mean rank, "
        "-1..1; none if either is constant."
    ),
    "weighted_f1": (
        "Mean of per-label F1 weighted by how many rows have the label, 0..1; none if no row has "
        "one."
    ),
    "weighted_precision": (
        "Mean of per-label precision weighted by how many rows have the label, 0..1; a label "
        "never predicted counts as 0; none if no row has a label."
    ),
    "weighted_recall": (
        "Mean of per-label recall weighted by how many rows have the label, 0..1; equals "
        "micro_recall; none if no row has a label."
    ),
}
