"""Several rankings made into one. Goes in: scores of post ids, each list under its name. Comes out: for every id what each list gave.

Reciprocal rank fusion: an id gets 1 / (k + rank) from each list that holds it (Cormack, Clarke, Buettcher, "Reciprocal rank fusion
outperforms Condorcet and individual rank learning methods", SIGIR 2009). Only ranks count: scores of
different kinds need no common scale. Equal scores share a rank, so that what parts them is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

K: Final = 10
"""The paper's 60 suits runs of 1,000; among the first ten of a few lists, k = 10 was better (tweet to claim, docs/log.md)."""

LIST_WEIGHTS: Final[Mapping[str, float]] = {"words": 0.5, "beginnings": 0.5, "meaning": 1.0}
"""Wording and meaning count alike: the two lists by wording share one weight."""


def place_of(name: str, part: float, *, k: float = K) -> int:
    """The place in the ranking `name` that gave a post this part of its score."""
    return round(LIST_WEIGHTS.get(name, 1.0) / part - k)


def fuse(
    rankings: Mapping[str, Mapping[str, float]], *, k: float = K, weights: Mapping[str, float] = LIST_WEIGHTS
) -> dict[str, dict[str, float]]:
    """What each ranking gives each id, best id first (equal sums: in order of appearance). The sum over rankings is the id's score.

    A ranking without a weight has weight 1.
    """
    parts: dict[str, dict[str, float]] = {}
    for name, scores in rankings.items():
        rank, before = 0, float("inf")
        for place, (one, score) in enumerate(sorted(scores.items(), key=lambda item: -item[1]), start=1):
            rank = place if score < before else rank
            before = score
            parts.setdefault(one, {})[name] = weights.get(name, 1.0) / (k + rank)
    return dict(sorted(parts.items(), key=lambda item: -sum(item[1].values())))
