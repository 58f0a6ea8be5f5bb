"""Questions to begin with. Goes in: the searcher. Comes out: questions about things that members speak of now and that posts answer.

A thing is what several voices of the newest English posts name after an article, in as many words as they mostly use ("the night bus", "the
price of bread"). Those that are rarest otherwise come first. Each question is asked before it is
offered, and only what posts on that very thing answer is. What was found is kept for a while.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from agora.search.held import HeldSearcher
from agora.text.language import function_words_of

QUESTIONS: Final = ("What do people think of {}?", "What do people say about {}?", "What should I know about {}?")
"""One after the other, so that no two begin alike."""
NEWEST: Final = (400, 1_000)
"""So many posts are read, at least and at most: an eighth of all."""
MIN_VOICES: Final = 3
MIN_LETTERS: Final = 4
MAX_LETTERS: Final = 24
MAX_WORDS: Final = 6
NAMED_SHARE: Final = 0.4
"""Of the posts with a single word, so many have an article before it: things are spoken about, deeds seldom."""
ALONE_SHARE: Final = 0.5
"""So often no other word follows a thing that may belong to it: "the only" is none, nor is "the night" where it is the night bus."""
LONGER_SHARE: Final = 0.6
"""Where so many of a thing's voices say one more word, that word belongs to it."""
BURST: Final = 2
"""A thing must stand in so many times the posts of the newest ones: what was never said before is mostly somebody's campaign."""
MAX_SHARE: Final = 0.01
"""A thing of more of all posts says too little, or is pushed."""
COUNTED: Final = 24
TRIED: Final = 8
KEPT_S: Final = 600.0
_LINK: Final = re.compile(r"\S+://\S+|www\.\S+|[@#]\S+")
_TOKEN: Final = re.compile(r"\w(?:[\w'’:-]*\w)?|[^\w\s]")
_ARTICLES: Final = {"the": "the ", "this": "the ", "that": "the ", "about": ""}
_TIMES: Final = frozenset((
    "second", "minute", "hour", "day", "night", "week", "weekend", "month", "year", "morning", "noon", "afternoon", "evening", "time",
    "moment", "past", "future", "end", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
))  # fmt: skip
"""They stand after articles without being spoken of, unless another word follows ("the night bus")."""
_LINKS: Final = frozenset(("of", "in", "at", "on", "near", "for", "over", "the"))
"""Words that may stand within the name of a thing."""
_TELLING: Final = frozenset(("is", "was", "are", "were", "has", "had", "will", "can", ":"))


@dataclass(slots=True)
class _Node:
    """Words after an article, and what follows them."""

    voices: set[str] = field(default_factory=set)
    written: Counter[str] = field(default_factory=Counter)
    articles: Counter[str] = field(default_factory=Counter)
    telling: set[str] = field(default_factory=set)
    """What is said of it ("is late"), and who speaks about it: people name the feeling, and tell nothing of it."""
    longer: dict[str, _Node] = field(default_factory=dict)
    num_posts: int = 0
    num_alone: int = 0


class Openers:
    """The questions, made at the first call and again when they are old. `answer`: the sentences that answer a question."""

    def __init__(self, answer: Callable[[str], list[str]], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._answer = answer
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: tuple[float, list[str]] | None = None

    def read(self, searcher: HeldSearcher, limit: int) -> list[str]:
        """At most `limit` questions; none where nothing can be answered."""
        with self._mutex:
            if self._known is None or self._clock() - self._known[0] > KEPT_S:
                found: list[str] = []
                for thing in things(searcher)[:TRIED]:
                    question = QUESTIONS[len(found) % len(QUESTIONS)].format(thing)
                    if len(found) < max(limit, 3) and self._is_answered(question, thing):
                        found.append(question)
                if not found:
                    return []
                self._known = self._clock(), found
            return self._known[1][:limit]

    def _is_answered(self, question: str, thing: str) -> bool:
        bare = thing.removeprefix("the ").casefold()
        return sum(bare in one.casefold() for one in self._answer(question)) > 1


def things(searcher: HeldSearcher) -> list[str]:
    """What is spoken of in the newest posts, the most telling first. Labelled posts do not count."""
    common = function_words_of("en")
    roots: dict[str, _Node] = defaultdict(_Node)
    used = Counter[str]()
    num_posts = searcher.find("", limit=1).total
    for hit in searcher.find("", mode="latest", limit=min(max(num_posts // 8, NEWEST[0]), NEWEST[1])).hits:
        if hit.label is not None or (hit.post.get("lang") or "en") != "en":
            continue  # the question is asked in English
        tokens = _TOKEN.findall(_LINK.sub(" ", hit.post["text"]))
        used.update({token.casefold() for token in tokens})
        _read(roots, tokens, hit.voice, common)
    named = [one for word, root in roots.items() for one in _things_from(word, root, common, used[word])]
    named.sort(key=lambda one: (-len(one[1].voices), one[0]))
    most = MAX_SHARE * max(num_posts, NEWEST[0])
    totals = {words: searcher.find(f'"{words}"', limit=1).total for words, _ in named[:COUNTED]}
    telling = [(words, node) for words, node in named[:COUNTED] if BURST * node.num_posts <= totals[words] <= most]
    telling.sort(key=lambda one: (-len(one[1].telling) * len(one[1].voices) / totals[one[0]] ** 0.5, one[0]))
    return list(dict.fromkeys(_ARTICLES[node.articles.most_common(1)[0][0]] + node.written.most_common(1)[0][0] for _, node in telling))


def _read(roots: dict[str, _Node], tokens: list[str], voice: str, common: frozenset[str]) -> None:
    """Count what stands after the articles of a post."""
    seen: set[int] = set()
    for place, token in enumerate(tokens):
        if token.casefold() not in _ARTICLES:
            continue
        level = roots
        for end in range(place + 1, min(place + 1 + MAX_WORDS, len(tokens))):
            word = tokens[end].casefold()
            if not word[0].isalnum() or len(word) > MAX_LETTERS or (word in common and (word not in _LINKS or end == place + 1)):
                break
            node = level.setdefault(word, _Node())
            node.voices.add(voice)
            node.written[" ".join(tokens[place + 1 : end + 1])] += 1
            node.articles[token.casefold()] += 1
            if id(node) not in seen:
                seen.add(id(node))
                node.num_posts += 1
            after = tokens[end + 1].casefold() if end + 1 < len(tokens) else "."
            node.num_alone += not after[0].isalnum() or after in common
            if after in _TELLING:
                node.telling.add(" ".join(tokens[end + 1 : end + 3]).casefold())
            if "about" in (token.casefold(), tokens[place - 1].casefold() if place else ""):
                node.telling.add(voice)
            level = node.longer


def _things_from(words: str, node: _Node, common: frozenset[str], num_posts: int) -> Iterator[tuple[str, _Node]]:
    """The things that begin with these words. `num_posts`: posts with a single word, after an article or not."""
    longer = [(word, more) for word, more in node.longer.items() if len(more.voices) >= MIN_VOICES]
    strong = [one for one in longer if len(one[1].voices) >= LONGER_SHARE * len(node.voices)]
    is_whole = node.num_alone >= ALONE_SHARE * sum(node.articles.values()) and words.rsplit(" ", 1)[-1] not in common | _TIMES
    if is_whole and not strong:
        is_named = " " in words or node.num_posts >= NAMED_SHARE * num_posts
        if node.telling and len(node.voices) >= MIN_VOICES and len(words) >= MIN_LETTERS and is_named:
            yield words, node
        return
    for word, more in strong or longer:
        yield from _things_from(f"{words} {word}", more, common, num_posts)


__all__ = ["Openers", "things"]
