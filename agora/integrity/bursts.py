"""Do members share what hardly anybody else shares, at nearly the same time, again and again? Goes in: GroupEpisodes of the half of the
posts that did not serve to find the groups. Comes out: how many occasions were bursts, and whether organic groups do as much.

An artefact that only members share leaves the timing test nothing to compare with. Here one occasion (an hour) counts as a burst when its
most shared artefact was shared by at least MIN_MEMBERS members and MIN_SHARE of the group (a few of a thousand members share something in
every hour, which tells nothing of the group), who are at least EXCLUSIVE of all its sharers, and at least TIGHT of their
pairs lie within the window. In windows above EPISODE_WINDOW_S the artefact's whole life is looked at, not one episode: a phrase
that everybody uses now and then is no burst. A link is another matter: campaigns push one for weeks (`Signal.recurs`).

Where surges of words are the artefacts (agora/integrity/surges.py), a burst must also be hard to get by drawing sharers at random from all
who take part in surges (binomial tail below MAX_CHANCE): a large group of busy accounts is most of any crowd.

Null: the group has at most the rate of bursts that organic groups have (`Signal.organic_bursts`: the highest seen in fandoms, language
communities and news crowds, see benchmarks/integrity_organic.py); occasions are independent. p is the upper binomial tail.
Not covered: groups that share everything with the public at large, and campaigns of two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import binom

from agora.integrity.episodes import Mask
from agora.integrity.pairs import OCCASION_S
from agora.integrity.shared import Longs
from agora.integrity.signals import Signal
from agora.integrity.timing import Floats, GroupEpisodes

MIN_MEMBERS: Final = 3
MIN_SHARE: Final = 0.02
EXCLUSIVE: Final = 0.75
TIGHT: Final = 0.5
MAX_CHANCE: Final = 0.01
EPISODE_WINDOW_S: Final = 600
EPISODE_GAP_S: Final = 21_600.0


def gap_s(window_s: int, signal: Signal) -> float:
    """Silence after which a new episode of an artefact begins."""
    return EPISODE_GAP_S if signal.recurs or window_s <= EPISODE_WINDOW_S else float("inf")


def is_burst(found: GroupEpisodes) -> Mask:
    """Which group episodes are bursts."""
    by_chance = binom.sf(found.members - 1, found.size, found.share)
    return np.asarray(is_tight(found) & (found.members >= EXCLUSIVE * found.size) & (by_chance <= MAX_CHANCE))


def is_tight(found: GroupEpisodes) -> Mask:
    """Enough members, and enough of their pairs within the window, whoever else took part."""
    pairs = found.members * (found.members - 1) / 2
    return np.asarray((found.members >= MIN_MEMBERS) & (found.close >= TIGHT * pairs))


def occasions(found: GroupEpisodes, min_members: int | npt.NDArray[Any]) -> Longs:
    """Of each group and hour the row with most members (then fewest outsiders): what happens within an hour is one coincidence. At least
    `min_members`, one number or one per row.

    The choice looks at who shared, never at how close in time, so it does not favour bursts.
    """
    rows = np.flatnonzero(found.members >= min_members)
    hour = found.start_s[rows] // OCCASION_S
    order = np.lexsort((found.episode[rows], found.size[rows], -found.members[rows], hour, found.group[rows]))
    rows, hour = rows[order], hour[order]
    group = found.group[rows]
    first: Longs = rows[np.append(True, (np.diff(group) != 0) | (np.diff(hour) != 0))[: len(rows)]]
    return first


@dataclass(frozen=True, slots=True)
class BurstCounts:
    """Per group (index = its number): occasions, those that were bursts, and the p-value (1 where there is too little to say)."""

    occasions: npt.NDArray[Any]
    bursts: npt.NDArray[Any]
    p_value: Floats


def burst_counts(found: GroupEpisodes, sizes: npt.NDArray[Any], organic_rate: float) -> BurstCounts:
    """Test every group, of so many accounts (`sizes`, by number), against `organic_rate`."""
    num_groups = len(sizes)
    rows = occasions(found, np.maximum(MIN_MEMBERS, MIN_SHARE * sizes)[found.group])
    total = np.bincount(found.group[rows], minlength=num_groups)
    bursts = np.bincount(found.group[rows[is_burst(found)[rows]]], minlength=num_groups)
    return BurstCounts(total, bursts, np.where(total > 0, binom.sf(bursts - 1, total, organic_rate), 1.0))
