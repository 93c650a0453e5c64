"""The contract of an engine, and how rows are run through one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.errors import EngineError, pick
from bert_cls.text import PaddedBatch, Tokens, batches_by_length


class Engine(Protocol):
    """Padding, batch size, order and neighbours must not change a row's logits beyond 1e-5."""

    name: str

    def logits(self, batch: PaddedBatch) -> NDArray[np.float32]:
        """float32 [rows, outputs]."""


def run(
    engine: Engine, tokens: Tokens, *, pad_id: int, outputs: int, max_tokens: int = 4096
) -> NDArray[np.float32]:
    """float32 logits [rows, outputs] in the rows' order; batches are of similar length."""
    pieces = tokens.pieces
    out = np.zeros((len(pieces), outputs), dtype=np.float32)
    for rows in batches_by_length(pieces.lengths, max_tokens):
        out[rows] = engine.logits(pieces.padded(rows, pad_id))
    return tokens.pooled(out)


def open_engine(bundle: Bundle, name: str = "torch") -> Engine:
    """Open the named engine on a model folder. EngineError says what to install if it is absent."""
    return pick(ENGINES, name, "--engine")(bundle)


def _torch(bundle: Bundle) -> Engine:
    return _from_module("bert_cls.engines.torch_engine", bundle, "float32")


def _torch_bfloat16(bundle: Bundle) -> Engine:
    return _from_module("bert_cls.engines.torch_engine", bundle, "bfloat16")


def _from_module(module: str, bundle: Bundle, precision: str) -> Engine:
    try:
        opened: Engine = import_module(module).open_engine(bundle, precision)
    except ImportError as error:
        raise EngineError(
            f"the torch engine needs a package that is not installed: {error.name}.",
            hint="pip install 'bert-cls[train]', or, where that is installed, bert-cls export "
            "writes the model for an engine that is installed here",
        ) from error
    return opened


ENGINES: dict[str, Callable[[Bundle], Engine]] = {
    "torch": _torch,
    "torch-bfloat16": _torch_bfloat16,
}
