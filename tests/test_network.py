"""The network over every family: shapes, padding, pooling, names, hostile folders."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from bert_cls.encoders import describe, open_tokenizer
from bert_cls.errors import EncoderError
from bert_cls.network import Network, load_tensors, open_network, tensors_by_name
from bert_cls.text import TextEncoder, TextSettings, Tokens
from hostile import Canary, rewrite
from tiny import FAMILIES, TEXTS

POOLED = ("albert", "bert", "ernie", "macbert", "roberta", "xlm-roberta")


def opened(folder: Path, pooling: str = "mean", **options) -> Network:
    torch.manual_seed(3)
    return open_network(folder, outputs=3, pooling=pooling, **options).eval()


def tokens_of(folder: Path, *, paired: bool = False) -> Tokens:
    text = TextEncoder(open_tokenizer(folder), TextSettings(64))
    return text.encode(TEXTS, TEXTS[::-1] if paired else None)


def logits(network: Network, tokens: Tokens, rows: list[int], *, extra: int = 0) -> torch.Tensor:
    """Of rows in one batch, with `extra` columns of padding."""
    pad = int(network.encoder.config.pad_token_id)
    batch = tokens.padded(rows, pad)
    ids, types, mask = (torch.from_numpy(a) for a in (batch.ids, batch.types, batch.mask))
    ids = torch.nn.functional.pad(ids, (0, extra), value=pad)
    types = torch.nn.functional.pad(types, (0, extra), value=0)
    mask = torch.nn.functional.pad(mask, (0, extra), value=False)
    with torch.inference_mode():
        return network(ids, types, mask)


def far_apart(network: Network) -> Network:
    """Weights large enough that a wrong mask or type would show."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_does_not_see_its_padding(encoder, family):
    folder = encoder(family)
    assert describe(folder).parameters > 0
    for pooling in ("mean", "cls", "cls_pooler")[: 3 if family in POOLED else 2]:
        network = far_apart(opened(folder, pooling))
        for paired in (False, True):
            tokens = tokens_of(folder, paired=paired)
            rows = list(range(0, len(tokens), 3))
            together = logits(network, tokens, rows)
            assert together.dtype == torch.float32
            assert together.shape == (len(rows), 3)
            wider = logits(network, tokens, rows, extra=9)
            alone = torch.cat([logits(network, tokens, [row]) for row in rows])
            assert (together - wider).abs().max() < 1e-5
            assert (together - alone).abs().max() < 1e-5
            assert (together.std(0) > 1e-3).all(), "rows differ, or this shows nothing"


@pytest.mark.parametrize("family", FAMILIES)
def test_pooling_is_what_it_says(encoder, family):
    folder = encoder(family)
    tokens = tokens_of(folder)
    batch = tokens.padded([0, 5], 0)
    ids, types, mask = (torch.from_numpy(a) for a in (batch.ids, batch.types, batch.mask))
    for pooling in ("cls", "mean", "cls_pooler")[: 3 if family in POOLED else 2]:
        network = far_apart(opened(folder, pooling))
        inputs = {"input_ids": ids, "attention_mask": mask}
        if network.takes_types:
            inputs["token_type_ids"] = types
        with torch.inference_mode():
            output = network.encoder(**inputs)
            states = output.last_hidden_state
            pooled = {
                "cls": lambda s=states: s[:, 0],
                "mean": lambda s=states: torch.stack(
                    [s[row, : int(mask[row].sum())].mean(0) for row in range(2)]
                ),
                "cls_pooler": lambda o=output: o.pooler_output,
            }[pooling]()
            expected = pooled @ network.head.weight.T + network.head.bias
            assert torch.allclose(network(ids, types, mask), expected, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "albert", "electra", "ernie"])
def test_type_ids_reach_the_families_that_have_them(encoder, family):
    network = far_apart(opened(encoder(family)))
    ids = torch.tensor([[2, 9, 3, 8, 3]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    with torch.inference_mode():
        one, two = (network(ids, torch.full_like(ids, n), mask) for n in (0, 1))
    assert (one - two).abs().max() > 1e-3


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - set(POOLED)))
def test_a_pooler_that_is_not_there_is_refused(encoder, family):
    with pytest.raises(EncoderError, match="has no pooler"):
        open_network(encoder(family), outputs=2, pooling="cls_pooler")


def test_an_absent_pooler_is_drawn_from_the_seed(encoder, tmp_path):
    folder = Path(shutil.copytree(encoder("bert"), tmp_path / "bert"))
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith("pooler.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    first, again = (opened(folder, "cls_pooler").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    torch.manual_seed(4)
    other = open_network(folder, outputs=3, pooling="cls_pooler").state_dict()
    assert not torch.equal(
        first["encoder.pooler.dense.weight"], other["encoder.pooler.dense.weight"]
    )


def test_the_head_starts_small_and_without_bias(encoder):
    network = open_network(encoder("bert"), outputs=200, pooling="cls")
    assert network.head.weight.shape == (200, 32)
    assert 0.018 < network.head.weight.std() < 0.022
    assert not network.head.bias.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_rates_are_ours_and_not_the_folders(encoder, family):
    network = open_network(
        encoder(family), outputs=2, pooling="mean", dropout=0.3, attention_dropout=0.05
    )
    rates = {m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)}
    assert network.dropout.p == 0.3
    assert rates <= {0.3, 0.05, 0.0}
    assert 0.05 in rates or family == "modernbert"
    config = network.encoder.config
    attention = getattr(config, "attention_probs_dropout_prob", None)
    assert (config.attention_dropout if attention is None else attention) == 0.05
    assert config._attn_implementation == "eager"


# --- names of weights


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_tensors_come_back_exactly(encoder, family, tmp_path):
    folder = encoder(family)
    pooling = "cls_pooler" if family in POOLED else "mean"
    network = far_apart(opened(folder, pooling))
    named = tensors_by_name(network)
    assert {"classifier.weight", "classifier.bias"} <= named.keys()
    assert all(t.is_contiguous() and not t.requires_grad for t in named.values())
    save_tensors(named, tmp_path / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(folder / "config.json", tmp_path)

    fresh = opened(folder, pooling, weights=False)
    load_tensors(fresh, named)
    again = tensors_by_name(fresh)
    assert again.keys() == named.keys()
    assert all(torch.equal(again[name], named[name]) for name in named)
    tokens = tokens_of(folder, paired=True)
    assert torch.equal(logits(network, tokens, [0, 1]), logits(fresh, tokens, [0, 1]))

    reopened = opened(tmp_path, pooling).encoder.state_dict()
    assert all(torch.equal(t, reopened[n]) for n, t in network.encoder.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_opens_what_was_saved(encoder, family, tmp_path):
    from transformers import AutoModel

    network = far_apart(opened(encoder(family)))
    shutil.copy(encoder(family) / "config.json", tmp_path)
    save_tensors(
        tensors_by_name(network), tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    model = AutoModel.from_pretrained(str(tmp_path))
    theirs = model.state_dict()
    assert all(torch.equal(t, theirs[n]) for n, t in network.encoder.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "albert", "ernie"])
def test_transformers_classifies_with_the_stock_head(encoder, family, tmp_path):
    from transformers import AutoModelForSequenceClassification

    folder = encoder(family)
    network = far_apart(opened(folder, "cls_pooler"))
    config = json.loads((folder / "config.json").read_bytes())
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    config["label2id"] = {"a": 0, "b": 1, "c": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_tensors(
        tensors_by_name(network), tmp_path / "model.safetensors", metadata={"format": "pt"}
    )
    model, loading = AutoModelForSequenceClassification.from_pretrained(
        str(tmp_path), attn_implementation="eager", output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tokens = tokens_of(folder, paired=True)
    rows = [0, 4, 7]
    batch = tokens.padded(rows, int(config["pad_token_id"]))
    ids, types, mask = (torch.from_numpy(a) for a in (batch.ids, batch.types, batch.mask))
    with torch.inference_mode():
        theirs = model.eval()(input_ids=ids, token_type_ids=types, attention_mask=mask).logits
    assert torch.equal(theirs, logits(network, tokens, rows))


def test_tensors_that_do_not_fit_are_refused(encoder):
    network = opened(encoder("bert"))
    named = tensors_by_name(network)
    name = "bert.encoder.layer.0.output.dense.weight"
    without = {k: v for k, v in named.items() if k != name}
    reshaped = named | {name: named[name].T.contiguous()}
    extra = named | {"bert.evil": named[name]}
    headless = {k: v for k, v in named.items() if not k.startswith("classifier.")}
    for tensors in (without, reshaped, extra, headless, {}):
        with pytest.raises(EncoderError, match="do not fit"):
            load_tensors(network, tensors)


# --- folders as they come


def test_how_somebody_ran_it_changes_nothing(copied, encoder):
    folder = copied("bert")
    rewrite(
        folder / "config.json",
        is_decoder=True,
        return_dict=False,
        output_hidden_states=True,
        torch_dtype="float16",
        dtype="bfloat16",
        problem_type="regression",
        architectures=["EvilModel"],
        _name_or_path="../elsewhere",
        tie_word_embeddings=True,
        per_layer_config={"0": {"hidden_act": "relu"}},
        to_dict="not a function",
        __class__="evil",
    )
    tokens = tokens_of(folder)
    network = opened(folder)
    assert torch.equal(
        logits(network, tokens, [0, 3]), logits(opened(encoder("bert")), tokens, [0, 3])
    )
    assert {p.dtype for p in network.parameters()} == {torch.float32}


def test_old_names_of_weights_are_understood(copied, encoder):
    """As the first Chinese BERT has them: a prefix, gamma and beta, a head for masked words."""
    folder = copied("bert")
    weights = load_file(folder / "model.safetensors")
    older = {
        "bert."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): w
        for name, w in weights.items()
    }
    older["cls.predictions.bias"] = weights["embeddings.word_embeddings.weight"][:, 0].copy()
    save_file(older, folder / "model.safetensors", metadata={"format": "pt"})
    tokens = tokens_of(folder)
    expected = logits(opened(encoder("bert")), tokens, [0, 3])
    assert torch.equal(logits(opened(folder), tokens, [0, 3]), expected)


def test_half_precision_weights_become_float32(copied, encoder):
    folder = copied("bert")
    weights = {n: w.astype("float16") for n, w in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    network = opened(folder)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    tokens = tokens_of(folder)
    close = logits(network, tokens, [0]) - logits(opened(encoder("bert")), tokens, [0])
    assert close.abs().max() < 1e-2


def test_weights_that_are_missing_are_not_made_up(copied):
    folder = copied("bert")
    weights = load_file(folder / "model.safetensors")
    kept = {n: w for n, w in weights.items() if not n.startswith("encoder.layer.1.")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack 16 tensors of BertModel.*encoder\.layer\.1\."):
        opened(folder)


def test_weights_of_other_sizes_and_families_are_refused(copied, encoder):
    folder = copied("bert")
    rewrite(folder / "config.json", intermediate_size=48)
    with pytest.raises(EncoderError, match="BertModel"):
        opened(folder)
    shutil.copy(encoder("bert") / "config.json", folder)
    shutil.copy(encoder("distilbert") / "model.safetensors", folder)
    with pytest.raises(EncoderError, match="lack"):
        opened(folder)


HOSTILE = {
    "code of its own": {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}},
    "trust": {"trust_remote_code": True},
    "internal attention": {"_attn_implementation_internal": "evil/kernel"},
    "attention": {"attn_implementation": "evil/kernel"},
    "other weights": {"transformers_weights": "evil.bin"},
    "quantised": {"quantization_config": {"quant_method": "evil"}},
    "another family": {"model_type": "evil"},
    "family and path": {"model_type": "evil/bert", "auto_map": {}},
    "activation": {"hidden_act": "evil.activation"},
    "text as size": {"hidden_size": "evil"},
    "no heads": {"num_attention_heads": 0},
    "no pieces": {"vocab_size": 0},
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("weights", [True, False])
def test_a_hostile_folder_is_refused_and_none_of_its_code_runs(
    copied, monkeypatch, change, weights
):
    folder = copied("bert")
    ran = folder.parent / "ran"
    (folder / "evil.py").write_text(f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n")
    (folder / "evil.bin").write_bytes(pickle.dumps(Canary(ran)))
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Canary(ran)))
    monkeypatch.syspath_prepend(str(folder))
    rewrite(folder / "config.json", **change)
    with pytest.raises(EncoderError):
        open_network(folder, outputs=2, pooling="cls", weights=weights)
    assert not ran.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_config_that_is_none_is_refused(copied, content):
    folder = copied("bert")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(EncoderError, match=r"config\.json"):
        opened(folder)


def test_pickles_and_damaged_weights_are_refused_unopened(copied, tmp_path):
    folder, ran = copied("bert"), tmp_path / "ran"
    whole = (folder / "model.safetensors").read_bytes()
    pickled = pickle.dumps(Canary(ran))
    chooser = random.Random(0)
    for content in (pickled, b"", whole[:50], whole[:-1], chooser.randbytes(500), None):
        if content is None:
            (folder / "model.safetensors").unlink()
            (folder / "pytorch_model.bin").write_bytes(pickled)
        else:
            (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(EncoderError, match=r"model\.safetensors"):
            opened(folder)
    assert not ran.exists()


def test_weights_of_another_network_are_named_in_a_sentence(encoder):
    network = open_network(encoder("bert"), outputs=3, pooling="mean")
    others = {f"classifier.{i}": torch.zeros(1) for i in range(10_000)}
    with pytest.raises(EncoderError, match="do not fit the network") as caught:
        load_tensors(network, others)
    assert len(str(caught.value)) < 400
