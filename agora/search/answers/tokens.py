"""Words with what they are and where they stand. Goes in: a post, a question or a sentence. Comes out: tokens and sentences.

A token's `key` is what is compared: NFKC, lower case, without accents, plural endings taken off (the S-stemmer of Harman, "How
effective is suffixing?", 1991), number words as digits. Tenses are kept apart on purpose: "will resign" is not "resigned".
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal

Kind = Literal["word", "number", "tag", "handle", "cash", "link"]

LINK: Final = re.compile(r"(?:https?://|www\.)\S+|\b[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9-]{1,63}){0,4}\.[a-z]{2,12}/\S+", re.IGNORECASE)
_TOKEN: Final = re.compile(
    rf"(?P<link>{LINK.pattern})"
    r"|(?P<handle>@\w+(?:[.\-]\w+)*)"
    r"|(?P<tag>[#＃][\w]+)"
    r"|(?P<cash>\$[A-Za-z]{1,6}\b)"
    r"|(?P<number>[$€£]?\d+(?:[.,:/]\d+)*(?:%|[A-Za-z]{1,3}\b)?)"
    r"|(?P<ideograph>[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])"
    r"|(?P<word>[^\W_]+(?:['’\u2011-][^\W_]+)*)",
    re.IGNORECASE,
)
_NUMBER_WORDS: Final = {
    word: str(value)
    for value, word in enumerate(["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"], start=2)
}  # fmt: skip
_SENTENCE_END: Final = re.compile(r"[.!?…]+[\"”’')\]]*(?=\s|$)|[。！？]+|\n+")
_ABBREVIATION: Final = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|st|vs|jr|sr|gov|sen|rep|gen|lt|no|u\.s|u\.k|a\.m|p\.m|etc|e\.g|i\.e)|\b[A-Z])\.$", re.IGNORECASE
)
_AFTER_LINK: Final = "?!.,;:)]'\"’”…"
_CAMEL: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def word_list(name: str) -> frozenset[str]:
    """A list of words.json, as keys."""
    lists = json.loads(resources.files("agora.search.answers").joinpath("words.json").read_text(encoding="utf-8"))
    return frozenset(lists[name].split())


FUNCTION_WORDS: Final = word_list("function")
"""English words that carry no claim by themselves. Words of other languages all count as content: stricter, never looser."""


@dataclass(frozen=True, slots=True)
class Token:
    """`key` is compared; `text` is as written, at [start, end) of the text."""

    text: str
    key: str
    kind: Kind
    start: int
    end: int

    @property
    def is_content(self) -> bool:
        """Says something: no function word, no link."""
        return self.kind != "link" and (
            self.kind != "word" or (self.text.isupper() and len(self.text) > 1) or self.key not in FUNCTION_WORDS
        )

    @property
    def is_capital(self) -> bool:
        """Written like a name."""
        return self.kind == "word" and self.text[:1].isupper() and self.text != "I" and not self.text.startswith(("I'", "I’"))


def tokens(text: str) -> list[Token]:
    """All tokens of a text, in order."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        name = match.lastgroup or "word"
        kind: Kind = "word" if name == "ideograph" else name  # type: ignore[assignment]
        found = match.group().rstrip(_AFTER_LINK) if name == "link" else match.group()
        key = fold(found)
        if kind == "word" and any(character.isdigit() for character in key):
            kind = "number"
        if kind == "number":
            key = key.replace(",", "")
        elif kind == "tag":
            key = "#" + key[1:]
        elif kind == "word":
            if key in _NUMBER_WORDS:
                kind, key = "number", _NUMBER_WORDS[key]
            else:
                key = stem(key)
        yield Token(found, key, kind, match.start(), match.start() + len(found))


def fold(text: str) -> str:
    """NFKC, lower case, accents and invisible characters off, one kind of apostrophe."""
    if text.isascii():
        return text.lower()
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    return "".join("'" if c in "’ʼ" else c for c in plain if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")


def stem(word: str) -> str:
    """Possessive and plural endings off."""
    word = word.removesuffix("'s")
    if word.endswith("ies") and not word.endswith(("eies", "aies")) and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("es") and not word.endswith(("aes", "ees", "oes")) and len(word) > 3:
        return word[:-1]
    if word.endswith("s") and not word.endswith(("us", "ss")) and len(word) > 3:
        return word[:-1]
    return word


def keys_of(token: Token) -> tuple[str, ...]:
    """All keys under which a token of a post can be asked for: a tag or handle also by its bare name and the words inside it, a word
    with hyphens also by its parts."""
    if token.kind == "word" and "-" in token.key:
        return (token.key, *(stem(part) for part in token.key.split("-") if len(part) > 1))
    if token.kind not in ("tag", "handle", "cash"):
        return (token.key,)
    parts = [stem(fold(part)) for part in _CAMEL.findall(token.text[1:])]
    return (token.key, token.key[1:], stem(token.key[1:]), *(part for part in parts if len(part) > 1))


def content_keys(text: str) -> frozenset[str]:
    """Keys of everything in a text that says something."""
    return frozenset(key for token in tokens(text) if token.is_content for key in keys_of(token))


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Spans of the sentences of a text, blanks around them off. Links and abbreviations do not end one."""
    links = [match.span() for match in LINK.finditer(text)]
    spans, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        inside = any(low <= match.start() < high and match.end() < high for low, high in links)
        if inside or (match.group() == "." and _ABBREVIATION.search(text[start : match.end()])):
            continue
        spans.append((start, match.end()))
        start = match.end()
    spans.append((start, len(text)))
    return [span for span in (trimmed(text, low, high) for low, high in spans) if span[0] < span[1]]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The span without blanks at its ends."""
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """Shared / all."""
    return len(left & right) / len(left | right) if left or right else 0.0


def covered(wanted: Sequence[str] | frozenset[str], present: frozenset[str]) -> float:
    """Share of `wanted` that is present; 1 when nothing is wanted."""
    return sum(key in present for key in wanted) / len(wanted) if wanted else 1.0
