"""How many voices refer to each account or post of a store. Goes in: who refers to what, batch by batch. Comes out: counts by name.

Names are compared by 64-bit hashes: memory grows by 16 bytes with each pair of a voice and what it refers to, never with texts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.integrity.voice import Voices
from agora.search.index.columns import Speakers
from agora.text.minhash import Hashes, hash_strings, mix

Counts = npt.NDArray[np.int64]


class VoiceCounts:
    """Each voice counts once for what it refers to, however many accounts it has and however often it does so."""

    def __init__(self, voices: Voices) -> None:
        accounts, campaigns = _hashed(voices.accounts), _hashed(f"\0campaign {name}" for name in voices.accounts.values())
        order = np.argsort(accounts)
        self._speakers = Speakers(accounts[order], campaigns[order])
        self._pairs: list[Hashes] = [np.empty((2, 0), np.uint64)]  # of a voice and a target, and the target
        self._num_new = 0
        self._counted: tuple[Hashes, Counts] | None = None

    def add(self, authors: pa.Array, targets: pa.Array) -> None:
        """Take in posts by `authors` that refer to `targets`, both without nulls."""
        target = hash_strings(targets)
        self._pairs.append(np.stack((mix(mix(target) ^ self._speakers.voices_of(hash_strings(authors))), target)))
        self._num_new += len(target)
        self._counted = None
        if self._num_new > self._pairs[0].shape[1]:
            self._join()

    def of(self, targets: pa.Array) -> Counts:
        """How many voices refer to each of `targets`."""
        if self._counted is None:
            self._join()
            self._counted = np.unique(self._pairs[0][1], return_counts=True)
        known, counts = self._counted
        if not len(known):
            return np.zeros(len(targets), np.int64)
        wanted = hash_strings(targets)
        places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where(known[places] == wanted, counts[places], 0)

    def of_one(self, target: str) -> int:
        """How many voices refer to `target`."""
        return int(self.of(pa.array([target], pa.string()))[0])

    def _join(self) -> None:
        """Keep each pair once."""
        pairs = np.concatenate(self._pairs, axis=1)
        _, first = np.unique(pairs[0], return_index=True)
        self._pairs, self._num_new = [pairs[:, first]], 0


def _hashed(names: Iterable[str]) -> Hashes:
    return hash_strings(pa.array(list(names), pa.string()))


__all__ = ["VoiceCounts"]
