"""What a base encoder is, read from its folder and never from its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from bert_cls.encoders.limits import check_numbers
from bert_cls.errors import EncoderError
from bert_cls.files import check_header, read_object

Pooling = Literal["cls", "cls_pooler", "mean"]

_POOLING = "1_Pooling/config.json"
_READ = (
    "config.json",
    _POOLING,
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_RUNS_CODE = ("auto_map", "trust_remote_code", "_attn_implementation_internal")
_CHANGES_LOADING = (
    "adapter_kwargs",
    "compression_config",
    "fusion_config",
    "gguf_file",
    "quantization_config",
    "transformers_weights",
)
COUNT_FROM_PADDING = ("roberta", "xlm-roberta")  # their positions start behind the padding id
_IMPLEMENTATIONS = (None, "eager", "sdpa")


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
    shapes = tensor_shapes(folder)
    return EncoderFacts(
        family=config["model_type"],
        width=config.get("hidden_size", config.get("dim", 0)),
        layers=config.get(layers_key(config), 0),
        parameters=sum(math.prod(shape) for shape in shapes.values()),
        positions=positions_of(config),
        sentence_pooling=_sentence_pooling(folder),
        has_trained_pooler=family.has_pooler and any(".pooler." in f".{n}" for n in shapes),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as a dict; its `model_type` is one of FAMILIES.

    EncoderError when it is not one, or asks for code or a way of loading of its own.
    """
    path = folder / "config.json"
    config = read_object(path, EncoderError)
    for key, value in config.items():
        if key in _RUNS_CODE:
            raise EncoderError(f"{path} has {key!r}, which would run code of its own.")
        if key in _CHANGES_LOADING:
            raise EncoderError(f"{path} has {key!r}: only plain float weights can be opened.")
        if key.endswith("_implementation") and value not in _IMPLEMENTATIONS:
            raise EncoderError(f"{path}: {key} must be eager or sdpa. Got {value!r} instead.")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise EncoderError(f"{path}: only absolute positions can be opened.")
    if not isinstance(config.get("model_type"), str) or config["model_type"] not in FAMILIES:
        raise EncoderError(
            f"{path}: model_type must be one of {sorted(FAMILIES)}. "
            f"Got {str(config.get('model_type'))[:60]!r} instead."
        )
    check_numbers(config, path)
    if "vocab_size" not in config:
        raise EncoderError(f"{path} has no vocab_size.")
    if config["model_type"] in COUNT_FROM_PADDING and config.get("pad_token_id", 1) is None:
        raise EncoderError(f"{path}: pad_token_id may not be null in {config['model_type']}.")
    return config


def weight_files(folder: Path) -> list[Path]:
    """The files that hold an encoder's weights: one, or all parts of it; none when there are none.

    EncoderError for what has the name of one and is no regular file.
    """
    whole = folder / "model.safetensors"
    paths = [whole] if whole.exists() else sorted(folder.glob("model-*-of-*.safetensors"))
    for path in paths:
        if not path.is_file():
            raise EncoderError(f"{path} cannot be read: it is not a regular file.")
    return paths


def read_files(folder: Path) -> list[Path]:
    """The files of an encoder folder that decide what it is: config, tokenizer, weights."""
    named = [path for name in _READ if (path := folder / name).is_file()]
    return [*named, *weight_files(folder)]


def tensor_shapes(folder: Path) -> dict[str, list[int]]:
    """Names and shapes of all tensors. EncoderError for what is no safetensors file."""
    shapes: dict[str, list[int]] = {}
    for path in weight_files(folder):
        try:
            check_header(path, EncoderError)
            with safe_open(str(path), framework="numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dict
                    shapes[name] = tensors.get_slice(name).get_shape()
        except (OSError, SafetensorError) as error:
            raise EncoderError(
                f"{path} is not a whole safetensors file: {error}", hint="fetch or copy it again."
            ) from error
    return shapes


def layers_key(config: Mapping[str, Any]) -> str:
    """The key of a config that says how many layers there are; DistilBERT's may have either."""
    return "num_hidden_layers" if "num_hidden_layers" in config else "n_layers"


def positions_of(config: Mapping[str, Any]) -> int:
    """How many tokens an encoder reads at once."""
    positions: int = config.get("max_position_embeddings", 512)
    if config["model_type"] not in COUNT_FROM_PADDING:
        return positions
    padding: int = config.get("pad_token_id", 1)
    return positions - padding - 1


def _sentence_pooling(folder: Path) -> Pooling | None:
    path = folder / _POOLING
    if not path.is_file():
        return None
    pooling = read_object(path, EncoderError)
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
