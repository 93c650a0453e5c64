"""A JSON file that holds a list of rows, read whole; and what to say when it holds no list."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from bert_cls.data.json_text import JsonParser, explain, python_row_as_json, row_of_text
from bert_cls.data.problems import Problem, some
from bert_cls.data.raw import Fault, Options, RawRow
from bert_cls.data.source import Source
from bert_cls.errors import DataError

LARGE_BYTES = 2 << 30
ADVICE = "write one object a line (JSON Lines, .jsonl): such a file is read in constant memory"
LAYOUTS = (
    'a list of rows, [{"text_a": "...", "label": "..."}, ...], or JSON Lines, one such object a '
    "line in a .jsonl file"
)
_SPACE = re.compile(r"[ \t\r\n]*")


def read_json_array(source: Source, options: Options) -> Iterator[RawRow]:
    """(line, value) for each element, `line` being where it begins.

    DataError where the list itself is broken: nothing after such a place can be trusted.
    """
    try:
        text = source.text().removeprefix("\ufeff")
        if source.size > LARGE_BYTES:
            message = f"a JSON list of {source.size / (1 << 30):.1f} GiB is read whole."
            source.notes.append(Problem("D39", source.name, "", None, message, "note", ADVICE))
        yield from _elements(text, source, JsonParser(keep_literals=options.coerce_numbers))
    except MemoryError:
        raise DataError(f"{source.name}: does not fit into memory.", hint=ADVICE) from None


def _elements(text: str, source: Source, parser: JsonParser) -> Iterator[RawRow]:
    at = _after_space(text, 0)
    if text[at : at + 1] != "[":
        if at == len(text):
            return
        raise wrong_layout(text, source)
    line, counted = 1, 0
    at = _after_space(text, at + 1)
    comma = False
    while comma or text[at : at + 1] != "]":
        if at == len(text):
            raise _cut_off(text, source)
        line += text.count("\n", counted, at)
        counted = at
        value, at = _element(text, at, source, parser)
        source.share = at / len(text)
        yield line, value
        at = _after_space(text, at)
        comma = text[at : at + 1] == ","
        if comma:
            at = _after_space(text, at + 1)
        elif at < len(text) and text[at] != "]":
            error = json.JSONDecodeError("Expecting ',' delimiter", text, at)
            raise _broken(error, text, at, source)
    rest = _after_space(text, at + 1)
    if rest != len(text):
        raise _broken(json.JSONDecodeError("Extra data", text, rest), text, rest, source)


def _element(text: str, at: int, source: Source, parser: JsonParser) -> tuple[object, int]:
    control: Fault | None = None
    try:
        value, end = parser.parse(text, at)
    except (ValueError, RecursionError) as error:
        parser.faults.clear()
        control = _control_character(error, text)
        if control is None:
            raise _broken(error, text, at, source) from None
        # Read it once more with the raw characters allowed, to find where the row ends.
        try:
            value, end = parser.parse_loosely(text, at)
        except (ValueError, RecursionError) as second:
            raise _broken(second, text, at, source) from None
    fault = parser.take_fault(text[at:end])
    if control is not None:
        return Fault("D15", control.message, control.hint, raw=text[at:end]), end
    return (row_of_text(value, text[at:end]) if fault is None else fault), end


def _control_character(error: ValueError | RecursionError, text: str) -> Fault | None:
    if not isinstance(error, json.JSONDecodeError) or "Invalid control" not in error.msg:
        return None
    return explain(error, text, last=True, raw="")


def _broken(error: ValueError | RecursionError, text: str, at: int, source: Source) -> DataError:
    fault = explain(error, text, last=True, raw="")
    if isinstance(error, json.JSONDecodeError):
        at = error.pos
    return DataError(f"{source.name}: {_spot(text, at, source)}: {fault.message}", hint=fault.hint)


def _cut_off(text: str, source: Source) -> DataError:
    spot = _spot(text, len(text), source)
    return DataError(
        f"{source.name}: {spot}: the file ends before the list does: is it still being written?"
    )


def _spot(text: str, at: int, source: Source) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line} (byte {source.offset(text[:at])})"


def wrong_layout(text: str, source: Source) -> DataError:
    """The error for a JSON file that holds something else than a list of rows."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if (row := python_row_as_json(text)) is not None:
            return DataError(
                f"{source.name}: the file holds a single object in Python's notation (single "
                "quotes), and JSON rows stand in a list.",
                hint=f'write [{row}]: double quotes ("), null for None, and [ ] around the rows',
            )
        return _broken(error, text, 0, source)
    if isinstance(value, dict):
        return DataError(
            f"{source.name}: {_about_object(value)}", hint=f"the file must be {LAYOUTS}"
        )
    what = "a string" if isinstance(value, str) else "a single value"
    return DataError(
        f"{source.name}: the file holds {what}.",
        hint=f"the file must be {LAYOUTS}",
    )


def _about_object(value: dict[str, object]) -> str:
    lists = [key for key, item in value.items() if isinstance(item, list)]
    rows = [key for key in lists if _is_rows(value[key])]
    if rows:
        return f"the file holds an object, and its rows stand under {some(rows)}: keep that list."
    if lists and len(lists) == len(value):
        return f"the file holds one object of columns, {some(lists)}, not rows."
    if any(key in value for key in ("text_a", "text", "sentence")):
        return "the file holds a single object: put [ ] around it to make it a list of one row."
    return f"the file holds an object with the keys {some(value)}, not rows."


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
