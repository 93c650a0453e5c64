"""Development and test splits: seeded, stratified for label sets too, one text on one side only."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

from bert_cls.data.example import Example, Task

RARE_ROWS = 2
"""a label of so few rows stays in train"""
_BINS = 10
_BIN_ROWS = 10


def text_key(example: Example) -> tuple[str, str]:
    """What makes two rows the same text: NFKC and single spaces, for both sides of a pair."""

    def folded(text: str) -> str:
        return " ".join(unicodedata.normalize("NFKC", text).split())

    return folded(example.text_a), folded(example.text_b or "")


def split(
    examples: Sequence[Example], share: float, *, task: Task, seed: int = 0
) -> tuple[list[int], list[int]]:
    """Row numbers that stay and row numbers that are held out, both in file order.

    Iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011): labels are dealt out rarest
    first, each to the side that still wants it most. Rows with one text go together. A label of
    one or two rows stays in the first part. Regression values are stratified by tenths.

    Where that holds out less than half the share, strata being small, further texts are held out
    at random, of as many labels as can be; two rows of each label stay. Of numbers one does, and
    strata have ten rows then.
    """
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, example in enumerate(examples):
        groups[text_key(example)].append(row)
    members = list(groups.values())
    sizes = [len(rows) for rows in members]

    def labels(bins: int) -> list[Counter[Hashable]]:
        strata = _strata(examples, task, bins)
        return [Counter(name for row in rows for name in strata[row]) for rows in members]

    held = _deal(sizes, labels(_BINS), share, np.random.default_rng(seed))
    if 2 * sum(sizes[group] for group in held) < share * len(examples):
        few = labels(max(1, min(_BINS, len(examples) // _BIN_ROWS)))
        kept = 1 if task == "regression" else RARE_ROWS
        held = _topped_up(held, sizes, few, share, np.random.default_rng(seed), kept=kept)
    out = sorted(row for group in held for row in members[group])
    chosen = set(out)
    return [row for row in range(len(examples)) if row not in chosen], out


def _strata(examples: Sequence[Example], task: Task, bins: int) -> list[tuple[Hashable, ...]]:
    if task == "regression":
        values = np.array([float(e.label) for e in examples if isinstance(e.label, int | float)])
        edges = np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1])
        return [(int(b),) for b in np.searchsorted(edges, values, side="right")]
    # rows without a label are a stratum too: both sides have their share of them
    return [(e.label or (None,)) if isinstance(e.label, tuple) else (e.label,) for e in examples]


def _deal(
    sizes: list[int],
    labels: list[Counter[Hashable]],
    share: float,
    generator: np.random.Generator,
) -> list[int]:
    """The groups that are held out, about `share` of all rows and of each label."""
    total: Counter[Hashable] = Counter()
    holders: dict[Hashable, list[int]] = defaultdict(list)
    order = generator.permutation(len(sizes)).tolist()
    for group in order:
        total.update(labels[group])
        for label in labels[group]:
            holders[label].append(group)
    wanted = {label: [count * (1 - share), count * share] for label, count in total.items()}
    room = [sum(sizes) * (1 - share), sum(sizes) * share]
    left = Counter({label: len(groups) for label, groups in holders.items()})
    placed: dict[int, int] = {}

    def place(group: int, side: int) -> None:
        placed[group] = side
        room[side] -= sizes[group]
        for label, count in labels[group].items():
            wanted[label][side] -= count
            left[label] -= 1

    while any(count > 0 for count in left.values()):
        label = min((lab for lab in left if left[lab] > 0), key=lambda lab: (left[lab], str(lab)))
        for group in holders[label]:
            if group not in placed:
                first, second = wanted[label]
                more = second > first or (second == first and room[1] > room[0])
                # of a rare label training needs every row
                rare = any(total[name] <= RARE_ROWS for name in labels[group])
                place(group, int(more and not rare))
    for group in order:
        if group not in placed:
            place(group, int(room[1] > 0 and room[1] / share >= room[0] / (1 - share)))
    return [group for group, side in placed.items() if side == 1]


def _topped_up(
    held: Sequence[int],
    sizes: Sequence[int],
    labels: Sequence[Counter[Hashable]],
    share: float,
    generator: np.random.Generator,
    *,
    kept: int,
) -> list[int]:
    """The groups `held` and more, to about `share` of all rows; `kept` rows of each label stay."""
    left: Counter[Hashable] = Counter()
    for counter in labels:
        left.update(counter)
    chosen = dict.fromkeys(held)
    given = {label for group in held for label in labels[group]}
    for group in held:
        left.subtract(labels[group])
    room = max(1, round(share * sum(sizes))) - sum(sizes[group] for group in held)
    order = sorted(generator.permutation(len(sizes)).tolist(), key=sizes.__getitem__)
    for spread in (True, False):  # first of each label that has given none
        for group in order:
            mine = labels[group]
            enough = all(left[label] - rows >= kept for label, rows in mine.items())
            if room > 0 and group not in chosen and enough and not (spread and given & mine.keys()):
                chosen[group] = None
                given.update(mine)
                left.subtract(mine)
                room -= sizes[group]
    return list(chosen)
