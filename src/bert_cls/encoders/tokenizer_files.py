"""Finds an encoder folder's tokenizer, building `tokenizer.json` from older vocabulary files."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece

from bert_cls.encoders.facts import read_config
from bert_cls.errors import EncoderError
from bert_cls.files import read_bounded, read_object
from bert_cls.foreign_tokenizer import MOST_BYTES, read_tokenizer


def open_tokenizer(folder: Path, *, lowercase: bool | None = None) -> Tokenizer:
    """The tokenizer of an encoder folder, without truncation or padding.

    `tokenizer.json` first, then `vocab.txt` (WordPiece), then `vocab.json` with `merges.txt`
    (byte-level BPE). `lowercase` overrides what the folder says, where the tokenizer is BERT's own.
    EncoderError when it is not, the folder has none of these files, or one does not parse.
    """
    rows = int(read_config(folder)["vocab_size"]) if (folder / "config.json").exists() else None
    path = folder / "tokenizer.json"
    if path.exists():
        content = read_bounded(path, EncoderError, most=MOST_BYTES)
    else:
        content = _from_vocabulary(folder).to_str().encode()
        path = folder
    tokenizer = read_tokenizer(content, f"the tokenizer in {path}", EncoderError, rows=rows)
    if lowercase is not None:
        tokenizer = _with_lowercase(tokenizer, lowercase)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _from_vocabulary(folder: Path) -> Tokenizer:
    try:
        if (folder / "vocab.txt").is_file():
            return _word_piece(folder)
        if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            return _byte_level_bpe(folder)
    except EncoderError:
        raise
    except Exception as error:  # the Rust tokenizer raises plain Exception
        raise EncoderError(f"the tokenizer in {folder} cannot be read: {error}") from error
    raise EncoderError(
        f"{folder} has no tokenizer.json, vocab.txt, or vocab.json with merges.txt.",
        hint="open it once with transformers' AutoTokenizer and save_pretrained() it.",
    )


def kept_settings(folder: Path) -> dict[str, Any]:
    """What of `tokenizer_config.json` a model folder keeps: names and numbers, and no code.

    Empty without the file. EncoderError for one that is no JSON object.
    """
    settings = _settings(folder)
    kept = {key: value for key, value in settings.items() if _is_kept(key, value)}
    if kept and not _CLASS_NAME.fullmatch(str(kept.get("tokenizer_class"))):
        kept["tokenizer_class"] = "PreTrainedTokenizerFast"
    return kept


def _is_kept(key: str, value: object) -> bool:
    if key.endswith(("_token", "_tokens")) or key == "added_tokens_decoder":
        return True
    return key not in _DROPPED and (value is None or isinstance(value, str | int | float))


_CLASS_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
_DROPPED = ("auto_map", "chat_template", "name_or_path", "tokenizer_file", "vocab_file")


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    return read_object(path, EncoderError) if os.path.lexists(path) else {}


def _with_lowercase(tokenizer: Tokenizer, lowercase: bool) -> Tokenizer:
    content = orjson.loads(tokenizer.to_str())
    normalizer = content.get("normalizer")
    if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
        raise EncoderError(
            "this encoder's tokenizer has its case built in; only BERT's own can be told.",
            hint="leave text.lowercase unset.",
        )
    normalizer["lowercase"] = lowercase
    return Tokenizer.from_str(orjson.dumps(content).decode())


def _word_piece(folder: Path) -> Tokenizer:
    lines = (folder / "vocab.txt").read_text("utf-8").split("\n")
    vocabulary = {piece: i for i, piece in enumerate(lines) if piece}
    _need(vocabulary, ("[UNK]", "[CLS]", "[SEP]"), folder / "vocab.txt")
    settings = _settings(folder)
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=bool(settings.get("do_lower_case", True)),
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer.add_special_tokens([token for token in special if token in vocabulary])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


def _byte_level_bpe(folder: Path) -> Tokenizer:
    vocabulary, merges = BPE.read_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    _need(vocabulary, ("<s>", "</s>"), folder / "vocab.json")
    spaced = bool(_settings(folder).get("add_prefix_space", False))
    tokenizer = Tokenizer(BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer.add_special_tokens([token for token in special if token in vocabulary])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"]), add_prefix_space=spaced
    )
    return tokenizer


def _need(vocabulary: dict[str, int], tokens: tuple[str, ...], path: Path) -> None:
    if missing := [token for token in tokens if token not in vocabulary]:
        raise EncoderError(f"{path} lacks the special tokens {missing}.")
