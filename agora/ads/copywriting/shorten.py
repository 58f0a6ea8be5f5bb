"""Shorter texts that say no more than the long one. Goes in: a fact. Comes out: its beginnings up to the end of a clause, longest first.

A clause is left out only when it limits nothing: no number, no condition ("from", "if", "selected"), no denial, no footnote. Words are
never cut, nor what follows an abbreviation or "30. Juni". Languages without a file are not shortened: nobody has said what limits there.
"""

from __future__ import annotations

import unicodedata
from typing import Final

import regex

from agora.ads.copywriting.language import Language

_END: Final = regex.compile(r"(?<=\p{L}{4})\.(?=\s)|[!?;](?=\s)|[。！？；、，]|,(?=\s)|\s[–—|]\s|\s\(")
_WORD: Final = regex.compile(r"[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*")
_SENTENCE: Final = regex.compile(r"[.!?;:]\s+")
_FOOTNOTE: Final = regex.compile(r"[*†‡¹²³]")
_EMOJI: Final = regex.compile(
    r"\p{Extended_Pictographic}(?:\ufe0f|\p{Emoji_Modifier}|\u200d\p{Extended_Pictographic})*|\p{Regional_Indicator}{2}|\ufe0f|\u20e3"
)
_PLAIN: Final = frozenset("©®™‼⁉")
_PAIRS: Final = (("(", ")"), ("（", "）"), ("「", "」"), ("“", "”"), ("«", "»"), ("[", "]"))


def without_emoji(text: str) -> str:
    """A text without picture characters, for platforms that refuse them."""
    plain = _EMOJI.sub(lambda match: match.group() if match.group() in _PLAIN else " ", text)
    joined = " ".join(plain.split())
    return str(regex.sub(r"\s+([.,!?;:。、！？])", r"\1", joined))


def beginnings(text: str, language: Language) -> list[str]:
    """`text`, then its beginnings that stand for themselves, longest first."""
    found = [text]
    if not language.is_known or _FOOTNOTE.search(text):
        return found
    for match in reversed(list(_END.finditer(text))):
        head, tail = text[: match.start()].strip(), text[match.end() :]
        if _stands_alone(head, language) and not _is_subordinate(head, language) and not limits_something(tail, language):
            found.append(head)
    return found


def limits_something(text: str, language: Language) -> bool:
    """Whether leaving `text` out could say more than was said."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    if any(character.isdigit() for character in plain):
        return True
    marks = language.qualifiers | language.negations | language.number_words
    if language.is_unspaced:
        return any(mark in plain for mark in marks)
    return any(word in marks or word.endswith("n't") for word in _WORD.findall(plain.replace("’", "'")))


def _is_subordinate(head: str, language: Language) -> bool:
    """Whether the last sentence of `head` is a subordinate clause alone ("If you order before noon")."""
    last = _SENTENCE.split(head)[-1]
    first = _WORD.search(last)
    return first is not None and first.group().casefold() in language.subordinators


def _stands_alone(head: str, language: Language) -> bool:
    if not head or any(head.count(opening) != head.count(closing) for opening, closing in _PAIRS):
        return False
    return len(head) >= 4 if language.is_unspaced else len(_WORD.findall(head)) >= 2


__all__ = ["beginnings", "limits_something", "without_emoji"]
