"""Where rows come from, for messages about single rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bert_cls.config import DataConfig
from bert_cls.data import Example
from bert_cls.data.dataset import find_splits
from bert_cls.data.raw import Options
from bert_cls.data.read import collect
from bert_cls.errors import DataError


def name_rows(examples: Sequence[Example], data: Path, config: DataConfig) -> str:
    """Each row's own `index` and its place, "index 17 (train.json, row 18)"; reads files again.

    Splits, leaks and samples have rearranged the rows since they were read.
    """
    found: dict[tuple[int | str, str], str] = {}
    try:
        options = Options(
            coerce_numbers=config.coerce_numbers, fix_unicode=config.fix_unicode, task=config.task
        )
        for path in find_splits(data)[0].values():
            rows = collect(path, options, encoding=config.encoding)
            for i, example in enumerate(rows.examples):
                key = (example.index, example.text_a)
                found.setdefault(key, f" ({rows.file}, {rows.place(i)})")
    except (OSError, DataError):
        pass  # a file is gone or another by now; the index says enough
    return ", ".join(f"index {e.index!r}{found.get((e.index, e.text_a), '')}" for e in examples)
