"""The process an engine was opened in, and by which name: a forked child has not its threads.

A child would wait for them for ever, with OpenVINO also where it only lets go of the engine.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any
from weakref import WeakKeyDictionary

from bert_cls.errors import EngineError

_FIRST: dict[str, int] = {}
"""library -> the process that first opened a network by it"""
_OPENED: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()


def opened_here(engine: Any, name: str) -> None:
    """Remember that this process opened it, and its name in the table of engines."""
    _OPENED[engine] = os.getpid(), name


def opened_as(engine: Any) -> str | None:
    """Its name in the table of engines; None where it was opened in another way."""
    return _OPENED[engine][1] if engine in _OPENED else None


def check_process(engine: Any) -> None:
    """EngineError in a process that was forked from the one that opened the engine."""
    if engine in _OPENED and _OPENED[engine][0] != os.getpid():
        raise before_fork("this model was opened")


def check_library(library: str, *, threads: int = 2) -> None:
    """EngineError in a process forked from one where the library opened a network.

    Its threads, once started, can hang every process that is forked from theirs; one thread alone
    does not.
    """
    if _FIRST.setdefault(library, os.getpid()) != os.getpid() and threads > 1:
        raise before_fork(f"a model was opened by {library}")


def before_fork(what: str) -> EngineError:
    """The error for `what` was done before a fork."""
    return EngineError(
        f"{what} before a fork. Its threads are not in the forked process, which would wait for "
        "them for ever.",
        hint="call Classifier.load(FOLDER) in each process after the fork, and not before; or "
        'start processes by multiprocessing.get_context("spawn").',
    )


def _keep() -> None:
    """One more reference to each, for good: nothing may wait for its threads at the end either."""
    for engine in list(_OPENED):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine))


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_keep)
