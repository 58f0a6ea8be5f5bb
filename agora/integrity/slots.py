"""Tables of a fixed size that forget what matters least. Goes in: 64-bit keys. Comes out: the slot of each, which callers use as row of
their own arrays.

Each key may stand in one of the WAYS slots of its bucket, as in a processor's cache; when all are taken, the one with the lowest score
gives way. Callers raise the score of what was used lately (least recently used) or often (as in the space-saving sketch: Metwally,
Agrawal, El Abbadi, "Efficient computation of frequent and top-k elements in data streams", 2005). All steps are vectorised.
Not covered: a bucket that one batch fills with more new keys than it has ways; what does not fit is left out and counted.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.shared import Longs
from agora.text.minhash import mix

WAYS: Final = 8
NOWHERE: Final = -1
_IN_USE: Final = np.iinfo(np.int64).max

Arrays = dict[str, npt.NDArray[Any]]


class SlotTable:
    """Keys in at most `num_slots` slots. Key 0 stands for a free slot; callers' keys pass through `nonzero`."""

    def __init__(self, num_slots: int) -> None:
        self.num_buckets = max(1, num_slots // WAYS)
        self.key = reserved(self.num_buckets * WAYS, np.uint64)
        self.score = reserved(self.num_buckets * WAYS, np.int64)
        self.evicted = 0
        self.left_out = 0

    def find(self, keys: Hashes) -> Longs:
        """The slot of each key, NOWHERE where it is not held."""
        bucket = self._buckets(keys)
        hit = self.key.reshape(-1, WAYS)[bucket] == keys[:, None]
        way = hit.argmax(axis=1)
        return np.where(hit[np.arange(len(keys)), way], bucket * WAYS + way, NOWHERE)

    def place(self, keys: Hashes, score: Longs) -> tuple[Longs, npt.NDArray[np.bool_]]:
        """Slots of distinct keys, and which of them are new: their callers' rows hold what another key left. NOWHERE where a bucket is full
        of this batch's own keys."""
        slots = self.find(keys)
        old = np.flatnonzero(slots >= 0)
        new = np.flatnonzero(slots < 0)
        self.score[slots[old]] = _IN_USE
        bucket = self._buckets(keys[new])
        order = np.lexsort((-score[new], bucket))
        new, bucket = new[order], bucket[order]
        rank = np.arange(len(new)) - np.searchsorted(bucket, bucket)
        fits = rank < WAYS
        new, bucket, rank = new[fits], bucket[fits], rank[fits]
        by_score = np.argsort(self.score.reshape(-1, WAYS)[bucket], axis=1, kind="stable")
        chosen = bucket * WAYS + by_score[np.arange(len(new)), rank]
        free = self.score[chosen] != _IN_USE
        new, chosen = new[free], chosen[free]
        self.evicted += int((self.key[chosen] != 0).sum())
        self.left_out += len(keys) - len(old) - len(new)
        self.key[chosen] = keys[new]
        slots[new] = chosen
        held = slots >= 0
        self.score[slots[held]] = score[held]
        is_new = np.zeros(len(keys), np.bool_)
        is_new[new] = True
        return slots, is_new

    def forget(self, slots: Longs) -> None:
        """Free slots."""
        self.key[slots] = 0
        self.score[slots] = 0

    def arrays(self) -> Arrays:
        """All that must be kept to go on, by name."""
        return {"key": self.key, "score": self.score}

    def _buckets(self, keys: Hashes) -> Longs:
        return (mix(keys) >> np.uint64(32)).astype(np.int64) % self.num_buckets


class NameTable(SlotTable):
    """Strings by their hash, for as long as they are used."""

    def __init__(self, num_slots: int) -> None:
        super().__init__(num_slots)
        self.names = np.full(len(self.key), "", object)

    def put(self, keys: Hashes, names: npt.NDArray[Any], score: Longs) -> None:
        """Keep distinct names."""
        slots, is_new = self.place(keys, score)
        self.names[slots[is_new]] = names[is_new]

    def get(self, keys: Hashes) -> list[str]:
        """The string of each hash, empty where it has been forgotten."""
        slots = self.find(keys)
        return [str(self.names[slot]) if slot >= 0 else "" for slot in slots.tolist()]

    def arrays(self) -> Arrays:
        """Strings as UTF-8 bytes and their lengths, so that nothing needs to be unpickled."""
        parts = [str(name).encode() for name in self.names.tolist()]
        length = np.asarray([len(part) for part in parts], np.int64)
        return super().arrays() | {"text": np.frombuffer(b"".join(parts), np.uint8), "length": length}

    def restore_names(self, text: npt.NDArray[np.uint8], length: Longs) -> None:
        """The opposite of `arrays`."""
        ends = np.cumsum(length)
        whole = text.tobytes()
        self.names[:] = [whole[end - size : end].decode() for end, size in zip(ends.tolist(), length.tolist(), strict=True)]


def nonzero(keys: Hashes) -> Hashes:
    """Keys that never are 0."""
    return np.where(keys == 0, np.uint64(1), keys)


def reserved(shape: int | tuple[int, ...], kind: type[np.generic]) -> npt.NDArray[Any]:
    """Zeros whose memory is taken at once: a table that would only fail when it fills up is no bound."""
    array = np.empty(shape, kind)
    array.fill(0)
    return array
