"""Makes a base encoder smaller: fewer vocabulary pieces, fewer layers, the same geometry.

A multilingual encoder keeps most of its parameters in word embeddings that a user's language never
touches, and AdamW updates every one of them at each step.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from bert_cls.errors import EncoderError, pick

_CJK = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0002ffff]+")
_LATIN = re.compile(r"[A-Za-z]+")
_WORD_EMBEDDINGS = ("word_embeddings.weight", "tok_embeddings.weight")
_VOCABULARY_HEADS = re.compile(r"^(cls|lm_head|decoder|generator_predictions|head)\.")
_LAYER = re.compile(r"^(?P<before>.*\blayers?\.)(?P<number>\d+)(?P<after>\..*)$")


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


def _is_chinese(piece: str) -> bool:
    """CJK characters and words, punctuation, symbols, digits, and Latin letters one by one."""
    if _CJK.fullmatch(piece) or len(piece) <= 1:
        return _is_common(piece) or bool(_CJK.fullmatch(piece))
    return all(unicodedata.category(c)[0] in "PSN" for c in piece)


def _is_english(piece: str) -> bool:
    """ASCII letters one by one, punctuation, symbols and digits; words by frequency."""
    return _is_common(piece)


def _is_common(piece: str) -> bool:
    return all(
        unicodedata.category(c)[0] in "PSN" or (c.isascii() and len(piece) == 1) for c in piece
    )


SCRIPTS: dict[str, Callable[[str], bool]] = {"chinese": _is_chinese, "english": _is_english}
_MOST_LATIN = {"chinese": 9_000, "english": 30_000}


def pieces_of_script(tokenizer: dict[str, Any], script: str) -> set[str]:
    """The pieces to keep for a script: its characters and words, punctuation and digits, and the
    most frequent Latin pieces (the vocabulary's order or score stands for frequency).
    """
    belongs = pick(SCRIPTS, script, "--script")
    kept: set[str] = set()
    latin: list[str] = []
    for piece in _by_frequency(tokenizer["model"]):
        bare = piece.removeprefix("##").lstrip("▁Ġ")
        if belongs(bare):
            kept.add(piece)
        elif _LATIN.fullmatch(bare):
            latin.append(piece)
    return kept | set(latin[: _MOST_LATIN[script]])


def pieces_of_texts(tokenizer: Tokenizer, texts: Iterable[str]) -> set[str]:
    """The pieces that occur when the texts are tokenised."""
    used: set[int] = set()
    for text in texts:
        used.update(tokenizer.encode(text, add_special_tokens=False).ids)
    return {piece for i in used if (piece := tokenizer.id_to_token(i)) is not None}


def trim(
    source: Path,
    target: Path,
    *,
    keep: set[str] | None = None,
    layers: Sequence[int] | None = None,
    sample: Sequence[str] = (),
) -> TrimReport:
    """Write a smaller copy of the encoder folder `source` to `target`.

    `keep` are vocabulary pieces besides the special ones and the single characters of `sample`
    (None keeps all), `layers` the numbers of the layers to keep, in order. EncoderError for a
    tokenizer of an unknown kind or a layer the encoder has not.
    """
    tokenizer = orjson.loads((source / "tokenizer.json").read_bytes())
    config = orjson.loads((source / "config.json").read_bytes())
    weights = load_file(source / "model.safetensors")
    before = sum(w.size for w in weights.values())
    pieces_before = int(config["vocab_size"])
    layers_before = int(config.get("num_hidden_layers", 0))
    unknown_before = unknown_rate(Tokenizer.from_file(str(source / "tokenizer.json")), sample)
    if keep is not None:
        old_ids = _keep_pieces(tokenizer, keep)
        weights = {n: w for n, w in weights.items() if not _VOCABULARY_HEADS.match(n)}
        _keep_embeddings(weights, old_ids)
        _renumber(config, old_ids)
        config["vocab_size"] = len(old_ids)
    if layers is not None:
        weights = _keep_layers(weights, layers, layers_before)
        config["num_hidden_layers"] = len(layers)
    target.mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer_config.json", "modules.json", "1_Pooling/config.json", "LICENSE"):
        if (source / name).is_file():
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_bytes((source / name).read_bytes())
    (target / "tokenizer.json").write_bytes(orjson.dumps(tokenizer))
    (target / "config.json").write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return TrimReport(
        pieces_before=pieces_before,
        pieces_after=int(config["vocab_size"]),
        parameters_before=before,
        parameters_after=sum(w.size for w in weights.values()),
        layers_before=layers_before,
        layers_after=int(config.get("num_hidden_layers", 0)),
        unknown_before=unknown_before,
        unknown_after=unknown_rate(Tokenizer.from_file(str(target / "tokenizer.json")), sample),
    )


def unknown_rate(tokenizer: Tokenizer, texts: Sequence[str]) -> float | None:
    """Share of tokens that are the unknown piece, or None without texts."""
    unknown = orjson.loads(tokenizer.to_str())["model"].get("unk_id")
    if unknown is None:
        token = orjson.loads(tokenizer.to_str())["model"].get("unk_token")
        unknown = tokenizer.token_to_id(token) if token else None
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
    pieces = {p: i for p, i in vocabulary.items() if p in keep or p in special} | special
    ordered = sorted(pieces.items(), key=lambda entry: entry[1])
    new_ids = {piece: new for new, (piece, _) in enumerate(ordered)}
    if kind == "Unigram":
        model["vocab"] = [model["vocab"][i] for _, i in ordered if i < len(model["vocab"])]
        model["unk_id"] = next(n for n, (_, i) in enumerate(ordered) if i == model["unk_id"])
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
    weights[names[0]] = np.ascontiguousarray(weights[names[0]][old_ids])


def _renumber(config: dict[str, Any], old_ids: list[int]) -> None:
    new = {old: i for i, old in enumerate(old_ids)}
    for key, value in config.items():
        if key.endswith("_token_id") and isinstance(value, int):
            config[key] = new.get(value)


def _keep_layers(
    weights: dict[str, NDArray[Any]], layers: Sequence[int], count: int
) -> dict[str, NDArray[Any]]:
    if not layers or any(not 0 <= n < count for n in layers):
        raise EncoderError(f"layers must be numbers from 0 to {count - 1}. Got {list(layers)}.")
    place = {old: new for new, old in enumerate(layers)}
    kept = {}
    for name, weight in weights.items():
        match = _LAYER.match(name)
        if match is None:
            kept[name] = weight
        elif (number := int(match["number"])) in place:
            kept[f"{match['before']}{place[number]}{match['after']}"] = weight
    return kept
