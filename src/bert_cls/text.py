"""The one place where strings become token ids.

Special tokens typed inside a text ("[SEP]", "</s>") stay ordinary characters, in training and in
prediction alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bert_cls.errors import BundleError, ConfigError, DataError

LongText = Literal["head", "head_tail", "error"]
Normalise = Literal["none", "nfkc"]

# ordinary text has more tokens than one per this many characters, so of a long text only the ends
# are tokenised: 10 MB cost as much as 20 kB. Where they turn out too short (blanks, mostly) more
# of it is, once
_CHARACTERS_PER_TOKEN = 32
_SECOND_LOOK = 16
# tokens between a cut and the last token that is used: a word cut in two changes its own tokens,
# at worst from one unknown into a hundred
_MARGIN = 128
_HEAD_SHARE = 0.25  # Sun et al. 2019 keep 128 of 510 tokens from the head, the rest from the tail


@dataclass(frozen=True, slots=True)
class Template:
    """The special tokens around a text or a pair, as ids, and the type id of each part."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    pair_before: tuple[int, ...]
    pair_between: tuple[int, ...]
    pair_after: tuple[int, ...]
    second_type: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Template:
        """Read it off a tokenizer by encoding a single text and a pair with it."""
        single = tokenizer.encode("a")
        pair = tokenizer.encode("a", "a")
        if 0 not in single.sequence_ids:
            raise BundleError("the tokenizer makes no token of the letter a.")
        first = [i for i, s in enumerate(single.sequence_ids) if s == 0]
        a = [i for i, s in enumerate(pair.sequence_ids) if s == 0]
        b = [i for i, s in enumerate(pair.sequence_ids) if s == 1]
        return cls(
            before=tuple(single.ids[: first[0]]),
            after=tuple(single.ids[first[-1] + 1 :]),
            pair_before=tuple(pair.ids[: a[0]]),
            pair_between=tuple(pair.ids[a[-1] + 1 : b[0]]),
            pair_after=tuple(pair.ids[b[-1] + 1 :]),
            second_type=int(pair.type_ids[b[0]]),
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of rows, one after the other, nothing padded.

    `ids` int32 and `types` int8 [tokens]; `starts` int64 [rows + 1]; `full_lengths` int32 [rows]:
    how many tokens a row would have had uncut (of texts so long that only their ends were tokenised
    the tokens of the ends, more than the row has in any case).
    """

    ids: NDArray[np.int32]
    types: NDArray[np.int8]
    starts: NDArray[np.int64]
    full_lengths: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 [rows]: tokens of each row, special ones included."""
        return np.diff(self.starts)

    @property
    def cut(self) -> NDArray[np.bool_]:
        """Bool [rows]: rows that lost tokens to the maximum length."""
        return self.full_lengths > self.lengths

    def padded(
        self, rows: Sequence[int] | NDArray[np.int64], pad_id: int, *, width: int = 1
    ) -> PaddedBatch:
        """Rows side by side, padded to the longest of them, or wider."""
        lengths = self.lengths[rows]
        width = int(lengths.max(initial=width))
        ids = np.full((len(rows), width), pad_id, dtype=np.int64)
        types = np.zeros((len(rows), width), dtype=np.int64)
        mask = np.arange(width)[None, :] < lengths[:, None]
        for place, row in enumerate(rows):
            start, end = self.starts[row], self.starts[row + 1]
            ids[place, : end - start] = self.ids[start:end]
            types[place, : end - start] = self.types[start:end]
        return PaddedBatch(ids, types, mask)


@dataclass(frozen=True, slots=True)
class PaddedBatch:
    """`ids` and `types` int64 [rows, tokens], `mask` bool [rows, tokens] (False is padding)."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a model reads text; part of the model folder."""

    max_length: int = 256
    """Tokens a row may have, special ones included."""
    long: LongText = "head"
    """What is kept of a longer text: its head, a quarter head and the rest tail, or an error."""
    normalise: Normalise = "none"
    """`nfkc` folds full-width and compatibility characters before tokenising."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"max_length": self.max_length, "long": self.long, "normalise": self.normalise}


class TextEncoder:
    """Texts and pairs to token ids, by one tokenizer and one set of settings."""

    def __init__(self, tokenizer: Tokenizer, settings: TextSettings) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.template = Template.of(tokenizer)
        tokenizer.encode_special_tokens = True  # typed special tokens are ordinary characters
        self.tokenizer = tokenizer
        self.settings = settings
        specials = len(self.template.pair_before + self.template.pair_between)
        if settings.max_length < specials + len(self.template.pair_after) + 2:
            raise ConfigError(f"text.max_length {settings.max_length} leaves no room for a text.")

    @classmethod
    def from_json(cls, content: bytes, settings: TextSettings) -> TextEncoder:
        """From the bytes of a `tokenizer.json`. BundleError when they are not one."""
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the Rust tokenizer raises plain Exception
            raise BundleError(f"tokenizer.json cannot be read: {error}") from error
        return cls(tokenizer, settings)

    def encode(self, first: Sequence[str], second: Sequence[str] | None = None) -> Tokens:
        """Token ids of texts, or of pairs when `second` is given (same length as `first`).

        DataError names the first row that is over `max_length` when `long` is "error", or that is
        not valid Unicode (half a surrogate pair).
        """
        return self._encode(first, second, at=0)

    def _encode(self, first: Sequence[str], second: Sequence[str] | None, *, at: int) -> Tokens:
        ids_a, full_a = self._ids(first, at)
        if second is None:
            room = self.settings.max_length - len(self.template.before + self.template.after)
            rows = [self._single(a, room) for a in ids_a]
            full = full_a + len(self.template.before + self.template.after)
        else:
            ids_b, full_b = self._ids(second, at)
            t = self.template
            extra = len(t.pair_before + t.pair_between + t.pair_after)
            room = self.settings.max_length - extra
            rows = [self._pair(a, b, room) for a, b in zip(ids_a, ids_b, strict=True)]
            full = full_a + full_b + extra
        tokens = _joined(rows, full.astype(np.int32), self.template.second_type)
        if self.settings.long == "error" and tokens.cut.any():
            row = int(np.argmax(tokens.cut))
            raise DataError(
                f"row {at + row} of the texts has {tokens.full_lengths[row]} tokens. "
                f"The model reads {self.settings.max_length}.",
                hint="set text.long to head or head_tail, or a larger text.max_length.",
            )
        return tokens

    def encode_in_chunks(
        self,
        first: Sequence[str],
        second: Sequence[str] | None = None,
        *,
        chunk: int = 4096,
    ) -> Tokens:
        """`encode`, holding only `chunk` rows of the tokenizer's own bulky objects at a time."""
        parts = [
            self._encode(
                first[at : at + chunk],
                None if second is None else second[at : at + chunk],
                at=at,
            )
            for at in range(0, max(len(first), 1), chunk)
        ]
        offsets = np.cumsum([0] + [len(part.ids) for part in parts])
        return Tokens(
            ids=np.concatenate([part.ids for part in parts]),
            types=np.concatenate([part.types for part in parts]),
            starts=np.concatenate(
                [[0]] + [part.starts[1:] + at for part, at in zip(parts, offsets, strict=False)]
            ).astype(np.int64),
            full_lengths=np.concatenate([part.full_lengths for part in parts]),
        )

    def _ids(self, texts: Sequence[str], at: int) -> tuple[list[list[int]], NDArray[np.int64]]:
        """Ids of each text, or of as much of its ends as is needed; how many it has at least."""
        enough = self.settings.max_length + _MARGIN
        window = enough * _CHARACTERS_PER_TOKEN
        ids: list[list[int]] = [[]] * len(texts)
        sizes = np.zeros(len(texts), dtype=np.int64)
        waiting = list(range(len(texts)))
        for most in (window, window * _SECOND_LOOK):
            parts = [self._ends(texts[row], most) for row in waiting]
            encoded = iter(self._encode_parts([part for ends in parts for part in ends], texts, at))
            short = []
            for row, ends in zip(waiting, parts, strict=True):
                found = [next(encoded) for _ in ends]
                unread = ends[0] is not texts[row]
                ids[row] = list(chain.from_iterable(found))
                sizes[row] = len(ids[row]) + unread
                if unread and min(map(len, found)) < enough:
                    short.append(row)
            waiting = short
        return ids, sizes

    def _ends(self, text: str, window: int) -> tuple[str, ...]:
        if self.settings.long == "head_tail":
            return (text,) if len(text) <= 2 * window else (text[:window], text[-window:])
        return (text,) if len(text) <= window else (text[:window],)

    def _encode_parts(self, parts: list[str], texts: Sequence[str], at: int) -> list[list[int]]:
        if self.settings.normalise == "nfkc":
            parts = [unicodedata.normalize("NFKC", part) for part in parts]
        try:
            encoded = self.tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        except TypeError:  # the tokenizer's word for a string it cannot read
            _refuse_surrogates(texts, at)
            raise
        return [e.ids for e in encoded]

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        if self.settings.long == "head_tail":
            head = int(room * _HEAD_SHARE)
            return ids[:head] + ids[len(ids) - (room - head) :]
        return ids[:room]

    def _single(self, a: list[int], room: int) -> tuple[list[int], int]:
        row = [*self.template.before, *self._cut(a, room), *self.template.after]
        return row, len(row)

    def _pair(self, a: list[int], b: list[int], room: int) -> tuple[list[int], int]:
        # the longer side gives way first, so a question stays whole beside its long answer
        kept = min(len(b), max(room // 2, room - len(a)))
        a, b = self._cut(a, room - kept), self._cut(b, kept)
        t = self.template
        left = [*t.pair_before, *a, *t.pair_between]
        row = [*left, *b, *t.pair_after]
        return row, len(left)


def _refuse_surrogates(texts: Sequence[str], at: int) -> None:
    for row, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"row {at + row} of the texts has {text[error.start]!a}, half a surrogate pair, "
                "which is not valid Unicode.",
                hint="read the text as UTF-8, or replace such characters.",
            ) from error


def _joined(rows: list[tuple[list[int], int]], full: NDArray[np.int32], second_type: int) -> Tokens:
    """Rows given as ids and the place where the second text begins (their end without one)."""
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum([len(ids) for ids, _ in rows], out=starts[1:])
    ids = np.fromiter(chain.from_iterable(ids for ids, _ in rows), np.int32, int(starts[-1]))
    types = np.zeros(len(ids), dtype=np.int8)
    if second_type:
        for (_, second), start, end in zip(rows, starts[:-1], starts[1:], strict=True):
            types[start + second : end] = second_type
    return Tokens(ids, types, starts, full)


def batches_by_length(
    lengths: NDArray[np.int64], max_tokens: int, *, max_rows: int = 1024
) -> Iterator[NDArray[np.int64]]:
    """Row numbers in batches of similar length, longest first, each at most `max_tokens` padded.

    A row longer than `max_tokens` makes a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    at = 0
    while at < len(order):
        size = max(1, min(max_rows, max_tokens // max(1, int(lengths[order[at]]))))
        yield order[at : at + size]
        at += size


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """The bytes to store as `tokenizer.json`: no truncation, no padding."""
    content = orjson.loads(tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    return orjson.dumps(content)
