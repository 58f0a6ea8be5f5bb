"""Which page of the cache holds what. Goes in: tokens of sequences. Comes out: page numbers; keys and values themselves are the network's.

A page holds PAGE_TOKENS positions. A full page is known by its tokens and all before them, so that a sequence which begins the same
(system prompt, earlier turns) takes it instead of computing it again. Known pages that nobody uses are kept until room is needed, the
longest unused first. Tokens themselves are compared, not hashes: no other text can be taken for them.

At any time every page is in one of three states, and `check` says so: free + idle + used = total.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

PAGE_TOKENS: Final = 16
ROOT: Final = 0
"""The node before the first token."""


def num_pages_for(num_tokens: int) -> int:
    """Pages that hold so many positions."""
    return -(-num_tokens // PAGE_TOKENS)


class PagePool:
    """Pages 0 to `total` - 1. One thread uses it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = list(range(total - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()  # known, used by nobody; longest unused first
        self._uses = [0] * total
        # A beginning of a text is a node. Nodes are never numbered twice, so one whose page is gone leads nowhere.
        self._known: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}  # (node before, tokens) -> (page, node)
        self._key_of: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._last_node = ROOT

    @property
    def num_free(self) -> int:
        """Pages that `take` can give."""
        return len(self._free) + len(self._idle)

    @property
    def num_used(self) -> int:
        """Pages that some sequence holds."""
        return sum(uses > 0 for uses in self._uses)

    def take(self) -> int | None:
        """A page with nothing in it, or None when all are used."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._known[self._key_of.pop(page)]
        else:
            return None
        self._uses[page] = 1
        return page

    def find(self, node: int, tokens: Sequence[int]) -> tuple[int, int] | None:
        """The known page with `tokens` after `node`, now used once more, and the node after it."""
        found = self._known.get((node, tuple(tokens)))
        if found is not None:
            page = found[0]
            self._idle.pop(page, None)
            self._uses[page] += 1
        return found

    def publish(self, page: int, node: int, tokens: Sequence[int]) -> int:
        """Make known that `page` holds `tokens` after `node`; returns the node after them. A second page of the same stays unknown."""
        key = (node, tuple(tokens))
        if key not in self._known:
            self._last_node += 1
            self._known[key] = (page, self._last_node)
            self._key_of[page] = key
        return self._known[key][1]

    def release(self, pages: Iterable[int]) -> None:
        """Give back one use of each page. The last of a text go first when room is needed."""
        for page in reversed(list(pages)):
            self._uses[page] -= 1
            if self._uses[page] == 0 and page in self._key_of:
                self._idle[page] = None
            elif self._uses[page] == 0:
                self._free.append(page)

    def forget(self) -> None:
        """Know no page any more: what they hold cannot be trusted."""
        self._free.extend(self._idle)
        self._idle.clear()
        self._known.clear()
        self._key_of.clear()

    def check(self, held: Iterable[Sequence[int]] = ()) -> None:
        """Assert that pages free + idle + used = total, and that sequences hold exactly what is used (`held`: pages of each)."""
        counts = [0] * self.total
        for pages in held:
            for page in pages:
                counts[page] += 1
        used = [page for page in range(self.total) if self._uses[page]]
        assert counts == self._uses, "pages in use differ from what the sequences hold"
        assert sorted([*self._free, *self._idle, *used]) == list(range(self.total)), "a page is lost or in two places"
        assert {page for page, _ in self._known.values()} == set(self._key_of), "known pages and their keys differ"
