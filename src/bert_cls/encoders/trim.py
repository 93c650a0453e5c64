"""Makes a base encoder smaller: fewer vocabulary pieces, fewer layers, the same geometry.

A multilingual encoder keeps most of its parameters in word embeddings that a user's language never
touches, and AdamW updates every one of them at each step.
"""

from __future__ import annotations

import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, decoders

from bert_cls.data.lengths import unknown_id
from bert_cls.encoders.facts import COUNT_FROM_PADDING, layers_key, read_config
from bert_cls.encoders.tokenizer_files import open_tokenizer
from bert_cls.errors import ConfigError, EncoderError, pick
from bert_cls.files import read_object

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]+")
_LATIN = re.compile(r"[A-Za-z]+")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_WORD_EMBEDDINGS = ("word_embeddings.weight", "tok_embeddings.weight")
_VOCABULARY_HEADS = re.compile(
    r"(cls|lm_head|decoder|generator_predictions|head|predictions|vocab_\w+)\."
)
_LAYER = re.compile(r"^(?P<before>.*\blayers?\.)(?P<number>\d+)(?P<after>\..*)$")
_COPIED = ("modules.json", "1_Pooling/config.json", "LICENSE")


@dataclass(frozen=True, slots=True)
class TrimReport:
    """What a trim did: vocabulary sizes, parameters, and the unknown rate on sample texts."""

    pieces_before: int
    pieces_after: int
    parameters_before: int
    parameters_after: int
    layers_before: int
    layers_after: int
    unknown_before: float | None
    unknown_after: float | None


def _is_common(text: str) -> bool:
    """Punctuation, symbols and digits of any script; ASCII characters one by one."""
    if len(text) == 1 and text.isascii():
        return True
    return all(unicodedata.category(c)[0] in "PSN" for c in text)


def _is_chinese(text: str) -> bool:
    """CJK characters and words, and what is common."""
    return _CJK.fullmatch(text) is not None or _is_common(text)


SCRIPTS: dict[str, Callable[[str], bool]] = {"chinese": _is_chinese, "english": _is_common}
_MOST_LATIN = {"chinese": 9_000, "english": 30_000}


def pieces_of_script(tokenizer: dict[str, Any], script: str) -> set[str]:
    """The pieces to keep for a script, of the content of a `tokenizer.json`.

    Its characters and words, punctuation and digits, and the most frequent Latin pieces (the
    vocabulary's order or score stands for frequency).
    """
    belongs = pick(SCRIPTS, script, "--script")
    readable = _readable(tokenizer)
    kept: set[str] = set()
    latin: list[str] = []
    for piece in _by_frequency(tokenizer["model"]):
        text = readable(piece)
        if belongs(text):
            kept.add(piece)
        elif _LATIN.fullmatch(text):
            latin.append(piece)
    return kept | set(latin[: _MOST_LATIN[script]])


def _readable(tokenizer: dict[str, Any]) -> Callable[[str], str]:
    """What gives a piece's characters, without the marks of word starts and ends."""
    if '"ByteLevel"' in orjson.dumps(tokenizer.get("pre_tokenizer")).decode():
        decoder = decoders.ByteLevel()
        return lambda piece: decoder.decode([piece]).removeprefix(" ")
    return lambda piece: piece.removeprefix("##").lstrip("▁Ġ")


def pieces_of_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> set[str]:
    """The pieces that occur when the texts are tokenised, and the characters they consist of.

    With the characters, a word that is put together anew is spelled rather than unknown.
    """
    used: set[int] = set()
    for text in texts:
        used.update(tokenizer.encode(text, add_special_tokens=False).ids)
    pieces = {piece for i in used if (piece := tokenizer.id_to_token(i)) is not None}
    return pieces | {mark + c for piece in pieces for c in piece for mark in ("", "##", "▁")}


def trim(
    source: Path,
    target: Path,
    *,
    keep: set[str] | None = None,
    layers: Sequence[int] | None = None,
    sample: Sequence[str] = (),
) -> TrimReport:
    """Write a smaller copy of the encoder folder `source` to `target`.

    `keep` are vocabulary pieces besides the special ones (None keeps all), `layers` the numbers of
    the layers to keep, in order. ConfigError for layers the encoder has not, EncoderError for a
    tokenizer of an unknown kind, or weights in several files.
    """
    opened = open_tokenizer(source)
    tokenizer = orjson.loads(opened.to_str())
    config = read_config(source)
    weights = _load(source)
    before = sum(w.size for w in weights.values())
    pieces_before = opened.get_vocab_size()
    depth = layers_key(config)
    layers_before = config.get(depth, 0)
    old_ids: list[int] | None = None
    if keep is not None:
        old_ids = _keep_pieces(tokenizer, keep)
        weights = {n: w for n, w in weights.items() if not _VOCABULARY_HEADS.match(n)}
        _keep_embeddings(weights, old_ids)
        _renumber(config, old_ids)
        config["vocab_size"] = len(old_ids)
    if layers is not None:
        weights = _keep_layers(weights, layers, layers_before)
        _keep_layer_types(config, layers)
        config[depth] = len(layers)
    settings = _tokenizer_settings(source, old_ids)
    write_encoder(target, config, tokenizer, weights)
    _copy_rest(source, target, settings)
    return TrimReport(
        pieces_before=pieces_before,
        pieces_after=pieces_before if old_ids is None else len(old_ids),
        parameters_before=before,
        parameters_after=sum(w.size for w in weights.values()),
        layers_before=layers_before,
        layers_after=config.get(depth, 0),
        unknown_before=unknown_rate(opened, sample),
        unknown_after=unknown_rate(open_tokenizer(target), sample),
    )


def _load(source: Path) -> dict[str, NDArray[Any]]:
    try:
        return load_file(source / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise EncoderError(
            f"{source / 'model.safetensors'} cannot be read: {error}",
            hint="weights in several files: load with transformers, then save_pretrained().",
        ) from error


def write_encoder(
    target: Path,
    config: dict[str, Any],
    tokenizer: dict[str, Any],
    weights: dict[str, NDArray[Any]],
) -> None:
    """Write config.json, tokenizer.json and model.safetensors."""
    target.mkdir(parents=True, exist_ok=True)
    (target / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))
    (target / "config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    # safetensors makes a file that only its owner may read; others share the cache
    shutil.copymode(target / "config.json", target / "model.safetensors")


def _tokenizer_settings(source: Path, old_ids: list[int] | None) -> dict[str, Any] | None:
    """The content of tokenizer_config.json with new ids, None where there is no such file."""
    path = source / "tokenizer_config.json"
    if not os.path.lexists(path):
        return None
    settings = read_object(path, EncoderError)
    added = settings.get("added_tokens_decoder")
    if old_ids is not None and isinstance(added, dict):
        new = {str(old): str(i) for i, old in enumerate(old_ids)}
        settings["added_tokens_decoder"] = {
            new[old]: token for old, token in added.items() if old in new
        }
    return settings


def _copy_rest(source: Path, target: Path, settings: dict[str, Any] | None) -> None:
    for name in _COPIED:
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, target / name)
    if settings is not None:
        (target / "tokenizer_config.json").write_bytes(orjson.dumps(settings))


def unknown_rate(tokenizer: Tokenizer, texts: Sequence[str]) -> float | None:
    """Share of tokens that are the unknown piece, or None without texts."""
    unknown = unknown_id(tokenizer.to_str())
    ids = [i for e in tokenizer.encode_batch(list(texts), add_special_tokens=False) for i in e.ids]
    return sum(i == unknown for i in ids) / len(ids) if ids else None


def _by_frequency(model: dict[str, Any]) -> list[str]:
    if model["type"] == "Unigram":
        return [piece for piece, _ in sorted(model["vocab"], key=lambda entry: -entry[1])]
    return sorted(model["vocab"], key=lambda piece: int(model["vocab"][piece]))


def _keep_pieces(tokenizer: dict[str, Any], keep: set[str]) -> list[int]:
    """Shrink the tokenizer in place; gives the old id of each new id."""
    model = tokenizer["model"]
    kind = model.get("type")
    if kind not in ("Unigram", "WordPiece", "BPE"):
        raise EncoderError(f"cannot trim a tokenizer of kind {kind!r}.")
    special = {token["content"]: int(token["id"]) for token in tokenizer["added_tokens"]}
    if kind == "BPE":
        keep = _with_parts(model, keep)
    vocabulary = (
        {piece: i for i, (piece, _) in enumerate(model["vocab"])}
        if kind == "Unigram"
        else dict(model["vocab"])
    )
    keep = keep | special.keys() | {model.get("unk_token")}
    if model.get("byte_fallback"):
        keep |= {piece for piece in vocabulary if _BYTE.fullmatch(piece)}
    pieces = {
        p: i for p, i in vocabulary.items() if p in keep or i == model.get("unk_id")
    } | special
    ordered = sorted(pieces.items(), key=lambda entry: entry[1])
    new_ids = {piece: new for new, (piece, _) in enumerate(ordered)}
    if kind == "Unigram":
        model["vocab"] = [model["vocab"][i] for _, i in ordered if i < len(model["vocab"])]
        model["unk_id"] = next(
            (n for n, (_, i) in enumerate(ordered) if i == model["unk_id"]), None
        )
    else:
        model["vocab"] = {p: new_ids[p] for p, i in ordered if p in vocabulary}
    for token in tokenizer["added_tokens"]:
        token["id"] = new_ids[token["content"]]
    _renumber_template(tokenizer.get("post_processor"), new_ids)
    return [i for _, i in ordered]


def _with_parts(model: dict[str, Any], keep: set[str]) -> set[str]:
    """A kept BPE piece needs the merges that build it; merges of dropped pieces go."""
    alphabet = {piece for piece in model["vocab"] if len(piece) == 1}
    kept = keep | alphabet
    merges = []
    for merge in reversed(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left + right in kept:
            kept |= {left, right}
            merges.append(merge)
    model["merges"] = merges[::-1]
    return kept


def _renumber_template(processor: dict[str, Any] | None, new_ids: dict[str, int]) -> None:
    if processor is None:
        return
    for part in processor.get("processors", []):
        _renumber_template(part, new_ids)
    for entry in processor.get("special_tokens", {}).values():
        entry["ids"] = [new_ids[token] for token in entry["tokens"]]
    for key in ("sep", "cls"):
        if key in processor:
            processor[key] = [processor[key][0], new_ids[processor[key][0]]]


def _keep_embeddings(weights: dict[str, NDArray[Any]], old_ids: list[int]) -> None:
    names = [name for name in weights if name.endswith(_WORD_EMBEDDINGS)]
    if len(names) != 1:
        raise EncoderError(f"expected one word embedding matrix. Found {names} instead.")
    if old_ids[-1] >= len(weights[names[0]]):
        raise EncoderError(
            f"the tokenizer has piece {old_ids[-1]}, the encoder embeddings for "
            f"{len(weights[names[0]])} pieces: they do not belong together."
        )
    weights[names[0]] = np.ascontiguousarray(weights[names[0]][old_ids])


def _renumber(config: dict[str, Any], old_ids: list[int]) -> None:
    new = {old: i for i, old in enumerate(old_ids)}
    pad = config.get("pad_token_id")
    for key, value in config.items():
        if key.endswith("_token_id") and isinstance(value, int):
            config[key] = new.get(value)
    if config["model_type"] in COUNT_FROM_PADDING and config.get("pad_token_id") != pad:
        raise EncoderError("this encoder counts positions from its padding id, which would move.")


def _keep_layers(
    weights: dict[str, NDArray[Any]], layers: Sequence[int], count: int
) -> dict[str, NDArray[Any]]:
    if not layers or len(set(layers)) < len(layers) or any(not 0 <= n < count for n in layers):
        raise ConfigError(
            f"--layers must be distinct numbers from 0 to {count - 1}, the layers of this encoder "
            f"to keep. Got {','.join(map(str, layers)) or 'none'} instead."
        )
    place = {old: new for new, old in enumerate(layers)}
    kept = {}
    for name, weight in weights.items():
        match = _LAYER.match(name)
        if match is None:
            kept[name] = weight
        elif (number := int(match["number"])) in place:
            kept[f"{match['before']}{place[number]}{match['after']}"] = weight
    return kept


def _keep_layer_types(config: dict[str, Any], layers: Sequence[int]) -> None:
    """ModernBERT alternates two kinds of attention and has no norm before its first layer."""
    if config["model_type"] != "modernbert":
        return
    if layers[0] != 0:
        raise ConfigError(
            "--layers must begin with 0 for a modernbert, and have distinct numbers to "
            f"{int(config['num_hidden_layers']) - 1}. Got {','.join(map(str, layers))} instead."
        )
    every = int(config.get("global_attn_every_n_layers", 3))
    count = int(config["num_hidden_layers"])
    types = config.get("layer_types") or [
        "sliding_attention" if i % every else "full_attention" for i in range(count)
    ]
    config["layer_types"] = [types[n] for n in layers]
