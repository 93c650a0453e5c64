"""What the numbers in a config.json may be, checked before anything is built from them.

The bounds lie far above every encoder there is; they keep a stranger's file from filling the memory
or the afternoon. What is inside of them must still agree with the weights that came along.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from bert_cls.errors import EncoderError, shortened

_COUNTS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("hidden_size", "dim", "embedding_size"), (1, 16_384)),
    **dict.fromkeys(("intermediate_size", "hidden_dim"), (1, 131_072)),
    **dict.fromkeys(("num_attention_heads", "n_heads"), (1, 1024)),
    **dict.fromkeys(("num_hidden_layers", "n_layers"), (0, 256)),
    **dict.fromkeys(("num_hidden_groups", "inner_group_num"), (1, 256)),
    "vocab_size": (1, 4_000_000),
    **dict.fromkeys(("max_position_embeddings", "local_attention"), (1, 2**20)),
    **dict.fromkeys(("type_vocab_size", "task_type_vocab_size"), (0, 1024)),
    "global_attn_every_n_layers": (1, 1024),
}
_IDS = ("bos_token_id", "cls_token_id", "eos_token_id", "pad_token_id", "sep_token_id")
_MEASURES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(
        (
            "attention_dropout",
            "attention_probs_dropout_prob",
            "dropout",
            "embedding_dropout",
            "hidden_dropout_prob",
            "layer_norm_eps",
            "mlp_dropout",
            "norm_eps",
        ),
        (0.0, 1.0),
    ),
    "initializer_range": (0.0, 100.0),
    "initializer_cutoff_factor": (0.0, 100.0),
    **dict.fromkeys(("global_rope_theta", "local_rope_theta"), (1.0, 1e9)),
}
_SWITCHES = ("attention_bias", "mlp_bias", "norm_bias", "use_task_id")
_WORDS = ("activation", "hidden_act", "hidden_activation")
_OTHERS = ("layer_types", "rope_parameters")
_MAY_BE_NULL = {
    *_IDS,
    *_OTHERS,
    "attention_dropout",
    "global_rope_theta",
    "initializer_cutoff_factor",
    "local_rope_theta",
}

NETWORK_KEYS = frozenset((*_COUNTS, *_IDS, *_MEASURES, *_SWITCHES, *_WORDS, *_OTHERS))
"""What of a config.json reaches the network's config; all else only says how somebody ran it."""


def check_numbers(config: Mapping[str, Any], path: Path) -> None:
    """EncoderError names the first value of NETWORK_KEYS that no encoder has."""
    for key in NETWORK_KEYS & config.keys():
        value = config[key]
        if value is None and key in _MAY_BE_NULL:
            continue
        if wanted := _unmet(key, value):
            raise EncoderError(f"{path}: {key} must be {wanted}. Got {shortened(value)} instead.")


def _unmet(key: str, value: object) -> str | None:
    """What the value of `key` has to be, when it is not."""
    if key in _COUNTS or key in _IDS:
        low, high = _COUNTS.get(key, (0, _COUNTS["vocab_size"][1]))
        whole = isinstance(value, int) and not isinstance(value, bool)
        good = whole and low <= value <= high  # type: ignore[operator]
        return None if good else f"a whole number from {low} to {high:,}"
    if key in _MEASURES:
        least, most = _MEASURES[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        good = number and least <= value <= most  # type: ignore[operator]
        return None if good else f"a number from {least:g} to {most:g}"
    if key in _SWITCHES:
        return None if isinstance(value, bool) else "true or false"
    if key in _WORDS:
        return None if isinstance(value, str) and len(value) <= 50 else "the name of a function"
    return _unmet_part(key, value)


def _unmet_part(key: str, value: object) -> str | None:
    if key == "layer_types":
        good = isinstance(value, list) and len(value) <= _COUNTS["num_hidden_layers"][1]
        good = good and all(isinstance(kind, str) for kind in value)  # type: ignore[attr-defined]
        return None if good else "a list with the name of each layer's kind"
    good = isinstance(value, dict) and len(orjson.dumps(value)) <= 10_000
    return None if good else "a small object"
