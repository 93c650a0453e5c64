"""What a base encoder is, read from its folder and never from its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from safetensors import SafetensorError, safe_open

from bert_cls.errors import EncoderError

Pooling = Literal["cls", "cls_pooler", "mean"]

_RUNS_CODE = ("auto_map", "trust_remote_code", "_attn_implementation_internal")
_CHANGES_LOADING = ("quantization_config", "fusion_config", "transformers_weights")
_IMPLEMENTATIONS = (None, "eager", "sdpa")

NETWORK_KEYS = frozenset(
    """
    activation attention_bias attention_dropout attention_probs_dropout_prob bos_token_id
    cls_token_id dim dropout embedding_dropout embedding_size eos_token_id
    global_attn_every_n_layers global_rope_theta hidden_act hidden_activation hidden_dim
    hidden_dropout_prob hidden_size initializer_cutoff_factor initializer_range inner_group_num
    intermediate_size layer_norm_eps layer_types local_attention local_rope_theta
    max_position_embeddings mlp_bias mlp_dropout n_heads n_layers norm_bias norm_eps
    num_attention_heads num_hidden_groups num_hidden_layers pad_token_id rope_parameters
    sep_token_id sinusoidal_pos_embds task_type_vocab_size type_vocab_size use_task_id vocab_size
    """.split()  # noqa: SIM905 - a list of 44 words reads better so
)
"""What of a config.json reaches the network's config; all else only says how somebody ran it."""


@dataclass(frozen=True, slots=True)
class Family:
    """How one kind of encoder is opened and called."""

    config: str
    model: str
    has_pooler: bool
    has_types: bool


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What decides the recipe: read from the folder, never from the name."""

    family: str
    width: int
    layers: int
    parameters: int
    positions: int
    sentence_pooling: Pooling | None
    has_trained_pooler: bool


def describe(folder: Path) -> EncoderFacts:
    """Read an encoder folder's facts from its config and the names of its tensors.

    EncoderError when a file is damaged or of a kind that is not known.
    """
    config = read_config(folder)
    family = FAMILIES[config["model_type"]]
    shapes = _tensor_shapes(folder)
    try:
        return EncoderFacts(
            family=config["model_type"],
            width=int(config.get("hidden_size", config.get("dim", 0))),
            layers=int(config.get("num_hidden_layers", config.get("n_layers", 0))),
            parameters=sum(math.prod(shape) for shape in shapes.values()),
            positions=_positions(config),
            sentence_pooling=_sentence_pooling(folder),
            has_trained_pooler=family.has_pooler and any(".pooler." in f".{n}" for n in shapes),
        )
    except (TypeError, ValueError) as error:
        raise EncoderError(f"{folder / 'config.json'} is malformed: {error}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as a dict; its `model_type` is one of FAMILIES.

    EncoderError when it is not one, or asks for code or a way of loading of its own.
    """
    path = folder / "config.json"
    config = _read_object(path)
    for key, value in config.items():
        if key in _RUNS_CODE:
            raise EncoderError(f"{path} has {key!r}, which would run code of its own.")
        if key in _CHANGES_LOADING:
            raise EncoderError(f"{path} has {key!r}: only plain float weights can be opened.")
        if key.endswith("_implementation") and value not in _IMPLEMENTATIONS:
            raise EncoderError(f"{path}: {key} must be eager or sdpa. Got {value!r} instead.")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise EncoderError(f"{path}: only absolute positions can be opened.")
    if str(config.get("model_type")) not in FAMILIES:
        raise EncoderError(
            f"{path}: model_type must be one of {sorted(FAMILIES)}. "
            f"Got {config.get('model_type')!r} instead."
        )
    return config


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise EncoderError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{path} is not a JSON object.")
    return content


def _tensor_shapes(folder: Path) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(str(path), framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict
                    shapes[name] = tensors.get_slice(name).get_shape()
        except (OSError, SafetensorError) as error:
            raise EncoderError(
                f"{path} is not a whole safetensors file: {error}", hint="fetch or copy it again."
            ) from error
    return shapes


def _positions(config: Mapping[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings", 512))
    if config["model_type"] not in ("roberta", "xlm-roberta"):
        return positions
    return positions - int(config.get("pad_token_id", 1)) - 1  # they start behind the padding id


def _sentence_pooling(folder: Path) -> Pooling | None:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    pooling = _read_object(path)
    if pooling.get("pooling_mode_mean_tokens"):
        return "mean"
    return "cls" if pooling.get("pooling_mode_cls_token") else None


FAMILIES: dict[str, Family] = {
    "albert": Family("AlbertConfig", "AlbertModel", has_pooler=True, has_types=True),
    "bert": Family("BertConfig", "BertModel", has_pooler=True, has_types=True),
    "distilbert": Family("DistilBertConfig", "DistilBertModel", has_pooler=False, has_types=False),
    "electra": Family("ElectraConfig", "ElectraModel", has_pooler=False, has_types=True),
    "ernie": Family("ErnieConfig", "ErnieModel", has_pooler=True, has_types=True),
    "modernbert": Family("ModernBertConfig", "ModernBertModel", has_pooler=False, has_types=False),
    "roberta": Family("RobertaConfig", "RobertaModel", has_pooler=True, has_types=True),
    "xlm-roberta": Family("XLMRobertaConfig", "XLMRobertaModel", has_pooler=True, has_types=True),
}
