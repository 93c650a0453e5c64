"""The process an engine was opened in: in a forked child its threads are missing.

A child would wait for them for ever, with OpenVINO also where it only lets go of the engine.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any
from weakref import WeakKeyDictionary

from bert_cls.errors import EngineError

_OPENED: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def opened_here(engine: Any) -> None:
    """Remember that this process opened it."""
    _OPENED[engine] = os.getpid()


def check_process(engine: Any) -> None:
    """EngineError in a process that was forked from the one that opened the engine."""
    if _OPENED.get(engine, os.getpid()) != os.getpid():
        raise before_fork("this model was opened")


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
