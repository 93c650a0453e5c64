"""Which key of a row holds which field; decided once for each set of keys in a file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bert_cls.data.nearest import nearest
from bert_cls.data.problems import some
from bert_cls.data.raw import Fault

# field: its key, and other keys that are taken for it when they are alone
FIELDS: dict[str, tuple[str, ...]] = {
    "index": ("index", "id"),
    "text_a": ("text_a", "text", "sentence"),
    "text_b": ("text_b",),
    "label": ("label", "labels"),
}
KNOWN_KEYS = tuple(key for keys in FIELDS.values() for key in keys)
TEXT_KEYS = FIELDS["text_a"]
LABEL_KEYS = FIELDS["label"]
NUMBERED = "rows without an index are numbered from 0."
LIST_KEY = "labels"  # in tables a column of this name always holds lists
# A key counts as misspelt up to so many edits: one when it is short, for "level" is not "label".
SHORT_KEY = 6
SHORT_EDITS, LONG_EDITS = 1, 2


@dataclass(frozen=True, slots=True)
class Layout:
    """The key of each field, or a key no row has when the field is absent."""

    index: str
    text_a: str
    text_b: str
    label: str
    faults: tuple[Fault, ...]
    notes: tuple[Fault, ...]


def find_layout(keys: Iterable[str]) -> Layout:
    """Resolve keys to fields; faults for misspelt and doubled keys, notes for what is passed by."""
    keys = list(keys)
    chosen: dict[str, str] = {}
    faults: list[Fault] = []
    notes: list[Fault] = []
    for field, names in FIELDS.items():
        present = [name for name in names if name in keys]
        if len(present) > 1 and field != "index":
            message = f"the row has the keys {some(present)}, which mean the same."
            faults.append(Fault("D08", message, f"keep {present[0]!r} alone", present[1]))
        chosen[field] = present[0] if present else ABSENT[field]
        if present and present[0] != field:
            notes.append(Fault("D08", f"{present[0]!r} is read as {field!r}.", key=present[0]))
    missing = [field for field in FIELDS if chosen[field] == ABSENT[field]]
    others = [key for key in keys if key not in KNOWN_KEYS or (key == "id" and "index" in keys)]
    meant = {key: _meant(key, missing) for key in others}
    for key, name in meant.items():
        if name is not None:
            message = f"unknown key {key!r}; did you mean {name!r}?"
            faults.append(Fault("D08", message, key=key))
    if ignored := sorted(key for key, name in meant.items() if name is None):
        hint = "rename the keys if they were meant to be read"
        notes.append(Fault("D08", f"ignored: the keys {some(ignored)}.", hint))
    if "text_a" in missing and not set(meant.values()) & set(TEXT_KEYS):
        hint = f"the keys of this row are {some(keys)}" if keys else "the row is empty"
        faults.append(Fault("D07", "text_a is missing.", hint, "text_a"))
    if "index" in missing:
        notes.append(Fault("D13", NUMBERED, key="index"))
    return Layout(**chosen, faults=tuple(faults), notes=tuple(notes))


def _meant(key: str, missing: list[str]) -> str | None:
    furthest = SHORT_EDITS if len(key) <= SHORT_KEY else LONG_EDITS
    names = [name for field in missing for name in FIELDS[field] if name != "id"]
    return nearest(key, names, furthest=furthest)


ABSENT: dict[str, str] = {field: f"\x00no {field}" for field in FIELDS}
