"""Coordinated accounts count as one. Goes in: keys of all posts and who speaks as one. Comes out: marks in `keys.reason`.

A campaign of N labelled accounts gets the room that one of its accounts would have, on average:
1. what several of its accounts say alike is one text; the earliest copy stands for it (`coordinated_copy` drops the others),
2. a text that c of the N accounts wrote stays with chance c / N (`one_voice` drops the rest): what all say stays, of what each
   says alone an Nth stays.
The chance is drawn by systematic sampling over the texts in an order by hash (Madow 1949, On the theory of systematic sampling II):
a campaign keeps exactly the sum of all c / N, rounded up, so accounts can be added for ever and gain nothing.

This comes before duplicates are compared across all authors: a campaign that says something first and is dropped does not take
the words from those who say them for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.corpus.config import CorpusConfig
from agora.corpus.duplicates import Index, PostKeys, drop_near, near_candidates
from agora.corpus.steps import KEPT, STEP_NUMBER
from agora.integrity.voice import Voices
from agora.text.minhash import Shingles, hash_strings, mix

_SALT: Final = 0x0E0FACE
_SPREAD: Final = np.uint64(0xD6E8FEB86659FD93)
"""An odd constant that tells campaigns apart in the keys of their texts."""


@dataclass(frozen=True, slots=True)
class Concerned:
    """The posts that labels are about, earliest first; how many accounts wrote them, and how many campaigns these are."""

    posts: Index
    num_accounts: int
    num_voices: int


def labels_that_count(voices: Voices | None, config: CorpusConfig) -> Voices | None:
    """What of the labels decides a corpus with this configuration; None when nothing does."""
    if not voices or config.coordinated == "keep":
        return None
    # A labelled post of somebody whose account has no label is that person's own voice.
    # Companions weigh along; without a label nothing of theirs is left out.
    counting = voices.without_companions() if config.coordinated == "leave_out" else Voices(voices.accounts)
    return counting or None


def drop_coordinated(
    keys: PostKeys, order: Index, voices: Voices, config: CorpusConfig, shingles_of: Callable[[Index], Shingles]
) -> Concerned:
    """Mark what labelled accounts wrote as `config.coordinated` says. Changes `keys.reason`.

    `order`: all posts, earliest first. `shingles_of` gives the shingles of posts.
    """
    campaign, sizes = campaigns_of(keys, voices)
    is_labelled = (campaign >= 0) | (_looked_up(keys.id_hash, dict.fromkeys(voices.posts, 0)) >= 0)
    posts = order[is_labelled[order] & (keys.reason[order] == KEPT)]
    if config.coordinated == "leave_out":
        keys.reason[posts] = STEP_NUMBER["coordinated"]
    elif len(posts):
        original = _originals(_within(keys, posts, campaign[posts]), posts, config, shingles_of)
        keys.reason[posts[original != np.arange(len(posts))]] = STEP_NUMBER["coordinated_copy"]
        num_authors = _num_authors(original, keys.author_hash[posts])
        dropped = _beyond_one_voice(original, num_authors, campaign[posts], sizes, keys.id_hash[posts], config.seed)
        keys.reason[posts[dropped]] = STEP_NUMBER["one_voice"]
    return Concerned(posts, len(np.unique(keys.author_hash[posts])), len(np.setdiff1d(campaign[posts], [-1])))


def campaigns_of(keys: PostKeys, voices: Voices) -> tuple[Index, Index]:
    """The number of the campaign whose account wrote each post, or -1; and how many accounts each campaign has. Extra texts are
    nobody's."""
    number = {name: place for place, name in enumerate(sorted(set(voices.accounts.values())))}
    by_account = {account: number[name] for account, name in voices.accounts.items()}
    campaign = _looked_up(keys.author_hash, by_account)
    campaign[keys.created_at == 0] = -1  # extra texts have no time
    return campaign, np.bincount(np.array(list(by_account.values()), dtype=np.int64), minlength=len(number))


def _looked_up(hashes: npt.NDArray[np.uint64], numbers: dict[str, int]) -> Index:
    """For each hash the number of the name that has it, or -1."""
    if not numbers:
        return np.full(len(hashes), -1, dtype=np.int64)
    known = hash_strings(pa.array(list(numbers), type=pa.large_string()))
    values = np.array(list(numbers.values()), dtype=np.int64)
    by_hash = np.argsort(known)
    place = by_hash[np.minimum(np.searchsorted(known, hashes, sorter=by_hash), len(known) - 1)]
    found: Index = np.where(known[place] == hashes, values[place], -1)
    return found


def _within(keys: PostKeys, posts: Index, campaign: Index) -> PostKeys:
    """Keys of `posts` in which only texts of one campaign can be equal or alike."""
    tell_apart = mix((campaign.astype(np.uint64) + np.uint64(1)) * _SPREAD)
    return PostKeys(
        created_at=keys.created_at[posts], id_hash=keys.id_hash[posts], author_hash=keys.author_hash[posts],
        ref_hash=keys.ref_hash[posts], text_hash=keys.text_hash[posts], key_hash=mix(keys.key_hash[posts] ^ tell_apart),
        bands=mix(keys.bands[posts] ^ tell_apart[:, None]), num_words=keys.num_words[posts], is_reply=keys.is_reply[posts],
        reason=keys.reason[posts],
    )  # fmt: skip


def _originals(own: PostKeys, posts: Index, config: CorpusConfig, shingles_of: Callable[[Index], Shingles]) -> Index:
    """For each post (earliest first) the place of the earliest that says the same for its campaign; its own place for that one."""
    places = np.arange(len(posts))
    _, first, inverse = np.unique(own.key_hash, return_index=True, return_inverse=True)
    original: Index = first[inverse]
    if config.near_duplicates:
        own.reason[original != places] = STEP_NUMBER["coordinated_copy"]
        candidates = near_candidates(own, places, config)
        dropped, earlier = drop_near(own, candidates, shingles_of(posts[candidates]), config)
        original[dropped] = earlier
    while (further := original[original]).tobytes() != original.tobytes():
        original = further
    return original


def _num_authors(original: Index, author_hash: npt.NDArray[np.uint64]) -> Index:
    """How many accounts said what each original says; 0 for copies."""
    _, author = np.unique(author_hash, return_inverse=True)
    pairs = np.unique(original * (author.max() + 1) + author)
    return np.bincount(pairs // (author.max() + 1), minlength=len(original))


def _beyond_one_voice(
    original: Index, num_authors: Index, campaign: Index, sizes: Index, id_hash: npt.NDArray[np.uint64], seed: int
) -> Index:
    """Originals that go so that of each campaign the sum of num_authors / size is left, rounded up."""
    salt = mix(np.array([seed + _SALT], dtype=np.uint64))
    texts = np.flatnonzero(original == np.arange(len(original)))
    texts = texts[np.lexsort((mix(id_hash[texts] ^ salt), campaign[texts]))]
    size = sizes[campaign[texts]]
    share = np.minimum(num_authors[texts], size)
    total = np.cumsum(share)
    begins = np.append(True, campaign[texts[1:]] != campaign[texts[:-1]])
    before = np.repeat((total - share)[begins], np.diff(np.append(np.flatnonzero(begins), len(texts))))
    upto = total - before + size - 1  # the first text of each campaign reaches its first whole voice
    dropped: Index = texts[upto // size == (upto - share) // size]
    return dropped
