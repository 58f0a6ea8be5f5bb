"""Filters of a search over the embedded index. Goes in: a node. Comes out: queries that tantivy applies, and a mask over rows.

Both ways say the same where both can; which is faster depends on how many posts pass. A mask is exact for what changes after a post
has arrived: replies and reposts counted from the posts in voices, conversations, labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import numpy as np

from agora.posts.schema import REPLY, REPOST
from agora.search.index.columns import HAS_LINKS, HAS_MEDIA, KIND, Engagement, Hashes, Lookup, Mask, Rows, View, name_hash
from agora.search.index.text import TextIndex, is_stable, microseconds, rows_of
from agora.search.query import syntax
from agora.search.query.syntax import Node
from agora.text.words import account_key

_COLUMN_NODES: Final = (syntax.From, syntax.Lang, syntax.Since, syntax.Until, syntax.WithinTime, syntax.Has)
_MASK_SHARE: Final = 0.05
"""From this share of passing posts on, ranking first and looking at the mask beats tantivy's filter (docs/decisions/0005)."""
_KEPT_MASKS: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """One state of the index: what was committed, and its rows."""

    searcher: Any
    view: View
    languages: tuple[str, ...]
    masks: dict[Node, Mask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Filter:
    """What must hold: all `queries`, and the mask (which deleted posts do not pass)."""

    queries: tuple[Any, ...]
    mask: Mask


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Hashes of the labelled accounts and posts."""

    accounts: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    posts: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))


@dataclass(slots=True)
class Filters:
    """Works out filters over a snapshot."""

    text: TextIndex
    key: bytes
    ids: Lookup
    refs: Lookup
    engagement: Engagement
    labelled: LabelledRows = field(default_factory=LabelledRows)

    def for_ranking(self, where: Node | None, snapshot: Snapshot, now: datetime) -> Filter:
        """For a search by words: as a mask what many posts pass and what only a mask can say."""
        mask = snapshot.view.alive
        queries = []
        for part in _parts(where):
            if not is_stable(part):
                mask = mask & self.mask(part, snapshot, now)
            elif all(isinstance(leaf, _COLUMN_NODES) for leaf in _leaves(part)):
                passing = self.mask(part, snapshot, now)
                if np.count_nonzero(passing) >= _MASK_SHARE * len(passing):
                    mask = mask & passing
                else:
                    queries.append(self.text.query(part, now))
            else:
                queries.append(self.text.query(part, now))
        return Filter(tuple(queries), mask)

    def as_query(self, where: Node | None, now: datetime) -> Any | None:
        """The whole filter as one query, where words make that faster than a mask. None where they do not, or a mask is needed."""
        if where is None or not is_stable(where) or all(isinstance(leaf, _COLUMN_NODES) for leaf in _leaves(where)):
            return None
        return self.text.query(where, now)

    def living(self, where: Node | None, snapshot: Snapshot, now: datetime) -> Mask:
        """The posts that match, as a mask."""
        mask = snapshot.view.alive
        for part in _parts(where):
            mask = mask & self.mask(part, snapshot, now)
        return mask

    def mask(self, node: Node, snapshot: Snapshot, now: datetime) -> Mask:
        """A node as a mask; deleted posts may pass."""
        match node:
            case syntax.And(nodes):
                return np.asarray(np.logical_and.reduce([self.mask(below, snapshot, now) for below in nodes]))
            case syntax.Or(nodes) if all(isinstance(below, syntax.From) for below in nodes):
                return self._written_by([below.account for below in nodes if isinstance(below, syntax.From)], snapshot.view)
            case syntax.Or(nodes):
                return np.asarray(np.logical_or.reduce([self.mask(below, snapshot, now) for below in nodes]))
            case syntax.Not(below):
                return ~self.mask(below, snapshot, now)
            case syntax.Since() | syntax.Until() | syntax.WithinTime():
                return _times(node, snapshot.view, now)
            case syntax.AtLeast() | syntax.Conversation() | syntax.Labelled() | syntax.From() | syntax.Lang() | syntax.Has():
                return self._column(node, snapshot)
        return self._words(node, snapshot, now)

    def _column(self, node: Node, snapshot: Snapshot) -> Mask:
        view = snapshot.view
        match node:
            case syntax.From(account):
                return self._written_by([account], view)
            case syntax.Lang(code):
                codes = [number for number, name in enumerate(snapshot.languages) if name == code or name.startswith(f"{code}-")]
                return _is_one_of(view.numbers("lang"), codes)
            case syntax.Has(what):
                return _has(what, view)
            case syntax.AtLeast(what, count):
                return self._at_least(what, count, view)
            case syntax.Conversation(root):
                mask = np.zeros(view.num_rows, np.bool_)
                mask[self._conversation(root, view)] = True
                return mask
        return np.isin(view.hashes("author"), self.labelled.accounts) | np.isin(view.hashes("id"), self.labelled.posts)

    def _written_by(self, accounts: Sequence[str], view: View) -> Mask:
        """One look for all of them: a campaign has hundreds."""
        wanted = np.array([name_hash(account_key(account), self.key) for account in accounts], np.uint64)
        return np.isin(view.hashes("account"), wanted)

    def _at_least(self, what: syntax.Counted, count: int, view: View) -> Mask:
        if what == "faves":
            return np.asarray(view.numbers("likes") >= count)
        return np.asarray(self.engagement.all(view)[REPLY if what == "replies" else REPOST] >= count)

    def _conversation(self, root: str, view: View) -> Rows:
        """The post and all replies below it. What was deleted breaks no thread: its row, which says what it replied to, still stands."""
        level = seen = np.array([name_hash(root, self.key)], np.uint64)
        found = [self.ids.rows(level, view)]
        while len(level):
            rows = self.refs.rows(level, view)
            rows = self._latest_versions(rows[view.arrays["kind"][rows] == KIND[REPLY]], view)
            found.append(rows)
            level = np.setdiff1d(view.hashes("id")[rows], seen)
            seen = np.union1d(seen, level)
        return np.concatenate(found)

    def _latest_versions(self, rows: Rows, view: View) -> Rows:
        """The rows without those that an edit has replaced."""
        ids = view.hashes("id")
        own = self.ids.rows(ids[rows[~view.alive[rows]]], view)
        return rows[view.alive[rows] | ~np.isin(ids[rows], ids[own[view.alive[own]]])]

    def _words(self, node: Node, snapshot: Snapshot, now: datetime) -> Mask:
        """A leaf about words, from tantivy; the masks asked for last are kept with the snapshot."""
        kept = snapshot.masks.get(node)
        if kept is not None:
            return kept
        mask = np.zeros(snapshot.view.num_rows, np.bool_)
        rows = rows_of(
            snapshot.searcher, snapshot.searcher.search(self.text.query(node, now), max(1, snapshot.searcher.num_docs), count=False).hits
        )
        mask[rows[rows < len(mask)]] = True
        while len(snapshot.masks) >= _KEPT_MASKS:
            snapshot.masks.pop(next(iter(snapshot.masks)), None)
        snapshot.masks[node] = mask
        return mask


def _parts(where: Node | None) -> tuple[Node, ...]:
    if where is None:
        return ()
    if isinstance(where, syntax.And):
        return tuple(part for node in where.nodes for part in _parts(node))
    return (where,)


def _leaves(node: Node) -> list[Node]:
    return [below for below in syntax.walk(node) if not isinstance(below, (syntax.And, syntax.Or, syntax.Not))]


def _times(node: Node, view: View, now: datetime) -> Mask:
    at = view.numbers("at")
    match node:
        case syntax.Since(moment):
            return np.asarray(at >= microseconds(moment))
        case syntax.Until(moment):
            return np.asarray(at < microseconds(moment))
        case syntax.WithinTime(seconds):
            return np.asarray(at >= microseconds(now) - seconds * 1_000_000)
    raise AssertionError(node)


def _has(what: syntax.Filter, view: View) -> Mask:
    match what:
        case "links":
            return np.asarray(view.numbers("flags") & HAS_LINKS != 0)
        case "media":
            return np.asarray(view.numbers("flags") & HAS_MEDIA != 0)
        case "replies":
            return np.asarray(view.numbers("kind") == KIND[REPLY])
    return np.asarray(view.numbers("kind") == KIND[REPOST])


def _is_one_of(column: Any, values: Sequence[int]) -> Mask:
    if len(values) == 1:
        return np.asarray(column == values[0])
    return np.isin(column, np.asarray(values, column.dtype))
