"""What the buffers say about tracked groups. Goes in: rings that changed, and who belongs to which group since when. Comes out: Rows, one
per group, window and episode of an artefact.

Everything is compared by the batch scan's own functions: `episodes`, `group_episodes` and `is_tight`. A member counts only in episodes
that began after it had joined its group: what made us track a group is never counted as evidence against it.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.buffers import KeyBuffers
from agora.integrity.bursts import EXCLUSIVE, MIN_MEMBERS, is_tight
from agora.integrity.episodes import Episodes, close_pairs, episodes
from agora.integrity.pairs import OCCASION_S
from agora.integrity.shared import Longs, Shares
from agora.integrity.signals import signals
from agora.integrity.timing import GroupEpisodes, episode_pairs, group_episodes
from agora.text.ranges import ranges

GAP_S: Final = float(OCCASION_S)
"""An episode is over after an hour of silence, earlier than in the batch scan: what lasts would else be one open episode for days. For that
a burst must be exclusive in all that the ring holds, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one group did in one episode. `members` of the `size` sharers are in the group; `close`, `mean`, `variance` as in timing.py.

    is_tight  enough members, most of them within the window (bursts.py); a burst if hardly anybody else shared it, see `bursts_for`
    others    accounts that shared it in the episode, members aside; `around` all others that the ring holds
    accounts  members that were close to another member, and their `posts`
    """

    key: int
    signal: int
    exposed: bool
    author: int
    start_s: int
    end_s: int
    members: int
    size: int
    close: int
    mean: float
    variance: float
    is_tight: bool
    others: tuple[int, ...]
    around: tuple[int, ...]
    accounts: tuple[int, ...]
    posts: tuple[int, ...]

    def bursts_for(self, group: Container[int]) -> bool:
        """Whether hardly anybody outside `group` shared it. Accounts that joined the group since then count neither for it nor against:
        with them as outsiders a group that is still being discovered would never be exclusive."""
        outside = sum(account not in group for account in self.others)
        beyond = sum(account not in group for account in self.around)
        everybody = self.members + len(self.others) + len(self.around)
        exclusive = self.members >= EXCLUSIVE * (self.members + outside)
        return self.is_tight and exclusive and everybody - outside - beyond >= EXCLUSIVE * everybody


@dataclass(frozen=True, slots=True)
class Roll:
    """Tracked accounts, sorted, each with its group and since when it belongs to it."""

    account: Hashes
    group: npt.NDArray[np.int32]
    since_s: Longs

    def find(self, accounts: Hashes) -> tuple[npt.NDArray[np.int32], Longs]:
        """Group (-1 for none) and since when, of each account."""
        if not len(self.account):
            return np.full(len(accounts), -1, np.int32), np.zeros(len(accounts), np.int64)
        place = np.minimum(np.searchsorted(self.account, accounts), len(self.account) - 1)
        known = self.account[place] == accounts
        return np.where(known, self.group[place], np.int32(-1)).astype(np.int32), np.where(known, self.since_s[place], 0)


def rows_of(buffers: KeyBuffers, slots: Longs, rolls: list[tuple[Roll, int]]) -> list[list[tuple[int, Row]]]:
    """For each roll and its window the rows of the groups in the rings `slots`, with the number of the group."""
    nothing: list[list[tuple[int, Row]]] = [[] for _ in rolls]
    block, event = _flat(buffers, slots)
    shared = np.zeros(len(slots), np.bool_)
    for roll, _ in rolls:
        group, _ = roll.find(event["account"])
        shared |= np.bincount(block, weights=group >= 0, minlength=len(slots)) >= 2
    index = np.flatnonzero(shared[block])
    if not len(index):
        return nothing
    accounts, code = np.unique(event["account"][index], return_inverse=True)
    shares = Shares(
        signal=signals()[0],  # rings of all signals at once: nothing below asks which one it is
        artefact=block[index].astype(np.int32), account=code.astype(np.int32), time_s=event["time_s"][index],
        post=index.astype(np.int32), half=np.zeros(len(index), np.uint8), key=buffers.rings.key[slots],
    )  # fmt: skip
    bursts = episodes(shares, np.ones(len(index), np.bool_), GAP_S)
    if not len(bursts):
        return nothing
    who = accounts[bursts.account]
    # one code per account and episode, so that an account may count in one episode and not in another
    alone = replace(bursts, account=np.arange(len(bursts), dtype=np.int32))
    looks = [_Look(buffers, slots, event, alone, who, roll, window_s) for roll, window_s in rolls]
    return [look.rows() for look in looks]


class _Look:
    """One window's groups in the episodes that changed."""

    def __init__(
        self, buffers: KeyBuffers, slots: Longs, event: npt.NDArray[Any], bursts: Episodes, who: Hashes, roll: Roll, window_s: int
    ) -> None:
        self.buffers, self.slots, self.event, self.bursts, self.who, self.roll = buffers, slots, event, bursts, who, roll
        self.window_s = window_s
        self.starts = np.append(0, np.cumsum(bursts.size))
        group, since = roll.find(who)
        self.group = np.where(since >= bursts.time_s[self.starts[:-1]][bursts.episode], np.int32(-1), group)

    def rows(self) -> list[tuple[int, Row]]:
        """Every group episode that one of the tests can use."""
        stats = group_episodes(self.bursts, episode_pairs(self.bursts, self.window_s), self.group, self.window_s)
        tight = is_tight(stats)
        informing = np.flatnonzero((stats.variance > 0) | (stats.members >= MIN_MEMBERS))
        return [(int(stats.group[number]), self._row(stats, number, bool(tight[number]))) for number in informing.tolist()]

    def _row(self, stats: GroupEpisodes, number: int, tight: bool) -> Row:
        bursts, episode, group = self.bursts, int(stats.episode[number]), int(stats.group[number])
        start, stop = int(self.starts[episode]), int(self.starts[episode + 1])
        inside = start + np.flatnonzero(self.group[start:stop] == group)
        near = inside[:0]
        if stats.close[number]:
            earlier, later = close_pairs(np.zeros(len(inside), np.int64), bursts.time_s[inside], self.window_s)
            near = inside[earlier + later >= np.maximum(1, (len(inside) - 1) / 2)]
        slot = int(self.slots[bursts.artefact[episode]])
        about = self.buffers.about[slot]
        others: tuple[int, ...] = ()
        around: tuple[int, ...] = ()
        if tight:  # a phrase that everybody uses now and then is no burst, so the whole ring is looked at
            inside_too = set(self.who[inside].tolist())
            others = tuple(sorted(set(self.who[start:stop].tolist()) - inside_too))
            ring = set(self.buffers.events["account"][slot, : self.buffers.filled[slot]].tolist())
            around = tuple(sorted(ring - inside_too - set(others)))
        return Row(
            key=int(self.buffers.rings.key[slot]), signal=int(about["signal"]), exposed=bool(about["exposed"]), author=int(about["author"]),
            start_s=int(bursts.time_s[start]), end_s=int(bursts.time_s[stop - 1]), members=int(stats.members[number]),
            size=int(stats.size[number]), close=int(stats.close[number]), mean=float(stats.mean[number]),
            variance=float(stats.variance[number]), is_tight=tight, others=others, around=around, accounts=tuple(self.who[near].tolist()),
            posts=tuple(self.event["post"][bursts.post[near]].tolist()),
        )  # fmt: skip


def _flat(buffers: KeyBuffers, slots: Longs) -> tuple[Longs, npt.NDArray[Any]]:
    """Events of rings one after another, and which ring each belongs to (its place in `slots`)."""
    filled = buffers.filled[slots]
    return np.repeat(np.arange(len(slots)), filled), buffers.events[np.repeat(slots, filled), ranges(0, filled)]
