"""Whether a claim is what a post says, in its order. Goes in: a sentence of a claim and posts. Comes out: whether they say it so.

A claim stands when its words are those of one post, one after the other, from the beginning of a clause to the end of one. Of the post
only articles, other clauses and phrases such as "to Lindau" may be missing, and what turns a sentence around (`_TURNING`: negations,
conditions, doubts, comparatives, who says it) may not. Several posts may be joined by "and", sentence by sentence.

Not covered: phrases that make a story of it ("in the movie", "in my dream"), what stands in other sentences of the post, and names that
"he" or "they" stand for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agora.search.answers.tokens import Token, fold, keys_of, split_sentences, tokens, word_list

_TURNING: Final = word_list("negation") | word_list("denial") | word_list("hedge") | word_list("turning")
_REPORTING: Final = word_list("reporting")
_ARTICLES: Final = frozenset(("a", "an", "the"))
_FRAME: Final = _REPORTING | frozenset(("to", "that", "in", "by", "on", "of", "about", "it", "is", "was"))
_OPENERS: Final = frozenset(["and", "but", "so", "breaking", "update", "updated", "news", "wow", "omg", "yes", "well", "rt"])
_PREPOSITIONS: Final = frozenset(
    [
        "to",
        "in",
        "on",
        "at",
        "from",
        "of",
        "for",
        "by",
        "with",
        "near",
        "during",
        "since",
        "through",
        "into",
        "within",
        "via",
        "inside",
        "outside",
    ]
)
_JOINTS: Final = frozenset(("and", "but"))
_PHRASE: Final = 4
"""Words of a phrase inside a clause that may be missing, at most."""
_VERDICT: Final = 3
"""A sentence of so few words with a turning one among them ("Not really.") speaks of the one before it."""
_MAX_BEGINS: Final = 100
"""Places of one post where a claim may begin; a post made to have more costs no more time."""
_MAX_JOINTS: Final = 5
_BOUNDARY: Final = re.compile(r"[,;:()–—…]|\.\.|\s-+\s")
_STEMS_OF_NOT: Final = {"wo": "will", "ca": "can", "sha": "shall", "ai": "is", "can": "can"}


@dataclass(frozen=True, slots=True)
class _Word:
    """`opens`: a clause begins here; `starts`: a sentence. `sentence` is its number, `asked` whether that is a question."""

    keys: tuple[str, ...]
    is_number: bool
    opens: bool
    starts: bool
    sentence: int
    asked: bool

    @property
    def turns(self) -> bool:
        return any(key in _TURNING or key.startswith("n'") for key in self.keys)


_Path = tuple[int, Any] | None
"""A place of the source and the path to it."""


def is_said(claim: str, posts: Sequence[str], *, asks: bool = False) -> bool:
    """Whether one of the posts says the claim, or several do what it joins. Words of telling at its ends ("one post says") are free."""
    said = _words(claim)
    sources = [_words(post) for post in posts]
    front, back = _frame(said), len(said) - _frame(said[::-1])
    tries = [(low, high) for low in (0, front) for high in (len(said), back) if low < high]
    return any(_holds(said[low:high], sources, asks) for low, high in dict.fromkeys(tries))


def _holds(said: Sequence[_Word], sources: Sequence[Sequence[_Word]], asks: bool) -> bool:
    if any(_stands(said, source, asks, whole=False) for source in sources):
        return True
    joints = [place for place, word in enumerate(said) if word.keys[0] in _JOINTS]
    if len(joints) > _MAX_JOINTS:
        return False
    ends = {0}  # how far whole sentences cover the claim, "and" behind them included
    for high in joints:
        if any(_stands(said[end:high], source, asks, whole=True) for end in ends if end < high for source in sources):
            ends.add(high + 1)
    ends.remove(0)
    return any(_stands(said[end:], source, asks, whole=True, to_end=False) for end in ends for source in sources)


def _frame(said: Sequence[_Word]) -> int:
    """How many words at the front only tell that something was said."""
    num = next((place for place, word in enumerate(said) if word.keys[0] not in _FRAME), len(said))
    return num if any(word.keys[0] in _REPORTING for word in said[:num]) else 0


def _stands(said: Sequence[_Word], source: Sequence[_Word], asks: bool, *, whole: bool, to_end: bool = True) -> bool:
    """Whether the source says this from the beginning of a clause (`whole`: of a sentence) to the end of one (`to_end`: of a sentence)."""
    first = said[0].keys[0] if said else ""
    begins = [place for place, word in enumerate(source) if (word.starts if whole else word.opens) and first in word.keys]
    for begin in begins[:_MAX_BEGINS]:
        held = _held(said, source, begin, with_gaps=not whole)
        if held and _may_end(source, max(held) + 1, whole=whole and to_end) and _keeps(source, held, asks):
            return True
    return False


def _held(said: Sequence[_Word], source: Sequence[_Word], begin: int, *, with_gaps: bool) -> frozenset[int]:
    """The places of the source that hold the claim, one after the other from `begin` on; none when they do not."""
    reached: dict[int, _Path] = {begin: None}
    for word in said:
        following: dict[int, _Path] = {}
        for place, path in reached.items():
            if place < len(source) and word.keys[0] in source[place].keys:
                following.setdefault(place + 1, (place, path))
        if not following:
            return frozenset()
        reached = following
        for place in list(reached) if with_gaps else ():
            for end in _phrase_ends(source, place) if place < len(source) else ():
                reached.setdefault(end, reached[place])
    path = reached[min(reached)]
    places = set()
    while path is not None:
        place, path = path
        places.add(place)
    return frozenset(places)


def _keeps(source: Sequence[_Word], held: frozenset[int], asks: bool) -> bool:
    """Whether of the sentences that are used nothing is left out that turns them around, and none is a question."""
    used = {source[place].sentence for place in held}
    left_out = any(word.turns for place, word in enumerate(source) if word.sentence in used and place not in held)
    return not left_out and (asks or not any(source[place].asked for place in held))


def _may_end(source: Sequence[_Word], place: int, *, whole: bool) -> bool:
    if place == len(source) or source[place].starts:
        return True
    if whole:
        return False
    return source[place].opens or (source[place].keys[0] in _PREPOSITIONS and not source[place - 1].is_number)


def _phrase_ends(source: Sequence[_Word], place: int) -> list[int]:
    """Where a phrase such as "to Lindau" that begins at `place` may end. Numbers stay where they are."""
    if source[place].keys[0] not in _PREPOSITIONS or source[place - 1].is_number or source[place].opens:
        return []
    ends = []
    for end in range(place + 1, min(place + _PHRASE, len(source) - 1) + 1):
        if source[end - 1].is_number or source[end].opens:
            break
        if end > place + 1:
            ends.append(end)
    return ends


def _words(text: str) -> list[_Word]:
    """All words but articles and links, with the beginnings of clauses and sentences."""
    words: list[_Word] = []
    sentence = -1
    for low, high in split_sentences(text):
        part = text[low:high]
        found = _sentence_words(part, asked=part.rstrip("\"”'’) ").endswith(("?", "？")))
        is_verdict = words and len(found) <= _VERDICT and any(word.turns for word in found)
        sentence += not is_verdict
        words += [_Word(one.keys, one.is_number, one.opens, one.starts, sentence, one.asked) for one in found]
    return words


def _sentence_words(part: str, *, asked: bool) -> list[_Word]:
    words: list[_Word] = []
    found = tokens(part)
    tail = next((place for place in range(len(found), 0, -1) if found[place - 1].kind not in ("tag", "link")), 0)
    starts, opens, previous = True, True, 0
    for place, one in enumerate(found):
        opens = opens or place == tail or bool(_BOUNDARY.search(part[previous : one.start]))
        previous = one.end
        if one.kind == "link":
            opens = True
        elif one.key not in _ARTICLES:
            for key in _plain_keys(one):
                words.append(_Word(key, one.kind == "number", opens, starts, 0, asked))
                leads = starts and (one.kind in ("handle", "tag") or one.key in _OPENERS)
                opens = starts = leads
    return words


def _plain_keys(token: Token) -> list[tuple[str, ...]]:
    """The keys of a word; of a short form with "not" those of its two words."""
    folded = fold(token.text)
    if token.kind == "word" and folded == "cannot":
        return [("can",), ("not",)]
    for ending in ("n't", "nt"):
        if token.kind == "word" and folded.endswith(ending) and (ending == "n't" or token.key in _TURNING):
            base = folded.removesuffix(ending)
            return [(_STEMS_OF_NOT.get(base, base),), ("not",)]
    return [keys_of(token)]
