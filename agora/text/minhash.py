"""Near-duplicate signatures. Goes in: comparison keys. Comes out: MinHash signatures, band keys, and the exact Jaccard index
of chosen pairs over pairs of neighbouring words.

MinHash: Broder, "On the resemblance and containment of documents" (1997). Banding: two texts of Jaccard index s share a
band of r rows among b with probability 1 - (1 - s^r)^b (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", 3.4.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agora.text.quiet_daft import daft
from agora.text.ranges import ranges

SHINGLE_WORDS: Final = 2
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
"""2^64 / golden ratio: the usual odd constant of multiplicative hashing (Knuth, TAOCP 3, 6.4)."""

Hashes = npt.NDArray[np.uint64]


def hash_strings(texts: pa.Array) -> Hashes:
    """xxh3 of each text, 64 bit."""
    return np.asarray(daft.Series.from_arrow(texts).hash().to_arrow(), dtype=np.uint64)


def signatures(keys: pa.LargeStringArray, num_hashes: int, *, seed: int = 1) -> npt.NDArray[np.uint32]:
    """MinHash signatures, one row of `num_hashes` per key."""
    hashes = daft.Series.from_arrow(keys).minhash(num_hashes, SHINGLE_WORDS, seed, "xxhash3_64").to_arrow()
    return np.asarray(hashes.flatten(), dtype=np.uint32).reshape(len(keys), num_hashes)


def band_keys(signature: npt.NDArray[np.uint32], num_bands: int) -> Hashes:
    """One 64-bit key per band and row: equal signatures within a band give equal keys."""
    rows, num_hashes = signature.shape
    bands = signature.reshape(rows, num_bands, num_hashes // num_bands)
    keys = np.broadcast_to(np.arange(num_bands, dtype=np.uint64), (rows, num_bands)).copy()
    for position in range(bands.shape[2]):
        keys = mix(keys ^ bands[:, :, position])
    return keys


def mix(values: Hashes) -> Hashes:
    """Spread 64-bit values (a multiplicative step and a fold)."""
    values = values * _MULTIPLIER
    return values ^ (values >> np.uint64(29))


@dataclass(frozen=True, slots=True)
class Shingles:
    """Distinct shingles of each row, sorted: row i is `hashes[offsets[i]:offsets[i + 1]]`."""

    hashes: npt.NDArray[np.uint32]
    offsets: npt.NDArray[np.int64]


def shingles(keys: pa.LargeStringArray) -> Shingles:
    """Hashes of neighbouring words; a row of one word is that word."""
    split = pc.split_pattern(keys, " ")
    starts = np.asarray(split.offsets, dtype=np.int64)
    starts = starts - starts[0]
    words = hash_strings(split.flatten())
    if not len(words):
        return Shingles(np.empty(0, dtype=np.uint32), np.zeros(len(keys) + 1, dtype=np.int64))
    row = np.repeat(np.arange(len(keys), dtype=np.uint64), np.diff(starts))
    pairs = mix(words) ^ np.append(words[1:], np.uint64(0))
    is_last = np.zeros(len(words), dtype=np.bool_)
    is_last[starts[1:][np.diff(starts) > 0] - 1] = True
    alone = is_last & (np.append(True, is_last[:-1]))
    pairs[alone] = words[alone]
    use = ~is_last | alone
    combined = np.unique((row[use] << np.uint64(32)) | (mix(pairs[use]) >> np.uint64(32)))
    counts = np.bincount((combined >> np.uint64(32)).astype(np.int64), minlength=len(keys))
    return Shingles(combined.astype(np.uint32), np.concatenate([[0], np.cumsum(counts)]))


def jaccard(sets: Shingles, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Jaccard index of rows `left[i]` and `right[i]`: shared shingles / all shingles."""
    sizes = np.diff(sets.offsets)
    both = np.concatenate([left, right])
    counts = sizes[both]
    members = ranges(sets.offsets[both], counts)
    pair = np.repeat(np.concatenate([np.arange(len(left))] * 2).astype(np.uint64), counts)
    tagged = np.sort((pair << np.uint64(32)) | sets.hashes[members])
    shared = tagged[1:][tagged[1:] == tagged[:-1]]
    overlap = np.bincount((shared >> np.uint64(32)).astype(np.int64), minlength=len(left))
    union = sizes[left] + sizes[right] - overlap
    return np.divide(overlap, union, out=np.zeros(len(left)), where=union > 0)
