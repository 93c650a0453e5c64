"""Smaller encoders that say the same."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, WordLevel

from bert_cls.encoders import (
    DEFAULT,
    describe,
    open_tokenizer,
    pieces_of_script,
    pieces_of_texts,
    trim,
)
from bert_cls.encoders.trim import _MOST_LATIN, _keep_pieces
from bert_cls.errors import ConfigError, EncoderError
from bert_cls.text import TextEncoder, TextSettings
from doors import main
from hostile import rewrite
from tiny import CHINESE, ENGLISH, TEXTS, tiny_tokenizer, word_piece

TRIMMED = (
    "bert",
    "macbert",
    "distilbert",
    "electra",
    "roberta",
    "modernbert",
    "albert",
    "xlm-roberta",
)
KEPT = [*CHINESE[:6], *ENGLISH[:4]]


def hidden_states(folder: Path, texts: list[str], second: list[str] | None = None):
    """float32 [tokens, width] of each text."""
    import torch

    from bert_cls.network import open_network

    network = open_network(folder, outputs=1, pooling="mean").eval()
    tokens = TextEncoder(open_tokenizer(folder), TextSettings(200)).encode(texts, second)
    states = []
    with torch.inference_mode():
        for row in range(len(tokens)):
            batch = tokens.padded([row], 0)
            inputs = {"input_ids": torch.from_numpy(batch.ids)}
            if network.takes_types:
                inputs["token_type_ids"] = torch.from_numpy(batch.types)
            states.append(network.encoder(**inputs).last_hidden_state[0].numpy())
    return states


@pytest.mark.parametrize("family", TRIMMED)
def test_texts_of_kept_pieces_keep_their_hidden_states(encoder, family, tmp_path):
    source = encoder(family)
    keep = pieces_of_texts(open_tokenizer(source), KEPT)
    report = trim(source, tmp_path / "trimmed", keep=keep, sample=KEPT)
    assert report.pieces_after < report.pieces_before
    assert report.parameters_after < report.parameters_before
    assert report.unknown_after == report.unknown_before
    for second in (None, KEPT[::-1]):
        before = hidden_states(source, KEPT, second)
        after = hidden_states(tmp_path / "trimmed", KEPT, second)
        for a, b in zip(before, after, strict=True):
            assert a.shape == b.shape
            assert np.abs(a - b).max() < 1e-6


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": ' + "[" * 200 + "]" * 200 + "}"])
def test_a_broken_tokenizer_config_is_named_before_anything_is_written(content, copied, tmp_path):
    source = copied("bert")
    (source / "tokenizer_config.json").write_text(content, "utf-8")
    with pytest.raises(EncoderError, match=r"tokenizer_config\.json cannot be read"):
        trim(source, tmp_path / "trimmed", layers=[0])
    assert not (tmp_path / "trimmed").exists()


@pytest.mark.parametrize("place", [Path.mkdir, lambda path: path.symlink_to("nowhere.json")])
def test_a_tokenizer_config_that_is_no_file_is_not_passed_over(place, copied, tmp_path):
    source = copied("bert")
    (source / "tokenizer_config.json").unlink()
    place(source / "tokenizer_config.json")
    with pytest.raises(EncoderError, match=r"tokenizer_config\.json cannot be read"):
        trim(source, tmp_path / "trimmed", layers=[0])
    assert not (tmp_path / "trimmed").exists()


def test_added_tokens_of_another_kind_are_left_alone(copied, tmp_path):
    source = copied("bert")
    rewrite(source / "tokenizer_config.json", added_tokens_decoder=[1])
    target = tmp_path / "trimmed"
    trim(source, target, keep=pieces_of_texts(open_tokenizer(source), KEPT[:2]))
    written = json.loads((target / "tokenizer_config.json").read_bytes())
    assert written["added_tokens_decoder"] == [1]


@pytest.mark.parametrize("family", TRIMMED)
def test_ids_are_renumbered_everywhere(encoder, copied, family, tmp_path):
    source = copied(family)
    old = open_tokenizer(source)
    special = {t.content: i for i, t in old.get_added_tokens_decoder().items()}
    decoder = {str(i): {"content": c, "special": True} for c, i in special.items()}
    rewrite(source / "tokenizer_config.json", added_tokens_decoder=decoder)
    target = tmp_path / "trimmed"
    report = trim(source, target, keep=pieces_of_texts(old, KEPT[:2]))
    new = open_tokenizer(target)
    config, old_config = (json.loads((f / "config.json").read_bytes()) for f in (target, source))
    assert config["vocab_size"] == new.get_vocab_size() == report.pieces_after
    weights = load_file(target / "model.safetensors")
    embeddings = next(
        w
        for n, w in weights.items()
        if n.endswith(("word_embeddings.weight", "tok_embeddings.weight"))
    )
    assert len(embeddings) == report.pieces_after
    for key, value in old_config.items():
        if key.endswith("_token_id") and value is not None:
            assert new.id_to_token(config[key]) == old.id_to_token(value), key
    assert sorted(new.get_vocab().values()) == list(range(report.pieces_after)), "no gaps"
    around = [new.id_to_token(i) for i in new.encode("", "").ids]
    assert around == new.encode("", "").tokens == old.encode("", "").tokens
    names = json.loads((target / "tokenizer_config.json").read_bytes())["added_tokens_decoder"]
    assert {int(i): token["content"] for i, token in names.items()} == {
        i: token.content for i, token in new.get_added_tokens_decoder().items()
    }


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_transformers_reads_a_trimmed_folder_alike(encoder, family, tmp_path):
    from transformers import AutoTokenizer

    keep = pieces_of_texts(open_tokenizer(encoder(family)), KEPT)
    trim(encoder(family), tmp_path / "trimmed", keep=keep)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path / "trimmed"))
    ours = open_tokenizer(tmp_path / "trimmed")
    assert theirs(TEXTS)["input_ids"] == [ours.encode(text).ids for text in TEXTS]


@pytest.mark.parametrize("family", ["bert", "macbert", "xlm-roberta"])
def test_words_put_together_anew_are_spelled_not_unknown(encoder, family, tmp_path):
    source = encoder(family)
    texts = ["尾灯", "天窗", "tail", "light"]
    trim(source, tmp_path / "t", keep=pieces_of_texts(open_tokenizer(source), texts))
    anew = open_tokenizer(tmp_path / "t").encode("灯尾窗天 lightl tailt", add_special_tokens=False)
    assert not {"[UNK]", "<unk>"} & set(anew.tokens)


def test_unknown_rates_are_of_the_sample(encoder, tmp_path):
    source = encoder("bert")
    keep = pieces_of_texts(open_tokenizer(source), ["尾灯很亮"])
    report = trim(source, tmp_path / "t", keep=keep, sample=["尾灯很亮", "天窗漏水"])
    assert (report.unknown_before, report.unknown_after) == (0, 0.5)
    assert trim(source, tmp_path / "u", keep=keep).unknown_after is None


@pytest.mark.parametrize(
    ("family", "script", "kept", "dropped"),
    [
        ("bert", "chinese", {"尾", "tail", "1", "!", "##灯", "a", "##z"}, set()),
        ("bert", "english", {"tail", "1", "，", "a"}, {"尾", "##灯"}),
        ("xlm-roberta", "chinese", {"尾灯", "▁tail", "。", "▁"}, set()),
        ("xlm-roberta", "english", {"▁tail", "。", "▁"}, {"尾灯", "灯"}),
        ("roberta", "english", {"Ġthe", "a", "Ġis"}, {"è¿Ļ"}),
        ("roberta", "chinese", {"Ġthe", "è¿Ļ", "ãĢĤ"}, set()),
    ],
)
def test_a_script_is_told_by_what_pieces_stand_for(family, script, kept, dropped):
    content = json.loads(tiny_tokenizer(family).to_str())
    vocabulary = set(tiny_tokenizer(family).get_vocab())
    pieces = pieces_of_script(content, script)
    assert kept & vocabulary <= pieces
    assert kept - vocabulary <= {"##z"}
    assert not dropped & pieces
    assert dropped <= vocabulary


def test_only_the_more_frequent_latin_words_are_kept(monkeypatch):
    monkeypatch.setitem(_MOST_LATIN, "chinese", 5)
    content = json.loads(tiny_tokenizer("xlm-roberta").to_str())
    latin = {p for p in pieces_of_script(content, "chinese") if len(p) > 2 and p.isascii()}
    words = [p for p, _ in content["model"]["vocab"] if p.lstrip("▁").isascii() and len(p) > 2]
    words = [p for p in words if p.lstrip("▁").isalpha() and len(p.lstrip("▁")) > 1]
    assert len([p for p in pieces_of_script(content, "chinese") if p in words]) == 5
    assert latin <= set(words[:5])


def test_an_unknown_script_names_the_known():
    with pytest.raises(ConfigError, match=r"--script must be one of \['chinese', 'english'\]"):
        pieces_of_script(json.loads(word_piece().to_str()), "klingon")


LAYER = {
    "bert": "encoder.layer.{}.",
    "distilbert": "transformer.layer.{}.",
    "roberta": "encoder.layer.{}.",
}


@pytest.mark.parametrize("family", LAYER)
def test_chosen_layers_are_kept_in_order(encoder, family, tmp_path):
    source = encoder(family)
    report = trim(source, tmp_path / "one", layers=[1])
    assert (report.layers_before, report.layers_after) == (2, 1)
    assert report.pieces_after == report.pieces_before
    assert describe(tmp_path / "one").layers == 1
    old, new = (
        load_file(source / "model.safetensors"),
        load_file(tmp_path / "one/model.safetensors"),
    )
    first, second = (LAYER[family].format(n) for n in (0, 1))
    expected = {
        name.replace(second, first): weight
        for name, weight in old.items()
        if not name.startswith(first)
    }
    assert new.keys() == expected.keys()
    assert all(np.array_equal(new[name], expected[name]) for name in new)
    assert len(hidden_states(tmp_path / "one", TEXTS[:2])) == 2
    trim(source, tmp_path / "swapped", layers=[1, 0])
    swapped = load_file(tmp_path / "swapped" / "model.safetensors")
    assert all(
        np.array_equal(swapped[name.replace(first, second)], old[name])
        for name in old
        if name.startswith(first)
    )


def test_a_distilbert_may_name_its_depth_as_others_do(copied, tmp_path):
    source = copied("distilbert")
    path = source / "config.json"
    config = json.loads(path.read_text("utf-8"))
    config["num_hidden_layers"] = config.pop("n_layers")
    path.write_text(json.dumps(config), "utf-8")
    report = trim(source, tmp_path / "one", layers=[1])
    assert (report.layers_before, report.layers_after) == (2, 1)
    assert len(hidden_states(tmp_path / "one", TEXTS[:2])) == 2
    assert describe(tmp_path / "one").layers == 1


def test_albert_repeats_its_one_layer_less_often(encoder, tmp_path):
    report = trim(encoder("albert"), tmp_path / "one", layers=[0])
    assert (report.layers_before, report.layers_after) == (2, 1)
    assert report.parameters_after == report.parameters_before
    assert len(hidden_states(tmp_path / "one", TEXTS[:1])) == 1


def test_modernbert_keeps_its_kinds_of_attention(encoder, copied, tmp_path):
    folder = copied("modernbert")
    config = json.loads((folder / "config.json").read_bytes())
    assert config["layer_types"] == ["full_attention", "sliding_attention"]
    trim(folder, tmp_path / "one", layers=[0])
    kept = json.loads((tmp_path / "one" / "config.json").read_bytes())
    assert kept["layer_types"] == ["full_attention"]
    assert len(hidden_states(tmp_path / "one", TEXTS[:1])) == 1
    with pytest.raises(ConfigError, match="--layers must begin with 0"):
        trim(folder, tmp_path / "two", layers=[1, 0])
    older = {k: v for k, v in config.items() if k != "layer_types"}
    older["global_attn_every_n_layers"] = 2
    (folder / "config.json").write_text(json.dumps(older))
    trim(folder, tmp_path / "both", layers=[0, 1])
    both = json.loads((tmp_path / "both" / "config.json").read_bytes())
    assert both["layer_types"] == ["full_attention", "sliding_attention"]


@pytest.mark.parametrize("layers", [[], [2], [-1], [0, 0]])
def test_layers_an_encoder_has_not_are_refused(encoder, tmp_path, layers):
    with pytest.raises(ConfigError, match="--layers must be distinct numbers from 0 to 1"):
        trim(encoder("bert"), tmp_path / "t", layers=layers)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("words", ["5", "0,0", "-1", "all", ""])
def test_layers_that_cannot_be_are_an_error_of_usage(encoder, tmp_path, words):
    done = main("encoders", "trim", encoder("bert"), "-o", tmp_path / "t", f"--layers={words}")
    assert done.code == 2
    assert "--layers" in done.err
    assert not (tmp_path / "t").exists()


def test_heads_over_the_vocabulary_go_with_its_pieces(copied, tmp_path):
    folder = copied("distilbert")
    weights = load_file(folder / "model.safetensors")
    rows = len(next(w for n, w in weights.items() if n.endswith("word_embeddings.weight")))
    extra = (
        "vocab_projector.bias",
        "cls.predictions.bias",
        "predictions.decoder.bias",
        "lm_head.bias",
    )
    save_file(
        weights | {n: np.zeros(rows, np.float32) for n in extra}, folder / "model.safetensors"
    )
    trim(folder, tmp_path / "t", keep={"a"})
    assert load_file(tmp_path / "t" / "model.safetensors").keys() == weights.keys()


def test_tokenizers_of_other_kinds_and_misfits_are_refused(copied, tmp_path):
    folder = copied("bert")
    word_level = Tokenizer(WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    word_level.save(str(folder / "tokenizer.json"))
    with pytest.raises(EncoderError, match="kind 'WordLevel'"):
        trim(folder, tmp_path / "t", keep={"a"})
    larger = word_piece()
    larger.add_tokens([f"new{i}" for i in range(9)])
    larger.save(str(folder / "tokenizer.json"))
    with pytest.raises(EncoderError, match="do not belong together"):
        trim(folder, tmp_path / "t", keep={"a"})
    word_piece().save(str(folder / "tokenizer.json"))
    shutil.copy(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="cannot be read") as caught:
        trim(folder, tmp_path / "t", layers=[0])
    assert "several files" in str(caught.value.hint)
    assert not (tmp_path / "t").exists()


def test_positions_that_hang_on_a_moving_padding_id_are_refused(copied, tmp_path):
    folder = copied("roberta")
    rewrite(folder / "config.json", pad_token_id=300)
    with pytest.raises(EncoderError, match="padding id"):
        trim(folder, tmp_path / "t", keep={"a"})


def test_byte_fallback_pieces_stay(copied, tmp_path):
    folder = copied("bert")
    size = json.loads((folder / "config.json").read_bytes())["vocab_size"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "ab", "a", "b"]
    pieces += [f"<0x{i:02X}>" for i in range(256)]
    vocabulary = {piece: i for i, piece in enumerate(pieces[:size])}
    tokenizer = Tokenizer(BPE(vocabulary, [("a", "b")], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(pieces[:5])
    tokenizer.save(str(folder / "tokenizer.json"))
    trim(folder, tmp_path / "t", keep={"a"})
    kept = open_tokenizer(tmp_path / "t").get_vocab()
    assert {p for p in vocabulary if p.startswith("<0x")} <= kept.keys()
    assert "ab" not in kept


session_tokenizer = cache(tiny_tokenizer)


@given(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), st.integers(0, 9))
@settings(max_examples=25)
@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "macbert"])
def test_a_trimmed_tokenizer_cuts_its_texts_at_the_same_places(family, texts, seed):
    whole, chooser = session_tokenizer(family), random.Random(seed)
    content = json.loads(whole.to_str())
    extra = {p for p in whole.get_vocab() if chooser.random() < 0.1}
    _keep_pieces(content, pieces_of_texts(whole, texts) | extra)
    trimmed = Tokenizer.from_str(json.dumps(content))
    for text in texts:
        assert trimmed.encode(text).tokens == whole.encode(text).tokens


# --- the real one

E5_TEXTS = ["今天天气很好，我们去公园玩", "The weather is nice today, let's go to the park"]
REAL = Path(os.environ.get("BERT_CLS_TEST_CACHE", "missing")) / "encoders"


@pytest.mark.skipif(
    not (REAL / "multilingual-e5-small").is_dir() or not (REAL / DEFAULT).is_dir(),
    reason="needs the fetched built-ins below $BERT_CLS_TEST_CACHE",
)
def test_the_real_built_in_knows_a_translation():
    full = sentence_vectors(REAL / "multilingual-e5-small", E5_TEXTS)
    assert 0.90 < float(full[0] @ full[1]) < 0.93
    chinese = [E5_TEXTS[0], "我们今天去公园，天气真好", "这份合同的违约条款需要律师再看一遍"]
    before = sentence_vectors(REAL / "multilingual-e5-small", chinese)
    after = sentence_vectors(REAL / DEFAULT, chinese)
    assert np.abs(before @ before.T - after @ after.T).max() < 2e-3
    assert after[0] @ after[1] > after[0] @ after[2] + 0.05
    content = json.loads((REAL / "multilingual-e5-small" / "tokenizer.json").read_bytes())
    special = {token["content"] for token in content["added_tokens"]}
    assert len(pieces_of_script(content, "chinese") | special) == 31_437
    assert len(json.loads((REAL / DEFAULT / "tokenizer.json").read_bytes())["model"]["vocab"]) == (
        31_437
    )


def sentence_vectors(folder: Path, texts: list[str]) -> np.ndarray:
    vectors = np.stack([rows.mean(0) for rows in hidden_states(folder, texts)])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_command_trims_a_folder_that_has_a_vocab_txt_alone(copied, tmp_path):
    folder = copied("bert")
    vocabulary = open_tokenizer(folder).get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    (folder / "vocab.txt").write_text("\n".join(pieces), "utf-8")
    done = main("encoders", "trim", folder, "-o", tmp_path / "whole", "--script", "chinese")
    assert done.code == 0, done
    (folder / "tokenizer.json").unlink()
    done = main("encoders", "trim", folder, "-o", tmp_path / "built", "--script", "chinese")
    assert done.code == 0, done
    whole, built = (open_tokenizer(tmp_path / name) for name in ("whole", "built"))
    assert whole.get_vocab() == built.get_vocab()
    assert len(pieces) >= len(built.get_vocab()) > 5


def test_the_command_says_how_many_rows_it_cannot_read(encoder, tmp_path):
    texts, sample = tmp_path / "texts.jsonl", tmp_path / "sample.jsonl"
    texts.write_text('{"text_a": "尾灯"}\n{"text_a": 3}\n{"text_a": "天窗"}\n[]\n', "utf-8")
    sample.write_text('{"text_a": ""}\n{"text_a": "天窗"}\n', "utf-8")
    words = ("--texts", texts, "--sample", sample)
    done = main("encoders", "trim", encoder("bert"), "-o", tmp_path / "t", *words)
    assert done.code == 0, done
    assert "2 bad rows were left out; texts.jsonl: line 2: " in done.err
    assert "1 bad row was left out; sample.jsonl: line 1: " in done.err
    texts.write_text('{"text_a": ""}', "utf-8")
    done = main("encoders", "trim", encoder("bert"), "-o", tmp_path / "none", "--texts", texts)
    assert done.code != 0
    assert "texts.jsonl has no text that can be read." in done.err
    assert not (tmp_path / "none").exists()


def test_the_command_counts_unknown_tokens_in_texts_that_are_not_kept(encoder, tmp_path):
    kept, counted = tmp_path / "kept.json", tmp_path / "counted.json"
    kept.write_text(json.dumps([{"text_a": KEPT[0]}], ensure_ascii=False), "utf-8")
    counted.write_text(json.dumps([{"text_a": text} for text in KEPT]), "utf-8")
    trimmed = ("encoders", "trim", encoder("bert"), "-o")
    shares = []
    for name, words in {"same": (), "other": ("--sample", counted)}.items():
        done = main(*trimmed, tmp_path / name, "--texts", kept, *words)
        assert done.code == 0, done
        (found,) = re.findall(r"unknown ([\d.]+)% -> ([\d.]+)%", done.out)
        shares.append([float(share) for share in found])
    assert shares[0][0] == shares[0][1]  # pieces of these texts are all kept
    assert shares[1][0] < shares[1][1]
    done = main(*trimmed, tmp_path / "script", "--script", "chinese")
    assert "not counted; --sample FILE counts" in done.out
    done = main(*trimmed, tmp_path / "layers", "--layers", "0", "--sample", counted)
    assert (done.code, "fewer layers make none" in done.err) == (2, True)
