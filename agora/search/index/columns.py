"""What is kept in memory of each post of the index: hashes, time, kind, counts. Goes in: rows. Comes out: masks, and rows of a hash.

A row is a post's place in the index, in order of arrival. Names of accounts and posts are 64-bit keyed hashes (BLAKE2b, a key per
index): two of a hundred million names collide with probability 3e-4, and nobody can prepare names that do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.integrity.voice import Voices
from agora.posts.schema import KINDS, REPLY, REPOST
from agora.text.minhash import mix
from agora.text.ranges import ranges

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
        places = ranges(starts, lengths)
        found = order[places]
        newer = column[len(order) :]
        tail = np.flatnonzero(np.isin(newer, keys)) + len(order) if len(newer) and len(keys) else np.empty(0, np.int64)
        found = np.concatenate([found, tail])
        return np.sort(found[found < view.num_rows])


def name_hash(name: str, key: bytes) -> int:
    """64-bit hash of a name; never 0."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8, key=key).digest(), "little") or 1


@dataclass(frozen=True, slots=True, eq=False)
class Speakers:
    """Who speaks as one: hashes of labelled accounts, in order, and the hash of the voice of each. All others speak for themselves."""

    accounts: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    voices: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))

    @classmethod
    def of(cls, voices: Voices, key: bytes) -> Speakers:
        """The voices of labels, hashed."""
        pairs = sorted((name_hash(account, key), name_hash(f"\0campaign {campaign}", key)) for account, campaign in voices.accounts.items())
        return cls(np.array([one for one, _ in pairs], np.uint64), np.array([one for _, one in pairs], np.uint64))

    def voices_of(self, authors: Hashes) -> Hashes:
        """The voice of each of these authors."""
        if not len(self.accounts):
            return authors
        places = np.minimum(np.searchsorted(self.accounts, authors), len(self.accounts) - 1)
        return np.where(self.accounts[places] == authors, self.voices[places], authors)


def num_voices(targets: Hashes, rows: Rows, view: View, kind: str, speakers: Speakers) -> npt.NDArray[np.int64]:
    """How many voices refer to each of `targets` (sorted, distinct) with a living post of this kind among `rows`."""
    rows = rows[view.alive[rows] & (view.arrays["kind"][rows] == KIND[kind])]
    ref = view.hashes("ref")[rows]
    _, first = np.unique(mix(mix(ref) ^ speakers.voices_of(view.hashes("author")[rows])), return_index=True)
    found, counts = np.unique(ref[first], return_counts=True)
    if not len(found):
        return np.zeros(len(targets), np.int64)
    places = np.minimum(np.searchsorted(found, targets), len(found) - 1)
    return np.where(found[places] == targets, counts[places], 0)


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """Counts of all rows, per kind, and the speakers that they were counted for."""

    speakers: Speakers
    of: dict[str, npt.NDArray[np.int64]]

    def holds(self, speakers: Speakers, view: View) -> bool:
        """Whether they say something about all rows of the view."""
        return self.speakers is speakers and len(self.of[REPLY]) >= view.num_rows


class Engagement:
    """Replies and reposts of every post, each voice once; worked out at the first question, then kept up to date."""

    def __init__(self, ids: Lookup, refs: Lookup) -> None:
        self._ids, self._refs = ids, refs
        self._counted: _Counted | None = None
        self.speakers = Speakers()
        """Who speaks as one from now on: everything is counted anew when others do."""

    def of(self, rows: Rows, view: View) -> dict[str, npt.NDArray[np.int64]]:
        """Counts of some rows, per kind."""
        known, speakers = self._counted, self.speakers
        if known is not None and known.holds(speakers, view):
            return {kind: counts[rows] for kind, counts in known.of.items()}
        return self._some(view.hashes("id")[rows], view, speakers)

    def _some(self, ids: Hashes, view: View, speakers: Speakers) -> dict[str, npt.NDArray[np.int64]]:
        targets, places = np.unique(ids, return_inverse=True)
        referring = self._refs.rows(targets, view)
        return {kind: num_voices(targets, referring, view, kind, speakers)[places] for kind in (REPLY, REPOST)}

    def all(self, view: View) -> dict[str, npt.NDArray[np.int64]]:
        """Counts of every row, per kind."""
        known, speakers = self._counted, self.speakers
        if known is None or not known.holds(speakers, view):
            targets, places = np.unique(view.hashes("id"), return_inverse=True)
            referring = np.flatnonzero(view.hashes("ref"))
            counts = {kind: num_voices(targets, referring, view, kind, speakers)[places] for kind in (REPLY, REPOST)}
            known = self._counted = _Counted(speakers, counts)
        return {kind: found[: view.num_rows] for kind, found in known.of.items()}

    def changed(self, rows: Rows, view: View) -> None:
        """These rows are new or were deleted: count again what they refer to, and themselves."""
        known = self._counted
        if known is None:
            return
        refs = view.hashes("ref")[rows]
        targets = np.unique(np.concatenate([refs[refs != 0], view.hashes("id")[rows]]))
        places = self._ids.rows(targets, view)
        found = self._some(view.hashes("id")[places], view, known.speakers)
        updated = {}
        for kind, counts in known.of.items():
            updated[kind] = np.concatenate([counts, np.zeros(view.num_rows - len(counts), np.int64)])
            updated[kind][places] = found[kind]
        self._counted = _Counted(known.speakers, updated)


def _grown(array: npt.NDArray[np.generic], used: int, wanted: int) -> npt.NDArray[np.generic]:
    if wanted <= len(array):
        return array
    larger = np.zeros(max(wanted, 2 * len(array), 1024), array.dtype)
    larger[:used] = array[:used]
    return larger
