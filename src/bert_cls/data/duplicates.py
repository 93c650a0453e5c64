"""Rows that are the same or nearly the same, found in numbers of a few bytes a row.

The same: equal 64-bit hashes. Nearly the same: candidates by MinHash (Broder 1997) over character
trigrams with locality-sensitive banding (Indyk and Motwani 1998), then the Jaccard similarity of
the trigram sets themselves. What is compared is folded: NFKC, no case, letters, marks and digits
only, and of a long text its beginning.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.int64]
Band = NDArray[np.uint32]  # [rows]
Bands = NDArray[np.uint32]  # [BANDS, rows]
Pairs = NDArray[np.int64]  # [pairs, 2]
Rows = NDArray[np.int64]
Chunks = Iterable[tuple[Rows, Band]]

THRESHOLD = 0.7  # a Chinese sentence of 20 characters with one of them exchanged has 0.74
COMPARED_CHARACTERS = 2000  # more than an encoder of 512 tokens reads
# A pair at similarity s shares a band with probability 1 - (1 - s**5)**24: 0.988 at 0.7.
BANDS, BAND_ROWS = 24, 5
TAKEN_FROM_A_BUCKET = 4
PARTNERS = 4
SEED = 20230823
_START_A, _END_A, _START_B, _END_B = "\x01\x02\x03\x04"
_ASTRAL = 0x10000
_ROW_BITS = 32
_ROW_MASK = (1 << _ROW_BITS) - 1


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows that share a key and differ in something else: how many keys, how many rows.

    `pairs` int64 [keys, 2]: for each key its first row and the first that differs from it.
    """

    keys: int
    rows: int
    pairs: Pairs


def differing(keys: Hashes, others: Hashes) -> Groups:
    """The keys whose rows do not all have the same `others`; rows are places in both arrays."""
    rows = np.arange(len(keys))
    order = np.argsort(keys, kind="stable")
    sorted_keys, sorted_others = keys[order], others[order]
    starts = np.flatnonzero(np.r_[True, sorted_keys[1:] != sorted_keys[:-1]][: len(keys)])
    sizes = np.diff(np.r_[starts, len(keys)])
    unlike_first = sorted_others != np.repeat(sorted_others[starts], sizes)
    # the first row of a key that differs is the smallest place among those that do
    places = np.where(unlike_first, rows, len(keys))
    first_unlike = np.minimum.reduceat(places, starts) if len(keys) else starts
    found = first_unlike < len(keys)
    pairs = np.stack([order[starts[found]], order[first_unlike[found]]], axis=1)
    return Groups(int(found.sum()), int(sizes[found].sum()), pairs[np.argsort(pairs[:, 0])])


def repeats(keys: Hashes) -> Pairs:
    """int64 [repeats, 2]: each row whose key an earlier row has, and the first such row."""
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    earliest = first[group]
    later = np.flatnonzero(earliest != np.arange(len(keys)))
    return np.stack([later, earliest[later]], axis=1)


def fold(key: str) -> str:
    """What is compared of a text, from its key (see text_key); all of it when nothing is left."""
    text, kept = _cut(key), _kept()
    return "".join(c for c in text if c > "\uffff" or kept[ord(c)]) or text


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of the trigram sets of two folded texts, 0 to 1."""
    first, second = _trigrams(a), _trigrams(b)
    return len(first & second) / len(first | second)


def bands(first: Sequence[str], second: Sequence[str | None]) -> Bands:
    """The LSH bands of a window of rows, uint32 [BANDS, rows]."""
    if not first:
        return np.empty((BANDS, 0), np.uint32)
    marked = [
        f"{_START_A}{_cut(a)}{_END_A}" + (f"{_START_B}{_cut(b)}{_END_B}" if b else "")
        for a, b in zip(first, second, strict=True)
    ]
    hashes, starts = _hashed_trigrams(marked)
    factors, offsets = _permutations()
    out = np.empty((BANDS, len(first)), np.uint32)
    smallest = np.empty(len(first), np.uint32)
    permuted = np.empty_like(hashes)
    for band in range(BANDS):
        mixed = np.zeros(len(first), np.uint32)
        for row in range(band * BAND_ROWS, (band + 1) * BAND_ROWS):
            np.multiply(hashes, factors[row], out=permuted)
            permuted += offsets[row]
            np.minimum.reduceat(permuted, starts, out=smallest)
            mixed = (mixed ^ smallest) * np.uint32(0x9E3779B1)
            mixed ^= mixed >> np.uint32(15)
        out[band] = mixed
    return out


def candidates(asked: Rows, asked_bands: Iterable[Band], among: Iterable[Chunks]) -> Pairs:
    """Pairs (row asked, row among the others) that share a band, at most PARTNERS a row asked.

    Both bands come one after the other, those of the others in chunks of (rows, band), whose rows
    rise. Partners that share most bands come first. Of a bucket only a few rows are looked at:
    where a thousand rows are alike, any of them will do. No row is its own partner.
    """
    pairs, shared = np.empty(0, np.int64), np.empty(0, np.int8)
    for mine, theirs in zip(asked_bands, among, strict=True):  # merged at once: most pairs recur
        found = _in_same_bucket(mine, theirs)
        found = found[found & _ROW_MASK != asked[found >> _ROW_BITS]]
        merged, at = np.unique(np.r_[pairs, found], return_inverse=True)
        shared = np.bincount(at, np.r_[shared, np.ones(len(found), np.int8)]).astype(np.int8)
        pairs = merged
    places, partners = pairs >> _ROW_BITS, pairs & _ROW_MASK
    order = np.lexsort((partners, -shared, places))
    places, partners = places[order], partners[order]
    rank = np.arange(len(places)) - np.searchsorted(places, places)
    return np.stack([asked[places], partners], axis=1)[rank < PARTNERS]


def _in_same_bucket(asked: Band, among: Chunks) -> Hashes:
    """Place among those asked, and row among the others, in one number each."""
    values, bucket = np.unique(asked, return_inverse=True)
    full = np.zeros(len(values), np.int64)
    taken = np.full((len(values), TAKEN_FROM_A_BUCKET), -1, np.int64)
    for rows, band in among:
        at = np.minimum(np.searchsorted(values, band), len(values) - 1)
        hit = np.flatnonzero(values[at] == band)
        hit = hit[np.argsort(at[hit], kind="stable")]
        at = at[hit]
        rank = full[at] + np.arange(len(at)) - np.searchsorted(at, at)
        room = rank < TAKEN_FROM_A_BUCKET
        taken[at[room], rank[room]] = rows[hit[room]]
        np.add.at(full, at, 1)
    partners = taken[bucket]
    places, column = np.nonzero(partners >= 0)
    found: Hashes = places << _ROW_BITS | partners[places, column]
    return found


def _cut(key: str) -> str:
    return key[:COMPARED_CHARACTERS].casefold() or " "


def _trigrams(text: str) -> set[str]:
    marked = f"{_START_A}{text}{_END_A}"
    return {marked[i : i + 3] for i in range(len(marked) - 2)}


def _hashed_trigrams(marked: list[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Hashes of all trigrams, uint32 [trigrams], and where each row's begin, int64 [rows]."""
    sizes = np.fromiter(map(len, marked), np.int64, len(marked))
    starts = np.cumsum(sizes) - sizes
    points = np.frombuffer("".join(marked).encode("utf-32-le", "surrogatepass"), np.uint32)
    keep = _kept()[np.minimum(points, _ASTRAL)]
    marks = points <= ord(_END_B)
    letters = np.add.reduceat(keep, starts, dtype=np.int64)
    keep |= marks | np.repeat(letters == 0, sizes)
    counts = np.add.reduceat(keep, starts, dtype=np.int64)
    points = points[keep].astype(np.uint64)
    codes = points[:-2] | points[1:-1] << np.uint64(21) | points[2:] << np.uint64(42)
    ends = np.cumsum(counts)
    inside = np.ones(len(points), bool)
    inside[ends - 1] = inside[ends - 2] = False  # trigrams that would reach into the next row
    return _mixed(codes[inside[:-2]]), ends - counts - 2 * np.arange(len(marked))


def _mixed(codes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    # the finaliser of SplitMix64 (Steele, Lea and Flood 2014)
    codes ^= codes >> np.uint64(30)
    codes *= np.uint64(0xBF58476D1CE4E5B9)
    codes ^= codes >> np.uint64(27)
    codes *= np.uint64(0x94D049BB133111EB)
    return (codes >> np.uint64(32)).astype(np.uint32)


@cache
def _kept() -> NDArray[np.bool_]:
    """Bool [65537]: whether a character is compared; the last entry is for all beyond U+FFFF."""
    kept = [unicodedata.category(chr(c))[0] in "LMN" for c in range(_ASTRAL)]
    return np.array([*kept, True])


@cache
def _permutations() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """An odd factor and an offset for each of the BANDS * BAND_ROWS hash functions."""
    generator = np.random.default_rng(SEED)
    draws = generator.integers(0, 1 << 32, (2, BANDS * BAND_ROWS), dtype=np.uint32)
    return draws[0] | np.uint32(1), draws[1]
