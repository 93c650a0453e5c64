"""The network: a pretrained encoder, pooling, and one linear head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from threading import RLock
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bert_cls.encoders.facts import (
    FAMILIES,
    Family,
    Pooling,
    read_config,
    tensor_shapes,
    weight_files,
)
from bert_cls.encoders.limits import NETWORK_KEYS
from bert_cls.errors import BertClsError, EncoderError, shortened

_DROPOUT_KEYS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_SMALL = 10_000_000  # parameters that may be built whatever the weights beside them are
DRAWING = RLock()
"""held from seeding torch's one generator until all is drawn from it: trainings in threads of one
process would seed each other's, and transformers changes `torch.nn.init` while it opens"""
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
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(_width(config), outputs)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """int64 [rows, tokens] each (mask bool) -> float32 [rows, outputs]."""
        logits: Tensor = self.head(self.dropout(self.pool(ids, types, mask)))
        return logits.float()

    def pool(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """What the head sees: float32 [rows, width]."""
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self.takes_types:
            inputs["token_type_ids"] = types
        output = self.encoder(**inputs)
        return _pool(output, mask, self.pooling).float()


def _width(config: Any) -> int:
    return int(getattr(config, "hidden_size", 0) or config.dim)


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
    first, holding DRAWING. `weights=False` leaves all weights random (they are about to be loaded,
    head and all). EncoderError when the config makes no network, or the weights are damaged or
    another network's. Nothing is built that is much larger than the weights that came along.
    """
    import transformers

    quiet: Any = transformers.utils.logging
    quiet.set_verbosity_error()
    quiet.disable_progress_bar()
    content = read_config(folder)
    family = FAMILIES[content["model_type"]]
    with DRAWING:
        try:
            config = _config(
                getattr(transformers, family.config), content, dropout, attention_dropout
            )
            model = getattr(transformers, family.model)
            _check_size(model, config, folder, head=0 if weights else outputs * _width(config))
            encoder = _encoder(model, config, family, pooling, folder if weights else None)
        except BertClsError:
            raise
        except Exception as error:  # of many kinds, by what is wrong with config or weights
            reason = " ".join(str(error).split())[:300]
            raise EncoderError(f"{folder} cannot be opened as {family.model}: {reason}") from error
        network = Network(encoder, family, pooling, outputs, dropout)
        nn.init.normal_(network.head.weight, std=float(getattr(config, "initializer_range", 0.02)))
        nn.init.zeros_(network.head.bias)
    return network


def _config(kind: Any, content: Mapping[str, Any], dropout: float, attention_dropout: float) -> Any:
    """The config with only the fields that say what the network is, run our way."""
    config = kind(**{name: value for name, value in content.items() if name in NETWORK_KEYS})
    for key in _DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, dropout)
    for key in _ATTENTION_DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, attention_dropout)
    # "eager": torch's fused attention for CPUs takes 40 % of a step in its backward pass alone
    config._attn_implementation = "eager"
    return config


def _check_size(model: Any, config: Any, folder: Path, *, head: int) -> None:
    """EncoderError when the config describes a far larger network than the weights beside it.

    The network is laid out without memory for that. `head` are the weights of a head that must be
    there, too. What differs by less is named tensor by tensor when the weights are put into it.
    """
    stored = sum(math.prod(shape) for shape in tensor_shapes(folder).values())
    with torch.device("meta"):
        needed = head + sum(p.numel() for p in model(config).parameters())
    if needed > 2 * stored + _SMALL:
        raise EncoderError(
            f"{folder}: config.json and labels describe a network of {needed:,} parameters. "
            f"The weights beside it have {stored:,}."
        )


def _encoder(
    model: Any, config: Any, family: Family, pooling: Pooling, folder: Path | None
) -> nn.Module:
    """With the folder's weights, or random ones without a folder.

    transformers is given tensors, never the folder: there it would look for adapters, indexes of
    parts and checkpoints of other kinds, which name further files.
    """
    options = {"add_pooling_layer": pooling == "cls_pooler"} if family.has_pooler else {}
    if folder is None:
        fresh: nn.Module = model(config, **options)
        return fresh
    tensors: dict[str, Tensor] = {}
    for path in weight_files(folder):
        tensors |= load_file(path)
    if not tensors:
        raise EncoderError(f"{folder} has no model.safetensors, or an empty one.")
    encoder: nn.Module
    encoder, loading = model.from_pretrained(
        None,
        config=config,
        state_dict=tensors,
        local_files_only=True,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        **options,
    )
    # files of hubs also hold heads, and numbers of positions: neither are weights of this network
    own, prefix = encoder.state_dict(), f"{encoder.base_model_prefix}."
    check_floats({n: t for n, t in tensors.items() if n.removeprefix(prefix) in own})
    if missing := sorted(n for n in loading["missing_keys"] if not n.startswith("pooler.")):
        raise EncoderError(
            f"{folder}: the weights lack {len(missing)} tensors of {family.model}, "
            f"for example {missing[0]}."
        )
    return encoder


def tensors_by_name(network: Network) -> dict[str, Tensor]:
    """The weights under the names Hugging Face gives them, the head as `classifier`."""
    prefix = str(getattr(network.encoder, "base_model_prefix", "model"))
    named = {f"{prefix}.{n}": t for n, t in network.encoder.state_dict().items()}
    named |= {f"classifier.{n}": t for n, t in network.head.state_dict().items()}
    return {name: tensor.detach().contiguous() for name, tensor in named.items()}


def load_tensors(network: Network, tensors: Mapping[str, Tensor]) -> None:
    """The reverse of `tensors_by_name`.

    EncoderError for a tensor that is missing, unknown, of another shape, or not of floats.
    """
    check_floats(tensors)
    prefix = str(getattr(network.encoder, "base_model_prefix", "model")) + "."
    encoder = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
    head = {n.removeprefix("classifier."): t for n, t in tensors.items() if n[:11] == "classifier."}
    if unknown := sorted(n for n in tensors if not n.startswith((prefix, "classifier."))):
        raise EncoderError(
            f"the weights do not fit the network: it has no {shortened(unknown[0])}."
        )
    try:
        network.encoder.load_state_dict(encoder)
        network.head.load_state_dict(head)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise EncoderError(f"the weights do not fit the network: {reason}") from error


def check_floats(tensors: Mapping[str, Tensor]) -> None:
    """EncoderError for the first tensor that does not hold floats."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _FLOATS:
            raise EncoderError(
                f"the weights are damaged: {shortened(name)} holds {_kind(tensor)}, not floats."
            )


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
