"""Groups worth testing. Goes in: Episodes of half A. Comes out: disjoint groups of accounts that often act close together.

Nothing here decides: a group may be a fandom. Two accounts are joined when they shared artefacts within the window on at least
`MIN_OCCASIONS` occasions; the fewer others acted at the same time, the more an occasion counts. Communities: Leiden (Traag, Waltman,
van Eck, 2019) with modularity.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from typing import Any, Final

import igraph
import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.episodes import Episodes, close_pairs
from agora.integrity.shared import Ints, Longs

MIN_SIZE: Final = 4
MIN_OCCASIONS: Final = 2
NEIGHBOURS: Final = 24
"""Later events that each event is paired with at most: a crowd within a minute says nothing about its pairs."""
OCCASION_S: Final = 3600
_SLOT_BITS: Final = 22

_IGRAPH: Final = threading.Lock()
"""igraph has one generator for the whole process."""


def candidate_groups(halves: Sequence[Episodes], window_s: float, num_accounts: int, *, seed: int) -> list[Ints]:
    """Groups of at least MIN_SIZE accounts, largest first."""
    left, right, weight = _edges(halves, window_s, num_accounts)
    if not len(left):
        return []
    return [group.astype(np.int32) for group in communities(left, right, weight, seed=seed)]


def communities(left: Hashes | Longs, right: Hashes | Longs, weight: np.ndarray, *, seed: int) -> list[npt.NDArray[Any]]:
    """Communities of at least MIN_SIZE nodes of a weighted graph, largest first. Nodes are any integers."""
    nodes, ends = np.unique(np.concatenate((left, right)), return_inverse=True)
    graph = igraph.Graph(n=len(nodes), edges=np.stack((ends[: len(left)], ends[len(left) :]), axis=1))
    with _IGRAPH:
        igraph.set_random_number_generator(random.Random(seed))
        found = graph.community_leiden(objective_function="modularity", weights=weight.tolist(), n_iterations=4)
    member = np.asarray(found.membership)
    order = np.argsort(member, kind="stable")
    groups = np.split(nodes[order], np.flatnonzero(np.diff(member[order])) + 1)
    return sorted((group for group in groups if len(group) >= MIN_SIZE), key=lambda group: (-len(group), group.tolist()))


def _edges(halves: Sequence[Episodes], window_s: float, num_accounts: int) -> tuple[Longs, Longs, np.ndarray]:
    """Pairs of accounts with enough occasions: left < right, and weight."""
    pairs, weights, occasions = [], [], []
    for half in halves:
        if not len(half):
            continue
        earlier, later = close_pairs(half.episode, half.time_s, window_s)
        weight = (1.0 / np.log2(2.0 + np.maximum(earlier + later - 1, 0))).astype(np.float32)
        hour = (half.time_s // OCCASION_S).astype(np.int32)
        for step in range(1, min(NEIGHBOURS, int(later.max(initial=0))) + 1):
            first = np.flatnonzero(later >= step)
            one, two = half.account[first].astype(np.int64), half.account[first + step].astype(np.int64)
            pairs.append(np.minimum(one, two) * num_accounts + np.maximum(one, two))
            weights.append(weight[first])
            occasions.append(hour[first])
    if not pairs:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    pair = np.concatenate(pairs)
    pairs.clear()
    again = _maybe_again(pair)
    pair, weight, occasion = pair[again], np.concatenate(weights)[again].astype(np.float64), np.concatenate(occasions)[again]
    weights.clear()
    occasions.clear()
    if not len(pair):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    order = np.lexsort((-weight, occasion, pair))
    pair, weight, occasion = pair[order], weight[order], occasion[order]
    once = np.append(True, (np.diff(pair) != 0) | (np.diff(occasion) != 0))  # an occasion counts once, with its best artefact
    pair, weight = pair[once], weight[once]
    starts = np.flatnonzero(np.diff(pair, prepend=-1))
    count = np.diff(np.append(starts, len(pair)))
    total = np.add.reduceat(weight, starts)
    enough = count >= MIN_OCCASIONS
    pair = pair[starts][enough]
    return pair // num_accounts, pair % num_accounts, total[enough]


def _maybe_again(pair: Longs) -> np.ndarray:
    """Where a pair may stand MIN_OCCASIONS times or more: most stand once, and need not be sorted. Some of those that collide stay."""
    slot = (pair.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(64 - _SLOT_BITS)).astype(np.int64)
    return np.flatnonzero(np.bincount(slot, minlength=1 << _SLOT_BITS)[slot] >= MIN_OCCASIONS)
