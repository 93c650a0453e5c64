"""The network: a pretrained encoder, pooling, and one linear head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bert_cls.encoders.facts import FAMILIES, Family, Pooling, read_config
from bert_cls.errors import EncoderError, pick

_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
_ATTENTION_DROPOUT_KEYS = ("attention_probs_dropout_prob", "attention_dropout")


class Network(nn.Module):
    """Encoder, pooling and head; `forward` gives float32 logits [rows, outputs]."""

    def __init__(
        self, encoder: nn.Module, family: Family, pooling: Pooling, outputs: int, dropout: float
    ) -> None:
        super().__init__()
        if pooling == "cls_pooler" and not family.has_pooler:
            raise EncoderError(f"{family.model} has no pooler. Use pooling cls or mean.")
        config: Any = encoder.config
        self.encoder = encoder
        self.pooling = pooling
        self.takes_types = family.has_types and int(getattr(config, "type_vocab_size", 1)) > 1
        width = int(getattr(config, "hidden_size", 0) or config.dim)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """int64 [rows, tokens] each (mask bool) -> float32 [rows, outputs]."""
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.takes_types:
            inputs["token_type_ids"] = types
        output = self.encoder(**inputs)
        pooled = _pool(output, mask, self.pooling)
        logits: Tensor = self.head(self.dropout(pooled.float()))
        return logits.float()


def _pool(output: Any, mask: Tensor, pooling: Pooling) -> Tensor:
    if pooling == "cls_pooler":
        pooled: Tensor = output.pooler_output
        return pooled
    hidden: Tensor = output.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    weight = mask[:, :, None].to(torch.float32)
    return (hidden.float() * weight).sum(1) / weight.sum(1).clamp(min=1.0)


def open_network(
    folder: Path,
    *,
    outputs: int,
    pooling: Pooling,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    weights: bool = True,
) -> Network:
    """A network around the encoder in `folder`, with a fresh head.

    The head and, where the folder has none, the pooler are drawn from torch's generator: seed it
    first. `weights=False` leaves all weights random (they are about to be loaded).
    """
    import transformers

    quiet: Any = transformers.utils.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    content = read_config(folder)
    family = pick(FAMILIES, str(content.get("model_type")), f"{folder}: model_type")
    config = getattr(transformers, family.config)(**_known(content))
    for key in _DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, dropout)
    for key in _ATTENTION_DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, attention_dropout)
    model = getattr(transformers, family.model)
    options: dict[str, Any] = {"add_pooling_layer": pooling == "cls_pooler"}
    options = options if family.has_pooler else {}
    # "eager": torch's fused attention for CPUs takes 40 % of a step in its backward pass alone
    config._attn_implementation = "eager"
    if weights:
        encoder = model.from_pretrained(
            str(folder),
            config=config,
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            attn_implementation="eager",
            **options,
        )
    else:
        encoder = model(config, **options)
    network = Network(encoder, family, pooling, outputs, dropout)
    nn.init.normal_(network.head.weight, std=float(getattr(config, "initializer_range", 0.02)))
    nn.init.zeros_(network.head.bias)
    return network


def _known(content: Mapping[str, Any]) -> dict[str, Any]:
    """The config without the keys that say how to run rather than what the network is."""
    drop = {"architectures", "torch_dtype", "dtype", "transformers_version", "_name_or_path"}
    drop |= {"id2label", "label2id", "problem_type"}
    return {k: v for k, v in content.items() if k not in drop and not k.endswith("_implementation")}


def tensors_by_name(network: Network) -> dict[str, Tensor]:
    """The weights under the names Hugging Face gives them, the head as `classifier`."""
    prefix = str(getattr(network.encoder, "base_model_prefix", "model"))
    named = {f"{prefix}.{n}": t for n, t in network.encoder.state_dict().items()}
    named |= {f"classifier.{n}": t for n, t in network.head.state_dict().items()}
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def load_tensors(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `tensors_by_name`; EncoderError when a tensor is missing or of wrong shape."""
    prefix = str(getattr(network.encoder, "base_model_prefix", "model")) + "."
    encoder = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    head = {n.removeprefix("classifier."): t for n, t in tensors.items() if n[:11] == "classifier."}
    try:
        network.encoder.load_state_dict(encoder)
        network.head.load_state_dict(head)
    except RuntimeError as error:
        raise EncoderError(f"the weights do not fit the network: {error}") from error
