"""What is kept in memory of each post of the index: hashes, time, kind, counts. Goes in: rows. Comes out: masks, and rows of a hash.

A row is a post's place in the index, in order of arrival. Names of accounts and posts are 64-bit keyed hashes (BLAKE2b, a key per
index): two of a hundred million names collide with probability 3e-4, and nobody can prepare names that do.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.posts.schema import KINDS, REPLY, REPOST
from agora.text.minhash import mix

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

ROW: Final = np.dtype(
    [
        ("id", "<u8"), ("author", "<u8"), ("account", "<u8"), ("ref", "<u8"), ("ref_author", "<u8"), ("at", "<i8"), ("id_end", "<i8"),
        ("likes", "<i4"), ("lang", "<u4"), ("kind", "u1"), ("flags", "u1"),
    ]
)  # fmt: skip
"""One row on disk. `account` is the author as `from:` compares it; `id_end` is where the id ends in the file of ids; 0 is no reference."""

KIND: Final = {name: number for number, name in enumerate(KINDS)}
HAS_LINKS: Final = 1
HAS_MEDIA: Final = 2
_TAIL_ROWS: Final = 65_536  # rows that are looked through one by one before the sorted order is made anew ...
_TAIL_SHARE: Final = 8  # ... or this fraction (1/8) of all rows


class Columns:
    """The rows as contiguous arrays that grow. A view taken before stays valid while rows are added."""

    def __init__(self) -> None:
        self.num_rows = 0
        self._arrays: dict[str, npt.NDArray[np.generic]] = {name: np.empty(0, ROW[name]) for name in ROW.names or ()}
        self.alive: Mask = np.empty(0, np.bool_)

    def append(self, rows: npt.NDArray[np.void]) -> None:
        """Add rows (dtype ROW), all alive."""
        first, last = self.num_rows, self.num_rows + len(rows)
        for name, array in self._arrays.items():
            self._arrays[name] = _grown(array, first, last)
            self._arrays[name][first:last] = rows[name]
        self.alive = np.asarray(_grown(self.alive, first, last), np.bool_)
        self.alive[first:last] = True
        self.num_rows = last

    def view(self) -> View:
        """The rows as they are now; deletions show through."""
        return View(self.num_rows, {name: array[: self.num_rows] for name, array in self._arrays.items()}, self.alive[: self.num_rows])


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """The first `num_rows` rows."""

    num_rows: int
    arrays: dict[str, npt.NDArray[np.generic]]
    alive: Mask

    def hashes(self, name: str) -> Hashes:
        """A column of hashes."""
        return self.arrays[name]  # type: ignore[return-value]

    def numbers(self, name: str) -> npt.NDArray[np.int64]:
        """A column of numbers."""
        return self.arrays[name]  # type: ignore[return-value]


class Lookup:
    """Rows by the hash in one column: a sorted order over most rows, the newest looked through."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._sorted: tuple[Hashes, Rows] = (np.empty(0, np.uint64), np.empty(0, np.int64))

    def rows(self, keys: Hashes, view: View) -> Rows:
        """All rows, dead ones too, whose hash is among `keys`, in order."""
        column = view.hashes(self._name)
        ordered, order = self._sorted
        if view.num_rows - len(order) > max(_TAIL_ROWS, view.num_rows // _TAIL_SHARE):
            order = np.argsort(column, kind="stable")
            ordered = column[order]
            self._sorted = (ordered, order)
        keys = np.unique(keys)
        starts, stops = np.searchsorted(ordered, keys, "left"), np.searchsorted(ordered, keys, "right")
        lengths = stops - starts
        places = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(int(lengths.sum()))
        found = order[places]
        newer = column[len(order) :]
        tail = np.flatnonzero(np.isin(newer, keys)) + len(order) if len(newer) and len(keys) else np.empty(0, np.int64)
        found = np.concatenate([found, tail])
        return np.sort(found[found < view.num_rows])


def name_hash(name: str, key: bytes) -> int:
    """64-bit hash of a name; never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=key).digest(), "little") or 1


def num_accounts(targets: Hashes, rows: Rows, view: View, kind: str) -> npt.NDArray[np.int64]:
    """How many accounts refer to each of `targets` (sorted, distinct) with a living post of this kind among `rows`."""
    rows = rows[view.alive[rows] & (view.arrays["kind"][rows] == KIND[kind])]
    ref = view.hashes("ref")[rows]
    _, first = np.unique(mix(mix(ref) ^ view.hashes("author")[rows]), return_index=True)
    found, counts = np.unique(ref[first], return_counts=True)
    if not len(found):
        return np.zeros(len(targets), np.int64)
    places = np.minimum(np.searchsorted(found, targets), len(found) - 1)
    return np.where(found[places] == targets, counts[places], 0)


class Engagement:
    """Replies and reposts of every post, each account once; worked out at the first question, then kept up to date."""

    def __init__(self, ids: Lookup, refs: Lookup) -> None:
        self._ids, self._refs = ids, refs
        self._counts: dict[str, npt.NDArray[np.int64]] | None = None

    def of(self, rows: Rows, view: View) -> dict[str, npt.NDArray[np.int64]]:
        """Counts of some rows, per kind."""
        if self._counts is not None and len(self._counts[REPLY]) >= view.num_rows:
            return {kind: counts[rows] for kind, counts in self._counts.items()}
        return self._some(view.hashes("id")[rows], view)

    def _some(self, ids: Hashes, view: View) -> dict[str, npt.NDArray[np.int64]]:
        targets, places = np.unique(ids, return_inverse=True)
        referring = self._refs.rows(targets, view)
        return {kind: num_accounts(targets, referring, view, kind)[places] for kind in (REPLY, REPOST)}

    def all(self, view: View) -> dict[str, npt.NDArray[np.int64]]:
        """Counts of every row, per kind."""
        counts = self._counts
        if counts is None or len(counts[REPLY]) < view.num_rows:
            targets, places = np.unique(view.hashes("id"), return_inverse=True)
            referring = np.flatnonzero(view.hashes("ref"))
            counts = {kind: num_accounts(targets, referring, view, kind)[places] for kind in (REPLY, REPOST)}
            self._counts = counts
        return {kind: found[: view.num_rows] for kind, found in counts.items()}

    def changed(self, rows: Rows, view: View) -> None:
        """These rows are new or were deleted: count again what they refer to, and themselves."""
        if self._counts is None:
            return
        refs = view.hashes("ref")[rows]
        targets = np.unique(np.concatenate([refs[refs != 0], view.hashes("id")[rows]]))
        places = self._ids.rows(targets, view)
        found = self._some(view.hashes("id")[places], view)
        updated = {}
        for kind, counts in self._counts.items():
            updated[kind] = np.concatenate([counts, np.zeros(view.num_rows - len(counts), np.int64)])
            updated[kind][places] = found[kind]
        self._counts = updated

    def forget(self) -> None:
        """Count anew at the next question."""
        self._counts = None


def _grown(array: npt.NDArray[np.generic], used: int, wanted: int) -> npt.NDArray[np.generic]:
    if wanted <= len(array):
        return array
    larger = np.zeros(max(wanted, 2 * len(array), 1024), array.dtype)
    larger[:used] = array[:used]
    return larger
