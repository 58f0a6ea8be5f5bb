"""Whether a claim is what a post says, in its order. Goes in: a sentence of a claim and posts. Comes out: whether they say it so.

A claim stands when its words are those of one post, one after the other, and what it leaves out of a sentence of the post is known to turn
nothing around. That is a short list, all else must be said:
- articles, links, tags at an end, whom it is addressed to ("@anna the mayor left"), openers ("BREAKING:"), pointers ("see https://...");
- where and when something happened ("in Lindau", "on Monday"), unless the sentence says how something is or can be: "closed for 3 hours" is
  not "closed", "free of blame" not "free";
- a clause of the same build: of "3 dead in Bern, 12 dead in Basel" either.
So who said it, denials in whatever language and "Onion: ..." stay. Several posts may be joined by "and", sentence by sentence.

Not covered: what stands in other sentences of the post, tags that make a story of it, and names that "he" or "they" stand for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile, groupby
from typing import Any, Final

from agora.search.answers.tokens import FUNCTION_WORDS, Token, fold, keys_of, split_sentences, tokens, word_list

_TURNING: Final = word_list("negation") | word_list("denial") | word_list("hedge") | word_list("turning")
_REPORTING: Final = word_list("reporting")
_SAYING: Final = word_list("say")
_ARTICLES: Final = frozenset(("a", "an", "the"))
_FRAME: Final = _REPORTING | frozenset(("to", "that", "in", "by", "on", "of", "about", "it", "is", "was"))
_OPENERS: Final = frozenset(["and", "but", "so", "breaking", "update", "updated", "news", "wow", "omg", "yes", "well"])
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
_WHERE_OR_WHEN: Final = frozenset(["in", "at", "on", "near", "during", "since", "through", "inside", "outside", "into", "to", "from"])
_TIME_NAMES: Final = word_list("time_name")
_PLACE_NAMES: Final = word_list("place")
_STATES: Final = frozenset(
    ["is", "are", "am", "be", "can", "could", "may", "might", "must", "shall", "should", "will", "would", "stay", "remain"]
)
"""A sentence with one of these says how something is or can be, and where or when that holds belongs to it."""
_POINTERS: Final = frozenset(["see", "read", "watch", "more", "here", "detail", "photo", "picture", "pic", "video", "link", "live"])
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
    """`opens`: a clause begins here; `starts`: a sentence. `sentence` is its number, `asked` whether that is a question. `leads`: before a
    sentence and no part of it; `is_tag`; `is_name`: of a place or time, as far as its form tells."""

    keys: tuple[str, ...]
    is_number: bool
    opens: bool
    starts: bool
    sentence: int
    asked: bool
    leads: bool = False
    is_tag: bool = False
    is_name: bool = False

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
    """Whether of the sentences that are used nothing is left out that may turn them around, and none is a question."""
    for number in {source[place].sentence for place in held}:
        places = [place for place, word in enumerate(source) if word.sentence == number]
        said = [source[place] for place in places if place in held]
        if any(word.asked for word in said) and not asks:
            return False
        runs = [list(run) for is_held, run in groupby(places, held.__contains__) if not is_held]
        if not all(_is_free([source[place] for place in run], said, run[0] == places[0], run[-1] == places[-1]) for run in runs):
            return False
    return True


def _is_free(left_out: Sequence[_Word], said: Sequence[_Word], is_first: bool, is_last: bool) -> bool:
    """Whether words in a row that a claim leaves out of a sentence turn nothing of what is `said` around."""
    if any(word.turns for word in left_out):
        return False
    rest = list(left_out)
    if is_first:
        rest = list(dropwhile(lambda word: word.leads, rest))
    clauses: list[list[_Word]] = []
    for word in rest:
        if word.opens or not clauses:
            clauses.append([])
        clauses[-1].append(word)
    return all(
        (is_last and all(word.is_tag or word.keys[0] in _POINTERS for word in clause))
        or _is_alike(clause, said)
        or _is_where(clause, said, is_inside=not (is_first or is_last))
        for clause in clauses
    )


def _is_alike(clause: Sequence[_Word], said: Sequence[_Word]) -> bool:
    """Whether a clause is built as what is said: as long, with a word that tells something in the same place."""
    same = (set(one.keys) & set(other.keys) - FUNCTION_WORDS for one, other in zip(clause, said, strict=False))
    return len(clause) == len(said) and any(same) and not any(word.keys[0] in _REPORTING | _SAYING for word in clause)


def _is_where(clause: Sequence[_Word], said: Sequence[_Word], *, is_inside: bool) -> bool:
    """Whether a clause is phrases of place and time, which an event can do without; inside also "of Lindau", and a question can do without
    any phrase."""
    phrases: list[list[_Word]] = []
    for word in clause:
        if word.keys[0] in _PREPOSITIONS:
            phrases.append([])
        if not phrases:
            return False
        phrases[-1].append(word)
    if any(word.is_number for word in clause) or any(len(phrase) > _PHRASE for phrase in phrases):
        return False
    if all(word.asked for word in said):
        return True
    is_state = any(word.keys[0] in _STATES for word in said)
    free = _WHERE_OR_WHEN | ({"of"} if is_inside else set())
    return not is_state and all(phrase[0].keys[0] in free and any(word.is_name for word in phrase[1:]) for phrase in phrases)


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
        words += [replace(one, sentence=sentence) for one in found]
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
            tells = one.kind == "handle" and part[one.end :].lstrip().startswith(":")  # "@troll: ..." is what the troll says
            leads = starts and not tells and (one.kind in ("handle", "tag") or one.key in _OPENERS)
            is_name = one.key in _TIME_NAMES or one.key in _PLACE_NAMES or one.is_capital or one.kind == "tag"
            for key in _plain_keys(one):
                words.append(_Word(key, one.kind == "number", opens, starts, 0, asked, leads, one.kind == "tag", is_name))
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
