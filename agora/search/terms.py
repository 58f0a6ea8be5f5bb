"""What can become a trend. Goes in: a post's text, tags and links. Comes out: its terms: words, phrases of two, tags, cashtags and links.

Numbers and single letters are no terms, names of accounts are words only. A link counts in its canonical form, and its words do not count.
"""

from __future__ import annotations

import zlib
from collections.abc import Container, Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final, Literal

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


@lru_cache(1 << 20)
def in_sample(word: str) -> bool:
    """Whether the terms that begin with this word are in the sample, which is the same for all posts."""
    return zlib.crc32(word.encode()) % SAMPLED == 0


@lru_cache(1 << 20)
def _is_term(word: str) -> bool:
    return not word.isdecimal() and (len(word) > 1 or not word.isalpha() or is_pair(word))


def _is_phrase(left: str, right: str) -> bool:
    return left != right and not is_pair(left) and not is_pair(right)


__all__ = ["SAMPLED", "Kind", "in_sample", "some_terms", "terms_of"]
