"""Opening a `tokenizer.json` that somebody else made: bounded, and its special tokens literal.

A file of this format is a small program: patterns that may take for ever, replacements that may
grow a text without end, ids of its own choosing. What no honest tokenizer has is refused here, and
what would let a typed "[SEP]" become the real one is mended.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from tokenizers import Tokenizer

from bert_cls.errors import BertClsError
from bert_cls.files import parse_object

MOST_BYTES = 256 * 2**20  # 250,002 pieces take 17 MB
_MOST_PIECES = 4_000_000
_MOST_STEPS = 5_000
_LONGEST_PATTERN = 4096
_MOST_REPEATS = 6
_LONGEST_STRING = 256
_MOST_GROWTH = 256
_LONGEST_WORD = 1000
_MOST_PROBED = 1000
_KINDS = ("BPE", "Unigram", "WordLevel", "WordPiece")
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_SPECIAL_NAMES = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
_SPECIAL_NAMES |= {"<s>", "</s>", "<pad>", "<unk>", "<mask>", "<cls>", "<sep>"}

Json = dict[str, Any]


class _Unsafe(Exception):  # noqa: N818 - becomes the caller's kind of error
    """What is wrong with a tokenizer, as the end of a sentence."""


def read_tokenizer(
    content: bytes, where: object, error: type[BertClsError], *, rows: int | None = None
) -> Tokenizer:
    """The tokenizer in the bytes of a `tokenizer.json`, in which special tokens can be typed.

    With `encode_special_tokens` set no text becomes a special token. `rows` are the encoder's word
    embeddings; no id may lie beyond them. `error` says what is wrong in `where`.
    """
    if len(content) > MOST_BYTES:
        raise error(f"{where} cannot be read: it has more than {MOST_BYTES:,} bytes.")
    found = parse_object(content, where, error)
    try:
        _check(found)
        _mark_special(found)
        _be_exact(found)
        if found["model"]["type"] == "Unigram":  # it lists its special tokens among the pieces
            _split_special(found)
        # what was checked is built, whatever else the bytes might mean to another reader
        tokenizer = _build(orjson.dumps(found))
        if _typed_special(tokenizer, found):
            _split_special(found)
            tokenizer = _build(orjson.dumps(found))
            if token := _typed_special(tokenizer, found):
                raise _Unsafe(f"ordinary text becomes its special token {token!r}")
        _check_ids(found, tokenizer, rows)
    except _Unsafe as caught:
        raise error(f"{where} cannot be read: {caught}.") from None
    return tokenizer


@contextmanager
def _rust(doing: str) -> Iterator[None]:
    """What the Rust library raises: plain Exception, and panics, which are no Exception at all."""
    try:
        yield
    except BaseException as caught:
        if is_failure(caught):
            raise _Unsafe(f"{doing}: {' '.join(str(caught).split())[:300]}") from None
        raise


def is_failure(caught: BaseException) -> bool:
    """Whether the Rust library failed at its work; its panics are no Exception."""
    return isinstance(caught, Exception) or type(caught).__name__ == "PanicException"


def _build(content: bytes) -> Tokenizer:
    with _rust("it does not parse"):
        return Tokenizer.from_buffer(content)


# --- what may be in it


def _check(content: Json) -> None:
    model = content.get("model")
    if not isinstance(model, dict):
        raise _Unsafe("it has no model")
    # files of older versions do not name the kind
    model.setdefault("type", "BPE" if "merges" in model else "WordPiece")
    if model["type"] not in _KINDS:
        raise _Unsafe(f"its model must be one of {list(_KINDS)}, not {model['type']!r}")
    longest = model.get("max_input_chars_per_word", 100)
    if not isinstance(longest, int) or not 0 < longest <= _LONGEST_WORD:
        raise _Unsafe(f"max_input_chars_per_word must be from 1 to {_LONGEST_WORD}")
    if model.get("unk_id") is not None and not _is_id(model["unk_id"]):
        raise _Unsafe(f"unk_id must be a whole number below {_MOST_PIECES:,}")
    _check_vocabulary(model.get("vocab"))
    _check_added(content.setdefault("added_tokens", []))
    growth = 1.0
    for step in _steps([content.get(part) for part in _PARTS]):
        growth *= _growth(step)
    if growth > _MOST_GROWTH:
        raise _Unsafe("its replacements make a text more than 256 times as long")


def _check_vocabulary(vocabulary: object) -> None:
    if not isinstance(vocabulary, dict | list) or not 0 < len(vocabulary) <= _MOST_PIECES:
        raise _Unsafe(f"it must have from 1 to {_MOST_PIECES:,} pieces")
    if isinstance(vocabulary, dict) and not all(map(_is_id, vocabulary.values())):
        raise _Unsafe(f"ids must be whole numbers below {_MOST_PIECES:,}")


def _check_added(added: object) -> None:
    good = isinstance(added, list) and all(
        isinstance(token, dict)
        and isinstance(token.get("content"), str)
        and 0 < len(token["content"]) <= _LONGEST_STRING
        and _is_id(token.get("id"))
        for token in added
    )
    if not good:
        raise _Unsafe("added_tokens must be a list of tokens with content and id")


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_PIECES


def _steps(parts: list[Any]) -> Iterator[Json]:
    """Every object in the parts, whose strings are checked on the way."""
    waiting, count = list(parts), 0
    while waiting:
        part = waiting.pop()
        count += 1
        if count > _MOST_STEPS:
            raise _Unsafe("it has too many steps")
        if isinstance(part, dict):
            _check_strings(part)
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_strings(part: Json) -> None:
    for key, value in part.items():
        if len(key) > _LONGEST_STRING:
            raise _Unsafe("a key in it is too long")
        if not isinstance(value, str):
            continue
        if key == "Regex":
            _check_pattern(value)
        elif key == "precompiled_charsmap":
            _check_character_map(value)
        elif len(value) > _LONGEST_STRING:
            raise _Unsafe(f"{key} is too long")


_ESCAPED = re.compile(r"\\(?:[pPx]\{[^{}]*\}|.)", re.DOTALL)
# no numbers and names of groups (they repeat what is in them), no control characters (they take
# the next character with them)
_KNOWN_ESCAPES = re.compile(r"\\[^a-zA-Z0-9]|\\[abBAdDefGhHKnNOpPrRsStuvwWxXzZ0]", re.DOTALL)
_CLASS = re.compile(r"\[((?:\[:\^?\w+:\]|[^\]])*)\]")
_ODD_CLASS = re.compile(r"^\^?$|\[(?!:)|&&")
_GROUP = re.compile(r"\((?:\?(?:[:=!>]|<[=!]|-?[im]+:))?")
_COUNT = r"\{\d*,?\d*\}"
_REPEAT = re.compile(rf"(?:[*+?]|{_COUNT})[?+]?")
_REPEATED_REPEAT = re.compile(rf"(?:[*+?][?+]?+|{_COUNT}\??+)(?:[*+?]|{_COUNT})")
_REPEATED_GROUP = re.compile(rf"\(([^()]*)\)(?:[*+]|{_COUNT})")
_PLAIN_GROUP = re.compile(r"\(([^()]*)\)")


def _check_pattern(pattern: str) -> None:
    """Refuse what can take exponential time, and what this reading of it could be wrong about.

    A repeated group that itself repeats or chooses, and many repeats in a row.
    """
    if len(pattern) > _LONGEST_PATTERN:
        raise _Unsafe("a pattern is too long")
    shown = f"the pattern {pattern[:60]!r}"
    plain = _plain(pattern, shown)
    while _PLAIN_GROUP.search(plain):
        if any(_repeats(inner) for inner in _REPEATED_GROUP.findall(plain)):
            raise _Unsafe(f"{shown} can take for ever")
        # a group that is done with stands as a piece with as many repeats as were in it
        plain = _PLAIN_GROUP.sub(lambda m: "c" + "c*" * _repeats(m[1]), plain, count=1)
    if "(" in plain or ")" in plain:
        raise _Unsafe(f"{shown} has a parenthesis too many")
    if _repeats(plain) > _MOST_REPEATS:
        raise _Unsafe(f"{shown} can take for ever")


def _plain(pattern: str, shown: str) -> str:
    """The pattern with characters as c, classes as c, and groups of one kind."""
    escapes = _ESCAPED.findall(pattern)
    if not all(map(_KNOWN_ESCAPES.match, escapes)):
        raise _Unsafe(f"{shown} calls its own parts, or has an escape that is not known")
    plain = _ESCAPED.sub("c", pattern)
    if any(map(_ODD_CLASS.search, _CLASS.findall(plain))):
        raise _Unsafe(f"{shown} has an empty class, or a class within a class")
    plain = _GROUP.sub("(", _CLASS.sub("c", plain))
    if re.search(r"\([?*]", plain):
        raise _Unsafe(f"{shown} has a group of a kind that is not known")
    if _REPEATED_REPEAT.search(plain):
        raise _Unsafe(f"{shown} can take for ever")
    return plain


def _repeats(pattern: str) -> int:
    """The most repeats in a row, of a pattern without groups; a choice counts as one."""
    branches = pattern.split("|")
    return max(len(branches) > 1, *(len(_REPEAT.findall(branch)) for branch in branches))


def _check_character_map(encoded: str) -> None:
    """SentencePiece's map: a trie, then the replacements, each ended by a NUL."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise _Unsafe("precompiled_charsmap is not base64") from None
    replacements = data[4 + int.from_bytes(data[:4], "little") :]
    if any(len(part) > _LONGEST_STRING for part in replacements.split(b"\0")):
        raise _Unsafe("precompiled_charsmap makes a character more than 256 bytes long")


def _growth(step: Json) -> float:
    """How many times as long a step can make a text."""
    new, pattern = step.get("content"), step.get("pattern")
    if not isinstance(new, str) or not isinstance(pattern, dict):
        return 1.0
    if pattern.get("String"):
        return max(1.0, math.ceil(len(new) / len(str(pattern["String"]))))
    return len(new) + 1.0  # a pattern may match nothing, between any two characters


# --- special tokens


def _mark_special(content: Json) -> None:
    """Added tokens that stand around texts, or have a special name, count as special."""
    around = set(_template_ids(content))
    for token in content["added_tokens"]:
        if token["id"] in around or token["content"] in _SPECIAL_NAMES:
            token["special"] = True


def _template_ids(content: Json) -> Iterator[int]:
    for step in _steps([content.get("post_processor")]):
        for value in (step.get("ids"), step.get("sep"), step.get("cls")):
            if isinstance(value, list):
                yield from (i for i in value if type(i) is int)


def _be_exact(content: Json) -> None:
    """A text has its own tokens, always the same: none left out at random, cut off or filled in.

    BPE may leave out merges at random, which is for training; padding may ask for 400 million.
    """
    content["padding"] = content["truncation"] = None
    if content["model"].get("dropout"):
        content["model"]["dropout"] = None


def _split_special(content: Json) -> None:
    """Part typed special tokens behind their first character; every other text stays as it is."""
    special = [token["content"] for token in content["added_tokens"] if token.get("special")]
    pattern = "|".join(f"{re.escape(s[0])}(?={re.escape(s[1:])})" for s in special if len(s) > 1)
    apart: Json = {"type": "Split", "pattern": {"Regex": pattern}}
    apart |= {"behavior": "Isolated", "invert": False}
    before = content.get("pre_tokenizer")
    steps: Any = [before]
    if isinstance(before, dict) and before.get("type") == "Sequence":
        steps = before.get("pretokenizers")
        if not isinstance(steps, list):
            raise _Unsafe("pretokenizers must be a list of steps")
    if not pattern or apart in steps:
        return
    steps = [*(step for step in steps if step), apart]
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}


def _typed_special(tokenizer: Tokenizer, content: Json) -> str | None:
    """A special token that becomes itself when it is typed, or None."""
    before = tokenizer.encode_special_tokens
    tokenizer.encode_special_tokens = True
    special: dict[str, int] = {
        token["content"]: token["id"] for token in content["added_tokens"] if token.get("special")
    }
    model = content["model"]
    unknown = {model.get("unk_id"), special.get(str(model.get("unk_token")))}
    with _rust("it fails on plain text"):
        for token, own in list(special.items())[:_MOST_PROBED]:
            typed = [token, f"a{token}a", f"a {token} a", token * 2]
            encoded = tokenizer.encode_batch(typed, add_special_tokens=False)
            if own not in unknown and any(own in each.ids for each in encoded):
                return token
    tokenizer.encode_special_tokens = before
    return None


def _check_ids(content: Json, tokenizer: Tokenizer, rows: int | None) -> None:
    """No text, and nothing around it, may have an id that the encoder has no embedding for."""
    vocabulary = content["model"]["vocab"]
    ordinary = len(vocabulary) - 1 if isinstance(vocabulary, list) else max(vocabulary.values())
    added = [token["id"] for token in content["added_tokens"] if not token.get("special")]
    with _rust("it fails on plain text"):
        around = tokenizer.encode("a", "a").ids
    largest = max([ordinary, *added, *around])
    if rows is not None and largest >= rows:
        raise _Unsafe(
            f"it has piece {largest:,}, the encoder embeddings for {rows:,} pieces: "
            "they do not belong together"
        )
