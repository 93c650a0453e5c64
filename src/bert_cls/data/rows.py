"""A raw row becomes an Example, or the list of what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from bert_cls.data.example import Example, Label
from bert_cls.data.json_text import JsonRow
from bert_cls.data.labels import (
    LARGEST_INTEGER,
    SURROGATE,
    check_label,
    check_number,
    show,
    surrogate_fault,
)
from bert_cls.data.layout import NUMBERED, Layout, find_layout
from bert_cls.data.numbering import Numbering
from bert_cls.data.problems import Problem, count
from bert_cls.data.raw import Fault, NumberLiteral, Options
from bert_cls.data.written import dumped

REPLACEMENT = "\ufffd"
PLACES_SHOWN = 3
KEYLESS_HINT = "write [] where a row has no label, null where nobody has labelled it"
LAYOUTS_KEPT = NOTES_KEPT = 1000  # files with endless new keys must not fill the memory
# White space, and characters that are letters by their class but draw nothing.
BLANK = " \t\n\r\u3000\u00a0\u115f\u1160\u2800\u3164\uffa0\ufe0e\ufe0f"
At = tuple[int, int]  # position from 0, line or table row from 1
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Keyless:
    """Rows that lack the key label while others of their file have it; the first `places`.

    In multilabel data either may be meant, no label ([]) or not labelled (null): an error (D31).
    """

    file: str
    rows: int
    places: tuple[str, ...]
    pairs: int = 0
    """how many of them have a second text"""
    examples: tuple[tuple[int, str | None], ...] = ()
    """place in the list of examples and raw text of each, where the file was read whole"""

    @property
    def message(self) -> str:
        """What is wrong, without places."""
        return f"{count(self.rows, 'row')} without the key label, which other rows have."

    def problem(self) -> Problem:
        """The error, with the first places."""
        more = " ..." if self.rows > len(self.places) else ""
        message = f"{self.message[:-1]}: {', '.join(self.places)}{more}."
        return Problem("D31", self.file, "", "label", message, hint=KEYLESS_HINT)


@dataclass(frozen=True, slots=True)
class Rows:
    """What one file holds: its good rows in order, and everything there is to say about it.

    `numbers` and `positions` say for each example where it stood; `place` puts it into words.
    `keyless` are rows that lack the key label, where others have it.
    """

    examples: list[Example]
    problems: list[Problem]
    file: str
    numbers: Sequence[int] = field(default=(), repr=False)
    positions: Sequence[int] = field(default=(), repr=False)
    place_format: str = field(default="row {row}", repr=False)
    keyless: Keyless | None = None

    def place(self, i: int) -> str:
        """Where the i-th example is: "line 17", "row 17 (line 86)" or "row 17"."""
        return self.place_format.format(number=self.numbers[i], row=self.positions[i] + 1)

    def only(self, kept: Sequence[int]) -> Rows:
        """The same file with some of its examples, by their places in the list."""
        return replace(
            self,
            examples=[self.examples[i] for i in kept],
            numbers=[self.numbers[i] for i in kept],
            positions=[self.positions[i] for i in kept],
        )


class RowChecker:
    """Turns the raw rows of one file into examples, and counts what is worth a note.

    `place` says where a row is, from its `number` (line or table row) and `row`, both from 1.
    """

    def __init__(self, file: str, place: str, options: Options) -> None:
        self.file = file
        self._place = place
        self._options = options
        self._layouts: dict[tuple[str, ...], Layout] = {}
        self._names: set[str] = set()
        self._noticed: dict[tuple[str, str, str | None, str | None], tuple[int, At]] = {}
        self._has_label_key = False
        self._numbering = Numbering()
        self._keyless = self._keyless_pairs = 0
        self._first_keyless: list[At] = []

    def place(self, position: int, number: int) -> str:
        """Where the row at `position` (from 0) of the file is."""
        return self._place.format(number=number, row=position + 1)

    def check(self, raw: object, position: int, number: int) -> Example | list[Problem]:
        """The example of a raw row, or all its problems."""
        at = (position, number)
        if not isinstance(raw, dict):
            fault = cast(Fault, raw)
            return [self._problem(fault, at, None, fault.raw)]
        keys = tuple(raw)
        layout = self._layouts.get(keys)
        if layout is None:
            layout = self._new_layout(keys, at)
        get = raw.get
        text_a, text_b, index = get(layout.text_a), get(layout.text_b), get(layout.index)
        # What nearly every row is, in as few steps as can be; _examine finds what is wrong.
        if (
            type(text_a) is str
            and text_a.isprintable()
            and text_a.strip(BLANK)
            and (text_b is None or _is_plain(text_b))
            and (index is None or _is_plain_index(index))
            and not layout.faults
        ):
            label = get(layout.label)
            if not (type(label) is str and label in self._names):
                label = check_label(label, self._names)
            if not isinstance(label, Fault):
                if label is None and layout.label not in raw:
                    self._count_keyless(at, text_b)
                if index is None:
                    index = self._numbered(at)
                else:
                    self._numbering.given(index)
                return Example(index, text_a, text_b, label)
        return self._examine(raw, layout, at)

    def notes(self) -> list[Problem]:
        """What was noticed and counted so far, one note for each kind."""
        notes = [
            Problem(
                code,
                self.file,
                self.place(*at),
                key,
                message.format(rows=count(n, "row")),
                "note",
                hint,
            )
            for (code, message, key, hint), (n, at) in self._noticed.items()
        ]
        if (doubled := self._numbering.warning()) is not None:
            hint = "give every row an index of its own, or none"
            notes.append(Problem("D13", self.file, "", "index", doubled, "note", hint))
        return notes

    def keyless(self) -> Keyless | None:
        """Rows that lack the key label, if others have it; where none has, none is labelled."""
        if not self._keyless or not self._has_label_key:
            return None
        places = tuple(self.place(*at) for at in self._first_keyless)
        return Keyless(self.file, self._keyless, places, self._keyless_pairs)

    def _numbered(self, at: At) -> int:
        self._notice("D13", NUMBERED, "index", at)
        return self._numbering.numbered(at[0])

    def _count_keyless(self, at: At, text_b: object) -> None:
        self._keyless += 1
        self._keyless_pairs += text_b is not None
        if len(self._first_keyless) < PLACES_SHOWN:
            self._first_keyless.append(at)

    def _new_layout(self, keys: tuple[str, ...], at: At) -> Layout:
        layout = find_layout(keys)
        self._has_label_key |= layout.label in keys
        if len(self._layouts) >= LAYOUTS_KEPT:
            self._layouts.clear()
        self._layouts[keys] = layout
        for note in layout.notes:
            message = note.message.replace("{", "{{").replace("}", "}}")
            self._notice(note.code, message, note.key, at, note.hint)
        return layout

    def _notice(
        self, code: str, message: str, key: str | None, at: At, hint: str | None = None
    ) -> None:
        n, first = self._noticed.get((code, message, key, hint), (0, at))
        if n or len(self._noticed) < NOTES_KEPT:
            self._noticed[code, message, key, hint] = (n + 1, first)

    def _problem(self, fault: Fault, at: At, index: int | str | None, raw: str | None) -> Problem:
        place = self.place(*at)
        return Problem(
            fault.code, self.file, place, fault.key, fault.message, "error", fault.hint, index, raw
        )

    def _examine(self, raw: dict[str, object], layout: Layout, at: At) -> Example | list[Problem]:
        faults = list(layout.faults)
        spelled = raw.spelled if isinstance(raw, JsonRow) else raw.get
        index = self._index(raw.get(layout.index), at, faults)
        text_a: str | None = None
        if layout.text_a in raw:
            text_a = self._text(spelled(layout.text_a), "text_a", at, faults)
        text_b = self._text_b(spelled(layout.text_b), at, faults)
        label = self._label(raw.get(layout.label), at, faults)
        if index is not None and text_a is not None and not faults:
            if layout.label not in raw:
                self._count_keyless(at, text_b)
            return Example(index, text_a, text_b, label)
        written = as_written(raw)
        return [self._problem(fault, at, index, written) for fault in faults]

    def _index(self, value: object, at: At, faults: list[Fault]) -> int | str | None:
        if value is None:
            return self._numbered(at)
        if isinstance(value, NumberLiteral):
            value = check_number(value)
        if isinstance(value, str):
            value = self._unicode(value, "index", at, faults)
            # An index that has no UTF-8 could not be written out again.
            if SURROGATE.search(value):
                return None
            self._numbering.given(value)
            return value
        if not isinstance(value, int) or isinstance(value, bool):
            message = f"index must be an integer or a string. Got {show(value)} instead."
            faults.append(Fault("D13", message, key="index"))
            return None
        if not -LARGEST_INTEGER <= value < LARGEST_INTEGER:
            hint = "write it as a string"
            faults.append(Fault("D19", "index has more than 64 bits.", hint, "index"))
            return None
        self._numbering.given(value)
        return value

    def _text(self, value: object, key: str, at: At, faults: list[Fault]) -> str | None:
        if value is None:
            faults.append(Fault("D07", f"{key} is null.", key=key))
            return None
        if isinstance(value, (int, float)) or type(value) is NumberLiteral:
            if not self._options.coerce_numbers or isinstance(value, bool):
                hint = None if isinstance(value, bool) else "--coerce-numbers reads it as text"
                message = f"{key} must be a string. Got {show(value)} instead."
                faults.append(Fault("D09", message, hint, key))
                return None
            self._notice("D09", f"{{rows}} with a number as {key}: read as text.", key, at)
            value = str(value)
        if not isinstance(value, str):
            faults.append(_not_text(value, key))
            return None
        value = self._unicode(value, key, at, faults)
        if not (is_visible(value) or SURROGATE.search(value)):
            message = f"{key} is blank: nothing is left without white space and controls."
            faults.append(Fault("D22", message, key=key))
        elif _CONTROL.search(value):
            message = f"{{rows}} with control characters such as NUL in {key}: kept."
            self._notice("D16", message, key, at)
        return value

    def _text_b(self, value: object, at: At, faults: list[Fault]) -> str | None:
        if value is None:
            return None
        if value == "":
            self._notice("D37", "{rows} with an empty text_b: read as null.", "text_b", at)
            return None
        return self._text(value, "text_b", at, faults)

    def _label(self, value: object, at: At, faults: list[Fault]) -> Label | None:
        if self._options.fix_unicode:
            value = self._mended(value, at)
        label = check_label(value, self._names)
        if isinstance(label, Fault):
            faults.append(label)
            return None
        return label

    def _mended(self, value: object, at: At) -> object:
        if isinstance(value, list):
            return [self._mended(item, at) for item in value]
        if isinstance(value, str) and not isinstance(value, NumberLiteral):
            return self._unicode(value, "label", at, [])
        return value

    def _unicode(self, text: str, key: str, at: At, faults: list[Fault]) -> str:
        found = SURROGATE.search(text)
        if found is None:
            return text
        if not self._options.fix_unicode:
            faults.append(surrogate_fault(found[0], key))
            return text
        message = f"{{rows}} with half characters in {key}: U+FFFD put there."
        self._notice("D14", message, key, at)
        return SURROGATE.sub(REPLACEMENT, text)


def as_written(raw: object) -> str | None:
    """A raw row as it stood, or else as JSON text; None when it is nested too deep for that."""
    if isinstance(raw, JsonRow):
        return raw.text
    try:
        return dumped(raw)
    except RecursionError:
        return None


def _is_plain(text: object) -> bool:
    return type(text) is str and text.isprintable() and bool(text.strip(BLANK))


def _is_plain_index(index: object) -> bool:
    if type(index) is int:
        return -LARGEST_INTEGER <= index < LARGEST_INTEGER
    return type(index) is str and index.isascii()


def _not_text(value: object, key: str) -> Fault:
    message = f"{key} must be a string. Got {show(value)} instead."
    if hasattr(value, "isoformat"):
        return Fault("D10", message, "this is a date: make the column a text column", key)
    hint = "a pair of texts goes into text_a and text_b" if isinstance(value, list) else None
    return Fault("D09", message, hint, key)


def is_visible(text: str) -> bool:
    """Whether anything is left of a text without white space, controls and what draws nothing."""
    if text.isprintable():
        return bool(text.strip(BLANK))
    return any(c.isprintable() and c not in BLANK for c in text)
