"""Are the members of a group closer in time than other sharers of the same artefacts? Goes in: Episodes of half B and groups found
in half A. Comes out: for each group and signal how many pairs of members are close, how many were expected, and how sure that is.

Null: within each episode (one artefact's burst) the members are a random subset of its sharers. The times of all sharers stay, so
breaking news and virality explain nothing away and prove nothing. For m members among n sharers, P close pairs among them and
Q ordered pairs of close pairs with one account in common, with f(j) = m(m-1)..(m-j+1) / n(n-1)..(n-j+1), the number X of close pairs of
members has

    E[X]   = P f(2)
    E[X^2] = P f(2) + Q f(3) + (P (P - 1) - Q) f(4)

which follows from counting which 2, 3 or 4 accounts must be drawn. Not covered: an artefact that only members share says nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.integrity.episodes import Episodes, close_pairs
from agora.integrity.shared import Ints, Longs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EpisodePairs:
    """Close pairs of all episodes of one signal: pairs P, and Q as in the module's text."""

    pairs: Longs
    adjacent: Longs


def episode_pairs(events: Episodes, window_s: float) -> EpisodePairs:
    """P and Q of each episode."""
    earlier, later = close_pairs(events.episode, events.time_s, window_s)
    degree = earlier + later
    count = len(events.size)
    return EpisodePairs(
        np.bincount(events.episode, weights=later, minlength=count).astype(np.int64),
        np.bincount(events.episode, weights=degree * (degree - 1), minlength=count).astype(np.int64),
    )


@dataclass(frozen=True, slots=True)
class GroupEpisodes:
    """What groups did in episodes that at least two of their members shared; one row per group and episode, ordered by group.

    members    m, members of the group among the sharers
    close      X, close pairs of members
    mean       E[X]
    variance   Var[X]
    """

    group: Ints
    episode: Ints
    members: Longs
    size: Longs
    start_s: Longs
    close: Longs
    mean: Floats
    variance: Floats
    all_close: Longs


def group_episodes(events: Episodes, all_pairs: EpisodePairs, group_of: Ints, window_s: float) -> GroupEpisodes:
    """`group_of[account]` is the number of the account's group, -1 for none."""
    group = group_of[events.account]
    mine = np.flatnonzero(group >= 0)
    order = mine[np.lexsort((events.time_s[mine], events.episode[mine], group[mine]))]
    block = group[order].astype(np.int64) * len(events.size) + events.episode[order]
    _, later = close_pairs(block, events.time_s[order], window_s)
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    members = np.diff(np.append(starts, len(block)))
    close = np.add.reduceat(later, starts) if len(starts) else np.empty(0, np.int64)
    several = members >= 2
    starts, members, close = starts[several], members[several], close[several]
    episode = events.episode[order[starts]]
    mean, variance = _moments(members, events.size[episode], all_pairs.pairs[episode], all_pairs.adjacent[episode])
    return GroupEpisodes(
        group=group[order[starts]], episode=episode, members=members, size=events.size[episode], start_s=events.time_s[order[starts]],
        close=close, mean=mean, variance=variance, all_close=all_pairs.pairs[episode],
    )  # fmt: skip


def _moments(members: Longs, size: Longs, pairs: Longs, adjacent: Longs) -> tuple[Floats, Floats]:
    m, n = members.astype(np.float64), size.astype(np.float64)
    f2 = _ratio(m, n, 2)
    f3 = _ratio(m, n, 3)
    f4 = _ratio(m, n, 4)
    mean = pairs * f2
    square = mean + adjacent * f3 + (pairs.astype(np.float64) * (pairs - 1) - adjacent) * f4
    return mean, np.maximum(square - mean**2, 0.0)


def _ratio(m: Floats, n: Floats, count: int) -> Floats:
    result: Any = 1.0
    for step in range(count):
        result = result * np.maximum(m - step, 0) / np.maximum(n - step, 1)
    return np.asarray(result)
