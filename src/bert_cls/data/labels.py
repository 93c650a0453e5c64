"""One label value: a name, a list of names, a number or nothing; and the rules for names."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import replace

from bert_cls.data.example import Label
from bert_cls.data.problems import some
from bert_cls.data.raw import Fault, NumberLiteral, number

LONGEST_NAME = 200
NAMES_KEPT = 100_000  # so that a file of endless new names does not fill the memory
LARGEST_INTEGER = 2**63  # what JSON writers and numpy can hold
SHOWN_CHARACTERS = 60
SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LIST_AS_TEXT = re.compile(r"""\s*\[\s*(?:(['"]).*\1\s*)?\]\s*""", re.DOTALL)
_SINGLE_QUOTED = re.compile("'([^']+)'")  # the names in a list as Python writes it
EMPTY_HINT = "write null for a row that nobody has labelled"
EMPTY_PART_HINT = "take the empty name out of the list, or the separator before it out of the cell"
RENAME_HINT = "shorten or rename the label"
LINES_HINT = "write the name in one line; several labels are a list, in a table separated by |"
ONCE_HINT = "write each label once; --fix FOLDER takes repeated ones away"


def check_label(value: object, known: set[str]) -> Label | Fault | None:
    """The label of a row as Example holds it, or what is wrong with it.

    `known` are names that have passed before; it grows.
    """
    if value is None:
        return None
    if isinstance(value, NumberLiteral):
        return check_number(value)
    if isinstance(value, str):
        return _check_name(value, known) or value
    if isinstance(value, (list, tuple)):
        return _check_list(value, known)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return check_number(value)
    hint = None
    if isinstance(value, bool):
        hint = f'write the name "{"yes" if value else "no"}", or {int(value)} for regression'
    elif hasattr(value, "isoformat"):
        hint = "this is a date: make the column a text column"
    message = f"label must be a name, a list of names or a number. Got {show(value)} instead."
    return Fault("D11", message, hint, "label")


def check_number(value: int | float | NumberLiteral) -> int | float | Fault:
    """A finite number of at most 64 bits, or what is wrong with it."""
    found: int | float | None
    try:
        found = number(value) if isinstance(value, NumberLiteral) else value
        if found is None or math.isnan(found):
            return Fault("D06", "label is not a number (NaN).", "write null", "label")
        if math.isinf(found):
            return Fault("D19", "label is too large for a number.", key="label")
    except (ValueError, OverflowError):
        found = LARGEST_INTEGER
    if isinstance(found, int) and not -LARGEST_INTEGER <= found < LARGEST_INTEGER:
        return Fault("D19", "label is an integer of more than 64 bits.", key="label")
    return found


def check_name(name: str) -> Fault | None:
    """What is wrong with one label name, if anything."""
    if not name.strip():
        return Fault("D40", "label is an empty name.", EMPTY_HINT, "label")
    if len(name) > LONGEST_NAME:
        message = f"label name has {len(name):,} characters; at most {LONGEST_NAME} are allowed."
        return Fault("D40", f"{message} It begins {name[:30]!r}.", RENAME_HINT, "label")
    if found := _CONTROL.search(name):
        code = f"U+{ord(found[0]):04X}"
        hint = LINES_HINT if found[0] in "\n\r\u2028" else RENAME_HINT
        message = f"label {name!r} holds the control character {code}."
        return Fault("D40", message, hint, "label")
    if found := SURROGATE.search(name):
        return surrogate_fault(found[0], "label")
    if _LIST_AS_TEXT.fullmatch(name):
        message = f"label is a string that spells a list: {name!r}."
        hint = "write the list itself, without quotes around it"
        if names := _SINGLE_QUOTED.findall(name):
            hint = f"write the list itself: {json.dumps(names, ensure_ascii=False)} with double "
            hint += f"quotes, or in a table {'|'.join(names)}"
        return Fault("D32", message, hint, "label")
    return None


def surrogate_fault(character: str, key: str) -> Fault:
    """The fault for half of a UTF-16 pair."""
    message = f"{key} holds half a character, the lone surrogate U+{ord(character):04X}."
    return Fault("D14", message, "--fix-unicode puts U+FFFD there", key)


def _check_name(name: str, known: set[str]) -> Fault | None:
    if name in known:
        return None
    fault = check_name(name)
    if fault is None and len(known) < NAMES_KEPT:
        known.add(name)
    return fault


def _check_list(names: Iterable[object], known: set[str]) -> tuple[str, ...] | Fault:
    good = []
    for name in names:
        if not isinstance(name, str) or isinstance(name, NumberLiteral):
            message = f"label must be a list of strings. Got {show(name)} in the list."
            hint = "write the names of the labels the row has, as strings"
            return Fault("D32", message, hint, "label")
        if fault := _check_name(name, known):
            empty = fault.hint == EMPTY_HINT
            return replace(fault, hint=EMPTY_PART_HINT) if empty else fault
        good.append(name)
    if len(set(good)) != len(good):
        repeated = [name for name in dict.fromkeys(good) if good.count(name) > 1]
        message = f"label names {some(repeated)} more than once."
        return Fault("D32", message, ONCE_HINT, "label")
    return tuple(good)


def tidy(name: str) -> str:
    """A name in NFKC and without outer space."""
    return unicodedata.normalize("NFKC", name).strip()


def look(name: str) -> str:
    """What is the same in names that look the same: NFKC, without case and outer space."""
    return tidy(name).casefold()


def show(value: object) -> str:
    """A value for an error message: cut short, true, false and null as JSON has them."""
    words = {True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return "null" if value is None else words[value]
    text = str(value) if isinstance(value, NumberLiteral) else _repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."


def _repr(value: object) -> str:
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an integer too long to print, a list too deep
        return f"a {type(value).__name__}"
