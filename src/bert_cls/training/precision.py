"""Which precision a device trains in."""

from __future__ import annotations

import torch


def bfloat16_in_hardware(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))


def choose_precision(wanted: str, device: torch.device) -> str:
    """`auto` resolved for the device."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if bfloat16_in_hardware(device) else "float32"
