"""The labels of one file, counted as its rows go by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from bert_cls.data.example import Example, Label
from bert_cls.data.findings import Occurrence, excerpt
from bert_cls.data.labels import NAMES_KEPT
from bert_cls.data.task import Shape

Describe = Callable[[], Occurrence]


class LabelTally:
    """What the labels of a file are; the first `shown` places of each kind are kept.

    `names` counts rows by label name, and `whole_numbers` by number, as written for a class name.
    `shapes` counts labelled rows by shape, `sides` rows without (False) and with a second text.
    Names past NAMES_KEPT are in `names_left_out` alone. `merged` counts rows whose label was
    merged, and `merged_names` are the names that are no more.
    """

    def __init__(self, shown: int) -> None:
        self._shown = shown
        self.shapes: Counter[Shape] = Counter()
        self.names: Counter[str] = Counter()
        self.whole_numbers: Counter[str] = Counter()
        self.sides: Counter[bool] = Counter()
        self.unlabelled = self.without_any = self.one_each = self.fractions = self.merged = 0
        self.names_left_out = 0
        self.merged_names: set[str] = set()
        self.smallest, self.largest, self.total = float("inf"), float("-inf"), 0.0
        self.places: dict[tuple[str, object], list[Occurrence]] = {}

    @property
    def labelled(self) -> int:
        """Rows with a label, an empty list included."""
        return sum(self.shapes.values())

    def add(self, example: Example, describe: Describe) -> None:
        """Count one row; `describe` is called when its place is worth keeping."""
        paired = example.text_b is not None
        self.sides[paired] += 1
        self._place("side", paired, describe)
        label = example.label
        if label is None:
            self.unlabelled += 1
            return

        def quoted() -> Occurrence:
            return replace(describe(), detail=f"label {shown_label(label)}")

        shape: Shape = "list" if isinstance(label, tuple) else "name"
        if isinstance(label, (int, float)):
            shape = "number"
            self._number(label, quoted)
        elif isinstance(label, tuple):
            self.without_any += not label
            self.one_each += len(label) == 1
            for name in label:
                self._name(name, describe)
        else:
            self._name(label, describe)
        self.shapes[shape] += 1
        self._place("shape", shape, quoted)

    def first(self, kind: str, value: object) -> tuple[Occurrence, ...]:
        """The first places of a "shape", a "side", a "name" (one place) or "fraction"."""
        return tuple(self.places.get((kind, value), ()))

    def _name(self, name: str, describe: Describe) -> None:
        if name in self.names:
            self.names[name] += 1
        elif len(self.names) < NAMES_KEPT:
            self.names[name] = 1
            self.places["name", name] = [describe()]
        else:
            self.names_left_out += 1

    def _number(self, value: float, describe: Describe) -> None:
        self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)
        self.total += value
        if value != int(value):
            self.fractions += 1
            self._place("fraction", None, describe)
        elif (name := str(int(value))) in self.whole_numbers or len(
            self.whole_numbers
        ) < NAMES_KEPT:
            self.whole_numbers[name] += 1

    def _place(self, kind: str, value: object, describe: Describe) -> None:
        kept = self.places.setdefault((kind, value), [])
        if len(kept) < self._shown:
            kept.append(describe())


def shown_label(label: Label | None) -> str:
    """A label for a sentence: 'a', ['a', 'b'], 1.5; no label as null."""
    if label is None:
        return "null"
    return excerpt(repr(list(label) if isinstance(label, tuple) else label))
