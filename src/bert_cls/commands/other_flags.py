"""Flags in a reader's message that the command has not: said as the command that has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

_COPIED = re.compile(r"(?<!\S)--(?:coerce-numbers|encoding|fix|fix-unicode)(?![\w-])")
_COMMAND = re.compile(r"\bbert-cls [a-z]")  # its flags are its own, up to the end of the line


def with_commands(text: str, own: Callable[[], Collection[str]]) -> str:
    """The message with each flag that is none of `own()` as what writes a copy by it."""

    def said(flag: re.Match[str]) -> str:
        before = text[: flag.start()].rpartition("\n")[2]
        if flag[0] in own() or _COMMAND.search(before):
            return flag[0]
        check = "bert-cls check FILE"
        return f"{check} --fix" if flag[0] == "--fix" else f"{check} --fix FOLDER {flag[0]}"

    return _COPIED.sub(said, text)
