"""Whether a stranger's ONNX file is safe to hand to an engine; read without an ONNX library.

An ONNX file can name other files as the home of its tensors, and operators that live in libraries
of its own. Here its protobuf wire format is walked (lengths only, tensors are stepped over), and
whatever reaches outside the one file is refused before any engine sees it.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bert_cls.errors import BundleError
from bert_cls.files import check_plain

_MOST_FIELDS = 500_000  # an encoder of 48 layers has about 100,000
_MOST_BYTES = 2**31
_DEEPEST = 64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}

# message kind: {field number: kind of the message in it}; numbers as in onnx.proto
_PARTS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "tensor": {},
}
_WORDS: dict[str, dict[int, str]] = {
    "node": {4: "name", 7: "domain"},
    "function": {1: "name", 10: "domain"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14

_STANDARD = {"", "ai.onnx", "ai.onnx.ml"}
# of Microsoft's contributed operators those that optimised and quantised encoders consist of; not,
# for example, EPContext, which names a file to load
_CONTRIBUTED = frozenset(
    """
    Attention BiasGelu BiasSplitGelu DequantizeLinear DynamicQuantizeMatMul EmbedLayerNormalization
    FastGelu FusedGemm FusedMatMul GatherBlockQuantized Gelu GroupQueryAttention LayerNormalization
    MatMulInteger16 MatMulIntegerToFloat MatMulNBits MultiHeadAttention PackedAttention
    PackedMultiHeadAttention QAttention QEmbedLayerNormalization QGemm QLinearAdd QLinearConcat
    QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu
    RelativePositionBias RemovePadding RestorePadding RotaryEmbedding SimplifiedLayerNormalization
    SkipLayerNormalization SkipSimplifiedLayerNormalization
    """.split()  # noqa: SIM905 - a list of words reads better so
)


@dataclass(slots=True)
class _Found:
    """What a file uses: operators and its own functions, each as (domain, name)."""

    operators: set[tuple[str, str]] = field(default_factory=set)
    functions: set[tuple[str, str]] = field(default_factory=set)
    graphs: int = 0


def check_onnx(path: Path) -> None:
    """BundleError unless `path` is one plain file that reaches nothing outside of itself.

    Refused are links, devices, tensors kept in other files (wherever in the graph), operators
    outside of ONNX and the known ones of com.microsoft, and bytes that are no ONNX model.
    """
    data = _mapped(path)
    try:
        found = _walk(memoryview(data), path)
    finally:
        data.close()
    if not found.graphs:
        raise BundleError(f"{path} is not an ONNX model: it has no graph.")
    for domain, name in sorted(found.operators - found.functions):
        known = domain in _STANDARD or (domain == "com.microsoft" and name in _CONTRIBUTED)
        if not known:
            raise BundleError(
                f"{path} uses the operator {name!r} of {domain!r}, which no engine here has.",
                hint="export the model again with bert-cls.",
            )


def _mapped(path: Path) -> mmap.mmap:
    check_plain(path, BundleError)
    with path.open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if not 0 < size < _MOST_BYTES:
            raise BundleError(f"{path} has {size} bytes: it is no ONNX model in one file.")
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _walk(data: memoryview, path: Path) -> _Found:
    """Visit every message once. The views are released, so that the file can be closed."""
    found = _Found()
    waiting = [("model", 0, len(data), 0)]
    budget = _MOST_FIELDS
    try:
        while waiting:
            kind, start, end, depth = waiting.pop()
            if depth > _DEEPEST:
                raise _Malformed("graphs nested too deeply")
            words: dict[str, list[str]] = {}
            for number, wire, begin, stop in _fields(data, start, end):
                budget -= 1
                if budget < 0:
                    raise _Malformed(f"more than {_MOST_FIELDS} fields")
                if part := _PARTS[kind].get(number):
                    _expect(wire, _BYTES)
                    waiting.append((part, begin, stop, depth + 1))
                elif word := _WORDS.get(kind, {}).get(number):
                    _expect(wire, _BYTES)
                    words.setdefault(word, []).append(_text(data, begin, stop))
                elif kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                    _refuse_external(path, number, wire, data, begin)
            _note(found, kind, words)
    except _Malformed as error:
        raise BundleError(f"{path} is not a whole ONNX model: {error}.") from None
    finally:
        data.release()
    return found


class _Malformed(Exception):  # noqa: N818 - what is wrong with the bytes, caught above
    """Bytes that are no protobuf message of the expected kind."""


def _note(found: _Found, kind: str, words: dict[str, list[str]]) -> None:
    """A field given twice counts both ways: readers may differ on which one holds."""
    found.graphs += kind == "graph"
    if kind in ("node", "function"):
        pairs = {(d, n) for d in words.get("domain", [""]) for n in words.get("name", [""])}
        if kind == "node":
            found.operators |= pairs
        elif len(pairs) == 1:
            found.functions |= pairs


def _refuse_external(path: Path, number: int, wire: int, data: memoryview, begin: int) -> None:
    _expect(wire, _BYTES if number == _EXTERNAL_DATA else _VARINT)
    if number == _DATA_LOCATION and _varint(data, begin, len(data))[0] == 0:
        return  # "default": inside this file
    raise BundleError(
        f"{path} keeps tensors in other files, which is refused.",
        hint="export the model again with bert-cls: one file holds all of it.",
    )


def _fields(data: memoryview, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(number, wire type, begin, stop) of each field of the message in data[start:end]."""
    at = start
    while at < end:
        tag, at = _varint(data, at, end)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 2**29:
            raise _Malformed(f"field number {number} at byte {at}")
        begin = at
        if wire == _VARINT:
            _, at = _varint(data, at, end)
        elif wire == _BYTES:
            length, begin = _varint(data, at, end)
            at = begin + length
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise _Malformed(f"wire type {wire} at byte {at}")
        if at > end:
            raise _Malformed(f"a field at byte {begin} ends behind its message")
        yield number, wire, begin, at


def _varint(data: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number at `at` and where it ends."""
    value = 0
    for place in range(10):
        if at + place >= end:
            raise _Malformed(f"it ends within a number at byte {at}")
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < 128:
            return value & (2**64 - 1), at + place + 1
    raise _Malformed(f"a number at byte {at} is too long")


def _text(data: memoryview, begin: int, stop: int) -> str:
    return bytes(data[begin : min(stop, begin + 200)]).decode("utf-8", "backslashreplace")


def _expect(wire: int, wanted: int) -> None:
    if wire != wanted:
        raise _Malformed(f"a field has wire type {wire} where {wanted} belongs")
