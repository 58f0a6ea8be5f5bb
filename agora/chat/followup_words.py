"""Follow-up questions in other languages than English. Goes in: a message and the question before it. Comes out: questions that stand
alone, to try in turn.

    follow_up_in("und gestern?", "Was sagen die Leute über die Nachtzüge nach Lindau?", now)     ("Nachtzüge Lindau yesterday",)
    follow_up_in("¿y en Berna?", ...)       the name changes
    follow_up_in("pourquoi ?", ...)         another asking word about the same

By the word lists of followup.toml and the function words of agora/text: the words that say something are carried over, the asking word and
the time are put in English, as the rewriting of questions reads them. Grammar is not looked at. Not covered: other languages than those of
the file, and pronouns for what only an answer mentioned.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any, Final

from agora.search.answers.times import read_times
from agora.search.answers.tokens import FUNCTION_WORDS, Token, fold, tokens
from agora.text.language import function_words, function_words_of

_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_RUN: Final = re.compile(r"[\u30a0-\u30ff]+|[\u3400-\u4dbf\u4e00-\u9fff々]+|[A-Za-z0-9]+")
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_KATAKANA: Final = re.compile(r"[\u30a0-\u30ff]{2,}")
_ENGLISH_ASKING: Final = re.compile(r"^(how many|how much|how long|how|why|when|where|who)\b", re.IGNORECASE)
_OWN: Final = 2
"""A message with so few words beside a pronoun does not stand alone."""
_ARTICLE: Final = "ال"

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lists:
    """The words of one language, folded; phrases as the keys of their tokens, longest first. `asking` and `times`: phrase and English."""

    leading: tuple[Phrase, ...]
    trailing: tuple[Phrase, ...]
    more: frozenset[Phrase]
    pronouns: frozenset[Phrase]
    places: frozenset[str]
    frame: frozenset[str]
    asking: tuple[tuple[Phrase, str], ...]
    times: tuple[tuple[Phrase, str], ...]
    prefixes: tuple[str, ...]
    has_capital_nouns: bool
    known: frozenset[str]
    """All of them and the function words: by these the language is told."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word that says something. `is_placed`: behind a preposition of place. `is_name`: written as a name."""

    text: str
    is_placed: bool
    is_name: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """A message, taken apart: its English asking word and time, whether it goes on from something, and its words."""

    terms: tuple[Term, ...]
    asking: str
    time: str
    is_leading: bool
    has_pronoun: bool


@functools.cache
def languages() -> dict[str, Lists]:
    """The lists by language."""
    content = tomllib.loads(resources.files("agora.chat").joinpath("followup.toml").read_text(encoding="utf-8"))
    return {language: _lists(language, table) for language, table in content.items()}


def is_more_in_any(said: str) -> bool:
    """Whether a whole message asks for more of the same, in any of the languages."""
    phrase = _phrase(said)
    return any(phrase in lists.more for lists in languages().values())


def follow_up_in(said: str, before: str, now: datetime) -> tuple[str, ...] | None:
    """Questions that stand alone, best first, where `said` goes on from `before` in one of the languages; None where it does not."""
    for language in _likely(said, before):
        if found := _follow_up(languages()[language], said, before, now):
            return found
    return None


def _follow_up(lists: Lists, said: str, before: str, now: datetime) -> tuple[str, ...] | None:
    asked, earlier = _read(lists, said, now), _read(lists, before, now)
    time, topic = asked.time or earlier.time, earlier.terms
    if not topic:
        return None
    if not asked.terms:
        if not (asked.asking or asked.time or asked.has_pronoun):
            return None
        return (_question(asked.asking or earlier.asking, topic, time),)
    together = _question(asked.asking, (*asked.terms, *topic), time)
    if asked.has_pronoun and len(asked.terms) <= _OWN and not any(one.is_name and one.is_placed for one in asked.terms):
        return (together, said)
    if not asked.is_leading:
        return None
    alone = _question(asked.asking, asked.terms, time)
    if all(one.is_placed for one in asked.terms) or all(one.is_name for one in asked.terms):
        swapped = _swapped(topic, asked.terms)
        if swapped is not None:
            return (_question(asked.asking or earlier.asking, swapped, time), alone)
    return (together, alone)


def _swapped(topic: tuple[Term, ...], fresh: tuple[Term, ...]) -> tuple[Term, ...] | None:
    """The topic with its last name or place exchanged; None where it has none. Nouns of the topic are no names beside a placed one."""
    placed = [number for number, one in enumerate(topic) if one.is_placed]
    named = [number for number, one in enumerate(topic) if one.is_name]
    where = (
        (placed or named)[-1:]
        if all(one.is_placed for one in fresh)
        else [number for number in placed if number in named][-1:] or named[-1:]
    )
    if not where:
        return None
    return (*topic[: where[0]], *fresh, *topic[where[0] + 1 :])


def _question(asking: str, terms: Sequence[Term], time: str) -> str:
    words = dict.fromkeys(one.text for one in terms)
    return " ".join(part for part in (asking, *words, time) if part)


def _read(lists: Lists, text: str, now: datetime) -> _Read:
    flat = " ".join(text.split())
    span = read_times(flat, now)
    time = " ".join(flat[low:high] for low, high in span.words)
    left = [one for one in tokens(flat) if not any(low <= one.start < high for low, high in span.words)]
    asking, is_leading = "", False
    if match := _ENGLISH_ASKING.match(flat):
        asking = match.group(1).lower()
        left = [one for one in left if one.start >= match.end()]
    if count := _begins(left, lists.leading):
        left, is_leading = left[count:], True
    elif left and (bare := _without_prefix(lists, left[0])) is not None:
        left, is_leading = [bare, *left[1:]], True
    if count := _ends(left, lists.trailing):
        left, is_leading = left[: len(left) - count], True
    left, own_time = _cut_times(lists, left)
    for phrase, english in lists.asking:
        if not asking and _keys(left[: len(phrase)]) == phrase:
            asking, left = english, left[len(phrase) :]
    is_pronoun = _marked(left, lists.pronouns)
    terms = _terms(lists, flat, [one for one, hit in zip(left, is_pronoun, strict=True) if not hit])
    return _Read(terms, asking, time or own_time, is_leading, any(is_pronoun))


def _terms(lists: Lists, text: str, left: Sequence[Token]) -> tuple[Term, ...]:
    """The words that say something. Where words are not parted, runs of ideographs and of katakana are taken for words."""
    found, before = list[Term](), ""
    for one in _joined(text, left):
        key = fold(one.text)
        if one.kind != "word" or not _is_empty(lists, key):
            is_name = one.kind in ("handle", "tag", "number", "cash") or bool(_KATAKANA.fullmatch(one.text))
            is_name = is_name or (one.kind == "word" and one.is_capital and one.start > 0 and not lists.has_capital_nouns)
            found.append(Term(one.text, before in lists.places, is_name))
        before = key
    return tuple(found)


def _is_empty(lists: Lists, key: str) -> bool:
    return key in lists.frame or key in lists.places or key in _empty_words() or key in FUNCTION_WORDS


@functools.cache
def _empty_words() -> frozenset[str]:
    return frozenset(fold(word) for word in function_words())


def _joined(text: str, left: Sequence[Token]) -> list[Token]:
    """Tokens, with single characters of scripts that do not part their words put together to runs."""
    if not any(_UNSPACED.search(one.text) for one in left):
        return [one for one in left if one.kind != "link"]
    runs, allowed = list[Token](), {place for one in left for place in range(one.start, one.end)}
    for match in _RUN.finditer("".join(character if place in allowed else "\n" for place, character in enumerate(text))):
        runs.append(Token(match.group(), fold(match.group()), "word", match.start(), match.end()))
    return runs


def _cut_times(lists: Lists, left: Sequence[Token]) -> tuple[list[Token], str]:
    keys = _keys(left)
    for phrase, english in lists.times:
        for place in range(len(keys) - len(phrase) + 1):
            if keys[place : place + len(phrase)] == phrase:
                return [*left[:place], *left[place + len(phrase) :]], english
    return list(left), ""


def _begins(left: Sequence[Token], phrases: Sequence[Phrase]) -> int:
    keys = _keys(left)
    return next((len(phrase) for phrase in phrases if keys[: len(phrase)] == phrase), 0)


def _ends(left: Sequence[Token], phrases: Sequence[Phrase]) -> int:
    keys = _keys(left)
    return next((len(phrase) for phrase in phrases if len(keys) > len(phrase) and keys[-len(phrase) :] == phrase), 0)


def _marked(left: Sequence[Token], phrases: frozenset[Phrase]) -> list[bool]:
    """Which tokens belong to one of the phrases."""
    keys, marked = _keys(left), [False] * len(left)
    longest = max((len(phrase) for phrase in phrases), default=0)
    for start in range(len(keys)):
        for length in range(longest, 0, -1):
            if keys[start : start + length] in phrases and len(keys) >= start + length:
                marked[start : start + length] = [True] * length
    return marked


def _without_prefix(lists: Lists, token: Token) -> Token | None:
    """The token without "and" that is written onto it, where a word of the lists or the article is left."""
    for prefix in lists.prefixes:
        rest = token.text[len(prefix) :]
        if token.text.startswith(prefix) and rest and (rest.startswith(_ARTICLE) or fold(rest) in lists.known):
            return Token(rest, fold(rest), token.kind, token.start + len(prefix), token.end)
    return None


def _likely(said: str, before: str) -> list[str]:
    """The languages of a message, by the words that their lists know; where several know as many, that of the question before comes first.
    None where English, which has rules of its own, knows more."""
    scores = {language: _known(lists, said) for language, lists in languages().items()}
    best, english = max(scores.values()), _known_in_english(said)
    if best == 0 or english > best:
        return []
    if english == best and _known_in_english(before) >= max(_known(lists, before) for lists in languages().values()):
        return []
    return _by_before(scores, best, before)


def _by_before(scores: dict[str, int], best: int, before: str) -> list[str]:
    equal = [language for language, score in scores.items() if score == best]
    return sorted(equal, key=lambda language: -_known(languages()[language], before))


def _known(lists: Lists, text: str) -> int:
    return sum(fold(one.text) in lists.known or _without_prefix(lists, one) is not None for one in tokens(text))


def _known_in_english(text: str) -> int:
    return sum(fold(one.text) in FUNCTION_WORDS for one in tokens(text))


def _keys(left: Sequence[Token]) -> Phrase:
    return tuple(fold(one.text) for one in left)


def _phrase(text: str) -> Phrase:
    return _keys(tokens(text))


def _phrases(text: str) -> tuple[Phrase, ...]:
    found = [_phrase(one) for one in text.split(" | ")]
    return tuple(sorted((one for one in found if one), key=len, reverse=True))


def _lists(language: str, table: dict[str, Any]) -> Lists:
    def english(name: str) -> list[tuple[Phrase, str]]:
        return [(phrase, word) for word, text in table[name].items() for phrase in _phrases(text)]

    days = [(_phrase(day), f"on {name}") for day, name in zip(table["weekdays"].split(), _DAYS, strict=True)]
    times = sorted([*english("times"), *days], key=lambda one: -len(one[0]))
    asking = sorted(english("asking"), key=lambda one: -len(one[0]))
    leading = _phrases(table["leading"])
    frame = frozenset(fold(one) for one in table["frame"].split())
    own = [key for phrase in (*leading, *(one for one, _ in (*times, *asking))) for key in phrase]
    own += [key for one in table["pronouns"].split() for key in _phrase(one)]
    return Lists(
        leading=leading, trailing=_phrases(table.get("trailing", "")), more=frozenset(_phrases(table["more"])),
        pronouns=frozenset(_phrase(one) for one in table["pronouns"].split()),
        places=frozenset(fold(one) for one in table["places"].split()), frame=frame, asking=tuple(asking), times=tuple(times),
        prefixes=tuple(table.get("prefix", "").split()), has_capital_nouns="capital_nouns" in table,
        known=frozenset([*own, *frame, *(fold(one) for one in function_words_of(language))]),
    )  # fmt: skip


__all__ = ["follow_up_in", "is_more_in_any"]
