"""Groups worth testing. Goes in: pairs of accounts, from half A. Comes out: disjoint groups of accounts that often act close together.

Nothing here decides: a group may be a fandom. Two accounts are joined when they shared artefacts within the window on several occasions
(agora/integrity/pairs.py). Communities: Leiden (Traag, Waltman, van Eck, 2019) with modularity.
"""

from __future__ import annotations

import random
import threading
from typing import Any, Final

import igraph
import numpy as np
import numpy.typing as npt

from agora.integrity.batch import Hashes
from agora.integrity.pairs import Floats
from agora.integrity.shared import Ints

MIN_SIZE: Final = 4
_IGRAPH: Final = threading.Lock()
"""igraph has one generator for the whole process."""


def groups_of(pairs: tuple[Ints, Ints, Floats], *, seed: int) -> list[Ints]:
    """Groups of at least MIN_SIZE accounts among pairs of them, largest first."""
    return communities(*pairs, seed=seed) if len(pairs[0]) else []


def communities(left: Hashes | Ints, right: Hashes | Ints, weight: np.ndarray, *, seed: int) -> list[npt.NDArray[Any]]:
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
