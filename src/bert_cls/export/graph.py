"""The whole network, pooling and head included, as one ONNX graph."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from bert_cls.bundle import Bundle
from bert_cls.engines.torch_engine import open_torch
from bert_cls.errors import EngineError

OPSET = 20
"""the first with GELU as one operator, which int8 kernels round in passing"""


class _Single(nn.Module):
    """A network of single texts, or without token types."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor) -> Any:
        return self.network(ids, torch.zeros_like(ids), mask.bool())


class _Pair(nn.Module):
    """A network whose second text has another token type."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Any:
        return self.network(ids, types, mask.bool())


def to_onnx(bundle: Bundle) -> onnx.ModelProto:
    """The graph of a model folder's network.

    Inputs int64 [rows, tokens]: `input_ids`, `attention_mask` and, for pairs of a network that
    tells them apart, `token_type_ids`; output `logits` float32 [rows, outputs].
    EngineError when the network cannot be traced.
    """
    network = open_torch(bundle).network.cpu().eval()
    names = ["input_ids", "attention_mask"]
    ids = torch.full((2, 7), bundle.pad_id + 1)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    arguments: tuple[Tensor, ...] = (ids, mask)
    wrapped: nn.Module = _Single(network)
    if bundle.pair and network.takes_types:
        names.append("token_type_ids")
        arguments = (ids, mask, torch.zeros_like(ids))
        wrapped = _Pair(network)
    axes = {name: {0: "rows", 1: "tokens"} for name in names}
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # the tracing exporter is called old by its makers; it is thirty times faster than the
            # new one and gives the same graph for all our families (docs/decisions/007)
            warnings.simplefilter("ignore")
            torch.onnx.export(
                wrapped,
                arguments,
                path := Path(folder) / "network.onnx",
                dynamo=False,
                input_names=names,
                output_names=["logits"],
                dynamic_axes={**axes, "logits": {0: "rows"}},
                opset_version=OPSET,
            )
            return onnx.load(path)
    except Exception as error:  # of many kinds, by what cannot be traced
        reason = " ".join(str(error).split())[:300]
        raise EngineError(f"{bundle.folder}: the network cannot be exported: {reason}") from error
