"""Tokenizers from an encoder's older and newer files, as transformers reads them."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer

from bert_cls.encoders import (
    open_tokenizer,
)
from bert_cls.errors import EncoderError
from tiny import TEXTS, tiny_tokenizer, word_piece


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text).ids for text in texts]


MIXED = [*TEXTS, "Ünïcode Café TAIL Light", "\u3000 空 格\t", "e\u0301t\u0301e", "", "unsunroofed"]


@pytest.mark.parametrize(
    "settings_of_folder",
    [
        None,
        {"do_lower_case": False},
        {"do_lower_case": True, "strip_accents": False},
        {"do_lower_case": False, "strip_accents": True, "tokenize_chinese_chars": False},
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_vocabulary_file_is_read_as_transformers_does(tmp_path, settings_of_folder, newline):
    from transformers import BertTokenizer

    vocabulary = word_piece(whole_words=True).get_vocab()
    pieces = [*sorted(vocabulary, key=vocabulary.__getitem__), "Café", "TAIL", "café", "tail"]
    (tmp_path / "vocab.txt").write_bytes(newline.join([*dict.fromkeys(pieces), ""]).encode())
    if settings_of_folder is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings_of_folder))
    ours = open_tokenizer(tmp_path)
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), **(settings_of_folder or {}))
    assert ids_of(ours, MIXED) == theirs(MIXED)["input_ids"]
    pair = theirs(MIXED, MIXED[::-1])
    encoded = [ours.encode(a, b) for a, b in zip(MIXED, MIXED[::-1], strict=True)]
    assert [e.ids for e in encoded] == pair["input_ids"]
    assert [e.type_ids for e in encoded] == pair["token_type_ids"]


@pytest.mark.parametrize("spaced", [False, True])
def test_vocabulary_and_merges_are_read_as_transformers_does(tmp_path, spaced):
    from transformers import RobertaTokenizer

    model = json.loads(tiny_tokenizer("roberta").to_str())["model"]
    vocabulary = model["vocab"] | {"<mask>": len(model["vocab"])}
    merges = [tuple(merge) for merge in model["merges"]]
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    if spaced:
        (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    theirs = RobertaTokenizer(vocab=vocabulary, merges=merges, add_prefix_space=spaced)
    ours = open_tokenizer(tmp_path)
    assert ids_of(ours, MIXED) == theirs(MIXED)["input_ids"]
    pairs = [ours.encode(a, b).ids for a, b in zip(MIXED, MIXED[::-1], strict=True)]
    assert pairs == theirs(MIXED, MIXED[::-1])["input_ids"]
    if not spaced:
        assert ids_of(ours, MIXED) == ids_of(tiny_tokenizer("roberta"), MIXED)


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.txt"])
def test_lowercase_can_be_told(tmp_path, kind):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "tail", "TAIL"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    if kind == "tokenizer.json":
        open_tokenizer(tmp_path).save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(tmp_path).encode("TAIL").tokens[1] == "tail"
    assert open_tokenizer(tmp_path, lowercase=True).encode("TAIL").tokens[1] == "tail"
    assert open_tokenizer(tmp_path, lowercase=False).encode("TAIL").tokens[1] == "TAIL"


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_lowercase_cannot_be_told_to_a_tokenizer_with_its_own_case(encoder, family):
    with pytest.raises(EncoderError, match="case") as caught:
        open_tokenizer(encoder(family), lowercase=True)
    assert "lowercase" in str(caught.value.hint)


def test_missing_and_damaged_tokenizers_are_refused(tmp_path):
    with pytest.raises(EncoderError, match=r"no tokenizer\.json, vocab\.txt"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"no tokenizer\.json"):
        open_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(EncoderError, match="lacks the special tokens"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.json").write_text("not json")
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\na\n")
    with pytest.raises(EncoderError, match=r"lacks .*\[SEP\]"):
        open_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\n")
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "Evil"}}')
    with pytest.raises(EncoderError, match="cannot be read"):
        open_tokenizer(tmp_path)


def test_opening_twice_changes_nothing(encoder, tmp_path):
    once = open_tokenizer(encoder("xlm-roberta"))
    once.save(str(tmp_path / "tokenizer.json"))
    assert open_tokenizer(tmp_path).to_str() == once.to_str()


@pytest.mark.parametrize("family", ["albert", "xlm-roberta"])
def test_a_typed_special_token_gets_no_word_start_of_its_own(encoder, family):
    tokenizer = open_tokenizer(encoder(family))
    tokenizer.encode_special_tokens = True
    special = tokenizer.id_to_token(tokenizer.encode("").ids[-1]).lower()
    encoded = tokenizer.encode(f"好{special}好", add_special_tokens=False)
    assert "".join(encoded.tokens) == f"▁好{special}好"
