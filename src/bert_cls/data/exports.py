"""Exports of Label Studio and doccano, known by their keys, turned into rows of our own.

Formats: labelstud.io/guide/export (JSON: tasks with annotations; JSON-MIN: one flat object an
annotation, a single choice as a string and several as {"choices": [...]}) and doccano's
data_export catalogue (text, label as a list, Comments). Labels always come as lists, for these
programs do not say whether classes exclude each other; a single-label task takes them out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from bert_cls.data.example import CLASS_TASKS
from bert_cls.data.labels import show
from bert_cls.data.layout import LABEL_KEYS, TEXT_KEYS
from bert_cls.data.problems import Problem, count, some
from bert_cls.data.raw import Fault, NumberLiteral, Options, RawRow
from bert_cls.data.rows import as_written
from bert_cls.data.source import Source

Row = dict[str, object]
ADMIN_KEYS = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
)
CHOICES = "choices"
NUMBER_TYPES = ("rating", "number")


@dataclass(frozen=True, slots=True)
class Export:
    """How the rows of another program are known, and what they are as our rows."""

    is_row: Callable[[Row], bool]
    convert: Callable[[Row], Row | Fault]


def adapt(rows: Iterator[RawRow], source: Source, options: Options) -> Iterator[RawRow]:
    """The rows as they are, or converted when the first one is from a known program."""
    first = next(rows, None)
    if first is None:
        return iter(())
    rows = chain([first], rows)
    row = first[1] if isinstance(first[1], dict) else {}
    name = next((name for name, export in EXPORTS.items() if export.is_row(row)), None)
    if name is None:
        return rows
    message = f"read as an export of {name}."
    source.notes.append(Problem("D21", source.name, "", None, message, "note"))
    return _converted(rows, EXPORTS[name], options)


def _converted(rows: Iterator[RawRow], export: Export, options: Options) -> Iterator[RawRow]:
    for number, value in rows:
        if not isinstance(value, dict):
            yield number, value
            continue
        row = export.convert(value)
        if isinstance(row, dict) and options.task in CLASS_TASKS:
            row = _single(row)
        if isinstance(row, Fault):
            row = replace(row, raw=as_written(value))
        yield number, row


def _single(row: Row) -> Row | Fault:
    labels = row.get("label")
    if not isinstance(labels, list):
        return row
    if len(labels) != 1:
        message = f"{count(len(labels), 'label')} where the task wants one."
        return Fault("D33", message, "keep one; several a row are the task multilabel", "label")
    return {**row, "label": labels[0]}


def _label_studio(task: Row) -> Row | Fault:
    data = task.get("data")
    if not isinstance(data, dict):
        return Fault("D05", f"data must be an object. Got {show(data)} instead.", key="data")
    row = _texts(data, among=[key for key, value in data.items() if isinstance(value, str)])
    if isinstance(row, Fault):
        return row
    row["index"] = task.get("id")
    given = task.get("annotations", task.get("completions"))
    answers = []
    for answer in given if isinstance(given, list) else []:
        if isinstance(answer, dict) and not (answer.get("was_cancelled") or answer.get("skipped")):
            label = _answer(answer.get("result"))
            if isinstance(label, Fault):
                return label
            answers.append(label)
    if any(_as_set(answer) != _as_set(answers[0]) for answer in answers):
        message = f"{len(answers)} annotations contradict each other: {some(answers)}."
        return Fault("D36", message, "keep one annotation a task", "annotations")
    row["label"] = answers[0] if answers else None
    return row


def _answer(result: object) -> object:
    found: dict[object, object] = {}
    for part in result if isinstance(result, list) else []:
        value = part.get("value") if isinstance(part, dict) else None
        if not isinstance(value, dict):
            continue
        if CHOICES in value:
            found[part.get("from_name")] = value[CHOICES]
        found |= {part.get("from_name"): value[kind] for kind in NUMBER_TYPES if kind in value}
    if len(found) > 1:
        message = f"the annotation answers several questions: {some(found)}."
        return Fault("D36", message, "export one of them", "annotations")
    if not found and result:
        message = "the annotation has regions and no choices: it does not classify the text."
        return Fault("D33", message, key="annotations")
    return next(iter(found.values()), [])


def _label_studio_min(item: Row) -> Row | Fault:
    rest = {key: value for key, value in item.items() if key not in ADMIN_KEYS}
    row = _texts(rest, among=[])
    if isinstance(row, Fault):
        return row
    row["index"] = item.get("id")
    others = [key for key in rest if key not in TEXT_KEYS and key != "text_b"]
    named = [key for key in others if key in LABEL_KEYS]
    if len(named or others) > 1:
        message = f"which of {some(others)} is the label cannot be told."
        return Fault("D08", message, "export as JSON instead of JSON-MIN")
    row["label"] = _flat_label(rest[(named or others)[0]]) if others else None
    return row


def _flat_label(value: object) -> object:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, dict):
        return next((value[key] for key in (CHOICES, *NUMBER_TYPES) if key in value), value)
    return [value] if isinstance(value, str) and not isinstance(value, NumberLiteral) else value


def _doccano(item: Row) -> Row | Fault:
    row: Row = {"index": item.get("id"), "text_a": item.get("text")}
    label = next((item[key] for key in ("label", "labels", "cats") if key in item), None)
    spans = isinstance(label, list) and any(isinstance(part, (list, dict)) for part in label)
    if spans or (label is None and "entities" in item):
        return Fault("D33", "the row has labelled spans, not labels of the whole text.")
    row["label"] = label
    return row


def _texts(data: Row, *, among: list[str]) -> Row | Fault:
    named = [key for key in TEXT_KEYS if key in data] or among
    if len(named) != 1:
        message = f"which of {some(data)} is the text cannot be told."
        return Fault("D08", message, "name it text in the project, or rename it in the file")
    row: Row = {"text_a": data[named[0]]}
    return row | {"text_b": data["text_b"]} if "text_b" in data else row


def _as_set(label: object) -> object:
    return frozenset(map(str, label)) if isinstance(label, list) else label


def _is_label_studio(row: Row) -> bool:
    return "data" in row and ("annotations" in row or "completions" in row)


def _is_label_studio_min(row: Row) -> bool:
    return "annotation_id" in row and "lead_time" in row


def _is_doccano(row: Row) -> bool:
    return "text" in row and any(key in row for key in ("Comments", "entities", "cats"))


EXPORTS: dict[str, Export] = {
    "Label Studio": Export(_is_label_studio, _label_studio),
    "Label Studio (JSON-MIN)": Export(_is_label_studio_min, _label_studio_min),
    "doccano": Export(_is_doccano, _doccano),
}
