"""Posts that say the same. Goes in: 64-bit keys of all posts, in memory. Comes out: for each the reason to drop it.

"Earliest" is the order by time, then by hashes of id and text, so the result does not depend on the order of the input.
Memory: about 150 B a post with the default 8 bands, plus 48 B per candidate for its shingles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agora.corpus.config import CorpusConfig
from agora.corpus.steps import KEPT, STEP_NUMBER
from agora.text.minhash import Shingles, jaccard

Index = npt.NDArray[np.int64]
_PAIRS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class PostKeys:
    """One entry per post, in the order in which they were read. `bands` is [posts, bands]."""

    created_at: npt.NDArray[np.int64]
    id_hash: npt.NDArray[np.uint64]
    author_hash: npt.NDArray[np.uint64]
    ref_hash: npt.NDArray[np.uint64]
    text_hash: npt.NDArray[np.uint64]
    key_hash: npt.NDArray[np.uint64]
    bands: npt.NDArray[np.uint64]
    num_words: npt.NDArray[np.uint32]
    is_reply: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.uint8]


def earliest_first(keys: PostKeys) -> Index:
    """Post numbers in canonical order."""
    return np.lexsort((keys.text_hash, keys.id_hash, keys.created_at))


def drop_equal_ids(keys: PostKeys, order: Index) -> None:
    """Mark posts whose id came earlier. Changes `keys.reason`."""
    _drop_repeated(keys.id_hash, keys.reason, order, "duplicate_id")


def drop_equal_texts(keys: PostKeys, order: Index, config: CorpusConfig) -> None:
    """Mark posts whose comparison key came earlier. Changes `keys.reason`."""
    if config.exact_duplicates:
        _drop_repeated(keys.key_hash, keys.reason, order, "exact_duplicate")


def _drop_repeated(values: npt.NDArray[np.uint64], reason: npt.NDArray[np.uint8], order: Index, name: str) -> None:
    kept = order[reason[order] == KEPT]
    _, first = np.unique(values[kept], return_index=True)
    repeated = np.ones(len(kept), dtype=np.bool_)
    repeated[first] = False
    reason[kept[repeated]] = STEP_NUMBER[name]


def near_candidates(keys: PostKeys, order: Index, config: CorpusConfig) -> Index:
    """Kept posts, earliest first, that share a band with another."""
    kept = order[(keys.reason[order] == KEPT) & (keys.num_words[order] >= config.near_duplicate_min_words)]
    shares = np.zeros(len(kept), dtype=np.bool_)
    for band in range(keys.bands.shape[1]):
        values = keys.bands[kept, band]
        by_value = np.argsort(values)
        equal = values[by_value[1:]] == values[by_value[:-1]]
        shares[by_value[1:][equal]] = True
        shares[by_value[:-1][equal]] = True
    found: Index = kept[shares]
    return found


def drop_near(
    keys: PostKeys, candidates: Index, sets: Shingles, config: CorpusConfig, advance: Callable[[int], None] = lambda bands: None
) -> tuple[Index, Index]:
    """Mark near duplicates among `candidates` (earliest first; row i of `sets` belongs to candidate i).

    Within a band each post is compared with the earliest of its group and with its predecessor; where the Jaccard index
    reaches the threshold it joins that post, and of posts joined directly or in a chain the earliest stays. Posts dropped
    in one band are left out of the next. Returns the dropped posts and the earlier post each was joined to.
    """
    alive = np.arange(len(candidates))
    joined: Index = np.arange(len(candidates))
    for band in range(keys.bands.shape[1]):
        parent = _joins(keys.bands[candidates[alive], band], alive, sets, config.near_duplicate_jaccard)
        joined[alive] = parent
        alive = alive[parent == alive]
        advance(1)
    dropped = np.flatnonzero(joined != np.arange(len(joined)))
    keys.reason[candidates[dropped]] = STEP_NUMBER["near_duplicate"]
    return candidates[dropped], candidates[joined[dropped]]


def quotes_of_heldout(keys: PostKeys, heldout: npt.NDArray[np.bool_]) -> tuple[Index, Index]:
    """Kept posts of the training part that refer to a held-out one, and that one for each."""
    kept = np.flatnonzero(keys.reason == KEPT)
    training, sealed = kept[~heldout[kept]], kept[heldout[kept]]
    if not len(sealed):
        return sealed, sealed
    sealed = sealed[np.argsort(keys.id_hash[sealed])]
    target = sealed[np.minimum(np.searchsorted(keys.id_hash[sealed], keys.ref_hash[training]), len(sealed) - 1)]
    refers = keys.id_hash[target] == keys.ref_hash[training]
    return training[refers], target[refers]


def drop_quotes_of_heldout(keys: PostKeys, posts: Index, targets: Index, texts: Mapping[int, str]) -> None:
    """Mark each of `posts` that has all words of its target in a row. `texts`: comparison keys by number. Changes `keys.reason`."""
    for post, target in zip(posts.tolist(), targets.tolist(), strict=True):
        if f" {texts[target]} " in f" {texts[post]} ":
            keys.reason[post] = STEP_NUMBER["quotes_heldout"]


def _joins(values: npt.NDArray[np.uint64], alive: Index, sets: Shingles, threshold: float) -> Index:
    """For each of `alive` (ascending) the earlier member of its group that it nearly equals, or itself."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    first = np.repeat(starts, np.diff(np.append(starts, len(ordered))))
    members = np.flatnonzero(first != np.arange(len(ordered)))
    parent = alive.copy()
    if not len(members):
        return parent
    member, leader, before = (alive[by_value[positions]] for positions in (members, first[members], members - 1))
    same_as_leader = _verified(sets, leader, member, threshold)
    parent[by_value[members[same_as_leader]]] = leader[same_as_leader]
    rest = np.flatnonzero(~same_as_leader & (before != leader))
    same_as_before = rest[_verified(sets, before[rest], member[rest], threshold)]
    parent[by_value[members[same_as_before]]] = before[same_as_before]
    return parent


def _verified(sets: Shingles, left: Index, right: Index, threshold: float) -> npt.NDArray[np.bool_]:
    same = np.zeros(len(left), dtype=np.bool_)
    for begin in range(0, len(left), _PAIRS_AT_ONCE):
        part = slice(begin, begin + _PAIRS_AT_ONCE)
        same[part] = jaccard(sets, left[part], right[part]) >= threshold
    return same
