"""What readers of parquet and xlsx share: both need the extra `tables`, and a plain file."""

from __future__ import annotations

from pathlib import Path

from bert_cls.data.source import Source
from bert_cls.errors import DataError

INSTALL = 'pip install "bert-cls[tables]"'


def plain_file(source: Source) -> Path:
    """The path of a file that can be read at any place. DataError for a packed one or a pipe."""
    if source.path is None or source.path.suffix.lower() == ".gz":
        raise DataError(f"{source.name}: parquet and xlsx are read from plain files only.")
    return source.path


def missing(source: Source, module: str) -> DataError:
    """The error that says what to install."""
    return DataError(
        f"{source.name}: reading {source.suffix[1:]} needs {module}, which is not installed.",
        hint=INSTALL,
    )
