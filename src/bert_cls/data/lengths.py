"""How many tokens rows have: counted with an encoder's tokenizer, or estimated without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

# A Chinese character is a token of its own in nearly every vocabulary; Latin ones come in pieces.
NARROW_PER_TOKEN = 4
SPECIAL_TOKENS = 2
Texts = Sequence[str]


@dataclass(frozen=True, slots=True)
class Measured:
    """Tokens of a window of rows, int64 [rows] each.

    `lengths` when nothing is cut; how many were `read`, and how many of these are `unknown`.
    """

    lengths: NDArray[np.int64]
    read: NDArray[np.int64]
    unknown: NDArray[np.int64]


class TextLengths(Protocol):
    """What an audit asks for the lengths of rows, a window of them at a time."""

    @property
    def max_length(self) -> int:
        """Tokens a row may have."""

    @property
    def long(self) -> str:
        """What becomes of longer rows: `text.long` of a run."""

    @property
    def exact(self) -> bool:
        """Whether tokens are counted, not estimated."""

    @property
    def has_unknown(self) -> bool:
        """Whether there is such a thing as an unknown token."""

    def measure(self, first: Texts, second: Texts | None) -> Measured:
        """Lengths of texts, or of pairs when `second` is given."""


@dataclass(frozen=True, slots=True)
class EstimatedLengths:
    """Lengths without an encoder: a token a Chinese character, or four others."""

    max_length: int = 256
    long: str = "head"
    exact: bool = False
    has_unknown: bool = False

    def measure(self, first: Texts, second: Texts | None) -> Measured:
        """Estimated lengths; nothing is unknown."""
        lengths = np.fromiter(map(_estimate, first), np.int64, len(first)) + SPECIAL_TOKENS
        if second is not None:
            lengths += np.fromiter(map(_estimate, second), np.int64, len(second)) + 1
        return Measured(lengths, lengths, np.zeros(len(first), np.int64))


class TokenRows(Protocol):
    """What is needed of the tokens of a window (`bert_cls.text.Tokens` has it)."""

    @property
    def ids(self) -> NDArray[np.int32]:
        """int32 [tokens]: rows one after the other."""

    @property
    def starts(self) -> NDArray[np.int64]:
        """int64 [rows + 1]."""

    @property
    def full_lengths(self) -> NDArray[np.int32]:
        """int32 [rows]: tokens of the uncut rows."""


class Encodes(Protocol):
    """What turns texts into tokens (`bert_cls.text.TextEncoder` does)."""

    def encode(self, first: Texts, second: Texts | None = None) -> TokenRows:
        """Tokens of texts or pairs."""


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """Lengths as an encoder sees them. `unknown_id` is None where every text can be spelled.

    The encoder itself must not refuse long texts: all of them are counted.
    """

    encoder: Encodes
    max_length: int
    unknown_id: int | None
    long: str = "head"
    exact: bool = True

    @property
    def has_unknown(self) -> bool:
        """Whether the vocabulary has an unknown token."""
        return self.unknown_id is not None

    def measure(self, first: Texts, second: Texts | None) -> Measured:
        """Counted lengths; unknown tokens are counted in what the encoder reads."""
        tokens = self.encoder.encode(first, second)
        unknown = np.zeros(len(tokens.ids) + 1, np.int64)
        if self.unknown_id is not None:
            np.cumsum(tokens.ids == self.unknown_id, out=unknown[1:])
        full = tokens.full_lengths.astype(np.int64)
        return Measured(full, np.diff(tokens.starts), np.diff(unknown[tokens.starts]))


def unknown_id(tokenizer_json: str | bytes) -> int | None:
    """The id of the unknown token of a `tokenizer.json`; None when its model has none."""
    content = orjson.loads(tokenizer_json)
    model = content["model"]
    if model.get("unk_id") is not None:
        return int(model["unk_id"])
    token = model.get("unk_token")
    vocabulary = model.get("vocab")
    if token is None or not isinstance(vocabulary, dict):
        return None
    found = vocabulary.get(token)
    return None if found is None else int(found)


def _estimate(text: str) -> int:
    # a Chinese character has two bytes more in UTF-8 than a Latin one
    wide = (len(text.encode("utf-8", "replace")) - len(text)) // 2
    return wide + -(-max(0, len(text) - wide) // NARROW_PER_TOKEN)
