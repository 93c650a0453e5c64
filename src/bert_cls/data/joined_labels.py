"""Labels that are several in one: names whose parts, at a separator, are labels of other rows."""

from __future__ import annotations

import json
from collections import Counter

from bert_cls.data.cells import SEPARATORS
from bert_cls.data.findings import Finding, plain
from bert_cls.data.label_findings import SPLITS, Labels
from bert_cls.data.problems import count, some

# what stands between labels in one cell; a name may well have a comma or a slash in it
BETWEEN = (*SEPARATORS, "\uff0c", ",", "/")
FEW_ROWS = 3  # with joined names, below which nothing is said
ROWS_ALONE = 2  # of a part as a label of its own
SHOWN = 3


def about_joined(labels: Labels) -> list[Finding]:
    """A warning for each separator at which most names that have it come apart into labels."""
    if labels.task == "regression":
        return []
    total: Counter[str] = Counter()
    for counter in labels.counts.values():
        total += counter
    declared = set(labels.declared or ())
    alone = {name for name, rows in total.items() if rows >= ROWS_ALONE} | declared
    found = []
    for separator in BETWEEN:
        having = [name for name in total if separator in name and name not in declared]
        joined = sorted(name for name in having if _come_apart(name, separator, alone))
        rows = sum(total[name] for name in joined)
        # one such class, as "tea/coffee" beside "tea" and "coffee", may be meant; in a list none is
        enough = labels.task == "multilabel" or len(joined) > 1
        if enough and rows >= FEW_ROWS and rows > sum(total[name] for name in having) / 2:
            found.append(_finding(labels, separator, joined, rows))
    return found


def _come_apart(name: str, separator: str, alone: set[str]) -> bool:
    parts = [part.strip() for part in name.split(separator)]
    return len(parts) > 1 and all(part in alone for part in parts if part)


def _finding(labels: Labels, separator: str, joined: list[str], rows: int) -> Finding:
    message = (
        f"{count(rows, 'row')} with labels that are several joined by {separator!r}: "
        f"{some(joined, SHOWN)}; their parts are labels of other rows."
    )
    parts = [part.strip() for part in joined[0].split(separator) if part.strip()]
    remedy = f"write a list, such as {json.dumps(parts, ensure_ascii=False)}"
    if any(survey.file.is_table for survey in labels.surveys):
        rename = "rename the column to labels, or give --task multilabel"
        cell = f"write {'|'.join(parts)} in the cell"
        if labels.task == "multilabel":
            remedy = cell
        else:  # a column of several labels is split there by itself
            remedy = rename if separator in SEPARATORS else f"{cell} and {rename}"
    places = labels.first(SPLITS, joined)
    return Finding("D32", "warning", rows, plain(message), plain(remedy), places)
