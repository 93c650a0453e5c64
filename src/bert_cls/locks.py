"""The kernel's lock on an open file or folder: it ends with its process, so none is left behind."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from bert_cls.errors import ConfigError

if sys.platform != "win32":
    import fcntl

_PAUSE = 0.1
"""seconds between two tries"""


def lock(handle: int) -> bool:
    """Keep others out until the handle is closed. BlockingIOError while another process holds it.

    Where there are no such locks (Windows, some network file systems) nobody is kept out: False.
    """
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # this file system has no locks
        return False
    return True


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Lock the file or folder at `path` until the block ends, as `lock` does."""
    if sys.platform == "win32":
        yield False
        return
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for its writer
    try:
        yield lock(handle)
    finally:
        os.close(handle)


class Lock:
    """Keeps other runs and exports out of a folder until it is closed or the process is gone.

    It is the kernel's lock on the folder itself. Where there is none nobody is kept out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._handle: int | None = None

    def take(self, waits: Callable[[], bool] = lambda: False) -> None:
        """ConfigError while another run holds it; nothing where the folder is not there yet.

        As long as `waits` answers True it is waited for instead; it is asked before each new try.
        """
        while sys.platform != "win32" and self._handle is None and self.folder.is_dir():
            handle = os.open(self.folder, os.O_RDONLY)
            try:
                lock(handle)
                if os.path.samestat(os.fstat(handle), self.folder.stat()):
                    self._handle = handle
            except BlockingIOError:
                if not waits():
                    raise ConfigError(
                        f"another run is writing to {self.folder}.",
                        hint="wait for its end, or give another folder.",
                    ) from None
                time.sleep(_PAUSE)
            finally:
                if self._handle is None:  # held by another, or replaced before it was locked
                    os.close(handle)

    def is_in_place(self) -> bool:
        """Whether the folder that was taken still has its name: not moved, removed or made anew."""
        try:
            there = self.folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self._handle is None or os.path.samestat(os.fstat(self._handle), there)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
