"""What a base encoder is, read from its folder and never from its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
from safetensors import safe_open

from bert_cls.errors import EncoderError, pick

Pooling = Literal["cls", "cls_pooler", "mean"]


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
    """Read an encoder folder's facts from its config and the names of its tensors."""
    config = read_config(folder)
    family = pick(FAMILIES, str(config.get("model_type")), f"{folder}: model_type")
    names, parameters = [], 0
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(str(path), framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                names.append(name)
                size = 1
                for side in tensors.get_slice(name).get_shape():
                    size *= side
                parameters += size
    return EncoderFacts(
        family=str(config["model_type"]),
        width=int(config.get("hidden_size", config.get("dim", 0))),
        layers=int(config.get("num_hidden_layers", config.get("n_layers", 0))),
        parameters=parameters,
        positions=_positions(config),
        sentence_pooling=_sentence_pooling(folder),
        has_trained_pooler=family.has_pooler and any(".pooler." in f".{n}" for n in names),
    )


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` as a dict. EncoderError when it is not one or asks for code of its own."""
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
    except (OSError, orjson.JSONDecodeError) as error:
        raise EncoderError(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{folder / 'config.json'} is not a JSON object.")
    for key in ("auto_map", "trust_remote_code", "_attn_implementation_internal"):
        if key in config:
            raise EncoderError(f"{folder / 'config.json'} has {key!r}, which would run its code.")
    return config


def _positions(config: Mapping[str, Any]) -> int:
    positions = int(config.get("max_position_embeddings", 512))
    # RoBERTa's positions start behind the padding id
    return positions - 2 if config["model_type"] in ("roberta", "xlm-roberta") else positions


def _sentence_pooling(folder: Path) -> Pooling | None:
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return None
    pooling = orjson.loads(path.read_bytes())
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
