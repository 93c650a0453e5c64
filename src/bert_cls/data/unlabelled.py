"""Rows that nobody has labelled, and rows that have none of the labels."""

from __future__ import annotations

from bert_cls.data.findings import Finding, Severity, percent
from bert_cls.data.label_findings import Labels
from bert_cls.data.problems import NONE_OF_THE_LABELS, count
from bert_cls.data.survey import Survey

LARGE_SHARE = 0.1  # of the rows of a table without a label: none of them was meant, perhaps
NO_LABEL = {
    "train": "label some rows of it",
    "dev": "label some, or take the file away: dev rows are then held out of train",
}
EMPTY_CELL = (
    "write [] in the cell of a row that has none of the labels; an empty cell is not labelled"
)
EMPTY_LIST = "label them, with [] where a row has none of the labels, or not"


def about_unlabelled(labels: Labels) -> list[Finding]:
    """What becomes of rows without a label (D31), split by split, and how many have `[]`."""
    found = []
    parts = []
    for survey in labels.surveys:
        tally, split = survey.labels, survey.file.split
        if tally.unlabelled and not tally.labelled and split != "test":
            # whose labelled rows are perhaps those that were refused, which is said already
            if not (survey.refused and labels.strict):
                message = (
                    f"no row of {split} has a label: {count(tally.unlabelled, 'row')} without."
                )
                remedy = NO_LABEL[split]
                found.append(Finding("D31", "error", tally.unlabelled, message, remedy))
        elif tally.unlabelled:
            found.append(_set_aside(survey, labels))
        if tally.without_any:
            share = percent(tally.without_any, len(survey))
            part = f"{count(tally.without_any, 'row')} of {len(survey):,} in {split} ({share})"
            parts.append(part)
    if parts:
        rows = sum(survey.labels.without_any for survey in labels.surveys)
        message = f"{', '.join(parts)} labelled []."
        found.append(Finding("D31", "note", rows, message, title=NONE_OF_THE_LABELS))
    return found


def _set_aside(survey: Survey, labels: Labels) -> Finding:
    tally, split = survey.labels, survey.file.split
    what = "kept for prediction, not for evaluation" if split == "test" else "set aside"
    message = f"{count(tally.unlabelled, 'row')} of {split} without a label: {what}."
    severity: Severity = "note"
    remedy = "label them, or not"
    if labels.task == "multilabel":
        remedy = EMPTY_CELL if survey.file.is_table else EMPTY_LIST
        # null in JSON was written by somebody who could have written []
        large = tally.labelled and tally.unlabelled >= LARGE_SHARE * len(survey)
        severity = "warning" if large and survey.file.is_table else "note"
    return Finding("D31", severity, tally.unlabelled, message, remedy)
