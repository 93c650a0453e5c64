"""The sample of rows that a model folder keeps for calibrating and checking exports.

Token ids of training and development rows are those rows' texts, to whoever has the tokenizer:
`export.calibration_rows=0` keeps none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from bert_cls.errors import BundleError
from bert_cls.text import Tokens

SAMPLE = "calibration.safetensors"
_ARRAYS = ("ids", "types", "starts", "full_lengths")


def sample_bytes(splits: Mapping[str, Tokens], rows: int, *, seed: int) -> bytes:
    """A file of a seeded sample of at most `rows` rows (or windows of them) of each split."""
    generator = np.random.default_rng(seed)
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, whole in splits.items():
        tokens = whole.pieces
        chosen = np.sort(generator.permutation(len(tokens))[:rows])
        part = subset(tokens, chosen)
        arrays |= {f"{name}.{array}": getattr(part, array) for array in _ARRAYS}
    return save(arrays)


def read_sample(folder: Path) -> dict[str, Tokens]:
    """The sample of each split; empty where the folder keeps none. BundleError if damaged."""
    path = folder / SAMPLE
    if not path.is_file():
        return {}
    try:
        arrays = load_file(path)
        names = sorted({name.partition(".")[0] for name in arrays})
        return {n: _tokens([arrays[f"{n}.{array}"] for array in _ARRAYS]) for n in names}
    except (SafetensorError, KeyError, OSError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from error


def _tokens(arrays: Sequence[Any]) -> Tokens:
    ids, types, starts, full_lengths = arrays
    return Tokens(ids, types, starts, full_lengths)


def subset(tokens: Tokens, rows: NDArray[np.int64]) -> Tokens:
    """Some of the rows, in the order given."""
    lengths = tokens.lengths[rows]
    starts = np.zeros(len(rows) + 1, dtype=np.int64)
    np.cumsum(lengths, out=starts[1:])
    places = np.concatenate(
        [np.arange(tokens.starts[r], tokens.starts[r + 1]) for r in rows] or [np.zeros(0, np.int64)]
    )
    return Tokens(tokens.ids[places], tokens.types[places], starts, tokens.full_lengths[rows])
