"""Bursts of attention to one artefact. Goes in: Shares. Comes out: Episodes, the unit within which times are compared.

An episode ends where nobody shares the artefact for `gap_s`. Each account counts once in it, with its first post. Where the follow
graph is known, followers of the artefact's author and others are apart: who sees a post at once, shares it at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.integrity.shared import Ints, Longs, Shares
from agora.integrity.signals import Signal

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Episodes:
    """Events ordered by episode and time; every episode has at least two accounts, each once.

    episode   number of the episode of each event, from 0 without gaps
    size      events (= accounts) of each episode
    artefact  artefact of each episode
    """

    signal: Signal
    episode: Ints
    account: Ints
    time_s: Longs
    post: Ints
    size: Longs
    artefact: Ints

    def __len__(self) -> int:
        return len(self.episode)


def episodes(shares: Shares, where: Mask, gap_s: float, exposed: npt.NDArray[Any] | None = None, *, block_s: int | None = None) -> Episodes:
    """Episodes of the posts in `where`. `exposed` tells for each share whether its author follows the artefact's author.
    `block_s` also ends an episode at each multiple of so many seconds."""
    index = np.flatnonzero(where)
    artefact, account, time_s = shares.artefact[index], shares.account[index], shares.time_s[index]
    if exposed is not None:
        stratum = artefact.astype(np.int64) * 2 + exposed[index]
        order = np.lexsort((account, time_s, stratum))
        index, artefact, account, time_s, stratum = index[order], artefact[order], account[order], time_s[order], stratum[order]
    else:
        stratum = artefact.astype(np.int64)
    new = np.append(True, (np.diff(stratum) != 0) | (np.diff(time_s) > gap_s))[: len(index)]
    if block_s is not None:
        new |= np.append(True, np.diff(time_s // block_s) != 0)[: len(index)]
    number = np.cumsum(new) - 1
    first = _first_of_each(number, account)
    index, number = index[first], number[first]
    size = np.bincount(number)
    keep = size[number] >= 2
    index, number = index[keep], number[keep]
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    number = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(number))))
    return Episodes(
        signal=shares.signal, episode=number.astype(np.int32), account=shares.account[index], time_s=shares.time_s[index],
        post=shares.post[index], size=np.diff(np.append(starts, len(number))), artefact=shares.artefact[index[starts]],
    )  # fmt: skip


def _first_of_each(number: Longs, account: Ints) -> Longs:
    """Positions of the first event of each pair of episode and account, in order."""
    pair = number * (int(account.max(initial=0)) + 1) + account
    order = np.argsort(pair, kind="stable")
    pair = pair[order]
    return np.sort(order[np.append(True, pair[1:] != pair[:-1])[: len(pair)]])


def close_pairs(block: npt.NDArray[Any], time_s: Longs, window_s: float) -> tuple[Longs, Longs]:
    """For events ordered by block and time: how many earlier and how many later ones of the block lie less than `window_s` away.

    Less, not at most: times of one-minute resolution are then close within 60 s only when they are equal.
    """
    if not len(time_s):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    span = int(time_s.max() - time_s.min()) + int(window_s) + 2
    line = np.cumsum(np.diff(block, prepend=block[:1]) != 0) * span + (time_s - time_s.min())
    here = np.arange(len(line))
    later = np.searchsorted(line, line + int(window_s), side="left") - here - 1
    earlier = here - np.searchsorted(line, line - int(window_s), side="right")
    return earlier, later


def contains(ordered: npt.NDArray[Any], values: npt.NDArray[Any]) -> Mask:
    """Which of `values` stand in the sorted `ordered`; unlike np.isin it does not sort these anew."""
    if not len(ordered):
        return np.zeros(len(values), np.bool_)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[place] == values)
