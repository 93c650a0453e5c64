"""Where the characters of a text come from after normalising (NFKC)."""

from __future__ import annotations

import unicodedata


def folded(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in NFKC and, for each of its characters, first and end of what it came from.

    Characters that are joined or change places (a letter and its accents) come from all of these.
    """
    groups: list[str] = []
    for character in text:
        if groups and not _parts(groups[-1], character):
            groups[-1] += character
        else:
            groups.append(character)
    out: list[str] = []
    origins: list[tuple[int, int]] = []
    at = 0
    for group in groups:
        out.append(unicodedata.normalize("NFKC", group))
        origins += [(at, at + len(group))] * len(out[-1])
        at += len(group)
    return "".join(out), origins


def _parts(group: str, character: str) -> bool:
    """Whether what is before `character` can be normalised without it."""
    alone = unicodedata.normalize("NFKC", character)
    if unicodedata.combining(alone[0]):  # without normalising the growing group for each accent
        return False
    before = unicodedata.normalize("NFKC", group)
    return unicodedata.normalize("NFKC", group + character) == before + alone
