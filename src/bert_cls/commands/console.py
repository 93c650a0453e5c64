"""What the commands share: the console, and what is written or printed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bert_cls.errors import printable
from bert_cls.signals import leave_alternate_stack

if TYPE_CHECKING:
    from types import FrameType

    from rich.console import Console

    from bert_cls.classifier import Classifier
    from bert_cls.data import Example

STDIO = "-"
"""Given for a file: standard input or output."""


def open_console(*, stderr: bool = True) -> Console:
    """A rich console; wide when the output is no terminal, so that tables are not folded.

    It shows what a terminal would obey, and `:car:` as it is: labels, texts and messages may be a
    stranger's.
    """
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:  # before it is measured
            return super().render_str(printable(text), **options)

        def render(self, *given: Any, **options: Any) -> Iterator[Segment]:
            for part in super().render(*given, **options):
                yield part if part.control else Segment(printable(part.text), part.style)

    width = None if os.environ.get("COLUMNS") or sys.stderr.isatty() else 120
    return Plain(stderr=stderr, width=width, emoji=False)


def is_stdio(path: Path | None) -> bool:
    """Whether an output is given as "-", to be printed."""
    return str(path) == STDIO


def write_output(path: Path, content: bytes, what: str, console: Console) -> None:
    """Write a file, and say where it is. A link keeps its place: what it leads to is written.

    For STDIO it is printed instead; the console must then be that of standard error.
    """
    from bert_cls.folders import followed, write_file

    if is_stdio(path):
        typer.echo(content.decode("utf-8"))
        return
    place = said_place(path)
    write_file(followed(path), content)
    console.print(f"{what}: {place}", markup=False, highlight=False, soft_wrap=True)


def rows_compared(model: Classifier, train: Path | None) -> list[Example]:
    """The model's training rows for neighbours; says what they are, and how many."""
    from bert_cls.nearest import training_rows

    console = open_console()
    rows = training_rows(
        model, train, lambda note: console.print(f"- {note}", highlight=False, markup=False)
    )
    console.print(f"comparing with {len(rows):,} training rows", highlight=False)
    return rows


def said_place(path: Path) -> str:
    """A path that is about to be written, and the folder that is made for it."""
    from bert_cls.folders import followed, missing_folder

    missing = missing_folder(followed(path))
    return str(path) if missing is None else f"{path} (new folder {missing})"


@contextmanager
def terminable() -> Iterator[None]:
    """In this block SIGTERM is a KeyboardInterrupt that has the signal's number as its argument."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    leave_alternate_stack()  # an engine that was compiled before this may have set one
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
