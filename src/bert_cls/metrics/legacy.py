"""The result block of the old script, line for line in its form."""

from __future__ import annotations

from bert_cls.metrics.evaluation import Evaluation

LEGACY_NAMES: dict[str, str] = {
    "F1_macro": "macro_f1_all",
    "F1_micro": "micro_f1",
    "P_macro": "macro_precision_all",
    "P_micro": "micro_precision",
    "R_macro": "macro_recall_all",
    "R_micro": "micro_recall",
}
LEGACY_NUMBERS: dict[str, str] = {"MSE": "mse", "MAE": "mae"}


def legacy_block(evaluation: Evaluation) -> str:
    """The `***** Eval results  *****` block: averages, or MSE and MAE, then a line per label.

    Macro is over all labels of the model. Numbers are rounded to four decimals only here; one that
    could not be computed is `n/a`.
    """
    names = LEGACY_NUMBERS if evaluation.task == "regression" else LEGACY_NAMES
    lines = ["***** Eval results  *****"]
    for old, name in names.items():
        value = evaluation.metrics[name]
        lines.append(f"  {old} = " + ("n/a" if value is None else f"{value:.4f}"))
    lines += [
        f"  {row.name}: P = {row.precision:.4f}, R = {row.recall:.4f}, F1 = {row.f1:.4f}"
        for row in evaluation.per_label
    ]
    return "\n".join(lines)
