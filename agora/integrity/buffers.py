"""Who shared what lately. Goes in: events (artefact, account, time) as they arrive. Comes out: close co-actions, and the events that each
artefact's buffer holds.

Two tiers. What one account alone has shared takes one row of `first`; with the second account the artefact moves to `rings`, where its
last RING events stay. Both are SlotTables: the least recently shared artefact gives way, so memory is fixed whatever the stream brings.
Within one occasion an account counts once per artefact, with its first action.
Not covered: sharers of a crowd beyond the last RING; the test then compares members with those, which is still a fair draw.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes, Mask
from agora.integrity.episodes import close_pairs
from agora.integrity.pairs import NEIGHBOURS, OCCASION_S
from agora.integrity.shared import Longs
from agora.integrity.slots import Arrays, SlotTable, reserved
from agora.text.ranges import ranges

RING: Final = 48
_EVENT = np.dtype([("account", np.uint64), ("time_s", np.int64), ("post", np.uint64)])
_ABOUT = np.dtype([("signal", np.uint8), ("exposed", np.bool_), ("author", np.uint64)])


@dataclass(frozen=True, slots=True)
class Events:
    """Actions, one row each. `author` wrote what is passed on (0 unknown), `exposed`: the account follows that author."""

    key: Hashes
    account: Hashes
    time_s: Longs
    post: Hashes
    signal: npt.NDArray[np.uint8]
    exposed: Mask
    author: Hashes

    def __len__(self) -> int:
        return len(self.key)

    def take(self, index: npt.NDArray[Any]) -> Events:
        """Rows by number or mask."""
        return Events(*(getattr(self, field.name)[index] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class CoActions:
    """Pairs of accounts that shared an artefact within the widest window. `gap_s` apart; `crowd` others did so within that window."""

    left: Hashes
    right: Hashes
    gap_s: Longs
    time_s: Longs
    crowd: Longs

    def __len__(self) -> int:
        return len(self.left)


class KeyBuffers:
    """Buffers per artefact. `touched` are the rings that changed since the last `take_touched`."""

    def __init__(self, *, num_first: int, num_rings: int, window_s: int) -> None:
        self.window_s = window_s
        self.first = SlotTable(num_first)
        self.rings = SlotTable(num_rings)
        self.one = reserved(len(self.first.key), _EVENT)  # type: ignore[arg-type]
        self.events = reserved((len(self.rings.key), RING), _EVENT)  # type: ignore[arg-type]
        self.filled = reserved(len(self.rings.key), np.int64)
        self.about = reserved(len(self.rings.key), _ABOUT)  # type: ignore[arg-type]
        self.touched = reserved(len(self.rings.key), np.bool_)
        self.clock = 0

    def add(self, new: Events) -> CoActions:
        """Take in events and return the close co-actions that they complete."""
        self.clock += 1
        keys, where = np.unique(new.key, return_inverse=True)
        ring, one = self.rings.find(keys), self.first.find(keys)
        block, event, is_new, source = self._joined(keys, where, new, ring, one)
        keep = _once_per_occasion(block, event["account"], event["time_s"])
        block, event, is_new, source = block[keep], event[keep], is_new[keep], source[keep]
        found = self._close(block, event, is_new)
        self._store(keys, ring, one, block, event, source, new)
        return found

    def take_touched(self) -> Longs:
        """Rings that changed since the last call."""
        slots = np.flatnonzero(self.touched)
        self.touched[:] = False
        return slots

    def arrays(self) -> Arrays:
        """All that must be kept to go on."""
        own = {"one": self.one, "events": self.events, "filled": self.filled, "about": self.about, "touched": self.touched}
        tables = {"first": self.first, "rings": self.rings}
        return own | {f"{name}/{part}": array for name, table in tables.items() for part, array in table.arrays().items()}

    def _joined(self, keys: Hashes, where: Longs, new: Events, ring: Longs, one: Longs) -> tuple[Any, ...]:
        """Held and new events of the keys, by key and time; held ones come before new ones of the same second."""
        in_ring, in_first = np.flatnonzero(ring >= 0), np.flatnonzero((ring < 0) & (one >= 0))
        filled = self.filled[ring[in_ring]]
        held = self.events[np.repeat(ring[in_ring], filled), ranges(0, filled)]
        fresh = np.empty(len(new), _EVENT)
        fresh["account"], fresh["time_s"], fresh["post"] = new.account, new.time_s, new.post
        block = np.concatenate((np.repeat(in_ring, filled), in_first, where))
        event = np.concatenate((held, self.one[one[in_first]], fresh))
        is_new = np.arange(len(block)) >= len(block) - len(new)
        source = np.maximum(np.arange(len(block)) - (len(block) - len(new)), -1)
        order = np.lexsort((event["account"], is_new, event["time_s"], block))
        return block[order], event[order], is_new[order], source[order]

    def _close(self, block: Longs, event: npt.NDArray[Any], is_new: Mask) -> CoActions:
        earlier, later = close_pairs(block, event["time_s"], self.window_s)
        lefts, rights, gaps, times, crowds = [], [], [], [], []
        for step in range(1, min(NEIGHBOURS, int(later.max(initial=0))) + 1):
            here = np.flatnonzero(later >= step)
            here = here[(is_new[here] | is_new[here + step]) & (event["account"][here] != event["account"][here + step])]
            one, two = event[here], event[here + step]
            lefts.append(np.minimum(one["account"], two["account"]))
            rights.append(np.maximum(one["account"], two["account"]))
            gaps.append(two["time_s"] - one["time_s"])
            times.append(two["time_s"])
            crowds.append((earlier + later)[here])
        if not lefts:
            return CoActions(*(np.empty(0, np.uint64),) * 2, *(np.empty(0, np.int64),) * 3)
        return CoActions(*(np.concatenate(parts) for parts in (lefts, rights, gaps, times, crowds)))

    def _store(self, keys: Hashes, ring: Longs, one: Longs, block: Longs, event: npt.NDArray[Any], source: Longs, new: Events) -> None:
        starts = np.searchsorted(block, np.arange(len(keys) + 1))
        lowest = np.minimum.reduceat(event["account"], starts[:-1]) if len(keys) else np.empty(0, np.uint64)
        highest = np.maximum.reduceat(event["account"], starts[:-1]) if len(keys) else np.empty(0, np.uint64)
        several = (ring >= 0) | (lowest != highest)
        alone = np.flatnonzero(~several)
        score = np.full(len(keys), self.clock, np.int64)
        slots, _ = self.first.place(keys[alone], score[alone])
        held = slots >= 0
        self.one[slots[held]] = event[starts[1:][alone[held]] - 1]
        shared = np.flatnonzero(several)
        moved = one[shared[one[shared] >= 0]]
        self.first.forget(moved[self.first.key[moved] == keys[shared[one[shared] >= 0]]])
        slots, fresh = self.rings.place(keys[shared], score[shared])
        shared, fresh, slots = shared[slots >= 0], fresh[slots >= 0], slots[slots >= 0]
        size = starts[shared + 1] - starts[shared]
        kept = np.minimum(size, RING)
        self.events[np.repeat(slots, kept), ranges(0, kept)] = event[ranges(starts[shared + 1] - kept, kept)]
        self.filled[slots] = kept
        self.touched[slots] = True
        self._describe(slots[fresh], new, np.unique(new.key, return_index=True)[1][shared[fresh]])

    def _describe(self, slots: Longs, new: Events, row: Longs) -> None:
        self.about["signal"][slots] = new.signal[row]
        self.about["exposed"][slots] = new.exposed[row]
        self.about["author"][slots] = new.author[row]


def _once_per_occasion(block: Longs, account: Hashes, time_s: Longs) -> Mask:
    """Which events stay, of events ordered by block and time: none that follows another of its account within an occasion's length."""
    order = np.lexsort((time_s, account, block))
    same = (np.diff(block[order]) == 0) & (account[order][1:] == account[order][:-1]) & (np.diff(time_s[order]) < OCCASION_S)
    keep = np.ones(len(block), np.bool_)
    keep[order[1:][same]] = False
    return keep
