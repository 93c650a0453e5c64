"""Where a text falls into words and characters that can be hidden one by one."""

from __future__ import annotations

import re
from unicodedata import category

# written without spaces between words: East Asian, Thai, Lao, Myanmar, Khmer
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u2e80-\u2fdf\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
)
_MARK, _JOINER = "\u0301", "\u200d"
_FLAG = "[\U0001f1e6-\U0001f1ff]"  # letters that make a flag by two
_WORD = rf"[^\W{_UNSPACED}]"
_UNIT = re.compile(
    rf"{_WORD}(?:{_WORD}|[{_MARK}{_JOINER}])*\s*"
    rf"|(?:{_FLAG}{_FLAG}|\S)[{_MARK}{_JOINER}]*(?:(?<={_JOINER})\S[{_MARK}{_JOINER}]*)*\s*|\s+",
    re.DOTALL,
)


def units(text: str) -> list[tuple[int, int]]:
    """Where words stand, and characters of scripts that put no space between words.

    Combining marks and joiners belong to what precedes them, and so does white space.
    """
    alike = text if text.isascii() else "".join(map(_seen, text))
    return [match.span() for match in _UNIT.finditer(alike)]


def _seen(character: str) -> str:
    """A character, or the one mark or joiner that stands for all of them: `re` knows no classes."""
    if character in "\u200c\u200d":
        return _JOINER
    is_mark = category(character)[0] == "M" or "\U0001f3fb" <= character <= "\U0001f3ff"
    return _MARK if is_mark else character
