"""Replies assembled into documents. Goes in: kept posts with the post each answers. Comes out: which document each belongs
to, and its place there.

A document is a chain from a post down its replies; every post is used once. At each post the chain goes on with a reply
by the same author if there is one (a thread somebody writes as one text), else with the reply that leads furthest, else
with the earliest; the other replies begin documents of their own. A reply to a post that was dropped begins one too.

Held-out authors: the link between a training author and a held-out author is cut, so that every document is wholly one or
the other and no held-out text enters training through a thread.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Chains:
    """For each post (in the order given) the first post of its document and its place in it, from 0."""

    head: Index
    place: Index


def heldout_authors(author_hash: npt.NDArray[np.uint64], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """True for posts of held-out authors. Depends on nothing but the author, `share` and `seed`; a larger share keeps
    the authors of a smaller one."""
    spread = _mix(author_hash ^ _mix(np.array([seed + 0xA607A], dtype=np.uint64)))
    return (spread >> np.uint64(11)).astype(np.float64) / 2.0**53 < share


def find_parents(
    id_hash: npt.NDArray[np.uint64], ref_hash: npt.NDArray[np.uint64], is_reply: npt.NDArray[np.bool_],
    created_at: npt.NDArray[np.int64], heldout: npt.NDArray[np.bool_],
) -> Index:  # fmt: skip
    """The post each reply answers, or -1. A reply older than what it answers is damaged data and answers nothing."""
    parent = np.full(len(id_hash), -1, dtype=np.int64)
    replies = np.flatnonzero(is_reply)
    if not len(replies):
        return parent
    by_id = np.argsort(id_hash)
    place = np.minimum(np.searchsorted(id_hash, ref_hash[replies], sorter=by_id), len(by_id) - 1)
    target = by_id[place]
    linked = (id_hash[target] == ref_hash[replies]) & (created_at[target] <= created_at[replies])
    linked &= (heldout[target] == heldout[replies]) & (target != replies)
    parent[replies[linked]] = target[linked]
    parent[~np.isin(np.arange(len(parent)), _reach_root(parent))] = -1
    return parent


def _reach_root(parent: Index) -> Index:
    """Posts whose chain of parents ends; the others go round in a circle (posts of one instant that answer each other)."""
    root, _ = _jump(parent)
    return np.flatnonzero(root >= 0)


def _jump(parent: Index) -> tuple[Index, Index]:
    """For each post the end of its chain of parents and the way there, by doubling; -1 where there is no end."""
    here = np.arange(len(parent))
    end = np.where(parent >= 0, parent, here)
    steps = (parent >= 0).astype(np.int64)
    moving = np.flatnonzero(parent >= 0)
    for _ in range(int(np.log2(len(parent) + 1)) + 2):
        moving = moving[parent[end[moving]] >= 0]
        if not len(moving):
            return end, steps
        steps[moving], end[moving] = steps[moving] + steps[end[moving]], end[end[moving]]
    end[moving] = -1
    return end, steps


def find_chains(parent: Index, author_hash: npt.NDArray[np.uint64], rank: Index) -> Chains:
    """Cut the trees of replies into chains. `rank` is the canonical order of the posts (0 = earliest)."""
    here = np.arange(len(parent))
    replies = np.flatnonzero(parent >= 0)
    if not len(replies):
        return Chains(here, np.zeros(len(parent), dtype=np.int64))
    height = _heights(parent, replies)
    same_author = author_hash[replies] == author_hash[parent[replies]]
    order = np.lexsort((rank[replies], -height[replies], ~same_author, parent[replies]))
    sorted_replies = replies[order]
    is_first = np.append(True, parent[sorted_replies[1:]] != parent[sorted_replies[:-1]])
    chain_parent = np.full(len(parent), -1, dtype=np.int64)
    goes_on = sorted_replies[is_first]
    chain_parent[goes_on] = parent[goes_on]
    head, place = _jump(chain_parent)
    return Chains(head, place)


def _heights(parent: Index, replies: Index) -> Index:
    """Length of the longest chain of replies below each post."""
    _, depth = _jump(parent)
    height = np.zeros(len(parent), dtype=np.int64)
    by_depth = replies[np.argsort(depth[replies], kind="stable")]
    borders = np.flatnonzero(np.diff(depth[by_depth])) + 1
    for level in reversed(np.split(by_depth, borders)):
        np.maximum.at(height, parent[level], height[level] + 1)
    return height


def document_order(head: Index, place: Index, id_hash: npt.NDArray[np.uint64], seed: int) -> tuple[Index, npt.NDArray[np.uint64]]:
    """Posts sorted by document and place, documents shuffled by a hash of their first id; and that hash per post."""
    key = _mix(id_hash ^ _mix(np.array([seed + 0xD0C5], dtype=np.uint64)))[head]
    return np.lexsort((place, id_hash[head], key)), key


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, fig. 14)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
