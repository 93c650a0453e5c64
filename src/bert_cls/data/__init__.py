"""Reading labelled rows from files: what is in them, and what is wrong with them."""

from __future__ import annotations

from bert_cls.data.dataset import Dataset, load
from bert_cls.data.example import Example, Label, LabelSpace, Task, targets
from bert_cls.data.label_files import read_label_merges, read_label_renames, read_labels
from bert_cls.data.problems import Problem, raise_errors, summarise, write_quarantine
from bert_cls.data.read import READERS, RowStream, read, stream
from bert_cls.data.rows import Rows
from bert_cls.data.task import infer_task, label_space, unknown_labels

__all__ = [
    "READERS",
    "Dataset",
    "Example",
    "Label",
    "LabelSpace",
    "Problem",
    "RowStream",
    "Rows",
    "Task",
    "infer_task",
    "label_space",
    "load",
    "raise_errors",
    "read",
    "read_label_merges",
    "read_label_renames",
    "read_labels",
    "stream",
    "summarise",
    "targets",
    "unknown_labels",
    "write_quarantine",
]
