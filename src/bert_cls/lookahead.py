"""A stream of rows through an engine: the next rows are made ready while it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

from bert_cls.data import Example, Problem

Row = Example | Problem
In = TypeVar("In")
Out = TypeVar("Out")

# a window of rows is also full at so many characters, or 4,096 texts of 10 MB would be held at once
MOST_CHARACTERS = 8_000_000


def windows_of(rows: Iterable[Row], *, most: int) -> Iterator[list[Row]]:
    """Rows in lists of `most`, or fewer where texts are huge; the same for the same rows.

    An error that `rows` raises is raised after the rows that came before it.
    """
    window: list[Row] = []
    characters = 0
    iterator = iter(rows)
    while True:
        try:
            row = next(iterator, None)
        except Exception:
            if window:
                yield window
            raise
        if row is None:
            break
        window.append(row)
        if isinstance(row, Example):
            texts: tuple[object, ...] = (row.text_a, row.text_b)  # a program may give others
            characters += sum(len(text) for text in texts if isinstance(text, str))
        if len(window) == most or characters >= MOST_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def ahead(
    inputs: Iterable[In], compute: Callable[[In], Out], *, stop: Event
) -> Iterator[tuple[In, Out]]:
    """(input, compute(input)) in order.

    A thread of its own computes, so the next input is made and the last result used meanwhile; two
    inputs are under way at most. An error of `compute` is raised in its input's place, one of
    `inputs` after all results before it. When the caller ends early (an error, Ctrl-C, `close`)
    `stop` is set, and the thread is waited for.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="bert-cls-engine") as thread:
        waiting: deque[tuple[In, Future[Out]]] = deque()
        iterator = iter(inputs)
        failure: Exception | None = None
        try:
            while True:
                try:
                    made = next(iterator)
                except StopIteration:
                    break
                except Exception as error:
                    failure = error
                    break
                waiting.append((made, thread.submit(compute, made)))
                if len(waiting) > 1:
                    earliest, result = waiting.popleft()
                    yield earliest, result.result()
            while waiting:
                earliest, result = waiting.popleft()
                yield earliest, result.result()
        finally:
            stop.set()
            for _, result in waiting:
                result.cancel()
    if failure is not None:
        raise failure
