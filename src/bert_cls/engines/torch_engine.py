"""The reference engine: the network itself, in float32 or under bfloat16 autocast."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bert_cls.bundle import Bundle, naming
from bert_cls.engines.engine import Kind
from bert_cls.engines.process import check_library
from bert_cls.errors import BundleError, EngineError
from bert_cls.memory import is_shortage
from bert_cls.network import Network, load_tensors, open_network
from bert_cls.text import PaddedBatch


class TorchEngine:
    """Runs a network in evaluation mode on its own device; training sets its mode each epoch.

    Several threads may ask at once, so nothing here changes the network after it was opened.
    """

    max_tokens = 4096

    def __init__(self, network: Network, *, precision: str, device: torch.device) -> None:
        self.name = f"torch {precision}"
        self.network = network.eval()
        self.precision = precision
        self.device = device

    def logits(self, batch: PaddedBatch) -> NDArray[np.float32]:
        """float32 [rows, outputs]."""
        return self._run(self.network, batch)

    def pooled(self, batch: PaddedBatch) -> NDArray[np.float32]:
        """float32 [rows, width]: what the head sees of each row."""
        return self._run(self.network.pool, batch)

    def _run(self, function: Callable[..., Tensor], batch: PaddedBatch) -> NDArray[np.float32]:
        """Out of memory halves the rows; EngineError with a single one."""
        try:
            return self._computed(function, batch)
        except Exception as error:
            if not is_shortage(error):
                raise
        rows, tokens = batch.ids.shape
        if rows == 1:
            raise EngineError(
                f"out of memory with a single text of {tokens} tokens.",
                hint="free some memory, or use a smaller model or a lower text.max_length.",
            )
        cut = slice(rows // 2), slice(rows // 2, None)
        halves = (PaddedBatch(batch.ids[c], batch.types[c], batch.mask[c]) for c in cut)
        return np.concatenate([self._run(function, half) for half in halves])

    def _computed(self, function: Callable[..., Tensor], batch: PaddedBatch) -> NDArray[np.float32]:
        ids, types, mask = (
            torch.from_numpy(part).to(self.device) for part in (batch.ids, batch.types, batch.mask)
        )
        reduced = self.precision == "bfloat16"
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, reduced):
            values = function(ids, types, mask)
        array: NDArray[np.float32] = values.float().cpu().numpy()
        return array


def open_engine(bundle: Bundle, kind: Kind) -> TorchEngine:
    """The network of a model folder, on a GPU where there is one. BundleError for a damaged one.

    EngineError after a fork from a process that had opened one on several threads.
    """
    return open_torch(bundle, kind.precision)


def open_torch(bundle: Bundle, precision: str = "float32") -> TorchEngine:
    """`open_engine` by precision, for those who want the network itself."""
    check_library("torch", threads=torch.get_num_threads())
    path = bundle.folder / "model.safetensors"
    try:
        with naming(bundle.folder):
            network = open_network(
                bundle.folder, outputs=bundle.outputs, pooling=bundle.pooling, weights=False
            )
            load_tensors(network, load_file(path))
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TorchEngine(network.to(device), precision=precision, device=device)
