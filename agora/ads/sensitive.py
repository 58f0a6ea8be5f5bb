"""Which texts touch on what people have a right to keep to themselves. Goes in: texts. Comes out: the topic and the word, or nothing.

The words stand in data/sensitive.toml, by topic and language, with those that the people concerned use among themselves as far as they
are known. All languages are looked for in every text: posts often say none, or a wrong one. Not covered: other euphemisms, and languages
without a list (a text in one of them is never found sensitive, so no audience is made of it, see audiences.py).
"""

from __future__ import annotations

import functools
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import regex

HARDSHIP: Final = "hardship"
"""A topic that only texts of ads must not put to their reader; audiences are not made by it either."""
_UNSPACED: Final = ("ja", "zh")


@dataclass(frozen=True, slots=True)
class Touch:
    """A sensitive word in a text."""

    topic: str
    word: str
    start: int
    end: int


def touches(text: str, *, languages: Sequence[str] | None = None, leave_out: Sequence[str] = ()) -> Iterator[Touch]:
    """Every sensitive word of a text; `languages` None means all that are known."""
    plain = unicodedata.normalize("NFC", text)
    for topic, by_language in _patterns().items():
        if topic in leave_out:
            continue
        for language, pattern in by_language.items():
            if languages is None or language in languages:
                for match in pattern.finditer(plain):
                    yield Touch(topic, match.group(), match.start(), match.end())


def is_sensitive(text: str, *, leave_out: Sequence[str] = ()) -> bool:
    """Whether any sensitive word is in a text, in any language."""
    plain = unicodedata.normalize("NFC", text)
    return any(pattern.search(plain) for topic, pattern in _joined().items() if topic not in leave_out)


def any_sensitive(tokens: Sequence[str]) -> bool:
    """Whether words in a row (folded) hold a sensitive one: as `is_sensitive`, for very many texts. Scripts without blanks: see there."""
    if any(_is_word(token) for token in tokens):
        return True
    return any(_is_word("-".join(tokens[at : at + length])) for length in (2, 3) for at in range(len(tokens) - length + 1))


@functools.lru_cache(maxsize=1 << 18)
def _is_word(word: str) -> bool:
    exact, stems = _spaced_words()
    return word in exact or any(word[:length] in stems for length in range(3, len(word) + 1))


@functools.cache
def _spaced_words() -> tuple[frozenset[str], frozenset[str]]:
    words = {
        word.casefold() for table in _words().values() for language, some in table.items() if language not in _UNSPACED for word in some
    }
    return frozenset(words), frozenset(word[:-1] for word in words if word.endswith("*"))


def known_languages() -> frozenset[str]:
    """Languages with a list for every topic."""
    return frozenset.intersection(*(frozenset(by_language) for by_language in _patterns().values()))


def topics() -> tuple[str, ...]:
    """The names of the topics."""
    return tuple(_patterns())


@functools.cache
def _words() -> dict[str, dict[str, list[str]]]:
    tables = tomllib.loads(files("agora.ads").joinpath("data/sensitive.toml").read_text(encoding="utf-8"))
    return {topic: {language: words.split() for language, words in table.items()} for topic, table in tables.items()}


@functools.cache
def _patterns() -> dict[str, dict[str, regex.Pattern[str]]]:
    return {
        topic: {language: regex.compile(_pattern(words, language), regex.IGNORECASE) for language, words in table.items()}
        for topic, table in _words().items()
    }


@functools.cache
def _joined() -> dict[str, regex.Pattern[str]]:
    return {
        topic: regex.compile("|".join(f"(?:{_pattern(words, language)})" for language, words in table.items()), regex.IGNORECASE)
        for topic, table in _words().items()
    }


def _pattern(words: Sequence[str], language: str) -> str:
    if language in _UNSPACED:
        return "|".join(map(regex.escape, words))
    written = [regex.escape(word.rstrip("*")).replace(r"\-", r"[\s_-]?") + (r"\p{L}*" if word.endswith("*") else "") for word in words]
    return rf"(?<![\p{{L}}\p{{M}}])(?:{'|'.join(written)})(?![\p{{L}}\p{{M}}])"


__all__ = ["HARDSHIP", "Touch", "any_sensitive", "is_sensitive", "known_languages", "topics", "touches"]
