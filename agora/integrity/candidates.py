"""Groups worth testing. Goes in: pairs of accounts, from half A. Comes out: disjoint groups of accounts that often act close together.

Nothing here decides: a group may be a fandom. Two accounts are joined when they shared artefacts within the window on several occasions
(agora/integrity/pairs.py). Communities: Leiden (Traag, Waltman, van Eck, 2019) with modularity.

Modularity compares with the whole graph, so it cuts a flood that is most of the graph into pieces at random (Guimera, Sales-Pardo, Amaral,
"Modularity from fluctuations in random graphs", 2004). Pieces of one thing are nearly as dense between them as within; such are joined.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

import igraph
import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agora.integrity.batch import Hashes
from agora.integrity.pairs import Floats
from agora.integrity.shared import Ints, Longs

MIN_SIZE: Final = 4
AS_DENSE: Final = 0.2
"""Weight per pair between two groups, as a share of that within the denser. Pieces of a random graph: .25 to .40; different groups of
simulated squares: at most .16."""
_IGRAPH: Final = threading.Lock()
"""igraph has one generator for the whole process."""


def groups_of(pairs: tuple[Ints, Ints, Floats], *, seed: int) -> list[Ints]:
    """Groups of at least MIN_SIZE accounts among pairs of them, largest first."""
    return communities(*pairs, seed=seed) if len(pairs[0]) else []


def communities(left: Hashes | Ints, right: Hashes | Ints, weight: np.ndarray, *, seed: int) -> list[npt.NDArray[Any]]:
    """Communities of at least MIN_SIZE nodes of a weighted graph, largest first. Nodes are any integers."""
    nodes = np.unique(np.concatenate((left, right)))
    member = _rejoined(_leiden(nodes, left, right, weight, seed), nodes, left, right, np.asarray(weight, np.float64))
    order = np.argsort(member, kind="stable")
    groups = np.split(nodes[order], np.flatnonzero(np.diff(member[order])) + 1)
    return sorted((group for group in groups if len(group) >= MIN_SIZE), key=lambda group: (-len(group), group.tolist()))


def _leiden(nodes: npt.NDArray[Any], left: npt.NDArray[Any], right: npt.NDArray[Any], weight: np.ndarray, seed: int) -> Longs:
    """The community of each node."""
    graph = igraph.Graph(n=len(nodes), edges=np.stack((np.searchsorted(nodes, left), np.searchsorted(nodes, right)), axis=1))
    with _IGRAPH:
        igraph.set_random_number_generator(random.Random(seed))
        found = graph.community_leiden(objective_function="modularity", weights=weight, n_iterations=4)
    return np.asarray(found.membership)


def _rejoined(member: Longs, nodes: npt.NDArray[Any], left: npt.NDArray[Any], right: npt.NDArray[Any], weight: Floats) -> Longs:
    """The group of each node, groups that are pieces of one joined."""
    count = int(member.max()) + 1
    size = np.bincount(member, minlength=count).astype(np.float64)
    one, two = member[np.searchsorted(nodes, left)], member[np.searchsorted(nodes, right)]
    one, two = np.minimum(one, two), np.maximum(one, two)
    within = np.bincount(one[one == two], weight[one == two], count) / np.maximum(size * (size - 1) / 2, 1)
    pair, place = np.unique((one * count + two)[one != two], return_inverse=True)
    left, right = np.divmod(pair, count)
    between = np.bincount(place, weight[one != two], len(pair)) / (size[left] * size[right])
    is_one = (np.minimum(size[left], size[right]) >= MIN_SIZE) & (between >= AS_DENSE * np.maximum(within[left], within[right]))
    joined = coo_array((np.ones(is_one.sum(), np.bool_), (left[is_one], right[is_one])), shape=(count, count))
    return np.asarray(connected_components(joined, directed=False)[1][member], np.int64)
