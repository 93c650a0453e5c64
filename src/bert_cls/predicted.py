"""Files that `bert-cls predict` wrote, as predictions by index."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path

import orjson

from bert_cls.data import READERS, Task
from bert_cls.data.read import JSON_SUFFIXES
from bert_cls.errors import DataError, shortened
from bert_cls.prediction import Prediction


def read_predictions(path: Path, task: Task) -> dict[int | str, Prediction]:
    """The predictions of a .jsonl or .json file under their indices.

    DataError names the line that is no prediction of the task.
    """
    found: dict[int | str, Prediction] = {}
    if path.suffix.lower() in READERS and path.suffix.lower() not in JSON_SUFFIXES:
        raise DataError(
            f"{path}: predictions are read from .jsonl and .json. Got {path.suffix} instead.",
            hint="write them so: bert-cls predict MODEL FILE -o OUT.jsonl",
        )
    for place, content in _written(path):
        try:
            row = orjson.loads(content) if isinstance(content, bytes) else content
            index, prediction = _prediction(row, task)
        except ValueError as error:
            raise DataError(
                f"{path}: {place}: not a prediction of {task} data ({error}).",
                hint="give a model folder, or a .jsonl or .json file written by bert-cls predict; "
                "where all are files, --task says what they hold.",
            ) from error
        if index in found:
            raise DataError(f"{path}: {place}: index {index!r} is there twice.")
        found[index] = prediction
    return found


def _written(path: Path) -> Iterator[tuple[str, object]]:
    """What a file of predictions holds, with its place: rows of a list, else lines to be parsed."""
    try:
        content = path.read_bytes().removeprefix(BOM_UTF8)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    if content.lstrip().startswith(b"["):
        try:
            rows = orjson.loads(content)
        except ValueError as error:
            raise DataError(f"{path}: not a JSON list ({error}).") from error
        yield from ((f"row {number}", row) for number, row in enumerate(rows, 1))
        return
    for number, line in enumerate(content.splitlines(), 1):
        if line.strip():
            yield f"line {number}", line


def _prediction(row: object, task: Task) -> tuple[int | str, Prediction]:
    """The index and the prediction of one line; ValueError where it is not of the task."""
    if not isinstance(row, dict):
        raise ValueError("it is no JSON object")
    index = row.get("index")
    if not isinstance(index, int | str) or isinstance(index, bool):
        raise ValueError(f"its index is {_short(index)}")
    if "error" in row:
        raise ValueError(f"the row is an error: {_short(row['error'])}")
    if row.get("abstained"):
        raise ValueError("the model abstained; predict again with --min-confidence 0")
    if task == "regression":
        return index, Prediction(score=_number(row.get("score"), "score"))
    labels = row.get("labels")
    if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
        raise ValueError(f"its labels are {_short(labels)}, not a list of names")
    if len(set(labels)) != len(labels):
        raise ValueError(f"a label is there twice: {_short(labels)}")
    if task != "multilabel" and len(labels) != 1:
        raise ValueError(f"{len(labels)} labels where there must be one")
    scores = row.get("scores")
    if scores is not None and not isinstance(scores, dict):
        raise ValueError(f"its scores are {_short(scores)}, not an object")
    known = None if scores is None else {k: _number(v, f"score of {k}") for k, v in scores.items()}
    return index, Prediction(tuple(labels), known)


def _number(value: object, what: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"its {what} is {_short(value)}, not a number")
    return float(value)


def _short(value: object) -> str:
    return "missing" if value is None else shortened(value)
