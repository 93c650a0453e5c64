"""Keeps freed memory in the process: on Linux a training step otherwise returns and refaults it.

glibc hands blocks above a threshold straight back to the kernel, so every step pays page faults
for the same activations and gradients again: 7 to 16 % of a step (docs/experiments.md).
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1  # mallopt takes an int


def keep_freed_memory() -> None:
    """Raise glibc's thresholds for this process; elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TOP_PAD, 64 << 20)
