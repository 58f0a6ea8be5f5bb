"""Questions to begin with. Goes in: the searcher. Comes out: questions that the posts of this square answer, with posts.

Of the things that several voices name in the newest English posts, those that are rarest otherwise come first. Each question is asked
before it is offered, and only what was answered is. What was found is kept for a while.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

from agora.search.held import HeldSearcher
from agora.text.language import function_words

QUESTION: Final = "What do people say about the {}?"
NEWEST: Final = 400
MIN_VOICES: Final = 3
MIN_LETTERS: Final = 4
NAMED_SHARE: Final = 0.4
"""Of a word's posts, so many have an article or the like before it: things are spoken about, deeds seldom."""
ALONE_SHARE: Final = 0.5
"""After an article, so often no other word follows that the article may belong to: "the only" is no thing."""
BURST: Final = 2
"""A word must stand in so many times the posts of the newest ones: what was never said before is mostly somebody's campaign."""
MAX_SHARE: Final = 0.02
"""A word of more of all posts says too little."""
COUNTED: Final = 24
TRIED: Final = 8
KEPT_S: Final = 600.0
_LINK: Final = re.compile(r"\S+://\S+|www\.\S+|[@#]\S+")
_WORD: Final = re.compile(r"[^\W\d_]{1,24}")
_ARTICLES: Final = frozenset(("the", "a", "an", "my", "your", "our", "their", "this", "that", "about"))


class Openers:
    """The questions, made at the first call and again when they are old."""

    def __init__(self, is_answered: Callable[[str], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._is_answered = is_answered
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: tuple[float, list[str]] | None = None

    def read(self, searcher: HeldSearcher, limit: int) -> list[str]:
        """At most `limit` questions; none where nothing can be answered."""
        with self._mutex:
            if self._known is None or self._clock() - self._known[0] > KEPT_S:
                found: list[str] = []
                for word in topics(searcher)[:TRIED]:
                    if len(found) < max(limit, 3) and self._is_answered(question := QUESTION.format(word)):
                        found.append(question)
                if not found:
                    return []
                self._known = self._clock(), found
            return self._known[1][:limit]


def topics(searcher: HeldSearcher) -> list[str]:
    """Words of the newest posts, the most telling first. Labelled posts do not count."""
    voices: dict[str, set[str]] = defaultdict(set)
    posts, named, alone = Counter[str](), Counter[str](), Counter[str]()
    common = function_words()
    for hit in searcher.find("", mode="latest", limit=NEWEST).hits:
        if hit.label is not None or (hit.post.get("lang") or "en") != "en":
            continue  # the question is asked in English
        words = _WORD.findall(_LINK.sub(" ", hit.post["text"]).lower())
        posts.update(set(words))
        for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
            voices[word].add(hit.voice)
            named[word] += before in _ARTICLES
            alone[word] += before in _ARTICLES and (not after or after in common)
    used = [
        word for word, some in voices.items()
        if len(some) >= MIN_VOICES and len(word) >= MIN_LETTERS and word not in common and named[word] >= NAMED_SHARE * posts[word]
        and alone[word] >= ALONE_SHARE * named[word]
    ]  # fmt: skip
    used.sort(key=lambda word: (-len(voices[word]), word))
    most = MAX_SHARE * max(searcher.find("", limit=1).total, NEWEST)
    totals = {word: searcher.find(word, limit=1).total for word in used[:COUNTED]}
    telling = [word for word, total in totals.items() if BURST * posts[word] <= total <= most]
    return sorted(telling, key=lambda word: (-len(voices[word]) / totals[word] ** 0.5, word))


__all__ = ["Openers", "topics"]
