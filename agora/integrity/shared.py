"""Who shared what, when. Goes in: Collected. Comes out: per signal the Shares of artefacts that at least two accounts have in common.

Half of the posts, A, serves to find groups and the other, B, to test them. A post's half depends on what it passes on and on the
half-day it falls into: copies of one text within it stand in one half, and an artefact that lasts is seen in both. Surges of one word
(agora/integrity/surges.py) take turns.
Near duplicates: texts that share MIN_EQUAL_BANDS bands are joined, directly or in a chain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from agora.integrity.batch import Hashes
from agora.integrity.collect import Collected
from agora.integrity.signals import Signal, signals
from agora.integrity.surges import joined_by_surge
from agora.text.minhash import mix

Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

HALF_BLOCK_S: Final = 43_200
MIN_EQUAL_BANDS: Final = 2
MIN_BALANCED: Final = 3
_BLOCK: Final = 1 << 18
_ROOT_SIGNALS: Final = ("meaning", "near_text", "text", "repost", "reply", "link", "image", "hashtags")
"""What decides a post's half, first that applies."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Posts that share artefacts of one signal, ordered by artefact, time, account and the post's id.

    artefact  number of the artefact, from 0 without gaps
    account   code of the author
    time_s    seconds since 1970
    post      number of the post
    half      0 (A: to find groups) or 1 (B: to test them)
    key       for each artefact its 64-bit key
    """

    signal: Signal
    artefact: Ints
    account: Ints
    time_s: Longs
    post: Longs
    half: npt.NDArray[np.uint8]
    key: Hashes

    @property
    def num_artefacts(self) -> int:
        """Artefacts shared by at least two accounts."""
        return len(self.key)


def shared(posts: Collected, *, seed: int = 0, meaning: bool = False) -> dict[str, Shares]:
    """Shares of every signal, by signal id. The same posts and seed give the same halves."""
    root = np.zeros(posts.num_posts, np.uint64)
    turn = np.full(posts.num_posts, -1, np.int8)
    found = {}
    place = {name: number for number, name in enumerate(_ROOT_SIGNALS)}
    for signal in sorted(signals(meaning=meaning), key=lambda one: place.get(one.id, len(place))):
        rows, keys = joined_by_bands(*posts.bands(signal)) if signal.bands else posts.keys(signal)
        if signal.surges:
            rows, keys = joined_by_surge(rows, keys, posts.account, posts.time_s)
            turn[rows] = keys + np.uint64(seed) & np.uint64(1)
        rows, keys = _by_several(rows, keys, posts.account)
        if signal.id in _ROOT_SIGNALS:
            free = root[rows] == 0
            root[rows[free]] = mix(keys[free] | np.uint64(1))
        found[signal.id] = (signal, rows, keys)
    is_alone = root == 0
    alone = np.flatnonzero(is_alone)
    root[alone] = mix(posts.account[alone].astype(np.uint64) << np.uint64(32) ^ posts.time_s[alone].astype(np.uint64) | np.uint64(1))
    block = (posts.time_s // HALF_BLOCK_S).astype(np.uint64)
    unit = mix(mix(root + np.uint64(2 * seed + 1)) ^ mix(block + np.uint64(1)))
    half = (unit >> np.uint64(33) & np.uint64(1)).astype(np.uint8)
    _balance(half, unit, np.flatnonzero(~is_alone & (turn < 0)), posts)
    half = np.where(turn >= 0, turn, half).astype(np.uint8)
    return {name: _ordered(*parts, posts, half) for name, parts in sorted(found.items())}


def _balance(half: npt.NDArray[np.uint8], unit: Hashes, rows: Longs, posts: Collected) -> None:
    """Give what several accounts shared within a half-day, in the order of its hash, to the half in which these accounts have less: a
    coin would leave one campaign in eight with hardly anything in one of the halves. Changes `half`.

    It looks at who shared what and never at how close in time, so under the null of the tests the halves tell nothing of each other.
    """
    order = rows[np.lexsort((posts.account[rows], unit[rows]))]
    keys, account = unit[order], posts.account[order]
    new = np.append(True, keys[1:] != keys[:-1])[: len(order)]
    starts = np.flatnonzero(new)
    fresh = np.add.reduceat(new | np.append(True, account[1:] != account[:-1])[: len(order)], starts) if len(starts) else starts
    ends = np.append(starts[1:], len(order))
    lead = np.zeros(posts.num_accounts, np.int64)  # what each account has in half 1, less what it has in half 0
    for start, end in zip(starts[fresh >= MIN_BALANCED].tolist(), ends[fresh >= MIN_BALANCED].tolist(), strict=True):
        who = account[start:end]
        total = int(lead[who].sum())
        chosen = int(half[order[start]]) if total == 0 else int(total < 0)
        half[order[start:end]] = chosen
        lead[who] += 2 * chosen - 1


def _by_several(rows: Longs, keys: Hashes, account: Ints) -> tuple[Longs, Hashes]:
    """Only keys that posts of at least two accounts have."""
    order = np.argsort(keys, kind="stable")
    rows, keys = rows[order], keys[order]
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.empty(0, np.int64)
    if not len(starts):
        return rows, keys
    who = account[rows]
    several = np.minimum.reduceat(who, starts) != np.maximum.reduceat(who, starts)
    keep = np.repeat(several, np.diff(np.append(starts, len(keys))))
    return rows[keep], keys[keep]


def joined_by_bands(posts: Longs, bands: Hashes) -> tuple[Longs, Hashes]:
    """One key per post for all posts joined to each other: that of the smallest of their texts. `bands` has a row per post.

    Within a band each text is compared with the first of its bucket and with its predecessor, and joined where it shares at least
    `MIN_EQUAL_BANDS` bands with it: one band alone would chain half of all posts together.
    """
    if not len(posts):
        return posts, np.empty(0, np.uint64)
    order = np.lexsort(bands.T[::-1]).astype(np.int32)
    is_new = np.empty(len(posts), np.bool_)
    for start in range(0, len(posts), _BLOCK):  # each row against the one before; gathered whole, the bands would stand in memory thrice
        part = bands[order[max(start - 1, 0) : start + _BLOCK]]
        is_new[max(start, 1) : start + _BLOCK] = (part[1:] != part[:-1]).any(axis=1)
    is_new[0] = True
    text_of = np.empty(len(posts), np.int32)
    text_of[order] = np.cumsum(is_new) - 1
    texts = bands[order[is_new]]
    del bands, order, is_new
    left, right = _similar(texts)
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(len(texts), len(texts)))
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    key = np.zeros(len(smallest), np.uint64)
    for band in texts[smallest].T:  # all bands: two groups of texts may share one of them without being joined
        key = mix(key ^ band)
    return posts, key[component[text_of]]


def _similar(texts: Hashes) -> tuple[Ints, Ints]:
    """Pairs of rows of `texts` that share enough bands, as far as buckets show them."""
    lefts, rights = [np.empty(0, np.int32)], [np.empty(0, np.int32)]
    for band in range(texts.shape[1]):
        order = np.lexsort((texts[:, (band + 1) % texts.shape[1]], texts[:, band])).astype(np.int32)
        values = texts[order, band]
        same = np.append(False, values[1:] == values[:-1])
        first = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
        here = np.flatnonzero(same)
        del values, same
        for other in (order[first[here]], order[here - 1]):
            near = _are_near(texts, other, order[here])
            lefts.append(other[near])
            rights.append(order[here][near])
    return np.concatenate(lefts), np.concatenate(rights)


def _are_near(texts: Hashes, left: Ints, right: Ints) -> npt.NDArray[np.bool_]:
    """Which pairs of rows share at least `MIN_EQUAL_BANDS` bands, a block at a time: gathered rows take a hundred bytes per pair."""
    near = np.empty(len(left), np.bool_)
    for start in range(0, len(left), _BLOCK):
        part = slice(start, start + _BLOCK)
        near[part] = (texts[left[part]] == texts[right[part]]).sum(axis=1, dtype=np.int8) >= MIN_EQUAL_BANDS
    return near


def _ordered(signal: Signal, rows: Longs, keys: Hashes, posts: Collected, half: npt.NDArray[np.uint8]) -> Shares:
    account, time_s = posts.account[rows], posts.time_s[rows]
    order = np.lexsort((account, time_s, keys))
    order = _ties_by_id(order, (account, time_s, keys), rows, posts)
    rows, keys, account, time_s = rows[order], keys[order], account[order], time_s[order]
    new = np.append(True, keys[1:] != keys[:-1]) if len(keys) else np.empty(0, np.bool_)
    return Shares(
        signal=signal,
        artefact=(np.cumsum(new) - 1).astype(np.int32),
        account=account,
        time_s=time_s,
        post=rows,
        half=half[rows],
        key=keys[new],
    )


def _ties_by_id(order: Longs, columns: tuple[npt.NDArray[Any], ...], rows: Longs, posts: Collected) -> Longs:
    """`order` with places that are equal in all `columns` put in order of the posts' ids, so that it does not matter how posts came."""
    same = np.logical_and.reduce([column[order[1:]] == column[order[:-1]] for column in columns])
    if not same.any():
        return order
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    block = np.cumsum(np.append(True, ~same))[tied]
    _, rank = np.unique(np.array(posts.values("id", rows[order[tied]]), object), return_inverse=True)
    result = order.copy()
    result[tied] = order[tied[np.lexsort((rank, block))]]
    return result
