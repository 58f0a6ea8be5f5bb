"""Questions to begin with. Goes in: the searcher. Comes out: questions that the posts of this square answer, with posts.

Of the words that several voices used in the newest posts, those that are rarest otherwise come first. Each question is asked before it is
offered, and only what was answered is. What was found is kept for a while.
"""

from __future__ import annotations

import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from agora.search.held import HeldSearcher
from agora.text.language import function_words

QUESTION: Final = "What do people say about {}?"
NEWEST: Final = 400
MIN_VOICES: Final = 3
MIN_LETTERS: Final = 4
MAX_SHARE: Final = 0.02
"""A word of more of all posts says too little."""
COUNTED: Final = 24
TRIED: Final = 8
KEPT_S: Final = 600.0
_LINK: Final = re.compile(r"\S+://\S+|www\.\S+|[@#]\S+")
_WORD: Final = re.compile(rf"[^\W\d_]{{{MIN_LETTERS},24}}")


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
    """Words of the newest posts, the most telling first."""
    voices: dict[str, set[str]] = defaultdict(set)
    for hit in searcher.find("", mode="latest", limit=NEWEST).hits:
        for word in _WORD.findall(_LINK.sub(" ", hit.post["text"]).lower()):
            voices[word].add(hit.voice)
    common = function_words()
    used = sorted(
        (word for word, some in voices.items() if len(some) >= MIN_VOICES and word not in common), key=lambda word: -len(voices[word])
    )
    most = MAX_SHARE * max(searcher.find("", limit=1).total, NEWEST)
    totals = {word: searcher.find(word, limit=1).total for word in used[:COUNTED]}
    telling = [word for word, total in totals.items() if 0 < total <= most]
    return sorted(telling, key=lambda word: (-len(voices[word]) / totals[word] ** 0.5, word))


__all__ = ["Openers", "topics"]
