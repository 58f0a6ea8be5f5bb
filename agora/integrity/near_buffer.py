"""Near-duplicate texts of a stream. Goes in: band keys of posts. Comes out: one key per post, equal for texts that are nearly the same.

Within a batch texts are joined as the batch scan joins them (shared.py). A joined set whose posts share at least two bands with one
earlier set, as far as bands are remembered, takes over that set's key. Bands stand in a SlotTable: work and memory are fixed.
"""

from __future__ import annotations

import numpy as np

from agora.integrity.batch import Hashes
from agora.integrity.shared import MIN_EQUAL_BANDS, Longs, joined_by_bands
from agora.integrity.slots import Arrays, SlotTable, nonzero, reserved


class NearTexts:
    """Which set each of the last `num_bands` bands belongs to."""

    def __init__(self, num_bands: int) -> None:
        self.bands = SlotTable(num_bands)
        self.root = reserved(len(self.bands.key), np.uint64)

    def roots(self, rows: Longs, keys: Hashes, num_posts: int, arrival: int) -> tuple[Longs, Hashes]:
        """`rows` and `keys` name the bands of posts, equally many each. Returns the posts that have bands, and the key of each."""
        if not len(rows):
            return rows, keys
        keys = nonzero(keys)
        posts = np.unique(rows)
        bands = keys.reshape(len(posts), -1)
        _, joined = joined_by_bands(posts, bands)
        slots = self.bands.find(keys)
        earlier = np.where(slots >= 0, self.root[slots], np.uint64(0)).reshape(bands.shape)
        earlier.sort(axis=1)
        votes = (earlier[:, 1:] == earlier[:, : 1 - MIN_EQUAL_BANDS]) & (earlier[:, 1:] != 0)
        known = votes.any(axis=1)
        root = np.where(known, earlier[np.arange(len(posts)), votes.argmax(axis=1) + 1], np.uint64(0))
        sets, where = np.unique(joined, return_inverse=True)
        smallest = np.full(len(sets), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(smallest, where[known], root[known])
        final = np.where(smallest == np.iinfo(np.uint64).max, sets, smallest)[where]
        each, first = np.unique(keys, return_index=True)
        place, _ = self.bands.place(each, np.full(len(each), arrival, np.int64))
        held = place >= 0
        self.root[place[held]] = final[first[held] // bands.shape[1]]
        return posts, final

    def arrays(self) -> Arrays:
        """All that must be kept to go on."""
        return {"root": self.root} | {f"bands/{name}": array for name, array in self.bands.arrays().items()}
