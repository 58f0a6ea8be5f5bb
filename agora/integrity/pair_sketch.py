"""Pairs of accounts that keep acting close together. Goes in: CoActions. Comes out: edges of the pairs seen on several occasions.

A space-saving sketch: a fixed number of pairs is kept, a pair that was seen on more occasions outlives newer ones that were seen on
fewer. Counts fade with a half-life, so that a pair of long ago makes room. An occasion counts once per pair, with its best artefact.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.buffers import CoActions
from agora.integrity.pairs import OCCASION_S
from agora.integrity.shared import Longs
from agora.integrity.slots import Arrays, SlotTable, nonzero, reserved
from agora.text.minhash import mix

HALF_LIFE_S: Final = 14 * 86_400
BONUS_S: Final = 7 * 86_400
"""By how much one more occasion lets a pair outlive others."""


class PairSketch:
    """At most `num_pairs` pairs that were close within `window_s`."""

    def __init__(self, *, num_pairs: int, window_s: int) -> None:
        self.window_s = window_s
        self.table = SlotTable(num_pairs)
        size = len(self.table.key)
        self.ends = reserved((size, 2), np.uint64)
        self.weight = reserved(size, np.float64)
        self.count = reserved(size, np.float64)
        self.occasion = reserved(size, np.int64)
        self.risen = 0

    def add(self, found: CoActions, min_occasions: float) -> None:
        """Count pairs; `risen` grows by those that reach `min_occasions`."""
        near = np.flatnonzero(found.gap_s < self.window_s)
        if not len(near):
            return
        left, right = found.left[near], found.right[near]
        weight = 1.0 / np.log2(2.0 + np.maximum(found.crowd[near] - 1, 0))
        occasion = found.time_s[near] // OCCASION_S
        key = pair_keys(left, right)
        order = np.lexsort((-weight, occasion, key))
        first = order[np.append(True, (np.diff(key[order]) != 0) | (np.diff(occasion[order]) != 0))]
        # one occasion at a time: a batch that spans several is rare
        turn = np.arange(len(first)) - np.searchsorted(key[first], key[first])
        for number in range(int(turn.max()) + 1):
            rows = first[turn == number]
            self._count(key[rows], left[rows], right[rows], weight[rows], occasion[rows], min_occasions)

    def edges(self, min_occasions: float, limit: int) -> tuple[Hashes, Hashes, npt.NDArray[np.float64]]:
        """Pairs of at least so many occasions, at most `limit`, those of most weight first."""
        strong = np.flatnonzero((self.count >= min_occasions) & (self.table.key != 0))
        strong = strong[np.argsort(-self.weight[strong], kind="stable")[:limit]]
        return self.ends[strong, 0], self.ends[strong, 1], self.weight[strong]

    def arrays(self) -> Arrays:
        """All that must be kept to go on."""
        own = {"ends": self.ends, "weight": self.weight, "count": self.count, "occasion": self.occasion}
        return own | {f"table/{name}": array for name, array in self.table.arrays().items()}

    def _count(
        self, key: Hashes, left: Hashes, right: Hashes, weight: npt.NDArray[np.float64], occasion: Longs, min_occasions: float
    ) -> None:
        held = self.table.find(key)
        known = np.where(held >= 0, np.floor(self.count[held]).astype(np.int64), 0)
        slots, is_new = self.table.place(key, occasion * OCCASION_S + BONUS_S * known)
        fits = slots >= 0
        slots, is_new, left, right = slots[fits], is_new[fits], left[fits], right[fits]
        weight, occasion = weight[fits], occasion[fits]
        fresh = slots[is_new]
        self.ends[fresh, 0], self.ends[fresh, 1] = left[is_new], right[is_new]
        self.weight[fresh], self.count[fresh], self.occasion[fresh] = 0.0, 0.0, occasion[is_new] - 1
        later = occasion > self.occasion[slots]
        slots, weight, occasion = slots[later], weight[later], occasion[later]
        before = self.count[slots]
        fade = 0.5 ** ((occasion - self.occasion[slots]) * OCCASION_S / HALF_LIFE_S)
        self.weight[slots] = self.weight[slots] * fade + weight
        self.count[slots] = before * fade + 1.0
        self.occasion[slots] = occasion
        self.risen += int(((before < min_occasions) & (self.count[slots] >= min_occasions)).sum())


def pair_keys(left: Hashes, right: Hashes) -> Hashes:
    """One key per pair."""
    return nonzero(mix(mix(left) ^ right))
