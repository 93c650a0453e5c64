"""Asked to stop: what SIGINT and SIGTERM do while a run is under way.

At once, they raise, as Ctrl-C does: where nothing would be lost (reading, tokenising, tuning).
Noted, they wait until whoever holds state asks for them: between two steps, after a save.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from bert_cls.errors import Interrupted

Explained = tuple[str, str | None]
"""A message, and a hint how to go on."""


class Stop(KeyboardInterrupt):
    """A signal asked to stop; not an Exception, so that no library takes it for a fault."""


class Signals:
    """Signals of one run: `received` is the first one's number, 0 while there was none."""

    def __init__(self) -> None:
        self.received = 0
        self._at_once = True

    def note(self, number: int, _frame: FrameType | None) -> None:
        """The handler. Only the first signal raises: a second must not break the tidying up."""
        first = not self.received
        self.received = self.received or number
        if self._at_once and first:
            raise Stop

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Inside, signals are only noted; one that nobody asked for raises at the end."""
        self._at_once = False
        try:
            yield
        finally:
            self._at_once = True
        if self.received:
            raise Stop

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within `noted`: a stretch without state, where a signal raises again."""
        self._at_once = True
        try:
            if self.received:
                raise Stop
            yield
        finally:
            self._at_once = False


@contextmanager
def stoppable(explain: Callable[[], Explained]) -> Iterator[Signals]:
    """Take SIGINT and SIGTERM; one that raises becomes Interrupted with `explain`'s words.

    Outside the main thread, where Python allows no handlers, nothing is taken.
    """
    signals = Signals()
    leave_alternate_stack()
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, signals.note)
    except ValueError:  # not the main thread
        yield signals
        return
    try:
        yield signals
    except Stop:
        message, hint = explain()
        raise Interrupted(message, signal_number=signals.received, hint=hint) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2) on Linux."""

    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


def leave_alternate_stack() -> None:
    """Take signals on this thread's own stack.

    Python's handlers ask for the alternate stack where there is one. OpenVINO's first compilation
    for the CPU, of any precision, sets one for its thread. Where the last Core goes away in another
    thread that memory is unmapped and stays set here, and the next signal ends the process.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        none = _Stack(None, 2, 0)  # SS_DISABLE
        ctypes.CDLL(None).sigaltstack(ctypes.byref(none), None)
