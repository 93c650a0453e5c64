"""Rows by label name: as the files have them, and of train what is left when rows are dropped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from bert_cls.data.duplicates import Rows, differing
from bert_cls.data.example import CLASS_TASKS, Label, Task
from bert_cls.data.survey import UNLABELLED, Survey
from bert_cls.data.text_findings import Corpus


def counted(
    surveys: Sequence[Survey], task: Task | None, merges: Mapping[str, str]
) -> dict[str, Counter[str]]:
    """Rows by label name for each split; integers are names too in class tasks."""
    counts: dict[str, Counter[str]] = {}
    for survey in surveys:
        counter = counts[survey.file.split] = Counter(survey.labels.names)
        for name, rows in survey.labels.whole_numbers.items() if task in CLASS_TASKS else ():
            counter[merges.get(name, name)] += rows
    return counts


def names_of(label: Label | None, task: Task | None, merges: Mapping[str, str]) -> Sequence[str]:
    """The names one row adds to those counts."""
    if isinstance(label, str):
        return (label,)
    if isinstance(label, (int, float)):
        name = f"{label:.0f}"
        return (merges.get(name, name),) if task in CLASS_TASKS else ()
    return label or ()


def dropped_rows(corpus: Corpus, *, leak: str, conflict: str) -> Rows:
    """Numbers, which rise, of the labelled rows of train that a run leaves out for their text.

    With leak "drop" those with a text of dev or test, with conflict "drop" those whose text has
    other labels somewhere, as `run_rows` does it.
    """
    found = [np.empty(0, np.int64)]
    if "drop" not in (leak, conflict):
        return found[0]
    for rows, texts, (labels,) in corpus.parts("text", "label"):
        gone = np.zeros(len(rows), bool)
        if leak == "drop":
            held = corpus.used("dev", rows, labels) | corpus.used("test", rows, labels)
            gone |= np.isin(texts, texts[held])
        if conflict == "drop":
            known = texts[labels != UNLABELLED]
            pairs = differing(known, labels[labels != UNLABELLED]).pairs
            gone |= np.isin(texts, known[pairs[:, 0]])
        found.append(rows[gone & corpus.used("train", rows, labels)])
    return np.sort(np.concatenate(found))
