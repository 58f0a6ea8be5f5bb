"""What the buffers say about tracked groups. Goes in: rings that changed, and who belongs to which group since when. Comes out: Rows, one
per group and episode of an artefact, and how close the sharers of other artefacts are (the comparison for bursts).

Times are compared by the batch scan's own functions: `episodes` and `group_episodes`. A member counts only in episodes that began
after it had joined its group: what made us track a group is never counted as evidence against it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.buffers import KeyBuffers
from agora.integrity.candidates import OCCASION_S
from agora.integrity.episodes import Episodes, close_pairs, episodes
from agora.integrity.shared import Longs, Shares
from agora.integrity.signals import signals
from agora.integrity.slots import Arrays, reserved
from agora.integrity.timing import episode_pairs, group_episodes

GAP_S: Final = 21_600
"""Nobody shares an artefact for so long: its episode is over."""
MIN_COMPARED: Final = 99
"""Artefacts that a burst is compared with at least: fewer cannot give a p-value of 1%."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """What one group did in one episode. `members` of the `size` sharers are in the group; `close`, `mean`, `variance` as in timing.py.

    p_fast    share of other artefacts whose sharers were as close together; 1 where outsiders shared it too
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
    p_fast: float
    accounts: tuple[int, ...]
    posts: tuple[int, ...]

    @property
    def occasion(self) -> int:
        """The hour in which it began."""
        return self.start_s // OCCASION_S


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


class Closeness:
    """For each ring the share of pairs of its sharers that are close, the comparison for bursts; NaN where fewer than three shared it."""

    def __init__(self, num_rings: int, windows_s: tuple[int, ...]) -> None:
        self.windows_s = windows_s
        self.share = reserved((len(windows_s), num_rings), np.float32)
        self.share[:] = np.nan

    def update(self, buffers: KeyBuffers, slots: Longs) -> None:
        """Work it out again for rings that changed."""
        self.share[:, slots] = np.nan
        busy = slots[buffers.filled[slots] >= 3]
        if not len(busy):
            return
        block, event = _flat(buffers, busy)
        count = np.bincount(block).astype(np.float64)
        for number, window_s in enumerate(self.windows_s):
            _, later = close_pairs(block, event["time_s"], window_s)
            self.share[number, busy] = np.bincount(block, weights=later) / (count * (count - 1) / 2)

    def compared(self, buffers: KeyBuffers, number: int, roll: Roll, signal: int) -> npt.NDArray[np.float64]:
        """Closeness of all artefacts of a signal that tracked groups do not dominate, in order; of all signals where one has too few."""
        known = np.flatnonzero(~np.isnan(self.share[number]))
        place = np.arange(buffers.events.shape[1])
        valid = place < buffers.filled[known][:, None]
        tracked = np.isin(buffers.events["account"][known], roll.account) & valid
        known = known[2 * tracked.sum(axis=1) < valid.sum(axis=1)]
        same = known[buffers.about["signal"][known] == signal]
        return np.sort(self.share[number, same if len(same) >= MIN_COMPARED else known].astype(np.float64))

    def arrays(self) -> Arrays:
        """All that must be kept to go on."""
        return {"share": self.share}


def rows_of(buffers: KeyBuffers, slots: Longs, roll: Roll, closeness: Closeness, number: int) -> list[tuple[int, Row]]:
    """Rows of all groups in the rings `slots` for window `number`, with the group's number."""
    window_s = closeness.windows_s[number]
    if not len(slots) or not len(roll.account):
        return []
    block, event = _flat(buffers, slots)
    group, _ = roll.find(event["account"])
    shared = np.bincount(block, weights=group >= 0, minlength=len(slots)) >= 2
    found: list[tuple[int, Row]] = []
    for signal in np.unique(buffers.about["signal"][slots[shared]]).tolist():
        mine = shared & (buffers.about["signal"][slots] == signal)
        comparison: list[npt.NDArray[np.float64]] = []
        found += _rows(buffers, slots, block, event, mine, roll, closeness, number, window_s, signal, comparison)
    return found


def _rows(
    buffers: KeyBuffers, slots: Longs, block: Longs, event: npt.NDArray[Any], mine: npt.NDArray[np.bool_], roll: Roll,
    closeness: Closeness, number: int, window_s: int, signal: int, comparison: list[npt.NDArray[np.float64]],
) -> list[tuple[int, Row]]:  # fmt: skip
    index = np.flatnonzero(mine[block])
    accounts, code = np.unique(event["account"][index], return_inverse=True)
    shares = Shares(
        signal=signals()[signal], artefact=block[index].astype(np.int32), account=code.astype(np.int32), time_s=event["time_s"][index],
        post=index, half=np.zeros(len(index), np.uint8), key=buffers.rings.key[slots],
    )  # fmt: skip
    bursts = episodes(shares, np.ones(len(index), np.bool_), GAP_S)
    if not len(bursts):
        return []
    group, since = roll.find(accounts[bursts.account])
    ends = np.append(np.flatnonzero(np.diff(bursts.episode)), len(bursts) - 1)
    begins = np.append(0, ends[:-1] + 1)
    group = np.where(since >= bursts.time_s[begins][bursts.episode], np.int32(-1), group)
    # one code per account and episode, so that an account may count in one episode and not in another
    alone = Episodes(bursts.signal, bursts.episode, np.arange(len(bursts), dtype=np.int32), bursts.time_s, bursts.post, bursts.size, bursts.artefact)  # fmt: skip
    stats = group_episodes(alone, episode_pairs(alone, window_s), group, window_s)
    result = []
    for row in np.flatnonzero(stats.members >= 2).tolist():
        episode, number_of_group = int(stats.episode[row]), int(stats.group[row])
        inside = np.arange(begins[episode], ends[episode] + 1)
        inside = inside[group[inside] == number_of_group]
        earlier, later = close_pairs(np.zeros(len(inside), np.int64), bursts.time_s[inside], window_s)
        close = inside[earlier + later > 0]
        slot = slots[bursts.artefact[episode]]
        m, n = int(stats.members[row]), int(stats.size[row])
        p_fast = 1.0
        if m >= 3 and 4 * m >= 3 * n:
            if not comparison:
                comparison.append(closeness.compared(buffers, number, roll, signal))
            above = len(comparison[0]) - int(np.searchsorted(comparison[0], stats.close[row] / (m * (m - 1) / 2) - 1e-6))
            p_fast = (1 + above) / (1 + len(comparison[0]))
        about = buffers.about[slot]
        result.append((
            number_of_group,
            Row(
                key=int(buffers.rings.key[slot]), signal=signal, exposed=bool(about["exposed"]), author=int(about["author"]),
                start_s=int(bursts.time_s[begins[episode]]), end_s=int(bursts.time_s[ends[episode]]), members=m, size=n,
                close=int(stats.close[row]), mean=float(stats.mean[row]), variance=float(stats.variance[row]), p_fast=p_fast,
                accounts=tuple(accounts[bursts.account[close]].tolist()), posts=tuple(event["post"][bursts.post[close]].tolist()),
            ),
        ))  # fmt: skip
    return result


def _flat(buffers: KeyBuffers, slots: Longs) -> tuple[Longs, npt.NDArray[Any]]:
    """Events of rings one after another, and which ring each belongs to (its place in `slots`)."""
    filled = buffers.filled[slots]
    place = np.arange(filled.sum()) - np.repeat(np.cumsum(filled) - filled, filled)
    return np.repeat(np.arange(len(slots)), filled), buffers.events[np.repeat(slots, filled), place]
