"""What the processor can multiply: the limit that useful operations are compared with."""

from __future__ import annotations

import time

import torch
from torch.nn import functional

SHAPES = ((2048, 2048, 2048), (4096, 384, 1536), (4096, 1536, 384), (2048, 384, 1536))
SECONDS = 0.5


def unit() -> str:
    """What multiplies bfloat16 here: amx_bf16, avx512_bf16, or nothing of the processor's own."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return next((n for n in ("amx_bf16", "avx512_bf16", "bf16") if able.get(n)), "no bf16 unit")


def peak(dtype: torch.dtype) -> tuple[float, str]:
    """The best GFLOP/s of torch's linear layer over the shapes, and its shape."""
    best = (0.0, "")
    for rows, inner, columns in SHAPES:
        left, right = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            began = time.perf_counter()
            functional.linear(left, right)
            rate = 2 * rows * inner * columns / (time.perf_counter() - began) / 1e9
            best = max(best, (rate, f"{rows}x{inner}x{columns}"))
    return best
