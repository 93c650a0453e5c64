"""The sample of rows that a model folder keeps for calibrating and checking exports.

Token ids of training and development rows are those rows' texts, to whoever has the tokenizer:
`export.calibration_rows=0` keeps none.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from bert_cls.errors import BundleError, shortened
from bert_cls.files import check_header
from bert_cls.text import Tokens
from bert_cls.tokens import subset
from bert_cls.windows import WindowPooling, Windows

SAMPLE = "calibration.safetensors"
_ARRAYS = ("ids", "types", "starts", "full_lengths")
_WINDOWS = ("first", "cut")


def sample_bytes(splits: Mapping[str, Tokens], rows: int, *, seed: int) -> bytes:
    """A file of a seeded sample of at most `rows` rows of each split, with all their windows."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, tokens in splits.items():
        part = subset(tokens, np.sort(generator.permutation(len(tokens))[:rows]))
        arrays |= {f"{name}.{array}": getattr(part, array) for array in _ARRAYS}
        if part.windows is not None:
            arrays |= {f"{name}.{array}": getattr(part.windows, array) for array in _WINDOWS}
    return save(arrays)


def read_sample(
    folder: Path,
    pooling: WindowPooling = "mean",
    *,
    vocabulary: int | None = None,
    longest: int | None = None,
) -> dict[str, Tokens]:
    """The sample of each split; empty where the folder keeps none. BundleError if damaged.

    `pooling` is how the model makes one row of windows. Ids must be below `vocabulary`, and no row
    or window of more tokens than `longest`.
    """
    path = folder / SAMPLE
    if not path.is_file():
        return {}
    try:
        check_header(path, BundleError)
        arrays = load_file(path)
    except (SafetensorError, KeyError, OSError) as error:  # KeyError: a kind that numpy has not
        raise BundleError(f"{path} cannot be read: {error}") from error
    names = sorted({name.partition(".")[0] for name in arrays})
    for name in names:
        found = {each.partition(".")[2] for each in arrays if each.partition(".")[0] == name}
        if found not in ({*_ARRAYS}, {*_ARRAYS, *_WINDOWS}):
            raise BundleError(
                f"{path} is damaged: {shortened(name)} must have the tensors {list(_ARRAYS)}, and "
                f"with windows {list(_WINDOWS)}. Got {shortened(sorted(found))} instead."
            )
    sample = {name: _tokens(arrays, name, pooling) for name in names}
    for name, tokens in sample.items():
        if not _hold_together(tokens):
            raise BundleError(f"{path} is damaged: the arrays of {name} do not fit each other.")
        if not _are_within(tokens, vocabulary, longest):
            raise BundleError(f"{path}: the rows of {name} are none that this model reads.")
    return sample


def _tokens(arrays: Mapping[str, Any], name: str, pooling: WindowPooling) -> Tokens:
    ids, types, starts, full_lengths = (arrays[f"{name}.{array}"] for array in _ARRAYS)
    windows = None
    if f"{name}.first" in arrays:
        first, cut = (arrays[f"{name}.{array}"] for array in _WINDOWS)
        windows = Windows(first, cut, pooling)
    return Tokens(ids, types, starts, full_lengths, windows)


def _hold_together(tokens: Tokens) -> bool:
    """Whether the arrays are of the kinds and lengths that `Tokens` has."""
    kinds = {"ids": np.int32, "types": np.int8, "starts": np.int64, "full_lengths": np.int32}
    arrays: list[tuple[NDArray[Any], type]] = [
        (getattr(tokens, name), kind) for name, kind in kinds.items()
    ]
    if tokens.windows is not None:
        arrays += [(tokens.windows.first, np.int64), (tokens.windows.cut, np.bool_)]
    if any(array.dtype != kind or array.ndim != 1 for array, kind in arrays):
        return False
    whole = _divide(tokens.starts, len(tokens.ids)) and len(tokens.types) == len(tokens.ids)
    if tokens.windows is None:
        return whole and len(tokens.starts) == len(tokens) + 1
    first, cut = tokens.windows.first, tokens.windows.cut
    rows = len(first) - 1 == len(cut) == len(tokens)
    return whole and rows and _divide(first, len(tokens.starts) - 1)


def _divide(starts: NDArray[np.int64], count: int) -> bool:
    """Whether these are the places at which `count` things are divided, one at least in each."""
    if not len(starts) or starts[0] != 0 or starts[-1] != count:
        return False
    return bool((np.diff(starts) > 0).all())


def _are_within(tokens: Tokens, vocabulary: int | None, longest: int | None) -> bool:
    if not len(tokens.ids):
        return True
    pieces = int(np.diff(tokens.starts).max())
    if tokens.ids.min() < 0 or not np.isin(tokens.types, (0, 1)).all():
        return False
    return (vocabulary is None or tokens.ids.max() < vocabulary) and (
        longest is None or pieces <= longest
    )
