"""Model folders with a random network, to export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from bert_cls import bundle as bundles
from bert_cls.bundle import Bundle
from bert_cls.data.example import LabelSpace
from bert_cls.decision import Rule
from bert_cls.encoders.facts import Pooling
from bert_cls.network import open_network, tensors_by_name
from bert_cls.sample import SAMPLE, sample_bytes
from bert_cls.text import TextEncoder, TextSettings
from tiny import TEXTS

RULES = {
    "multilabel": Rule(task="multilabel", activation="sigmoid", thresholds=(0.5, 0.4, 0.6)),
    "binary": Rule(task="binary", activation="softmax"),
    "multiclass": Rule(task="multiclass", activation="softmax"),
    "regression": Rule(task="regression", activation="identity"),
}
_NAMES = {
    "multilabel": ("甲", "乙", "丙"),
    "binary": ("甲", "乙"),
    "multiclass": ("甲", "乙", "丙"),
    "regression": (),
}


def model_folder(
    encoder: Path,
    folder: Path,
    *,
    task: str = "multilabel",
    pooling: Pooling = "mean",
    pair: bool = False,
    sample: bool = True,
    text: TextSettings | None = None,
) -> Path:
    """A finished model folder around a tiny encoder; its head is large, so that labels vary."""
    rule, names = RULES[task], _NAMES[task]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = open_network(encoder, outputs=max(1, len(names)), pooling=pooling)
        torch.nn.init.normal_(network.head.weight, std=1.0)
    content = (encoder / "tokenizer.json").read_bytes()
    reader = TextEncoder.from_json(content, text or TextSettings())
    first = [TEXTS[i % len(TEXTS)] + str(i) for i in range(60)]
    tokens = reader.encode(first, first[::-1] if pair else None)
    files = {
        "config.json": (encoder / "config.json").read_bytes(),
        "model.safetensors": save(tensors_by_name(network)),
        "tokenizer.json": content,
    }
    if sample:
        files[SAMPLE] = sample_bytes({"train": tokens, "dev": tokens}, 50, seed=0)
    pad = network.encoder.config.pad_token_id
    bundle = Bundle(
        folder=folder,
        space=LabelSpace(names),
        rule=rule,
        text=reader.settings,
        pooling=pooling,
        pair=pair,
        pad_id=int(pad) if isinstance(pad, int) else 0,
    )
    bundles.save(bundle, files)
    assert np.isfinite(network.head.weight.detach().numpy()).all()
    return folder
