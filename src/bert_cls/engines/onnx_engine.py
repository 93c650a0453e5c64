"""ONNX Runtime, on a GPU where its CUDA provider is installed; float32 or int8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime

from bert_cls.bundle import Bundle
from bert_cls.engines.engine import Engine, Kind, Logits, feeds
from bert_cls.engines.machine import usable_cores
from bert_cls.engines.process import check_library
from bert_cls.engines.second_look import open_exported
from bert_cls.errors import BundleError
from bert_cls.text import PaddedBatch

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


class OnnxEngine:
    """A single-file ONNX network; one batch at a time, on all cores."""

    max_tokens = 2048

    def __init__(self, session: Any, *, precision: str) -> None:
        where = " on a GPU" if session.get_providers()[0] == _PROVIDERS[0] else ""
        self.name = f"onnxruntime {precision}{where}"
        self._session = session
        self._inputs = tuple(port.name for port in session.get_inputs())

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs]."""
        logits: Logits = self._session.run(None, feeds(batch, self._inputs))[0]
        return logits


def open_engine(bundle: Bundle, kind: Kind) -> Engine:
    """The exported network of a model folder. BundleError when its file is damaged."""
    check_library("ONNX Runtime")
    able = onnxruntime.get_available_providers()
    providers = [name for name in _PROVIDERS if name in able]

    def opened(path: Path, precision: str) -> Engine:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = usable_cores()
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(path, options, providers=providers)
        except Exception as error:  # of many kinds without a common base
            reason = " ".join(str(error).split())[-300:]
            raise BundleError(f"{path} cannot be opened by onnxruntime: {reason}") from error
        return OnnxEngine(session, precision=precision)

    return open_exported(bundle, kind, opened)
