"""Memory of the process: what says that it ran out, and how freed memory is kept in it.

glibc hands blocks above a threshold straight back to the kernel, so every step pays page faults
for the same activations and gradients again: 7 to 16 % of a step (docs/experiments.md).
"""

from __future__ import annotations

import ctypes
import errno
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bert_cls.errors import TrainingError

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1  # mallopt takes an int
# for CPUs torch has no class of its own, only these words in a RuntimeError; the last are oneDNN's
_WORDS = re.compile(
    "DefaultCPUAllocator|bad allocation|bad_alloc|out of memory"
    "|could not (create|execute) a primitive$"
)


def is_shortage(error: Exception) -> bool:
    """Whether an error of numpy, torch or the system says that memory ran out, of CPU or GPU."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if not isinstance(error, RuntimeError):
        return False
    named = type(error).__name__ == "OutOfMemoryError"
    return named or _WORDS.search(str(error)) is not None


@contextmanager
def enough_memory(doing: str, *, hint: str) -> Iterator[None]:
    """A shortage inside becomes a TrainingError that says what was being done."""
    try:
        yield
    except Exception as error:
        if not is_shortage(error):
            raise
        raise TrainingError(f"out of memory {doing}.", hint=hint) from None


def keep_freed_memory() -> None:
    """Raise glibc's thresholds for this process; elsewhere do nothing."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # musl has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        libc.mallopt(_M_TOP_PAD, 64 << 20)
