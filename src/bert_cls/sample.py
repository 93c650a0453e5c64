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

from bert_cls.errors import BundleError
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


def read_sample(folder: Path, pooling: WindowPooling = "mean") -> dict[str, Tokens]:
    """The sample of each split; empty where the folder keeps none. BundleError if damaged.

    `pooling` is how the model makes one row of windows.
    """
    path = folder / SAMPLE
    if not path.is_file():
        return {}
    try:
        arrays = load_file(path)
        names = sorted({name.partition(".")[0] for name in arrays})
        return {name: _tokens(arrays, name, pooling) for name in names}
    except (SafetensorError, KeyError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _tokens(arrays: Mapping[str, Any], name: str, pooling: WindowPooling) -> Tokens:
    ids, types, starts, full_lengths = (arrays[f"{name}.{array}"] for array in _ARRAYS)
    windows = None
    if f"{name}.first" in arrays:
        first, cut = (arrays[f"{name}.{array}"] for array in _WINDOWS)
        windows = Windows(first, cut, pooling)
    return Tokens(ids, types, starts, full_lengths, windows)
