"""Words as concepts: data/concepts/LANGUAGE.toml says which words of a language mean "pain", "no more", "to earn". Goes in: a text and its
language. Comes out: where each concept stands. What a concept means for an ad is said once for all languages, in frames.py.

An entry of a concept is a few words: `*` any letters, `~` up to four words between, `#` a number (digits or a word). In Japanese and
Chinese an entry is a piece of text, and `~` up to eight characters.
"""

from __future__ import annotations

import functools
import itertools
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import regex

from agora.ads.copywriting.language import language_named
from agora.ads.sensitive import touches

UNSPACED: Final = ("ja", "zh")
SENSITIVE, QUESTION, AMOUNT, NUMBER, NAME = "sensitive", "question", "amount", "number", "name"
BUILT_IN: Final = (SENSITIVE, QUESTION, AMOUNT, NUMBER, NAME)
"""Concepts that no file lists: a word of data/sensitive.toml, a question, a sum of money, a number, a capital inside a sentence."""
_CURRENCY: Final = r"(?:[$€£¥]|R\$|US\$|eur|euros?|usd|dollars?|dólares|pounds?|quid|gbp|chf|reais|yen|zł|złotych|pln|円|元|块|万円)"
_AMOUNT: Final = rf"(?:{_CURRENCY}\s?\p{{N}}[\p{{N}}.,]*k?|\p{{N}}[\p{{N}}.,  ]*(?:mil|k|thousand|tausend|万)?\s?{_CURRENCY}(?!\p{{L}}))"
_NAME: Final = r"(?<![.!?:;–—|\"“„]\s)(?<!^)(?<!\p{L})\p{Lu}[\p{L}'’&-]+(?:[ -]\p{Lu}[\p{L}'’&-]+)*"
_NO_NAMES: Final = frozenset(
    [
        "i",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "mondays",
        "tuesdays",
        "wednesdays",
        "thursdays",
        "fridays",
        "saturdays",
        "sundays",
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "christmas",
        "easter",
        "spring",
        "summer",
        "autumn",
        "winter",
        "nasa",
        "unesco",
        "mum",
        "dad",
        "grandma",
        "grandpa",
        "english",
        "french",
        "german",
        "spanish",
        "italian",
        "japanese",
        "european",
        "american",
        "british",
    ]
)
_DIGITS: Final = r"\p{N}[\p{N}.,]*"
_LETTERS: Final = regex.compile(r"[\p{L}\p{M}]+")
_BETWEEN: Final = r"(?:[^\s.!?]+\s+){0,4}"


@dataclass(frozen=True, slots=True)
class Found:
    """One concept in a text."""

    concept: str
    start: int
    end: int


@functools.lru_cache(maxsize=256)
def find_concepts(text: str, language: str) -> tuple[Found, ...]:
    """Every place of every concept; several may stand at one place."""
    plain = unicodedata.normalize("NFC", text).replace("’", "'")
    found = list(_listed(plain, language))
    found += [Found(SENSITIVE, touch.start, touch.end) for touch in touches(plain, languages=[language])]
    return (*found, *_built_in(plain, language))


def concepts_of(language: str) -> frozenset[str]:
    """The concepts that a language has words for."""
    return frozenset(_words(language))


def known_languages() -> tuple[str, ...]:
    """Languages with a file of concepts."""
    folder = files("agora.ads.policy").joinpath("data/concepts")
    return tuple(sorted(one.name[:-5] for one in folder.iterdir() if one.name.endswith(".toml")))


def in_digits(text: str, language: str) -> str:
    """`text` with the number words from two on written as digits, folded: "Two litres" and "2 litres" are one quantity."""
    numbers = _number_words(language)
    if language in UNSPACED:
        return text.casefold()
    return str(regex.sub(r"\p{L}+", lambda match: str(numbers.get(match.group().casefold(), match.group())), text)).casefold()


def _built_in(text: str, language: str) -> Iterator[Found]:
    for match in regex.finditer(r"[?？]|ですか|吗", text):
        yield Found(QUESTION, match.start(), match.end())
    for name, pattern in ((AMOUNT, _AMOUNT), (NUMBER, _number_pattern(language))):
        for match in regex.finditer(pattern, text, regex.IGNORECASE):
            yield Found(name, match.start(), match.end())
    if language != "de":
        for match in regex.finditer(_NAME, text):
            if match.group().casefold() in _NO_NAMES:
                continue
            yield Found(NAME, match.start(), match.end())


@functools.cache
def _number_words(language: str) -> Mapping[str, int]:
    table: Mapping[str, int] = _words(language).get("numbers", {})  # type: ignore[assignment]
    return table


@functools.cache
def _number_pattern(language: str) -> str:
    if language in UNSPACED:
        return rf"{_DIGITS}|[一二三四五六七八九十百千]"
    words = {*_number_words(language), *(word for word in language_named(language).number_words if word.isalpha())}
    spelled = "|".join(sorted(map(regex.escape, words), key=len, reverse=True)) or "\0"
    return rf"(?:{_DIGITS}|(?<!\p{{L}})(?:{spelled})(?!\p{{L}}))"


@functools.cache
def _words(language: str) -> dict[str, object]:
    path = files("agora.ads.policy").joinpath(f"data/concepts/{language}.toml")
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _listed(text: str, language: str) -> Iterator[Found]:
    """What the file of the language lists. An entry is tried only where its first word stands."""
    index = _index(language)
    for word in _LETTERS.finditer(text):
        folded = word.group().casefold()
        known = [index.words.get(folded, ()), *(index.stems.get(folded[:length], ()) for length in range(1, len(folded) + 1))]
        for concept, entry in itertools.chain.from_iterable(known):
            if match := _compiled(entry, language).match(text, word.start()):
                yield Found(concept, match.start(), match.end())
    for concept, entry in index.others:
        for match in _compiled(entry, language).finditer(text):
            yield Found(concept, match.start(), match.end())


@dataclass(frozen=True, slots=True)
class _Index:
    """Entries with their concept by their first word, by its stem, and those that begin with neither."""

    words: Mapping[str, Sequence[tuple[str, str]]]
    stems: Mapping[str, Sequence[tuple[str, str]]]
    others: Sequence[tuple[str, str]]


@functools.cache
def _index(language: str) -> _Index:
    words: dict[str, list[tuple[str, str]]] = {}
    stems: dict[str, list[tuple[str, str]]] = {}
    others: list[tuple[str, str]] = []
    for concept, listed in _words(language).items():
        for entry in {" ".join(one.split()) for one in listed.split(",")} if isinstance(listed, str) else ():
            first = None if language in UNSPACED else _LETTERS.match(entry)
            if not entry:
                continue
            if first is None:
                others.append((concept, entry))
            else:
                is_stem = entry[first.end() : first.end() + 1] == "*"
                (stems if is_stem else words).setdefault(first.group().casefold(), []).append((concept, entry))
    return _Index(words, stems, others)


@functools.lru_cache(maxsize=1 << 15)
def _compiled(entry: str, language: str) -> regex.Pattern[str]:
    return regex.compile(_entry(entry, language), regex.IGNORECASE)


def _entry(entry: str, language: str) -> str:
    if language in UNSPACED:
        return "".join({"~": r"[^。！？]{0,8}", "#": rf"(?:{_number_pattern(language)})+"}.get(sign, regex.escape(sign)) for sign in entry)
    parts = []
    for word in entry.split(" "):
        if word == "~":
            parts.append(_BETWEEN)
        elif word == "#":
            parts.append(_number_pattern(language) + r"[\s-]*")
        else:
            parts.append(regex.escape(word).replace(r"\*", r"[\p{L}\p{M}'-]*").replace(r"\-", r"[\s-]?") + r"(?![\p{L}\p{M}])[\s-]*")
    return r"(?<![\p{L}\p{M}])" + "".join(parts).removesuffix(r"[\s-]*")


__all__ = ["BUILT_IN", "Found", "concepts_of", "find_concepts", "in_digits", "known_languages"]
