"""The kernel's lock on an open file or folder: it ends with its process, so none is left behind."""

from __future__ import annotations

import sys

if sys.platform != "win32":
    import fcntl


def lock(handle: int) -> None:
    """Keep others out until the handle is closed. BlockingIOError while another process holds it.

    Where there are no such locks (Windows, some network file systems) nobody is kept out.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # this file system has no locks
        return
