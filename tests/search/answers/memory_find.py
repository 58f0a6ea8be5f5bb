"""Posts found without an index: BM25 in memory, for tests of what stands on a search. Goes in: rows with POST_SCHEMA.

Reads from:, since:, until: and phrases; everything else is words. k1 and b are those of Lucene.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import log
from typing import Any, Final

from agora.search.answers.rewrite import all_keys
from agora.search.answers.tokens import keys_of, tokens

_K1: Final = 1.2
_B: Final = 0.75
_FILTER: Final = re.compile(r"(?<!\S)(from|since|until):(\S+)")


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """One post that was found."""

    post: Mapping[str, Any]
    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    alike: int = 0
    voice: str = ""
    label: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryResults:
    """Hits, best first."""

    hits: tuple[MemoryHit, ...]


class MemoryFinder:
    """`voices` and `labels` by account, for posts of coordinated groups."""

    def __init__(
        self, posts: Sequence[Mapping[str, Any]], *, voices: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None
    ) -> None:
        self._posts = list(posts)
        self._voices, self._labels = voices or {}, labels or {}
        self._postings: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths: list[int] = []
        for row, post in enumerate(self._posts):
            counts = Counter(key for token in tokens(post["text"]) for key in keys_of(token))
            self._lengths.append(sum(counts.values()))
            for key, count in counts.items():
                self._postings[key].append((row, count))
        self._mean = sum(self._lengths) / max(1, len(self._lengths))

    def find(self, text: str, *, limit: int = 10, now: datetime | None = None, match: str = "auto") -> MemoryResults:
        """The best posts for a query."""
        only_labelled = "label:coordinated" in text
        text = text.replace("label:coordinated", "")
        filters = _FILTER.findall(text)
        words = _FILTER.sub(" ", text)
        wanted = all_keys(words)
        scores: dict[int, float] = defaultdict(float)
        held: Counter[int] = Counter()
        for key in wanted:
            found = self._postings.get(key, [])
            weight = log(1 + (len(self._posts) - len(found) + 0.5) / (len(found) + 0.5))
            for row, count in found:
                norm = _K1 * (1 - _B + _B * self._lengths[row] / self._mean)
                scores[row] += weight * count * (_K1 + 1) / (count + norm)
                held[row] += 1
        phrases = [phrase.casefold() for phrase in re.findall(r'"([^"]+)"', words)]
        rows = [
            row for row in scores
            if (match == "any" or held[row] == len(wanted)) and self._passes(row, filters)
            and (not only_labelled or self._posts[row]["author"] in self._labels)
            and all(phrase in self._posts[row]["text"].casefold() for phrase in phrases)
        ]  # fmt: skip
        rows.sort(key=lambda row: (-scores[row], row))
        return MemoryResults(tuple(self._hit(row, scores[row]) for row in rows[:limit]))

    def _passes(self, row: int, filters: list[tuple[str, str]]) -> bool:
        post = self._posts[row]
        for name, value in filters:
            if name == "from":
                if post["author"].casefold() != value.casefold():
                    return False
            else:
                at = datetime.fromisoformat(value).replace(tzinfo=timezone.utc)
                if (post["created_at"] < at) == (name == "since"):
                    return False
        return True

    def _hit(self, row: int, score: float) -> MemoryHit:
        author = self._posts[row]["author"]
        return MemoryHit(self._posts[row], score, voice=self._voices.get(author, author), label=self._labels.get(author))
