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
from agora.integrity.memory import give_back
from agora.integrity.runs_of_equals import run_starts
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
    post: Ints
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
        rows, keys = _joined_texts(posts, signal) if signal.bands else posts.keys(signal)
        if signal.surges:
            rows, keys = joined_by_surge(rows, keys, posts.account, posts.time_s)
            turn[rows] = keys + np.uint64(seed) & np.uint64(1)
        found[signal.id] = one = _by_several(signal, rows, keys, posts.account)
        if signal.id in _ROOT_SIGNALS:
            free = root[one.rows] == 0
            root[one.rows[free]] = mix(one.key | np.uint64(1))[one.artefact[free]]
        del rows, keys, one
    half = _halves(root, turn, posts, seed)
    del root, turn
    give_back()
    return {name: _ordered(found.pop(name), posts, half) for name in sorted(found)}


@dataclass(frozen=True, slots=True)
class _Found:
    """Posts with artefacts that several accounts have, before they have halves; ordered by artefact."""

    signal: Signal
    rows: Ints
    artefact: Ints
    key: Hashes


def _by_several(signal: Signal, rows: Longs | Ints, keys: Hashes, account: Ints) -> _Found:
    """Only keys that posts of at least two accounts have."""
    order = np.argsort(keys)
    rows, keys = rows[order].astype(np.int32), keys[order]
    del order
    starts = np.flatnonzero(run_starts(keys))
    if not len(starts):
        return _Found(signal, rows, np.empty(0, np.int32), keys)
    who = account[rows]
    several = np.minimum.reduceat(who, starts) != np.maximum.reduceat(who, starts)
    count = np.diff(np.append(starts, len(keys)))
    keep = np.repeat(several, count)
    artefact = np.repeat(np.arange(np.count_nonzero(several), dtype=np.int32), count[several])
    return _Found(signal, rows[keep], artefact, keys[starts[several]])


def _halves(root: Hashes, turn: npt.NDArray[np.int8], posts: Collected, seed: int) -> npt.NDArray[np.uint8]:
    """The half of each post. `root` is what decides it, 0 for none, and is overwritten; `turn` is the half of posts in surges, else -1."""
    half, is_alone = np.empty(posts.num_posts, np.uint8), np.empty(posts.num_posts, np.bool_)
    for start in range(0, posts.num_posts, _BLOCK):
        part = slice(start, start + _BLOCK)
        own, account, time_s = root[part], posts.account[part].astype(np.uint64), posts.time_s[part]
        is_alone[part] = alone = own == 0
        own = np.where(alone, mix(account << np.uint64(32) ^ time_s.astype(np.uint64) | np.uint64(1)), own)
        block = (time_s // HALF_BLOCK_S).astype(np.uint64)
        root[part] = unit = mix(mix(own + np.uint64(2 * seed + 1)) ^ mix(block + np.uint64(1)))
        half[part] = unit >> np.uint64(33) & np.uint64(1)
    _balance(half, root, np.flatnonzero(~is_alone & (turn < 0)).astype(np.int32), posts)
    return np.where(turn >= 0, turn, half).astype(np.uint8)


def _balance(half: npt.NDArray[np.uint8], unit: Hashes, rows: Ints, posts: Collected) -> None:
    """Give what several accounts shared within a half-day, in the order of its hash, to the half in which these accounts have less: a
    coin would leave one campaign in eight with hardly anything in one of the halves. Changes `half`.

    It looks at who shared what and never at how close in time, so under the null of the tests the halves tell nothing of each other.
    """
    keys = unit[rows]
    order = np.argsort(keys).astype(np.int32)
    rows, keys = rows[order], keys[order]
    del order
    new = run_starts(keys)
    del keys
    starts = np.flatnonzero(new)
    number = (np.cumsum(new) - 1).astype(np.uint64)
    account = posts.account[rows]
    each = np.sort(number << np.uint64(32) | account.astype(np.uint64))
    fresh = np.bincount((each[run_starts(each)] >> np.uint64(32)).astype(np.int64), minlength=len(starts))
    del new, number, each
    ends = np.append(starts[1:], len(rows))
    lead = np.zeros(posts.num_accounts, np.int64)  # what each account has in half 1, less what it has in half 0
    for start, end in zip(starts[fresh >= MIN_BALANCED].tolist(), ends[fresh >= MIN_BALANCED].tolist(), strict=True):
        who = account[start:end]
        total = int(lead[who].sum())
        chosen = int(half[rows[start]]) if total == 0 else int(total < 0)
        half[rows[start:end]] = chosen
        lead[who] += 2 * chosen - 1


def _joined_texts(posts: Collected, signal: Signal) -> tuple[Ints, Hashes]:
    """Posts whose texts are joined, and the key of each."""
    rows, bands = posts.bands(signal)
    if not len(rows):
        return rows, np.empty(0, np.uint64)
    text_of, texts = _distinct(bands)
    del bands
    return rows, _key_of_joined(texts)[text_of]


def joined_by_bands(posts: Longs, bands: Hashes) -> tuple[Longs, Hashes]:
    """One key per post for all posts joined to each other: that of the smallest of their texts. `bands` has a row per post.

    Within a band each text is compared with the first of its bucket and with its predecessor, and joined where it shares at least
    `MIN_EQUAL_BANDS` bands with it: one band alone would chain half of all posts together.
    """
    if not len(posts):
        return posts, np.empty(0, np.uint64)
    text_of, texts = _distinct(bands)
    return posts, _key_of_joined(texts)[text_of]


def _distinct(bands: Hashes) -> tuple[Ints, Hashes]:
    """Which text each row of `bands` is, and the bands of every text, in order."""
    order = np.lexsort(bands.T[::-1]).astype(np.int32)
    is_new = np.empty(len(bands), np.bool_)
    for start in range(0, len(bands), _BLOCK):  # each row against the one before; gathered whole, the bands would stand in memory thrice
        part = bands[order[max(start - 1, 0) : start + _BLOCK]]
        is_new[max(start, 1) : start + _BLOCK] = (part[1:] != part[:-1]).any(axis=1)
    is_new[0] = True
    text_of = np.empty(len(bands), np.int32)
    text_of[order] = np.cumsum(is_new, dtype=np.int32) - 1
    return text_of, bands[order[is_new]]


def _key_of_joined(texts: Hashes) -> Hashes:
    """For each text the key of the smallest text that it is joined to."""
    left, right = _similar(texts)
    graph = coo_array((np.ones(len(left), np.bool_), (left, right)), shape=(len(texts), len(texts)))
    del left, right
    _, component = connected_components(graph, directed=False)
    _, smallest = np.unique(component, return_index=True)
    key = np.zeros(len(smallest), np.uint64)
    for band in texts[smallest].T:  # all bands: two groups of texts may share one of them without being joined
        key = mix(key ^ band)
    joined: Hashes = key[component]
    return joined


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


def _ordered(found: _Found, posts: Collected, half: npt.NDArray[np.uint8]) -> Shares:
    rows, artefact = found.rows, found.artefact
    order = _order(artefact, posts.time_s[rows], posts.account[rows])
    rows, artefact = rows[order], artefact[order]
    del order
    account, time_s = posts.account[rows], posts.time_s[rows]
    rows = _ties_by_id((account, time_s, artefact), rows, posts)
    return Shares(
        signal=found.signal, artefact=artefact, account=account, time_s=time_s, post=rows, half=half[rows], key=found.key,
    )  # fmt: skip


def _order(artefact: Ints, time_s: Longs, account: Ints) -> Longs:
    """Order by artefact, time and account. Sorting one number is much faster than sorting by three, where they fit into it."""
    if not len(artefact):
        return np.empty(0, np.int64)
    time_s = time_s - time_s.min()
    time_bits, account_bits = int(time_s.max()).bit_length(), int(account.max()).bit_length()
    if int(artefact.max()).bit_length() + time_bits + account_bits > np.iinfo(np.int64).bits - 1:
        return np.lexsort((account, time_s, artefact))
    time_s <<= account_bits
    time_s |= account
    time_s |= artefact.astype(np.int64) << (time_bits + account_bits)
    return np.argsort(time_s)


def _ties_by_id(columns: tuple[npt.NDArray[Any], ...], rows: Ints, posts: Collected) -> Ints:
    """`rows` with those that are equal in all `columns` put in order of the posts' ids, so that it does not matter how posts came."""
    same = np.logical_and.reduce([column[1:] == column[:-1] for column in columns])
    if not same.any():
        return rows
    tied = np.flatnonzero(np.append(False, same) | np.append(same, False))
    block = np.cumsum(np.append(True, ~same))[tied]
    _, rank = np.unique(np.array(posts.values("id", rows[tied]), object), return_inverse=True)
    result = rows.copy()
    result[tied] = rows[tied[np.lexsort((rank, block))]]
    return result
