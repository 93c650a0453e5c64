"""What a Python program gives as paths and settings; another type is a ConfigError that says so."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

from bert_cls.data.label_files import checked_renames
from bert_cls.errors import ConfigError


def path_of(keyword: str, value: object) -> Path:
    """The path that was given for `keyword`."""
    if isinstance(value, (str, os.PathLike)):
        return Path(value)
    hint = _INSTEAD.get(keyword)
    if keyword in _ROWS and not isinstance(value, (int, float, type(None))):
        hint = _WRITTEN[hasattr(value, "to_json")]
    raise ConfigError(f"{keyword} must be a path. Got {_shown(value)} instead.", hint=hint)


def _shown(value: object) -> str:
    """What was given, in a few words: it may be all the data."""
    if value is None or isinstance(value, (int, float, Path)):
        return repr(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _MOST else f"{value[:_MOST]}...")
    kind = type(value).__name__
    return f"{kind} of length {len(value):,}" if isinstance(value, Sized) else kind


def optional_path(keyword: str, value: object) -> Path | None:
    """The same where it may be left out."""
    return None if value is None else path_of(keyword, value)


def renames_of(value: object) -> Path | dict[str, str] | None:
    """A file of renamed labels, or {label: the name now}; DataError for what is no name."""
    if isinstance(value, Mapping):
        return checked_renames(value, "rename_labels")
    return optional_path("rename_labels", value)


def settings_of(settings: object, *, encoder: str | Path | None = None) -> dict[str, Any]:
    """Settings by "section.field", `encoder` among them; ConfigError when they name another."""
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(
            f'settings must be {{"section.field": value}}. Got {_shown(settings)} instead.'
        )
    given = dict(settings or {})
    if encoder is None:
        return given
    other = given.setdefault("encoder.name", encoder)
    if other != encoder:
        raise ConfigError(
            f'encoder is {str(encoder)!r}, but settings["encoder.name"] is {str(other)!r}.',
            hint="leave one of them out.",
        )
    return given


_MOST = 60
_ROWS = ("data", "unlabelled")
_LOOP = """with open("rows.jsonl", "w", encoding="utf-8") as file:
    for row in rows:
        file.write(json.dumps(row, ensure_ascii=False) + "\\n")"""
_TABLE = 'table.to_json("rows.jsonl", orient="records", lines=True, force_ascii=False)'
# by whether it is a table of pandas
_WRITTEN = {
    given: f'write the rows as JSON Lines and give "rows.jsonl", or their folder:\n{code}'
    for given, code in {False: _LOOP, True: _TABLE}.items()
}
_INSTEAD = {
    "folder": 'Classifier.load("model")',
    "config": 'settings={"section.field": value} takes settings as they are.',
    "rename_labels": "or {label of that model: its name now}.",
}
