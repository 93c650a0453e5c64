"""Finds an encoder folder's tokenizer, building `tokenizer.json` from older vocabulary files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordPiece

from bert_cls.errors import EncoderError


def open_tokenizer(folder: Path, *, lowercase: bool | None = None) -> Tokenizer:
    """The tokenizer of an encoder folder, without truncation or padding.

    `tokenizer.json` first, then `vocab.txt` (WordPiece), then `vocab.json` with `merges.txt`
    (byte-level BPE). `lowercase` overrides what the folder says, where the tokenizer is BERT's own.
    EncoderError when it is not, the folder has none of these files, or one does not parse.
    """
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        elif (folder / "vocab.txt").is_file():
            tokenizer = _word_piece(folder)
        elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
            tokenizer = _byte_level_bpe(folder)
        else:
            raise EncoderError(
                f"{folder} has no tokenizer.json, vocab.txt, or vocab.json with merges.txt.",
                hint="open it once with transformers' AutoTokenizer and save_pretrained() it.",
            )
    except EncoderError:
        raise
    except Exception as error:  # the Rust tokenizer raises plain Exception
        raise EncoderError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if lowercase is not None:
        tokenizer = _with_lowercase(tokenizer, lowercase)
    tokenizer = _with_literal_specials(tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _with_literal_specials(tokenizer: Tokenizer) -> Tokenizer:
    """A Unigram model lists "</s>" among its pieces, so a typed one would become the real one.

    Splitting it behind its first character keeps the typed characters apart, and leaves every
    other text as it is.
    """
    content = orjson.loads(tokenizer.to_str())
    if content["model"].get("type") != "Unigram":
        return tokenizer
    special = [token["content"] for token in content["added_tokens"] if token["special"]]
    pattern = "|".join(f"{re.escape(s[0])}(?={re.escape(s[1:])})" for s in special if len(s) > 1)
    if not pattern:
        return tokenizer
    apart: dict[str, Any] = {"type": "Split", "pattern": {"Regex": pattern}}
    apart |= {"behavior": "Isolated", "invert": False}
    before = content["pre_tokenizer"]
    steps = before["pretokenizers"] if before and before["type"] == "Sequence" else [before]
    if apart not in steps:
        steps = [*(step for step in steps if step), apart]
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    return Tokenizer.from_str(orjson.dumps(content).decode())


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    loaded = orjson.loads(path.read_bytes()) if path.is_file() else {}
    return loaded if isinstance(loaded, dict) else {}


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
