"""A second look at the posts that an index found: how their wording meets that of a query. Goes in: a query's words, the texts of some tens
of posts, how many posts hold each word. Comes out: one row of numbers per post.

Words are also compared by their beginning, which makes "protester", "protests" and "protesting" one without a list of any language's
endings; function words are left out. Weights are those of BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009, eq.
3.15): rare words count more, repetition counts less each time, long texts must say more. A word of the query counts once.

Not covered: beginnings in scripts where few characters carry a word (their pairs of characters are compared as they are), synonyms (see
agora/text/embeddings.py).
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from agora.text.language import function_words
from agora.text.words import fold, plain_words

BEGINNING: Final = 5
"""Characters compared. On the training part of the relevance benchmark 5 was better than whole words, 6, or 4 alone (docs/log.md)."""
K1: Final = 1.2
B: Final = 0.75
"""The usual constants of BM25 (same source, section 3.5)."""
_GRAM: Final = 4
_LONGEST_RUN: Final = 10
_MAX_WORDS: Final = 400
"""Words of a text that are looked at; far above the length of posts, it bounds the time for essays."""
_NAME: Final = re.compile(r"(?<![.!?]\s)(?<!^)\b[A-Z][\w'’]+", re.MULTILINE)

Frequencies = Callable[[Sequence[str]], Mapping[str, int]]


@functools.cache
def common_words() -> frozenset[str]:
    """Words that say nothing about a topic, in the form that `agora.text.words` gives them."""
    return frozenset(fold(word) for word in function_words())


def telling_words(words: Iterable[str]) -> list[str]:
    """The words that say what a text is about; all of them where it has no other."""
    listed = list(words)
    return [word for word in listed if word not in common_words()] or listed


@dataclass(frozen=True)
class Text:
    """What is compared of one text; what only a close comparison needs is worked out when it is asked for."""

    text: str
    words: tuple[str, ...]
    beginnings: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Text:
        """Read a text."""
        telling = telling_words(plain_words(text)[:_MAX_WORDS])
        return cls(text, tuple(telling), tuple(word[:BEGINNING] for word in telling))

    @cached_property
    def numbers(self) -> frozenset[str]:
        """Words that are numbers."""
        return frozenset(word for word in self.words if word.isdigit())

    @cached_property
    def names(self) -> frozenset[str]:
        """Words with a capital that begin no sentence."""
        return frozenset(fold(name) for name in _NAME.findall(self.text)) - common_words()

    @cached_property
    def grams(self) -> frozenset[str]:
        """Runs of `_GRAM` characters, function words left out."""
        joined = " ".join(self.words)
        return frozenset(joined[start : start + _GRAM] for start in range(len(joined) - _GRAM + 1))

    @cached_property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """Neighbouring beginnings."""
        return frozenset(zip(self.beginnings, self.beginnings[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Weights:
    """How rare words and beginnings are (inverse document frequency), and how long texts are on average."""

    words: Mapping[str, float]
    beginnings: Mapping[str, float]
    num_words: float

    @classmethod
    def of(cls, query: Text, texts: Sequence[Text], frequencies: Frequencies, num_posts: int) -> Weights:
        """Weights of the query's words. A beginning is as frequent as all the words with it together, that the query or a text here has."""
        wanted = frozenset(query.beginnings)
        alike = {word for text in texts for word in text.words if word[:BEGINNING] in wanted}
        known = frequencies(sorted(alike | set(query.words)))
        together: Counter[str] = Counter()
        for word, count in known.items():
            together[word[:BEGINNING]] += count
        lengths = [len(text.words) for text in texts if text.words]
        return cls(
            {word: _idf(known.get(word, 0), num_posts) for word in query.words},
            {beginning: _idf(min(together[beginning], num_posts), num_posts) for beginning in wanted},
            sum(lengths) / len(lengths) if lengths else 1.0,
        )


def word_scores(query: Text, texts: Sequence[Text], weights: Weights) -> tuple[list[float], list[float]]:
    """BM25 of each text: over whole words, and over beginnings."""
    words, beginnings = dict.fromkeys(query.words), dict.fromkeys(query.beginnings)
    return (
        [_bm25(words, text.words, weights.words, weights.num_words) for text in texts],
        [_bm25(beginnings, text.beginnings, weights.beginnings, weights.num_words) for text in texts],
    )


@dataclass(frozen=True, slots=True)
class Wording:
    """How closely one text meets a query. Shares lie between 0 and 1.

    query_share          share of the query's weight that the text holds
    text_share           share of the text's weight that the query holds (words the query lacks weigh as its rarest)
    rarest               weight of the rarest beginning that both have
    numbers              share of the text's numbers that the query has
    other_numbers        how many it has that the query lacks, n / (1 + n)
    names, pairs         share of the text's names, and neighbouring beginnings, that the query has
    text_grams, query_grams   share of the one's runs of four characters that the other has
    run                  longest row of equal beginnings, of at most ten
    length               logarithm of the number of words
    """

    query_share: float
    text_share: float
    rarest: float
    numbers: float
    other_numbers: float
    names: float
    pairs: float
    text_grams: float
    query_grams: float
    run: float
    length: float


def compare(query: Text, text: Text, weights: Weights) -> Wording:
    """The numbers of one text."""
    wanted, held = dict.fromkeys(query.beginnings), dict.fromkeys(text.beginnings)
    rarest = max([*weights.beginnings.values(), 1.0])
    shared = [weights.beginnings[one] for one in wanted if one in held]
    others = text.numbers - query.numbers
    return Wording(
        query_share=_share(sum(shared), sum(weights.beginnings[one] for one in wanted)),
        text_share=_share(sum(shared), sum(weights.beginnings.get(one, rarest) for one in held)),
        rarest=max(shared, default=0.0),
        numbers=_share(len(text.numbers & query.numbers), len(text.numbers)),
        other_numbers=len(others) / (1 + len(others)),
        names=_share(len(text.names & query.names.union(query.words)), len(text.names)),
        pairs=_share(len(text.pairs & query.pairs), len(text.pairs)),
        text_grams=_share(len(query.grams & text.grams), len(text.grams)),
        query_grams=_share(len(query.grams & text.grams), len(query.grams)),
        run=_longest_run(query.beginnings, text.beginnings) / _LONGEST_RUN,
        length=math.log1p(len(text.words)),
    )


def best_possible(weights: Weights) -> float:
    """BM25 of a text that is nothing but the query, said often."""
    return sum(weights.beginnings.values()) * (K1 + 1)


def _bm25(wanted: Iterable[str], held: Sequence[str], weight: Mapping[str, float], mean_length: float) -> float:
    counts = Counter(held)
    norm = K1 * (1 - B + B * len(held) / mean_length)
    return sum(weight[one] * counts[one] * (K1 + 1) / (counts[one] + norm) for one in wanted if one in counts)


def _idf(frequency: int, num_posts: int) -> float:
    """log(1 + (N - n + 1/2) / (n + 1/2)): positive for every word (Lucene's form of the same paper's eq. 3.3)."""
    return math.log1p((max(num_posts - frequency, 0) + 0.5) / (frequency + 0.5))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _longest_run(left: Sequence[str], right: Sequence[str]) -> int:
    """Length of the longest row of words that both have, at most `_LONGEST_RUN`."""
    places: dict[str, list[int]] = {}
    for place, word in enumerate(right):
        places.setdefault(word, []).append(place)
    best, before = 0, dict[int, int]()
    for word in left:
        now = {place: before.get(place - 1, 0) + 1 for place in places.get(word, ())}
        best = max([best, *now.values()])
        before = now
    return min(best, _LONGEST_RUN)


__all__ = ["Text", "Weights", "Wording", "best_possible", "common_words", "compare", "telling_words", "word_scores"]
