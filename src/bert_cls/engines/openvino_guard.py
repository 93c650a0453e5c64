"""Whether a stranger's OpenVINO model (an .xml and its .bin) is safe to hand to the engine.

The .xml is read by the parser of the standard library with document types refused, so there are no
entities to expand and none that name files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from bert_cls.errors import BundleError
from bert_cls.files import check_plain, read_bounded

_MOST_BYTES = 64 * 2**20  # the .xml of a 12-layer encoder has about 1 MB
_MOST_ELEMENTS = 2_000_000
_DEEPEST = 64
_OPERATORS = re.compile(r"opset[0-9]{1,2}|type_relaxed_opset")
_NUMBER = re.compile(r"[0-9]{1,18}")


def check_openvino(xml: Path) -> None:
    """BundleError unless `xml` and the .bin beside it are plain files that belong together.

    Refused are links and devices, document types, operators outside of OpenVINO's own opsets, and
    constants that lie outside of the .bin.
    """
    weights = xml.with_suffix(".bin")
    for path in (xml, weights):
        check_plain(path, BundleError)
    _Reader(xml, weights.stat().st_size).read()


class _Reader:
    """Walks the elements of one .xml."""

    def __init__(self, path: Path, weights: int) -> None:
        self.path = path
        self.weights = weights
        self.open: list[str] = []
        self.constants: list[bool] = []
        self.elements = 0

    def read(self) -> None:
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = self._document_type
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(read_bounded(self.path, BundleError, most=_MOST_BYTES), True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise BundleError(f"{self.path} is not whole: {error}") from error

    def _refuse(self, what: str) -> NoReturn:
        raise BundleError(f"{self.path}: {what}.", hint="export the model again with bert-cls.")

    def _document_type(self, *_parts: object) -> None:
        self._refuse("a document type (<!DOCTYPE ...>) has no place in a model")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > _MOST_ELEMENTS or len(self.open) >= _DEEPEST:
            self._refuse("it has too many elements, or nested too deeply")
        if not self.open and name != "net":
            self._refuse(f"it begins with <{name[:50]}>, a model with <net>")
        if name == "layer":
            self._layer(attributes)
        elif name == "data" and self.constants and self.open[-1] == "layer":
            self._data(attributes)
        self.open.append(name)

    def _end(self, name: str) -> None:
        self.open.pop()
        if name == "layer":
            self.constants.pop()

    def _layer(self, attributes: dict[str, str]) -> None:
        kind, version = attributes.get("type", ""), attributes.get("version", "")
        if not _OPERATORS.fullmatch(version):
            self._refuse(f"layer type {kind[:50]!r} is of {version[:50]!r}, not of OpenVINO itself")
        self.constants.append(kind == "Const")

    def _data(self, attributes: dict[str, str]) -> None:
        if not self.constants[-1] and not {"offset", "size"} <= attributes.keys():
            return
        offset, size = attributes.get("offset", ""), attributes.get("size", "")
        whole = _NUMBER.fullmatch(offset) and _NUMBER.fullmatch(size)
        if not whole or int(offset) + int(size) > self.weights:
            self._refuse(
                f"a constant at {offset[:30]!r} of {size[:30]!r} bytes lies outside of the "
                f"{self.weights} bytes of its .bin"
            )
