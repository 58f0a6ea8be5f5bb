"""Is a group of people about a private matter, though no single word says so? Goes in: what the group writes. Comes out: the
matter, or nothing.

    matter = private_matter(terms, "en")            # the group's terms, the most telling first
    is_private = is_private_post(words, "en")       # ... and its posts, one by one

The words stand in data/sensitive_together.toml, each worth 1 or 2. A group is private when those of one matter are worth at least 4 among
its first 12 terms, or at least 5 among its first 30; or when many posts hold words worth 3 of one matter. In doubt it is private: crowds
that share a few such words for other reasons are withheld as well. Not covered: matters and words that no list has.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Collection, Sequence
from importlib.resources import files
from typing import Final

_FEW: Final = (12, 4)
_MORE: Final = (30, 5)
_POST: Final = 3
_DISTINCT: Final = 2


def private_matter(terms: Sequence[str], language: str) -> str | None:
    """The matter that `terms` (folded, the most telling first) are about together, or None."""
    for number, worth in (_FEW, _MORE):
        for matter, (weight, count) in _weights(terms[:number], language).items():
            if weight >= worth and count >= _DISTINCT:
                return matter
    return None


def is_private_post(words: Collection[str], language: str) -> bool:
    """Whether the words (folded) of one post are about one private matter together."""
    return any(weight >= _POST and count >= _DISTINCT for weight, count in _weights(set(words), language).values())


def matters() -> tuple[str, ...]:
    """The names of the private matters."""
    return tuple(_tables())


def _weights(words: Collection[str], language: str) -> dict[str, tuple[int, int]]:
    """Per matter: what the words are worth, and how many they are."""
    found: dict[str, tuple[int, int]] = {}
    for word in words:
        for matter, worth in _worth(word, language).items():
            weight, count = found.get(matter, (0, 0))
            found[matter] = (weight + worth, count + 1)
    return found


@functools.lru_cache(maxsize=1 << 18)
def _worth(word: str, language: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for matter, by_language in _tables().items():
        for spoken in {language, "en"}:
            exact, stems = by_language.get(spoken, ({}, {}))
            worth = exact.get(word, 0)
            for length in range(2, len(word) + 1):
                worth = max(worth, stems.get(word[:length], 0))
            if worth:
                found[matter] = max(worth, found.get(matter, 0))
    return found


@functools.cache
def _tables() -> dict[str, dict[str, tuple[dict[str, int], dict[str, int]]]]:
    """matter -> language -> worth of whole words, worth of beginnings."""
    raw = tomllib.loads(files("agora.ads").joinpath("data/sensitive_together.toml").read_text(encoding="utf-8"))
    return {matter: {language: _parsed(words) for language, words in table.items()} for matter, table in raw.items()}


def _parsed(words: str) -> tuple[dict[str, int], dict[str, int]]:
    exact: dict[str, int] = {}
    stems: dict[str, int] = {}
    for written in words.casefold().split():
        worth = 2 if written.endswith("+") else 1
        plain = written.rstrip("+")
        (stems if plain.endswith("*") else exact)[plain.rstrip("*")] = worth
    return exact, stems


__all__ = ["is_private_post", "matters", "private_matter"]
