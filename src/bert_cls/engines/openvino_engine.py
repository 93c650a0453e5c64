"""OpenVINO on the processor, in float32, bfloat16 or int8."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from bert_cls.bundle import Bundle
from bert_cls.engines.engine import Engine, Kind, Logits, feeds
from bert_cls.engines.machine import usable_cores
from bert_cls.engines.second_look import open_exported
from bert_cls.errors import BundleError
from bert_cls.text import PaddedBatch

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""int8 files keep what is not int8 in float32"""
_MULTIPLE = 8
"""Widths are rounded up to it: OpenVINO prepares itself for every shape it meets, which takes
longer than a short text (14 ms against 6 for one of 36 tokens), so there had better be few."""


class OpenVinoEngine:
    """One stream of one thread a core, each with a batch of its own."""

    max_tokens = 1024

    def __init__(self, model: Any, *, precision: str, longest: int) -> None:
        self.name = f"openvino {precision}"
        self._longest = longest
        cores = usable_cores()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "NUM_STREAMS": cores,
            "INFERENCE_NUM_THREADS": cores,
            "ENABLE_CPU_PINNING": False,  # two processes would share the first core
        }
        compiled = openvino.Core().compile_model(model, "CPU", options)
        self._inputs = tuple(port.any_name for port in compiled.inputs)
        self.at_once = cores
        self._requests = [compiled.create_infer_request() for _ in range(cores)]

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs]."""
        return next(logits for _, logits in self.logits_of([(0, batch)]))

    def logits_of(self, batches: Iterable[tuple[int, PaddedBatch]]) -> Iterator[tuple[int, Logits]]:
        """Logits of numbered batches, in their order; as many at once as there are cores."""
        idle = deque(self._requests)
        running: deque[tuple[int, Any]] = deque()
        for number, batch in batches:
            if not idle:
                yield _finished(running, idle)
            request = idle.popleft()
            request.start_async(feeds(self._widened(batch), self._inputs))
            running.append((number, request))
        while running:
            yield _finished(running, idle)

    def _widened(self, batch: PaddedBatch) -> PaddedBatch:
        """More padding, up to a width that comes again."""
        width = batch.ids.shape[1]
        wanted = min(-(-width // _MULTIPLE) * _MULTIPLE, max(width, self._longest))
        more = ((0, 0), (0, wanted - width))
        return PaddedBatch(
            np.pad(batch.ids, more), np.pad(batch.types, more), np.pad(batch.mask, more)
        )


def _finished(running: deque[tuple[int, Any]], idle: deque[Any]) -> tuple[int, Logits]:
    number, request = running.popleft()
    request.wait()
    logits: Logits = np.array(request.get_output_tensor(0).data, dtype=np.float32)
    idle.append(request)
    return number, logits


def open_engine(bundle: Bundle, kind: Kind) -> Engine:
    """The exported network of a model folder. BundleError when its file is damaged."""

    def opened(path: Path, precision: str) -> Engine:
        try:
            model = openvino.Core().read_model(path)
            return OpenVinoEngine(model, precision=precision, longest=bundle.text.max_length)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise BundleError(f"{path} cannot be opened by openvino: {reason}") from error

    return open_exported(bundle, kind, opened)
