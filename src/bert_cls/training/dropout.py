"""Dropout whose masks come from integer random bytes instead of one float draw per value.

On CPUs torch draws masks value by value: 15 to 20 % of a training step with small encoders. A byte
gives a keep rate in steps of 1/256 (0.1 becomes 26/256 = 0.1016, and the scale follows exactly).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Source:
    """Random bytes of rows, each row's a function of (seed, step, its place in the step) alone.

    A resumed run draws the same ones, and no generator state has to be saved. Nor does it matter
    with which rows a row is computed, in which micro-batch or process, or how far it is padded.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._rows: list[tuple[np.random.SFC64, int]] = []

    def start(self, step: int, places: Iterable[tuple[int, ...]], lengths: Iterable[int]) -> None:
        """Begin the streams of the rows that are computed next.

        `places` number each within the step, for example (row, window); `lengths` are its tokens.
        """
        self._rows = [
            (np.random.SFC64(np.random.SeedSequence([self.seed, step, *place])), int(length))
            for place, length in zip(places, lengths, strict=True)
        ]

    def like(self, values: Tensor) -> Tensor:
        """uint8 in the shape of `values`: uniform where a row has tokens, 0 where it is padded.

        Shapes are those of an encoder: [rows, tokens, width], [rows, heads, tokens, tokens] or
        [rows, width].
        """
        drawn = np.zeros(values.shape, dtype=np.uint8)
        for row, (generator, length) in zip(drawn, self._rows, strict=True):
            own = row if row.ndim == 1 else row[:length]
            if row.ndim == 3:
                own = row[:, :length, :length]
            own[...] = _bytes(generator, own.size).reshape(own.shape)
        return torch.from_numpy(drawn)


def _bytes(generator: np.random.SFC64, count: int) -> NDArray[np.uint8]:
    """uint8 [count], uniform; whole words, which costs a half of what `Generator.bytes` does."""
    words = generator.random_raw(-(-count // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:count]


class _Mask(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kept: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.scale = scale
        return (values * kept).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (kept,) = ctx.saved_tensors
        return (gradients[0] * kept).mul_(ctx.scale), None, None


class ByteDropout(nn.Module):
    """In training, zeroes values with probability `p` (to the nearest 1/256), scales the rest."""

    def __init__(self, p: float, source: Source) -> None:
        super().__init__()
        self.p = p  # attention modules of transformers read it
        self.threshold = round(p * 256)
        self.source = source

    def forward(self, values: Tensor) -> Tensor:
        """A shape of `Source.like`; the same tensor in evaluation or when p rounds to 0."""
        if not self.training or self.threshold == 0:
            return values
        kept = self.source.like(values) >= self.threshold
        # torch is slow from bool to bfloat16, 2 % of a step; from bytes it is not
        kept = kept.view(torch.uint8).to(values.device).to(values.dtype)
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
