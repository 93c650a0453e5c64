"""What the layers of a network read, on calibration rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.engines.engine import feeds
from bert_cls.export.rows import Rows
from bert_cls.text import batches_by_length

_TOKENS = 2048
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """What a tensor was on the calibration rows."""

    sample: NDArray[np.float32]
    """[tokens, channels], of tokens drawn at random"""
    low: NDArray[np.float32]
    """[channels], the least value of any token"""
    high: NDArray[np.float32]
    """[channels], the greatest"""


def collect(
    graph: onnx.ModelProto, tensors: Sequence[str], rows: Rows, bundle: Bundle
) -> dict[str, Seen]:
    """What each tensor is, [tokens, channels]: about 2,048 tokens of it, and the range of all."""
    import openvino

    from bert_cls.engines.openvino_engine import compile_model

    model = openvino.Core().read_model(graph.SerializeToString())
    model.add_outputs(list(tensors))
    compiled = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
    names = [port.any_name for port in compiled.inputs]
    tokens = rows.calibration.pieces
    share = min(1.0, _TOKENS / max(1, int(tokens.lengths.sum())))
    generator = np.random.default_rng(0)
    parts: dict[str, list[Seen]] = {tensor: [] for tensor in tensors}
    for chosen in batches_by_length(tokens.lengths, _BATCH):
        batch = tokens.padded(chosen, bundle.pad_id)
        answers = compiled(feeds(batch, names))
        drawn = generator.random(int(batch.mask.sum())) < share
        for tensor, port in zip(tensors, compiled.outputs[1:], strict=True):
            values = answers[port][batch.mask]
            parts[tensor].append(Seen(values[drawn], values.min(axis=0), values.max(axis=0)))
    return {tensor: _together(seen) for tensor, seen in parts.items()}


def _together(parts: Sequence[Seen]) -> Seen:
    return Seen(
        np.concatenate([part.sample for part in parts]),
        np.min([part.low for part in parts], axis=0),
        np.max([part.high for part in parts], axis=0),
    )
