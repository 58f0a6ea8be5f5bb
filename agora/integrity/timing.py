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
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import pearson3, poisson

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
    share      the group's share of all events of the signal, where its artefacts are surges; 0 elsewhere
    """

    group: Ints
    episode: Ints
    members: Longs
    size: Longs
    start_s: Longs
    close: Longs
    mean: Floats
    variance: Floats
    share: Floats


def group_episodes(events: Episodes, all_pairs: EpisodePairs, group_of: Ints, window_s: float) -> GroupEpisodes:
    """`group_of[account]` is the number of the account's group, -1 for none."""
    group = group_of[events.account]
    mine = np.flatnonzero(group >= 0)
    order = mine[np.lexsort((events.time_s[mine], events.episode[mine], group[mine]))]
    block = group[order].astype(np.int64) * len(events.size) + events.episode[order]
    _, later = close_pairs(block, events.time_s[order], window_s)
    share = np.bincount(group[mine], minlength=1) / max(len(group), 1) * events.signal.surges
    starts = np.flatnonzero(np.diff(block, prepend=-1))
    members = np.diff(np.append(starts, len(block)))
    close = np.add.reduceat(later, starts) if len(starts) else np.empty(0, np.int64)
    several = members >= 2
    starts, members, close = starts[several], members[several], close[several]
    episode = events.episode[order[starts]]
    mean, variance = _moments(members, events.size[episode], all_pairs.pairs[episode], all_pairs.adjacent[episode])
    return GroupEpisodes(
        group=group[order[starts]], episode=episode, members=members, size=events.size[episode], start_s=events.time_s[order[starts]],
        close=close, mean=mean, variance=variance,
        share=share[group[order[starts]]],
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


MIN_LIFT: Final = 2.0
"""Close pairs must be at least twice as many as expected: people of one time zone are a little closer than a random subset, too."""
_MIN_BLOCK_S, _MAX_BLOCK_S, _BLOCK_WINDOWS = 3_600, 10_800, 6


def block_s(window_s: int) -> int:
    """Sharers are compared within blocks of the clock this long. Over a whole day, people of one time zone are closer than others, as
    they are awake together; within a few windows, awake for half of them, closeness does not reach MIN_LIFT among an even crowd."""
    return max(_MIN_BLOCK_S, min(_MAX_BLOCK_S, _BLOCK_WINDOWS * window_s))


_NOT_SURE: Final = 0.1
_DRAWS: Final = (100, 900)
_REACHED: Final = 10
_MAX_CELLS: Final = 20_000_000


@dataclass(frozen=True, slots=True)
class TimingCounts:
    """Per group: occasions with information, close pairs seen and expected, p-value."""

    occasions: Longs
    observed: Floats
    expected: Floats
    p_value: Floats


def timing_counts(events: Episodes, found: GroupEpisodes, rows: Longs, num_groups: int, window_s: float, *, seed: int) -> TimingCounts:
    """Test every group on the group episodes `rows` (one per occasion). p is the tail of a Pearson III law with the exact mean and
    variance; where it is below 0.1 its skewness comes from draws of random subsets, and where at least ten draws reach X, p is their share
    (drawing stops then, as Besag and Clifford, 1991, do). Groups below MIN_LIFT cannot be confirmed, and p is not looked into."""
    rows = rows[found.variance[rows] > 0]
    group = found.group[rows]
    occasions = np.bincount(group, minlength=num_groups)
    observed = np.bincount(group, found.close[rows], minlength=num_groups)
    expected = np.bincount(group, found.mean[rows], minlength=num_groups)
    variance = np.bincount(group, found.variance[rows], minlength=num_groups)
    p_value = np.ones(num_groups)
    some = variance > 0
    z = np.zeros(num_groups)
    z[some] = (observed[some] - expected[some]) / np.sqrt(variance[some])
    p_value[some] = pearson3.sf(z[some], 1.0)
    starts = np.append(0, np.cumsum(events.size))
    lifted = observed >= MIN_LIFT * expected
    p_value[~lifted] = np.maximum(p_value[~lifted], _NOT_SURE)
    for number in np.flatnonzero(some & lifted & (p_value < _NOT_SURE)):
        rng = np.random.default_rng([seed, int(window_s), int(number)])
        drawn = np.empty(0)
        for draws in _DRAWS:
            drawn = np.append(drawn, _draw(events, starts, found, rows[group == number], window_s, draws, rng))
            if (drawn >= observed[number]).sum() >= _REACHED:
                break
        p_value[number] = _tail(drawn, observed[number], expected[number], variance[number])
    return TimingCounts(occasions, observed.astype(np.float64), expected.astype(np.float64), p_value)


def _draw(
    events: Episodes, starts: Longs, found: GroupEpisodes, rows: Longs, window_s: float, draws: int, rng: np.random.Generator
) -> Floats:
    """Close pairs of random subsets, summed over episodes; one number per draw."""
    cells = int((found.size[rows]).sum())
    draws = int(max(25, min(draws, _MAX_CELLS // max(cells, 1))))
    total = np.zeros(draws)
    for row in rows:
        episode = found.episode[row]
        time_s = events.time_s[starts[episode] : starts[episode + 1]]
        size, members = len(time_s), int(found.members[row])
        chosen = subsets(size, members, draws, rng)
        times = time_s[chosen]
        for step in range(1, members):
            close = times[:, step:] - times[:, :-step] < window_s
            if not close.any():
                break
            total += close.sum(axis=1)
    return total


def subsets(size: int, members: int, draws: int, rng: np.random.Generator) -> Longs:
    """Random subsets of range(size), one sorted row per draw, each subset equally likely."""
    if members * members > size:
        keys = rng.random((draws, size), dtype=np.float32)
        return np.asarray(np.sort(np.argpartition(keys, members - 1, axis=1)[:, :members], axis=1))
    chosen = np.sort(rng.integers(size, size=(draws, members)), axis=1)
    while len(again := np.flatnonzero((np.diff(chosen, axis=1) == 0).any(axis=1))):  # a row that names one twice is drawn anew
        chosen[again] = np.sort(rng.integers(size, size=(len(again), members)), axis=1)
    return chosen


def _tail(drawn: Floats, observed: float, expected: float, variance: float) -> float:
    reached = int((drawn >= observed).sum())
    if reached >= _REACHED:
        return (1 + reached) / (1 + len(drawn))
    deviation = (drawn - drawn.mean()) / max(float(drawn.std()), 1e-12)
    skewness = max(float((deviation**3).mean()), 1.0 / np.sqrt(expected))  # of rare events at least Poisson's; draws may have missed all
    clump = max(variance / expected, 1.0)
    rare = poisson.sf(np.ceil(observed / clump) - 1, expected / clump)  # as if close pairs came in clumps
    tail = max(float(pearson3.sf((observed - expected) / np.sqrt(variance), skewness)), float(rare))
    return min(tail, (1 + reached + 2) / (1 + len(drawn)))
