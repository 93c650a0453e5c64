"""The one place where strings become token ids.

Special tokens typed inside a text ("[SEP]", "</s>") stay ordinary characters, in training and in
prediction alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import orjson
from numpy.typing import NDArray
from tokenizers import Tokenizer

from bert_cls.errors import BundleError, ConfigError, DataError, shortened
from bert_cls.folding import folded
from bert_cls.foreign_tokenizer import is_failure, read_tokenizer
from bert_cls.tokens import PaddedBatch, Tokens, batches_by_length, concatenated, joined
from bert_cls.windows import Span, WindowPooling, Windows, pair_spans, spans

__all__ = [
    "LongText",
    "Normalise",
    "PaddedBatch",
    "Template",
    "TextEncoder",
    "TextError",
    "TextSettings",
    "Tokens",
    "batches_by_length",
    "tokenizer_json",
]

LongText = Literal["head", "head_tail", "windows", "error"]
Normalise = Literal["none", "nfkc"]

# ordinary text has more tokens than one per this many characters, so of a long text only the ends
# are tokenised: 10 MB cost as much as 20 kB. Where they turn out too short (blanks, mostly) more
# of it is, once
_CHARACTERS_PER_TOKEN = 32
_SECOND_LOOK = 16
_LARGEST_SETTING = 2**20
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
        if not (a and b and a[-1] < b[0]) or first[0] == 0 or first[-1] + 1 == len(single.ids):
            raise BundleError(
                "the tokenizer puts no special tokens around a text.",
                hint="its tokenizer.json lacks the post_processor; save it anew with transformers.",
            )
        return cls(
            before=tuple(single.ids[: first[0]]),
            after=tuple(single.ids[first[-1] + 1 :]),
            pair_before=tuple(pair.ids[: a[0]]),
            pair_between=tuple(pair.ids[a[-1] + 1 : b[0]]),
            pair_after=tuple(pair.ids[b[-1] + 1 :]),
            second_type=int(pair.type_ids[b[0]]),
        )


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How a model reads text; part of the model folder."""

    max_length: int = 256
    """Tokens a row may have, special ones included."""
    long: LongText = "head"
    """What is read of a longer text: its head, a quarter head and the rest tail, windows over all
    of it, or an error."""
    normalise: Normalise = "none"
    """`nfkc` folds full-width and compatibility characters before tokenising."""
    max_windows: int = 8
    """Windows a row may have; of a longer one the first ones and the last are read."""
    window_overlap: float = 0.25
    """The share of a window that the next one repeats, where `max_windows` allows it."""
    window_pooling: WindowPooling = "mean"
    """How a row's logits come from its windows'."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; what is about windows only where they are used."""
        fields = asdict(self)
        if self.long != "windows":
            fields = {k: v for k, v in fields.items() if "window" not in k}
        return fields


class TextError(DataError):
    """A text that a model cannot read; `reason` says why without the row it is in."""

    def __init__(self, row: int, has: str, *, hint: str) -> None:
        super().__init__(f"row {row} of the texts has {has}", hint=hint)
        self.reason = f"the text has {has}"


def text_settings(stored: Mapping[str, Any]) -> TextSettings:
    """The settings that `to_dict` gave. BundleError for unknown names and impossible values."""
    kinds = get_type_hints(TextSettings)
    if unknown := sorted(set(stored) - set(kinds)):
        raise BundleError(
            f"text settings: {shortened(unknown)} unknown. Known are {sorted(kinds)}."
        )
    for name, value in stored.items():
        if allowed := get_args(kinds[name]):
            good = isinstance(value, str) and value in allowed
        else:
            number = type(value) is int or (kinds[name] is float and type(value) is float)
            good = number and 0 <= value <= _LARGEST_SETTING
        if not good:
            wanted = f"one of {list(allowed)}" if allowed else "a sensible number"
            raise BundleError(
                f"text settings: {name} must be {wanted}. Got {shortened(value)} instead."
            )
    return TextSettings(**stored)


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
    def from_json(
        cls, content: bytes, settings: TextSettings, *, rows: int | None = None
    ) -> TextEncoder:
        """From the bytes of a `tokenizer.json`; `rows` are the encoder's word embeddings.

        BundleError when they are not one, or one that is not safe to use.
        """
        return cls(read_tokenizer(content, "tokenizer.json", BundleError, rows=rows), settings)

    def encode(self, first: Sequence[str], second: Sequence[str] | None = None) -> Tokens:
        """Token ids of texts, or of pairs when `second` is given (same length as `first`).

        TextError names the first row that is over `max_length` when `long` is "error", or that is
        not valid Unicode (half a surrogate pair).
        """
        return self._encode(first, second, at=0)

    def _encode(self, first: Sequence[str], second: Sequence[str] | None, *, at: int) -> Tokens:
        ids_a, full = self._ids(first, at)
        ids_b: Sequence[list[int] | None] = [None] * len(ids_a)
        if second is not None:
            ids_b, full_b = self._ids(second, at)
            full = full + full_b
        specials = self._specials(second is not None)
        room, windows = self.settings.max_length - specials, None
        both = list(zip(ids_a, ids_b, strict=True))
        if self.settings.long == "windows":
            found = [self._windows(a, b, room) for a, b in both]
            rows = list(chain.from_iterable(rows for rows, _ in found))
            known = np.array([len(a) + len(b or ()) for a, b in both], dtype=np.int64)
            lost = np.array([cut for _, cut in found], dtype=np.bool_)
            ends = np.cumsum([0, *(len(rows) for rows, _ in found)], dtype=np.int64)
            windows = Windows(ends, lost | (full > known), self.settings.window_pooling)
        else:
            rows = [self._head(a, b, room) for a, b in both]
        lengths = (full + specials).astype(np.int32)
        tokens = joined(rows, lengths, self.template.second_type, windows)
        if self.settings.long == "error" and tokens.cut.any():
            row = int(np.argmax(tokens.cut))
            raise TextError(
                at + row,
                f"{tokens.full_lengths[row]} tokens. The model reads {self.settings.max_length}.",
                hint="set text.long to head, head_tail or windows, or a larger text.max_length.",
            )
        return tokens

    def _head(self, a: list[int], b: list[int] | None, room: int) -> tuple[list[int], int]:
        """The ids of a row of at most `room` tokens of texts, head and tail where that is asked."""
        return self._row(self._cut(a, room)) if b is None else self._pair(a, b, room)

    def _windows(
        self, a: list[int], b: list[int] | None, room: int
    ) -> tuple[list[tuple[list[int], int]], bool]:
        """The ids of each window of a row, and whether tokens are in none of them."""
        overlap, most = self.settings.window_overlap, self.settings.max_windows
        if b is None:
            places, lost = spans(len(a), room, overlap=overlap, most=most)
            return [self._row(a[start:end]) for start, end in places], lost
        pairs, lost = pair_spans(len(a), len(b), room, overlap=overlap, most=most)
        return [self._row(a[i:j], b[k:m]) for (i, j), (k, m) in pairs], lost

    def _specials(self, pair: bool) -> int:
        t = self.template
        parts = (t.pair_before, t.pair_between, t.pair_after) if pair else (t.before, t.after)
        return sum(map(len, parts))

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
        return concatenated(parts)

    def places(
        self, first: str, second: str | None = None
    ) -> list[tuple[Literal["a", "b"], int, int] | None]:
        """Where each token of a row stands: (text, first character, end); None for special ones.

        Of a row read in windows, one window after the other.
        """
        a: list[tuple[Literal["a", "b"], int, int]] = [("a", *s) for s in self._spans(first)]
        b: list[tuple[Literal["a", "b"], int, int]] = [("b", *s) for s in self._spans(second or "")]
        both = a + b
        chosen = self._chosen(a, None if second is None else b)
        return [None if i is None else both[i] for i in chosen]

    def stretches(self, first: str, second: str | None = None) -> tuple[list[Span], list[Span]]:
        """First character and end of what is read of each text, in their order.

        One stretch a text, or more where tokens between are in no window or between head and tail.
        """
        a, b = self._spans(first), self._spans(second or "")
        read = {i for i in self._chosen(a, None if second is None else b) if i is not None}
        out: tuple[list[Span], list[Span]] = ([], [])
        for found, tokens, offset in zip(out, (a, b), (0, len(a)), strict=True):
            following = False
            for i, (start, end) in enumerate(tokens, start=offset):
                if i not in read:
                    following = False
                elif end > start:
                    if following:
                        start, end = found[-1][0], max(found.pop()[1], end)
                    found.append((start, end))
                    following = True
        return out

    def _chosen(self, a: Sequence[object], b: Sequence[object] | None) -> list[int | None]:
        """The numbers of a row's tokens, those of `b` after those of `a`; None for special ones."""
        # negative numbers are tokens; special ones keep their ids, which are not
        numbers = [-1 - i for i in range(len(a) + len(b or ()))]
        first, second = numbers[: len(a)], None if b is None else numbers[len(a) :]
        room = self.settings.max_length - self._specials(b is not None)
        if self.settings.long == "windows":
            rows, _ = self._windows(first, second, room)
        else:
            rows = [self._head(first, second, room)]
        return [-1 - number if number < 0 else None for row, _ in rows for number in row]

    def _spans(self, text: str) -> list[Span]:
        """First character and end of every token of a text, all of it."""
        origins = [(i, i + 1) for i in range(len(text))]
        if self.settings.normalise == "nfkc":
            text, origins = folded(text)
        try:
            offsets = self.tokenizer.encode(text, add_special_tokens=False).offsets
        except BaseException as error:
            if not is_failure(error):
                raise
            raise _failed_on(0, error) from None
        return [(origins[s][0], origins[e - 1][1]) if e > s else (0, 0) for s, e in offsets]

    def _ids(self, texts: Sequence[str], at: int) -> tuple[list[list[int]], NDArray[np.int64]]:
        """Ids of each text, or of as much of its ends as is needed; how many it has at least."""
        enough = self.settings.max_length + _MARGIN
        if self.settings.long == "windows":
            enough += self.settings.max_length * (self.settings.max_windows - 1)
        window = enough * _CHARACTERS_PER_TOKEN
        ids: list[list[int]] = [[]] * len(texts)
        sizes = np.zeros(len(texts), dtype=np.int64)
        waiting = list(range(len(texts)))
        for most in (window, window * _SECOND_LOOK):
            parts = [self._ends(texts[row], most) for row in waiting]
            owners = [at + row for row, ends in zip(waiting, parts, strict=True) for _ in ends]
            encoded = iter(self._encode_parts(list(chain.from_iterable(parts)), owners))
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
        if self.settings.long in ("head_tail", "windows"):
            return (text,) if len(text) <= 2 * window else (text[:window], text[-window:])
        return (text,) if len(text) <= window else (text[:window],)

    def _encode_parts(self, parts: list[str], rows: Sequence[int]) -> list[list[int]]:
        """Ids of parts of texts; TextError for the first of their rows that cannot be encoded."""
        if self.settings.normalise == "nfkc":
            parts = [unicodedata.normalize("NFKC", part) for part in parts]
        try:
            return self._encode_batch(parts)
        except BaseException as error:
            if not is_failure(error):
                raise
            for part, row in zip(parts, rows, strict=True):
                self._try(part, row)
            raise

    def _encode_batch(self, parts: list[str]) -> list[list[int]]:
        return [e.ids for e in self.tokenizer.encode_batch_fast(parts, add_special_tokens=False)]

    def _try(self, part: str, row: int) -> None:
        """TextError for a text that is not valid Unicode, or that the tokenizer fails on."""
        try:
            part.encode()
            self._encode_batch([part])
        except UnicodeEncodeError as error:
            raise TextError(
                row,
                f"{part[error.start]!a}, half a surrogate pair, which is not valid Unicode.",
                hint="read the text as UTF-8, or replace such characters.",
            ) from error
        except BaseException as error:
            if not is_failure(error):
                raise
            raise _failed_on(row, error) from None

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if len(ids) <= room:
            return ids
        if self.settings.long == "head_tail":
            head = int(room * _HEAD_SHARE)
            return ids[:head] + ids[len(ids) - (room - head) :]
        return ids[:room]

    def _pair(self, a: list[int], b: list[int], room: int) -> tuple[list[int], int]:
        # the longer side gives way first, so a question stays whole beside its long answer
        kept = min(len(b), max(room // 2, room - len(a)))
        return self._row(self._cut(a, room - kept), self._cut(b, kept))

    def _row(self, a: list[int], b: list[int] | None = None) -> tuple[list[int], int]:
        """The ids of a row and where its second text begins (its end without one)."""
        t = self.template
        if b is None:
            row = [*t.before, *a, *t.after]
            return row, len(row)
        left = [*t.pair_before, *a, *t.pair_between]
        return [*left, *b, *t.pair_after], len(left)


def _failed_on(row: int, error: BaseException) -> TextError:
    return TextError(
        row,
        f"characters that this tokenizer fails on: {' '.join(str(error).split())[:200]}.",
        hint="leave the text out, or take the model from a source you trust.",
    )


def tokenizer_json(tokenizer: Tokenizer) -> bytes:
    """The bytes to store as `tokenizer.json`: no truncation, no padding."""
    content = orjson.loads(tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    return orjson.dumps(content)
