"""Several rankings made into one. Goes in: lists of post ids, best first, each under its name. Comes out: for every id what each list gave.

Reciprocal rank fusion: an id gets 1 / (k + rank) from each list that holds it (Cormack, Clarke, Buettcher, "Reciprocal rank fusion
outperforms Condorcet and individual rank learning methods", SIGIR 2009). Only ranks count: scores of
different kinds need no common scale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

K: Final = 10
"""The paper's 60 suits runs of 1,000; among the first ten of a few lists, k = 10 was better (tweet to claim, docs/log.md)."""

LIST_WEIGHTS: Final[Mapping[str, float]] = {"words": 0.5, "beginnings": 0.5, "meaning": 1.0}
"""Wording and meaning count alike: the two lists by wording share one weight."""


def fuse(
    rankings: Mapping[str, Iterable[str]], *, k: float = K, weights: Mapping[str, float] = LIST_WEIGHTS
) -> dict[str, dict[str, float]]:
    """What each ranking gives each id, best id first (equal sums: in order of appearance). The sum over rankings is the id's score.

    A ranking without a weight has weight 1.
    """
    parts: dict[str, dict[str, float]] = {}
    for name, ids in rankings.items():
        for rank, one in enumerate(dict.fromkeys(ids), start=1):
            parts.setdefault(one, {})[name] = weights.get(name, 1.0) / (k + rank)
    return dict(sorted(parts.items(), key=lambda item: -sum(item[1].values())))
