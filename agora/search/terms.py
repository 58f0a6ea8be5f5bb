"""What can become a trend. Goes in: a post's text, tags and links. Comes out: its terms: words, phrases of two, tags, cashtags and links.

Numbers and single letters are no terms, names of accounts are words only. A link counts in its canonical form, and its words do not count.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from agora.text.links import canonical_url
from agora.text.words import fold, is_pair, links, ordered_words, without_links

Kind = Literal["phrase", "tag", "cashtag", "word", "link"]

SAMPLED: Final = 16
"""One in so many terms is in the sample."""


def terms_of(text: str, hashtags: Iterable[str] = (), urls: Iterable[str] = ()) -> dict[str, Kind]:
    """The terms of a post, each once."""
    in_order, others = ordered_words(without_links(text))
    found: dict[str, Kind] = {word: "word" for word in in_order if _is_term(word)}
    for left, right in pairwise(in_order):
        if left in found and right in found and _is_phrase(left, right):
            found[f"{left} {right}"] = "phrase"
    for mark in others:
        if mark[0] in "#$" and len(mark) > 1:
            found[mark] = "tag" if mark[0] == "#" else "cashtag"
    found.update((f"#{fold(tag)}", "tag") for tag in hashtags)
    found.update((canonical_url(link), "link") for link in dict.fromkeys([*urls, *links(text)]))
    return found


def some_terms(known: Container[str], text: str, hashtags: Iterable[str] = (), urls: Iterable[str] = ()) -> list[str]:
    """Those of `terms_of` that are `known` or, links apart, in the sample. A phrase is known only when both of its words are."""
    in_order, others = ordered_words(without_links(text))
    found = [word for word in in_order if word in known or (in_sample(word) and _is_term(word))]
    for left, right in pairwise(in_order):
        sampled = in_sample(left)
        if (sampled or (left in known and right in known)) and _is_phrase(left, right) and _is_term(left) and _is_term(right):
            phrase = f"{left} {right}"
            if sampled or phrase in known:
                found.append(phrase)
    tags = [*(mark for mark in others if mark[0] in "#$" and len(mark) > 1), *(f"#{fold(tag)}" for tag in hashtags)]
    found += [tag for tag in tags if tag in known or in_sample(tag)]
    found += [link for link in map(canonical_url, dict.fromkeys([*urls, *links(text)])) if link in known]
    return list(dict.fromkeys(found))


@dataclass(frozen=True, slots=True, eq=False)
class TermsOfMany:
    """The terms of many posts: post `rows[i]` has the term `names[terms[i]]`. The same may stand there twice."""

    names: list[str]
    rows: npt.NDArray[np.int64]
    terms: npt.NDArray[np.int64]


def some_terms_of_many(
    known: Container[str],
    texts: Sequence[str],
    hashtags: Sequence[Iterable[str]],
    urls: Sequence[Iterable[str]],
    *,
    with_links: bool = True,
) -> TermsOfMany:
    """What `some_terms` says of each post, which is its slow twin. Words are compared by number, all posts at once. `with_links`: whether
    any link is known."""
    in_order: list[str] = []
    counts: list[int] = []
    more: list[tuple[int, str]] = []
    for row, (text, tags, links_of) in enumerate(zip(texts, hashtags, urls, strict=True)):
        found, others = ordered_words(without_links(text))
        in_order += found
        counts.append(len(found))
        if others or tags:
            marked = [*(mark for mark in others if mark[0] in "#$" and len(mark) > 1), *(f"#{fold(tag)}" for tag in tags)]
            more += [(row, tag) for tag in marked if tag in known or in_sample(tag)]
        if with_links:
            more += [(row, link) for link in map(canonical_url, dict.fromkeys([*links_of, *links(text)])) if link in known]
    encoded = pa.array(in_order, pa.string()).dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    codes, rows = encoded.indices.to_numpy().astype(np.int64), np.repeat(np.arange(len(counts)), counts)
    is_known, is_sampled, is_term, is_single = (
        np.fromiter(map(holds, names), np.bool_, len(names)) for holds in (known.__contains__, in_sample, _is_term, is_pair)
    )
    chosen = np.flatnonzero((is_known | (is_sampled & is_term))[codes])
    left, right = codes[:-1], codes[1:]
    pairs = (rows[:-1] == rows[1:]) & (left != right) & (is_term & ~is_single)[left] & (is_term & ~is_single)[right]
    pairs &= is_sampled[left] | (is_known[left] & is_known[right])
    at = np.flatnonzero(pairs)
    keys, which = np.unique(left[at] * len(names) + right[at], return_inverse=True)
    phrases = [f"{names[key // len(names)]} {names[key % len(names)]}" for key in keys.tolist()]
    counted = np.fromiter(
        (is_sampled[key // len(names)] or phrase in known for key, phrase in zip(keys.tolist(), phrases, strict=True)), np.bool_, len(keys)
    )
    kept = np.flatnonzero(counted[which]) if len(keys) else np.empty(0, np.int64)
    others_at = len(names) + len(phrases)
    return TermsOfMany(
        [*names, *phrases, *(term for _, term in more)],
        np.concatenate([rows[chosen], rows[at[kept]], np.array([row for row, _ in more], np.int64)]),
        np.concatenate([codes[chosen], len(names) + which[kept], np.arange(others_at, others_at + len(more))]),
    )


@lru_cache(1 << 20)
def in_sample(word: str) -> bool:
    """Whether the terms that begin with this word are in the sample, which is the same for all posts."""
    return zlib.crc32(word.encode()) % SAMPLED == 0


@lru_cache(1 << 20)
def _is_term(word: str) -> bool:
    return not word.isdecimal() and (len(word) > 1 or not word.isalpha() or is_pair(word))


def _is_phrase(left: str, right: str) -> bool:
    return left != right and not is_pair(left) and not is_pair(right)


__all__ = ["SAMPLED", "Kind", "TermsOfMany", "in_sample", "some_terms", "some_terms_of_many", "terms_of"]
