"""What the layers of a network read, on calibration rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.engines.engine import feeds
from bert_cls.export.rows import Rows
from bert_cls.text import batches_by_length

_TOKENS = 2048
_BATCH = 1024


def collect(
    graph: onnx.ModelProto, tensors: Sequence[str], rows: Rows, bundle: Bundle
) -> dict[str, NDArray[np.float32]]:
    """float32 [tokens, channels] of each tensor: of about 2,048 tokens drawn at random."""
    import openvino

    from bert_cls.engines.openvino_engine import compile_model

    model = openvino.Core().read_model(graph.SerializeToString())
    model.add_outputs(list(tensors))
    compiled = compile_model(model, {"INFERENCE_PRECISION_HINT": "f32"})
    names = [port.any_name for port in compiled.inputs]
    tokens = rows.calibration.pieces
    share = min(1.0, _TOKENS / max(1, int(tokens.lengths.sum())))
    generator = np.random.default_rng(0)
    parts: dict[str, list[NDArray[np.float32]]] = {tensor: [] for tensor in tensors}
    for chosen in batches_by_length(tokens.lengths, _BATCH):
        batch = tokens.padded(chosen, bundle.pad_id)
        answers = compiled(feeds(batch, names))
        drawn = np.flatnonzero(batch.mask & (generator.random(batch.mask.shape) < share))
        for tensor, port in zip(tensors, compiled.outputs[1:], strict=True):
            values = answers[port]
            parts[tensor].append(values.reshape(-1, values.shape[-1])[drawn])
    return {tensor: np.concatenate(values) for tensor, values in parts.items()}
