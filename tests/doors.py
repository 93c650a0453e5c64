"""The command line as a function, so that a hundred commands take a second."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass
from unittest import mock

from bert_cls import cli

WIDE = {"COLUMNS": "4000"}  # so that no sentence is folded


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left; `out` and `err` with single spaces."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return f"{self.out} {self.err}"


def main(*arguments: object, stdin: bytes = b"") -> Done:
    """`bert-cls ARGUMENTS`, in this process."""
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace")  # as Python's own
    code = 0
    standard_input = io.TextIOWrapper(io.BytesIO(stdin))
    with (
        mock.patch.object(sys, "argv", ["bert-cls", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", standard_input),
        mock.patch.dict("os.environ", WIDE),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code if isinstance(stopped.code, int) else bool(stopped.code)
    return Done(code, _written(out), _written(err))


def _written(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return " ".join(stream.read().split())
