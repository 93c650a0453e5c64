"""OpenVINO on the processor, in float32, bfloat16 or int8."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from bert_cls.bundle import Bundle
from bert_cls.engines.engine import ROWS_STEP, Engine, Kind, Logits, feeds
from bert_cls.engines.machine import usable_cores
from bert_cls.engines.process import check_library
from bert_cls.engines.second_look import open_exported
from bert_cls.errors import BundleError
from bert_cls.signals import leave_alternate_stack
from bert_cls.text import PaddedBatch

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""int8 files keep what is not int8 in float32"""
_UNFUSED = {"SNIPPETS_MODE": "DISABLE"}
"""Fused attention takes up to twice as long where a width is no whole number of vectors: 37 against
33 us a token at widths of 24 or 40 (12 layers, int8), and the same where it is."""
_VECTOR = 16
"""Widths are rounded up to it. The softmax over a text's tokens adds up whole vectors of 16 in
another order than what is left of one, so with other widths the last bit of a sum depends on the
padding; int8 and bfloat16 round that to a whole step now and then. With whole vectors their answers
are the same bit for bit. Few shapes are also quick: OpenVINO prepares itself for every one it
meets, which takes longer than a short text (14 ms against 6), and keeps 3 to 8 MB for it, so that
the memory of a long job would grow with the shapes that it happens to meet. So rows are rounded up
too, by repeating the last one."""
_MANY = 8
"""batches a core that make a bulk of them"""
_MULTIPLE_OF_MANY = 4
"""In bulk padding counts for more: whole vectors would cost a tenth of the speed."""
_Running = tuple[int, int, Any]
"""a batch's number, its rows, and the request that computes it"""
_ALONE = 8
"""so many batches that came alone, one after the other, are a stream of them"""


def compile_model(model: Any, options: dict[str, Any]) -> Any:
    """A network for the processor; signals are taken as they were before."""
    core = openvino.Core()
    try:
        compiled = core.compile_model(model, "CPU", options | _UNFUSED)
    except RuntimeError:  # a version that does not know the option
        compiled = core.compile_model(model, "CPU", options)
    leave_alternate_stack()  # it sets one, which is gone once another thread drops the network
    return compiled


class _Prepared:
    """A network prepared in `streams`, and its idle requests; a request is one caller's at a time.

    Callers together may have more requests than there are streams: OpenVINO queues them.
    """

    def __init__(self, compiled: Any, streams: int) -> None:
        self.streams = streams
        self.inputs = tuple(port.any_name for port in compiled.inputs)
        self._compiled = compiled
        self._idle = [compiled.create_infer_request() for _ in range(streams)]

    def take(self) -> Any:
        """An idle request, or a new one."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def give_back(self, request: Any) -> None:
        """It has finished."""
        self._idle.append(request)


class OpenVinoEngine:
    """One stream of one thread a core, each with a batch of its own.

    Batches that come alone, as from people who wait for an answer each, would leave the other cores
    idle: once they are a stream the network is prepared a second time, in one stream of all cores.
    """

    max_tokens = 1024

    def __init__(self, model: Any, *, precision: str, longest: int) -> None:
        self.name = f"openvino {precision}"
        self.at_once = usable_cores()
        self._model = model
        self._precision = precision
        self._longest = longest
        self._many = self._prepared(streams=self.at_once)
        self._one: _Prepared | None = None
        self._preparing = Lock()
        self._came_alone = 0

    def _prepared(self, *, streams: int) -> _Prepared:
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[self._precision],
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": self.at_once,
            "ENABLE_CPU_PINNING": False,  # two processes would share the first core
        }
        return _Prepared(compile_model(self._model, options), streams)

    def logits(self, batch: PaddedBatch) -> Logits:
        """float32 [rows, outputs]."""
        return next(logits for _, logits in self.logits_of([(0, batch)]))

    def logits_of(self, batches: Iterable[tuple[int, PaddedBatch]]) -> Iterator[tuple[int, Logits]]:
        """Logits of numbered batches, in their order; as many at once as there are cores."""
        rest = iter(batches)
        begin = list(islice(rest, _MANY * self.at_once))
        alone = len(begin) == 1
        multiple = _VECTOR if len(begin) < _MANY * self.at_once else _MULTIPLE_OF_MANY
        prepared = self._for_one() if alone else self._many
        self._came_alone = self._came_alone + 1 if alone else 0
        running: deque[_Running] = deque()
        for number, batch in chain(begin, rest):
            if len(running) == prepared.streams:
                yield _finished(running, prepared)
            request = prepared.take()
            request.start_async(feeds(self._widened(batch, multiple), prepared.inputs))
            running.append((number, len(batch.ids), request))
        while running:
            yield _finished(running, prepared)

    def _for_one(self) -> _Prepared:
        """What a batch which comes alone may take."""
        if self._one is None and self._came_alone >= _ALONE and self.at_once > 1:
            with self._preparing:
                self._one = self._one or self._prepared(streams=1)
        return self._one or self._many

    def _widened(self, batch: PaddedBatch, multiple: int) -> PaddedBatch:
        """More padding and the last row again, up to a shape that comes again."""
        rows, width = batch.ids.shape
        wanted = min(-(-width // multiple) * multiple, max(width, self._longest))
        more = ((0, 0), (0, wanted - width))
        again = ((0, _rows_for(rows) - rows), (0, 0))

        def grown(part: NDArray[Any]) -> NDArray[Any]:
            return np.pad(np.pad(part, more), again, mode="edge")

        return PaddedBatch(grown(batch.ids), grown(batch.types), grown(batch.mask))


def _rows_for(rows: int) -> int:
    """The rows of the prepared shape that so many fit in; a few rows, of long texts, are exact."""
    return rows if rows <= ROWS_STEP else -(-rows // ROWS_STEP) * ROWS_STEP


def _finished(running: deque[_Running], prepared: _Prepared) -> tuple[int, Logits]:
    number, rows, request = running.popleft()
    request.wait()
    logits: Logits = np.array(request.get_output_tensor(0).data[:rows], dtype=np.float32)
    prepared.give_back(request)
    return number, logits


def open_engine(bundle: Bundle, kind: Kind) -> Engine:
    """The exported network of a model folder. BundleError when its file is damaged."""
    check_library("OpenVINO")

    def opened(path: Path, precision: str) -> Engine:
        try:
            model = openvino.Core().read_model(path)
            return OpenVinoEngine(model, precision=precision, longest=bundle.text.max_length)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[-300:]
            raise BundleError(f"{path} cannot be opened by openvino: {reason}") from error

    return open_exported(bundle, kind, opened)
