"""Questions made from posts, with the posts that answer them. Goes in: rows with POST_SCHEMA by data set. Comes out: questions.

The rule that says which posts answer is plain: a post answers when it holds the asked words (lower-cased runs of letters and digits,
tags and handles whole), comes from the asked account, was written on the asked day, has a number right before what is counted.
It shares no code with agora/search. Questions without an answer are such that no post at all fulfils the rule.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

Post = Mapping[str, Any]


def listed(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


_RUN: Final = re.compile(r"https?://\S+|[#@]?[a-z0-9']+")
_NAME: Final = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")
_PLAIN: Final = re.compile(r"(?<![#@/\w'])[a-z]{5,}(?![\w'])")
_COUNTED: Final = re.compile(r"(?<![\w.,#@/$:-])(\d{1,3}) ([a-z]{4,}s)\b")
_FLIGHT: Final = re.compile(r"\bflight #?(\d{3,4})\b")
_PAIR_PATTERNS: Final = ("What do people say about {} and {}?", "What is known about {} and {}?", "What about {} and the {}?")
_FREQUENT_SHARE: Final = 0.01
"""Words in more posts than this are no subject of a question."""
_MOST_ANSWERS: Final = 60
_UNFIT: Final = listed(
    """
    either doing yours behind about after again being could every everyone their there these thing things those through under until
    where which while would really still people person someone anyone something anything nothing having getting going makes making
    other should think thinking today tonight tomorrow yesterday monday tuesday wednesday thursday friday saturday sunday never maybe
    right latest report reported reports mention mentioned minutes hours years days weeks months times since before because without
    against between might write wrote writing posting posted saying tweet tweets tweeted know known happened happening complain please
    thanks account users members feeling opinion reaction information knows folks years january february march april august september
    october november december doesn didn wouldn couldn shouldn perhaps probably possibly joking wish hope always several majority
    everybody
    """
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question; `gold` are ids of the posts that answer it (none: nothing does); `words` are what an answer must mention."""

    kind: str
    text: str
    gold: frozenset[str]
    words: tuple[str, ...]
    number_before: str | None = None


@dataclass(slots=True)
class Board:
    """Posts by the words they hold."""

    posts: list[Post]
    by_word: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    source_of: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, sources: Mapping[str, Sequence[Post]]) -> Board:
        """Read the posts of all data sets."""
        board = cls([])
        for name, posts in sources.items():
            for post in posts:
                for word in words_of(post["text"]):
                    board.by_word[word].add(len(board.posts))
                board.posts.append(post)
                board.source_of.append(name)
        return board

    def with_words(self, *words: str) -> set[int]:
        """Rows of the posts that hold all of these words."""
        return set.intersection(*(self.by_word.get(bare(word), set()) for word in words))

    def ids(self, rows: set[int]) -> frozenset[str]:
        """Ids of rows."""
        return frozenset(self.posts[row]["id"] for row in rows)

    def is_subject(self, word: str) -> bool:
        """Whether a word can be asked about: it is no word of asking and not everywhere."""
        return word not in _UNFIT and 2 <= len(self.by_word.get(bare(word), ())) <= _FREQUENT_SHARE * len(self.posts)


def words_of(text: str) -> set[str]:
    """The words of a text, bare; a tag or handle counts whole and without its sign."""
    found = {bare(word) for word in _RUN.findall(text.lower().replace("’", "'")) if not word.startswith("http")}
    return found | {word[1:] for word in found if word[:1] in ("#", "@")}


def bare(word: str) -> str:
    """A word without the ending of a plural or a possessive."""
    word = word.strip("'").removesuffix("'s")
    return word[:-1] if word.endswith("s") and len(word) > 3 and not word.endswith("ss") else word


def answerable(board: Board, count: int, seed: int) -> list[Asked]:
    """`count` questions that posts answer, of all kinds in turn."""
    draw = random.Random(seed)
    makers = (
        _pair("gop_debate_2015"),
        _speaker,
        _flight,
        _day,
        _number,
        _pair("rumour_threads_2014_15"),
        _tag,
        _pair("ordinary_archives"),
        _plain,
    )
    streams = [maker(board, random.Random(draw.random())) for maker in makers]
    return _interleaved(streams, count)


def unanswerable(board: Board, count: int, seed: int) -> list[Asked]:
    """`count` questions that no post answers."""
    draw = random.Random(seed + 1)
    makers = (_strangers, _invented, _other_day, _other_speaker, _no_number)
    return _interleaved([maker(board, random.Random(draw.random())) for maker in makers], count)


def _interleaved(streams: list[Iterator[Asked]], count: int) -> list[Asked]:
    asked: dict[str, Asked] = {}
    while streams and len(asked) < count:
        for stream in list(streams):
            one = next(stream, None)
            if one is None:
                streams.remove(stream)
            elif len(asked) < count:
                asked.setdefault(one.text, one)
    return list(asked.values())


def _drawn(board: Board, draw: random.Random, *sources: str) -> Iterator[Post]:
    """Posts in random order, those of the named data sets only."""
    rows = [row for row, name in enumerate(board.source_of) if not sources or name in sources]
    draw.shuffle(rows)
    return (board.posts[row] for row in rows)


def _subjects(board: Board, post: Post, pattern: re.Pattern[str]) -> list[str]:
    text = re.sub(r"https?://\S+|^RT @\w+:", " ", post["text"])
    return [word for word in dict.fromkeys(pattern.findall(text)) if board.is_subject(word.lower())]


def _pair(source: str) -> Callable[[Board, random.Random], Iterator[Asked]]:
    """A name and a plain word: "What do people say about Carson and racism?" """

    def make(board: Board, draw: random.Random) -> Iterator[Asked]:
        for post in _drawn(board, draw, source):
            names, plain = _subjects(board, post, _NAME), _subjects(board, post, _PLAIN)
            if names and plain:
                name, word = draw.choice(names), draw.choice(plain)
                rows = board.with_words(name.lower(), word)
                if 1 <= len(rows) <= _MOST_ANSWERS and name.lower() != word:
                    pattern = draw.choice(
                        ("What do people say about {} and {}?", "What is known about {} and {}?", "What about {} and the {}?")
                    )
                    yield Asked(f"pair:{source}", pattern.format(name, word), board.ids(rows), (bare(name.lower()), bare(word)))

    return make


def _plain(board: Board, draw: random.Random) -> Iterator[Asked]:
    """Two plain words."""
    for post in _drawn(board, draw, "airline_2015", "politicians_2017", "ordinary_archives"):
        plain = _subjects(board, post, _PLAIN)
        if len(plain) >= 2:
            one, other = draw.sample(plain, 2)
            rows = board.with_words(one, other)
            if 1 <= len(rows) <= _MOST_ANSWERS:
                yield Asked("plain", f"What do people report about {one} and {other}?", board.ids(rows), (bare(one), bare(other)))


def _speaker(board: Board, draw: random.Random) -> Iterator[Asked]:
    """What one account said about a word."""
    for post in _drawn(board, draw, "politicians_2017", "ordinary_archives", "rumour_threads_2014_15"):
        plain = _subjects(board, post, _PLAIN)
        if plain and re.fullmatch(r"\w+", post["author"]):
            word = draw.choice(plain)
            rows = {row for row in board.with_words(word) if board.posts[row]["author"] == post["author"]}
            yield Asked("speaker", f"What did @{post['author']} say about {word}?", board.ids(rows), (bare(word),))


def _flight(board: Board, draw: random.Random) -> Iterator[Asked]:
    for post in _drawn(board, draw, "airline_2015"):
        for number in _FLIGHT.findall(post["text"].lower())[:1]:
            rows = board.with_words("flight", number)
            if 1 <= len(rows) <= _MOST_ANSWERS:
                yield Asked("flight", f"What happened with flight {number}?", board.ids(rows), ("flight", number))


def _day(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A word on one day."""
    for post in _drawn(board, draw, "ordinary_archives", "airline_2015", "politicians_2017"):
        found = _subjects(board, post, _PLAIN)
        if found:
            word, day = draw.choice(found), post["created_at"].date()
            yield Asked("day", f"What did people write about {word} on {day}?", board.ids(_on(board, word, day)), (bare(word),))


def _on(board: Board, word: str, day: date) -> set[int]:
    return {row for row in board.with_words(word) if board.posts[row]["created_at"].date() == day}


def _number(board: Board, draw: random.Random) -> Iterator[Asked]:
    """How many of something, beside a name."""
    for post in _drawn(board, draw, "rumour_threads_2014_15", "politicians_2017", "airline_2015", "ordinary_archives"):
        names = _subjects(board, post, _NAME)
        counted = [noun for _, noun in _COUNTED.findall(post["text"]) if noun not in _UNFIT]
        if names and counted:
            name, noun = names[0], counted[0]
            rows = _numbered(board, name.lower(), noun)
            if 1 <= len(rows) <= _MOST_ANSWERS and name.lower() != noun:
                yield Asked("number", f"How many {noun} are there with {name}?", board.ids(rows), (bare(name.lower()), bare(noun)), noun)


def _numbered(board: Board, name: str, noun: str) -> set[int]:
    rows = board.with_words(name, noun)
    return {row for row in rows if re.search(rf"\b\d{{1,3}} {bare(noun)}(?:s|es)?\b", board.posts[row]["text"].lower())}


def _tag(board: Board, draw: random.Random) -> Iterator[Asked]:
    for post in _drawn(board, draw, "gop_debate_2015", "ordinary_archives", "politicians_2017"):
        tags = [tag for tag in re.findall(r"#(\w{4,})", post["text"]) if board.is_subject("#" + tag.lower())]
        plain = _subjects(board, post, _PLAIN)
        if tags and plain:
            tag, word = draw.choice(tags), draw.choice(plain)
            rows = board.with_words("#" + tag.lower(), word)
            if 1 <= len(rows) <= _MOST_ANSWERS:
                yield Asked("tag", f"Why are people posting #{tag} about {word}?", board.ids(rows), (bare("#" + tag.lower()), bare(word)))


def _strangers(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A name of one data set and a word of another that never stand together."""
    others = _drawn(board, random.Random(draw.random()), "airline_2015", "rumour_threads_2014_15")
    for post, other in zip(_drawn(board, draw, "gop_debate_2015", "politicians_2017"), others, strict=False):
        names, plain = _subjects(board, post, _NAME), _subjects(board, other, _PLAIN)
        if names and plain and not board.with_words(names[0].lower(), plain[0]) and not board.with_words("#" + names[0].lower(), plain[0]):
            yield Asked("strangers", f"What do people say about {names[0]} and {plain[0]}?", frozenset(), (names[0].lower(), plain[0]))


def _invented(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A name that nobody has."""
    for post in _drawn(board, draw):
        plain = _subjects(board, post, _PLAIN)
        name = "".join(draw.choice("bdgklmnprstvz") + draw.choice("aeiou") for _ in range(4)).capitalize()
        if plain and name.lower() not in board.by_word:
            yield Asked("invented", f"What did {name} do about {plain[0]}?", frozenset(), (name.lower(), plain[0]))


def _other_day(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A word on a day when nobody wrote it."""
    for post in _drawn(board, draw):
        plain = _subjects(board, post, _PLAIN)
        day = post["created_at"].date() + timedelta(days=draw.randint(30, 300))
        if plain and not _on(board, plain[0], day) and not _near(board, plain[0], day):
            yield Asked("other day", f"What did people write about {plain[0]} on {day}?", frozenset(), (plain[0],))


def _near(board: Board, word: str, day: date) -> bool:
    """Whether a word with the same beginning was written that day: "delayed" does answer a question about "delay"."""
    alike = [other for other in board.by_word if other[:5] == word[:5]]
    return any(_on(board, other, day) for other in alike)


def _other_speaker(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A word that the account never wrote."""
    words: dict[str, set[str]] = defaultdict(set)
    for post in board.posts:
        words[post["author"]] |= {word[:5] for word in words_of(post["text"])}
    others = _drawn(board, random.Random(draw.random()), "airline_2015", "gop_debate_2015")
    for post, other in zip(_drawn(board, draw, "politicians_2017", "ordinary_archives", "rumour_threads_2014_15"), others, strict=False):
        plain = _subjects(board, other, _PLAIN)
        if plain and plain[0][:5] not in words[post["author"]] and re.fullmatch(r"\w+", post["author"]):
            yield Asked("other speaker", f"What did @{post['author']} say about {plain[0]}?", frozenset(), (plain[0],))


def _no_number(board: Board, draw: random.Random) -> Iterator[Asked]:
    """A count that no post gives: name and noun stand together, but never with a digit or a number word."""
    for post in _drawn(board, draw, "gop_debate_2015", "rumour_threads_2014_15", "airline_2015"):
        names = _subjects(board, post, _NAME)
        nouns = [word for word in _subjects(board, post, _PLAIN) if word.endswith("s")]
        if names and nouns and names[0].lower() != nouns[0]:
            rows = {*board.with_words(names[0].lower(), nouns[0]), *board.with_words(names[0].lower(), nouns[0][:-1])}
            numeric = r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|dozen)\b"
            if rows and not any(re.search(numeric, board.posts[row]["text"].lower()) for row in rows):
                yield Asked("no number", f"How many {nouns[0]} are there with {names[0]}?", frozenset(), (names[0].lower(), nouns[0]))
