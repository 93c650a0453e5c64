"""The name a person probably meant."""

from __future__ import annotations

from collections.abc import Iterable


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`.

    The restricted Damerau-Levenshtein distance; time O(len(a) * len(b)).
    """
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        now = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            now.append(cost)
        before, last = last, now
    return last[-1]


def nearest(name: str, names: Iterable[str], *, furthest: int) -> str | None:
    """The first of `names` with the least edit distance, upper and lower case being the same.

    None when even that is more than `furthest` edits away.
    """
    folded = name.casefold()
    close = [
        (edit_distance(folded, other.casefold()), place, other)
        for place, other in enumerate(names)
        if abs(len(other) - len(name)) <= furthest
    ]
    best = min(close, default=None)
    return best[2] if best is not None and best[0] <= furthest else None
