"""The file that the built-in encoders are made of, against a reader that goes weight by weight."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest

from bert_cls.encoders import (
    e5,
)
from bert_cls.errors import EncoderError
from tiny_e5 import E5_PIECES, HIDDEN


def test_weights_are_unpacked_and_named_as_berts(e5_source):
    import torch
    from transformers import BertConfig, BertModel

    path, values = e5_source
    config, weights, _ = e5.convert(path)
    pieces = len(E5_PIECES)
    word = weights["embeddings.word_embeddings.weight"]
    assert word.shape == (pieces, HIDDEN), "rows without a piece are dropped"
    assert np.array_equal(word, values["emb.word"][:pieces])
    for short, full in {
        "emb.pos": "embeddings.position_embeddings.weight",
        "emb.type": "embeddings.token_type_embeddings.weight",
        "emb.ln.b": "embeddings.LayerNorm.bias",
        "l1.q.w": "encoder.layer.1.attention.self.query.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l1.aln.w": "encoder.layer.1.attention.output.LayerNorm.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l1.fo.w": "encoder.layer.1.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }.items():
        assert weights[full].dtype == np.float32
        assert np.array_equal(weights[full], values[short]), short
    assert len(weights) == len(values)
    model = BertModel(BertConfig(**config), add_pooling_layer=False)
    model.load_state_dict({n: torch.from_numpy(w) for n, w in weights.items()}, strict=True)
    assert config["layer_norm_eps"] == pytest.approx(1e-12)
    assert config["pad_token_id"] == 1


def test_the_text_pipeline_is_that_of_xlm_roberta(e5_source):
    _, _, tokenizer = e5.convert(e5_source[0])
    pieces = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    assert pieces == E5_PIECES

    def tokens(text: str, *more: str) -> list[str]:
        return tokenizer.encode(text, *more).tokens

    assert tokens("the park") == ["<s>", "▁the", "▁park", "</s>"]
    assert tokens("the\u2028 \t\u3000park") == tokens("the park"), "spaces of all kinds fold"
    assert tokens("th\x01e\u200e park") == tokens("the park"), "controls are dropped"
    assert tokens("今天，Ａ①") == ["<s>", "▁", "今天", ",", "A", "1", "</s>"], "NFKC"
    assert tokens("a～") == ["<s>", "▁", "a", "～", "</s>"], "but not for the full-width tilde"
    assert tokens("a", "b") == ["<s>", "▁", "a", "</s>", "</s>", "▁", "b", "</s>"]
    assert tokenizer.encode("爨").ids[2] == 3


def test_every_truncation_of_the_file_is_an_encoder_error(e5_source, tmp_path):
    content = e5_source[0].read_bytes()
    path = tmp_path / "cut.bin"
    for at in [*range(0, 900, 7), *range(900, len(content), 997)]:
        path.write_bytes(content[:at])
        with pytest.raises(EncoderError, match=r"cut\.bin"):
            e5.convert(path)


def test_a_damaged_file_is_an_encoder_error_or_other_numbers(e5_source, tmp_path):
    content = e5_source[0].read_bytes()
    path = tmp_path / "damaged.bin"
    chooser = random.Random(1)
    for _ in range(150):
        at = chooser.randrange(1200)
        path.write_bytes(content[:at] + bytes([chooser.randrange(256)]) + content[at + 1 :])
        with contextlib.suppress(EncoderError):
            e5.convert(path)
