"""What this machine computes with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_BFLOAT16 = ("avx512_bf16", "amx_bf16")
_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags the processor reports on Linux; empty elsewhere."""
    try:
        text = cpuinfo.read_text("utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def multiplies_int8() -> bool:
    """Whether int8 products are exact and fast here.

    Older x86 processors add pairs of them in 16 bits, which overflows: other answers. Apple's
    processors report no flags and have the instructions.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    return not processor_flags().isdisjoint(_INT8)


def multiplies_bfloat16() -> bool:
    """Whether bfloat16 products are the processor's own and faster than float32's (x86 only)."""
    return not processor_flags().isdisjoint(_BFLOAT16)
