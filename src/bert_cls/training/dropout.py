"""Dropout whose masks come from integer random bytes instead of one float draw per value.

On CPUs torch draws masks value by value: 15 to 20 % of a training step with small encoders. A byte
gives a keep rate in steps of 1/256 (0.1 becomes 26/256 = 0.1016, and the scale follows exactly).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Source:
    """Random bytes that are a function of (seed, step) alone.

    A resumed run draws the same ones, and no generator state has to be saved.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator = np.random.Generator(np.random.SFC64(seed))
        self._rows: tuple[int, int] | None = None

    def start(self, *place: int, rows: tuple[int, int] | None = None) -> None:
        """Begin the stream of one place in training, for example (step, micro-batch).

        Of a micro-batch that is shared out, `rows` are (the first row here, rows of the whole).
        """
        self._generator = np.random.Generator(
            np.random.SFC64(np.random.SeedSequence([self.seed, *place]))
        )
        self._rows = rows

    def like(self, values: Tensor) -> Tensor:
        """uint8 in the shape of `values` [rows, ...]: what these rows get in the whole batch."""
        if self._rows is None:
            return self.bytes(values.numel()).view(values.shape)
        first, whole = self._rows
        here = len(values)
        drawn = self.bytes(whole * values[0].numel()).view(whole, *values.shape[1:])
        return drawn[first : first + here]

    def bytes(self, count: int) -> Tensor:
        """uint8 [count], uniform."""
        return torch.frombuffer(bytearray(self._generator.bytes(count)), dtype=torch.uint8)


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return values * kept * scale

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return gradients[0] * kept * ctx.scale, None, None


class ByteDropout(nn.Module):
    """In training, zeroes values with probability `p` (to the nearest 1/256), scales the rest."""

    def __init__(self, p: float, source: Source) -> None:
        super().__init__()
        self.p = p  # attention modules of transformers read it
        self.threshold = round(p * 256)
        self.source = source

    def forward(self, values: Tensor) -> Tensor:
        """Any shape; the same tensor in evaluation or when p rounds to 0."""
        if not self.training or self.threshold == 0:
            return values
        kept = self.source.like(values) >= self.threshold
        kept = kept.to(values.device)
        scaled: Tensor = _Mask.apply(  # type: ignore[no-untyped-call]
            values, kept, 256 / (256 - self.threshold)
        )
        return scaled


def install(module: nn.Module, source: Source) -> None:
    """Replace every torch dropout below `module` by one of the same rate that draws bytes."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Dropout):
                setattr(parent, name, ByteDropout(child.p, source))
