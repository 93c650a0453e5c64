"""Files that say which labels there are: labels.json, and which labels to merge."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bert_cls.data.json_text import JsonParser, explain, extra_data
from bert_cls.data.labels import check_name, look, show
from bert_cls.data.problems import some
from bert_cls.data.source import STDIN, check_is_file, opened
from bert_cls.errors import DataError

LIST_HINT = 'the file is a JSON list of names: ["first", "second"]'
NAMES_HINT = 'the file is a JSON object from old to new names: {"Sport": "sport"}'


def read_labels(
    path: str | Path, *, encoding: str | None = None, merges: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The label names of a labels.json in their order, which is the order of a model's outputs.

    Names that `merges` makes one stand where the first of them stood. DataError unless it is a
    list of distinct names that do not look the same.
    """
    value = _json_of(path, encoding, LIST_HINT)
    file = Path(path).name
    if not isinstance(value, list) or not value:
        raise DataError(f"{file}: must hold a list. Got {show(value)} instead.", hint=LIST_HINT)
    return checked_names(merged_names(value, merges or {}), file)


def merged_labels(
    path: Path, merges: Mapping[str, str], *, encoding: str | None = None
) -> tuple[object, object]:
    """What a labels.json holds, unchecked, and the same with names merged, each name once.

    DataError when it is no JSON.
    """
    value = _json_of(path, encoding, LIST_HINT)
    return value, merged_names(value, merges) if isinstance(value, list) else value


def merged_names(names: list[object], merges: Mapping[str, str]) -> list[object]:
    """The names with some replaced by others, which then stand once; the same list if none is.

    What is no name, or is there twice before, is for `checked_names` to say.
    """
    if not any(type(name) is str and merges.get(name, name) != name for name in names):
        return names
    targets = {merges[name] for name in names if type(name) is str and name in merges}
    found: list[object] = []
    for name in names:
        new = merges.get(name, name) if type(name) is str else name
        if not (new in targets and new in found):
            found.append(new)
    return found


def checked_names(values: list[object], file: str) -> tuple[str, ...]:
    """The names as a tuple; DataError for one that is no name, repeated, or like another."""
    places: dict[str, str] = {}
    for place, value in enumerate(values, 1):
        if not isinstance(value, str):
            hint = f'write it as a string: "{value}"' if isinstance(value, (int, float)) else None
            raise DataError(
                f"{file}: name {place} must be a string. Got {show(value)} instead.", hint=hint
            )
        if fault := check_name(value):
            raise DataError(f"{file}: name {place}: {fault.message}", hint=fault.hint)
        if (other := places.get(look(value))) is not None:
            alike = "is given twice" if other == value else f"looks the same as {other!r}"
            raise DataError(f"{file}: name {place}: {value!r} {alike}.", hint="keep one of them")
        places[look(value)] = str(value)  # numpy's strings are strings, but no keys of JSON
    return tuple(places.values())


def read_label_merges(path: str | Path, *, encoding: str | None = None) -> dict[str, str]:
    """Old label names to new ones. DataError unless it is an object of names (no chains)."""
    merges = read_label_renames(path, encoding=encoding)
    if chained := sorted(set(merges) & {new for old, new in merges.items() if new != old}):
        raise DataError(f"{Path(path).name}: {some(chained)} is both merged away and merged into.")
    return merges


def read_label_renames(path: str | Path, *, encoding: str | None = None) -> dict[str, str]:
    """Old label names to new ones, which may be old ones too: names can be swapped.

    DataError unless it is an object of names.
    """
    value = _json_of(path, encoding, NAMES_HINT)
    file = Path(path).name
    if not isinstance(value, dict):
        raise DataError(f"{file}: must hold an object. Got {show(value)}.", hint=NAMES_HINT)
    return checked_renames(value, file)


def checked_renames(value: Mapping[Any, Any], file: str) -> dict[str, str]:
    """Old label names to new ones; DataError for what is no name."""
    renames: dict[str, str] = {}
    for old, new in value.items():
        if not isinstance(old, str):  # no key of a JSON file, but one of Python
            raise DataError(f"{file}: {old!r} is no name.", hint=NAMES_HINT)
        if not isinstance(new, str):
            raise DataError(
                f"{file}: {old!r} must become a name. Got {show(new)}.", hint=NAMES_HINT
            )
        if fault := check_name(new):
            raise DataError(f"{file}: {old!r}: {fault.message}", hint=fault.hint)
        renames[str(old)] = str(new)  # numpy's strings are no keys of JSON
    return renames


def _json_of(path: str | Path, encoding: str | None, hint: str) -> object:
    """The value in a file; `encoding`, which is the data's, counts where it cannot be told."""
    try:
        name, text = _text_of(path, None)
    except DataError:
        if encoding is None:
            raise
        return _parsed(*_text_of(path, encoding), hint)
    try:
        return _parsed(name, text, hint)
    except DataError:
        # UTF-16 without its mark can be read as UTF-8 too, though never as JSON.
        if encoding is not None:
            with suppress(DataError):
                return _parsed(*_text_of(path, encoding), hint)
        raise


def _parsed(name: str, text: str, hint: str) -> object:
    if not text:
        raise DataError(f"{name}: the file is empty.", hint=hint)
    parser = JsonParser()
    try:
        value, end = parser.parse(text)
        if end != len(text):
            raise extra_data(text, end)
    except (ValueError, RecursionError) as error:
        fault = explain(error, text, last=True, raw="")
        line = f"line {error.lineno}: " if isinstance(error, json.JSONDecodeError) else ""
        raise DataError(f"{name}: {line}{fault.message}", hint=hint) from None
    if twice := parser.take_fault(""):
        raise DataError(f"{name}: {twice.message}", hint=hint)
    return value


def _text_of(path: str | Path, encoding: str | None) -> tuple[str, str]:
    if str(path) != STDIN:
        check_is_file(Path(path), otherwise="give a file")
    with opened(path, encoding=encoding) as source:
        text = source.text()
    return source.name, text.removeprefix("\ufeff").strip()
