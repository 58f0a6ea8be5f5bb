"""What a search looks like when the right post is not there. Goes in: an index, queries whose right posts are known. Comes out: the signs
(confidence.py) of each query, with these posts and without them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from agora.search.confidence import Numbers
from agora.search.find import Searcher
from agora.search.index.interface import Hits, Match, PostIndex
from agora.search.query.syntax import Node
from agora.search.request import read_passage

Signs = tuple[list[Numbers], list[Numbers]]
"""Of some queries, with their right posts there and without them."""


class Without:
    """An index in which some posts are not there (what a filter by id would do, which no query has)."""

    def __init__(self, index: PostIndex) -> None:
        self._index, self.left_out = index, frozenset[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._index, name)

    def find_text(self, words: Sequence[str], where: Node | None, limit: int, *, match: Match = "any", now: datetime | None = None) -> Hits:
        """As the index finds them, without those left out."""
        return self._less(self._index.find_text(words, where, limit + len(self.left_out), match=match, now=now), limit)

    def find_near(self, vector: npt.NDArray[np.float32], where: Node | None, limit: int, *, now: datetime | None = None) -> Hits:
        """As the index finds them, without those left out."""
        return self._less(self._index.find_near(vector, where, limit + len(self.left_out), now=now), limit)

    def _less(self, hits: Hits, limit: int) -> Hits:
        kept = [place for place, one in enumerate(hits.ids) if one not in self.left_out][:limit]
        return Hits([hits.ids[place] for place in kept], hits.scores[kept])


@dataclass(frozen=True, slots=True)
class Known:
    """A query whose right posts are known."""

    text: str
    right: frozenset[str]


def signs_with_and_without(index: PostIndex, search: Callable[[PostIndex], Searcher], queries: Iterable[Known], now: datetime) -> Signs:
    """Signs of each query with its right posts there, and without them."""
    partial = Without(index)
    seeing, blind = search(index), search(partial)  # type: ignore[arg-type]
    there: list[Numbers] = []
    gone: list[Numbers] = []
    for query in queries:
        request = read_passage(query.text)
        there.append(seeing.signs(seeing.rank(request, now)))
        partial.left_out = query.right
        gone.append(blind.signs(blind.rank(request, now)))
    return there, gone


__all__ = ["Known", "Signs", "Without", "signs_with_and_without"]
