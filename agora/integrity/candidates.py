"""Groups worth testing. Goes in: Episodes of half A. Comes out: disjoint groups of accounts that often act close together.

Nothing here decides: a group may be a fandom. Two accounts are joined when they shared artefacts within the window on several occasions
(agora/integrity/pairs.py). Communities: Leiden (Traag, Waltman, van Eck, 2019) with modularity.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import igraph
import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.episodes import Episodes
from agora.integrity.pairs import edges
from agora.integrity.shared import Ints, Longs

MIN_SIZE: Final = 4
_IGRAPH: Final = threading.Lock()
"""igraph has one generator for the whole process."""


def candidate_groups(halves: Sequence[Episodes], window_s: float, num_accounts: int, *, seed: int, spill: Path | None = None) -> list[Ints]:
    """Groups of at least MIN_SIZE accounts, largest first. `spill` is the folder for what does not fit into memory."""
    left, right, weight = edges(halves, window_s, num_accounts, spill=spill)
    if not len(left):
        return []
    return [group.astype(np.int32) for group in communities(left, right, weight, seed=seed)]


def communities(left: Hashes | Longs, right: Hashes | Longs, weight: np.ndarray, *, seed: int) -> list[npt.NDArray[Any]]:
    """Communities of at least MIN_SIZE nodes of a weighted graph, largest first. Nodes are any integers."""
    nodes = np.unique(np.concatenate((left, right)))
    ends = np.stack((np.searchsorted(nodes, left), np.searchsorted(nodes, right)), axis=1)
    graph = igraph.Graph(n=len(nodes), edges=ends)
    del ends
    with _IGRAPH:
        igraph.set_random_number_generator(random.Random(seed))
        found = graph.community_leiden(objective_function="modularity", weights=weight, n_iterations=4)
    member = np.asarray(found.membership)
    order = np.argsort(member, kind="stable")
    groups = np.split(nodes[order], np.flatnonzero(np.diff(member[order])) + 1)
    return sorted((group for group in groups if len(group) >= MIN_SIZE), key=lambda group: (-len(group), group.tolist()))
