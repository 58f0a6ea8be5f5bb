"""How a text is read when its claims are checked: clauses and words. Goes in: a text and its language. Comes out: its words with their
kind, what denies them, and what stands around its numbers.
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import regex

from agora.ads.brief import Fact
from agora.ads.copywriting.language import Language, language_named

Kind = Literal["number", "price", "name", "superlative", "claim"]
NAMES: Final = ("product", "short_name", "brand", "call_to_action")
"""Statements that any clause may name, whatever fact it rests on."""
UNSPACED: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]")
CURRENCY: Final = frozenset("€$£¥₩₹")
_CLAUSE: Final = regex.compile(r"[!?;:|()\[\]{}…\n\"“”„«»¡¿、，。！？；：「」『』（）]+|[,.](?!\d)|\s[–—-]\s|—")
_TOKEN: Final = regex.compile(
    r"(?P<rank>#1(?![\p{L}\p{N}]|[.,]\p{N}))|(?P<number>(?:(?<!\S)[-−])?\p{N}+(?:[.,:/×'’ \u202f–-]\p{N}+)*)"
    r"|(?P<word>[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*)"
    r"|(?P<sign>[%‰°℃℉€$£¥₩₹+★<>≥≤~#&@*†])"
)
_HANGUL: Final = regex.compile(r"\p{Hangul}")
_ELISION: Final = regex.compile(r"^(?:l|d|j|n|s|t|c|m|qu|un|dell|nell|all|sull|o)['’](?=\p{L}{2})")
_FREE_OF: Final = regex.compile(r"\s+(?:of|from)\b", regex.IGNORECASE)
"""Behind "free": it denies what follows; "free returns" and "sugar-free bread" do not."""
_SILENT: Final = frozenset("&*†@#")
_REACH: Final = 3
"""How many words before a word still deny it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, number or sign. `text` is folded; `is_capital`: written with a capital, not at the beginning; `is_denied`: shortly behind a
    denial."""

    kind: str
    text: str
    is_capital: bool
    is_denied: bool


def clauses(text: str) -> Iterator[str]:
    """Parts of a text between marks that end a thought."""
    for part in _CLAUSE.split(unicodedata.normalize("NFKC", text)):
        if part and part.strip():
            yield part.strip()


def find_whole(text: str, sought: str, start: int = 0) -> int:
    """Where `sought` stands in `text` as whole words; -1 for nowhere. A name that ends in a digit is not found inside a longer number."""
    while sought and (place := text.find(sought, start)) >= 0:
        before, after = text[place - 1 : place], text[place + len(sought) : place + len(sought) + 1]
        cut = (joins(before, sought[0]), joins(sought[-1], after))
        if not any(cut):
            return place
        start = place + 1
    return -1


def joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word or number."""
    if not left or not right or (UNSPACED.match(left) and not right.isdigit()) or (UNSPACED.match(right) and not left.isdigit()):
        return False
    return (left.isalnum() and right.isalnum()) or (left.isdigit() and right in "%‰°") or (left in "+-−–€$£¥" and right.isdigit())


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def kind_of(token: Token, language: Language) -> Kind:
    """What a part of a text is called in a reason."""
    if token.kind == "number" or token.text in language.number_words:
        return "number"
    if token.kind == "sign":
        return "price" if token.text in CURRENCY else "number"
    if language.is_superlative(token.text):
        return "superlative"
    return "name" if token.is_capital and language.code != "de" else "claim"


def tokens_of(text: str, language: Language) -> tuple[Token, ...]:
    """The words, numbers and signs of a text, in their order."""
    return _tokens_in(text, language.code)


@functools.lru_cache(maxsize=8192)
def _tokens_in(text: str, code: str) -> tuple[Token, ...]:
    language = language_named(code)
    found: list[Token] = []
    recent = _REACH + 1
    plain = unicodedata.normalize("NFKC", text).replace("’", "'")
    for match in _TOKEN.finditer(plain):
        kind, raw = "word" if match.lastgroup == "rank" else str(match.lastgroup), match.group()
        if kind == "sign" and raw in _SILENT:
            continue
        word = raw.casefold() if kind == "word" else raw.replace("−", "-").replace("–", "-")
        if word not in language.connecting and word not in language.negations:
            word = _ELISION.sub("", word).removesuffix("'s")
        denies = kind == "word" and (word in language.negations or word.endswith("n't"))
        denies = denies and (word != "free" or _FREE_OF.match(plain, match.end()) is not None)
        recent = 0 if denies else recent + 1
        found.append(Token(kind, word, raw[:1].isupper() and match.start() > 0, not denies and recent <= _REACH))
    return tuple(found)


def needs_fact(token: Token, language: Language, free: frozenset[str]) -> bool:
    """Whether a word claims something. `free`: words that do not here (the audience's topics)."""
    if token.kind != "word":
        return True
    if token.text in language.number_words or language.is_superlative(token.text):
        return True
    if token.text in language.negations and token.text not in ("no", "ne"):
        return token.text not in ("un", "non")
    return token.text not in language.connecting and token.text not in free


def own_words(names: Sequence[Fact], language: Language) -> set[str]:
    """Words of names, and their numbers together with the word beside them: the 2 of "Lynx 2" is no 2 of anything else."""
    found: set[str] = set()
    for name in names:
        tokens = tokens_of(name.text, language)
        found |= {one.text for one in tokens if one.kind != "number"}
        found |= {f"{one.text} {two.text}" for one, two in itertools.pairwise(tokens) if "number" in (one.kind, two.kind)}
    return found


def same_word(one: str, other: str, language: Language) -> bool:
    """Whether two words differ by an ending of the language at most."""
    if one == other:
        return True
    if _HANGUL.match(one) and _HANGUL.match(other):
        shorter, longer = sorted((one, other), key=len)
        return len(shorter) >= 2 and longer.startswith(shorter) and len(longer) - len(shorter) <= 2
    length = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    endings = language.endings | {""}
    fewest = 3 if {one[length:], other[length:]} == {"", "s"} else 4
    return length >= fewest and one[length:] in endings and other[length:] in endings


def around(at: int, tokens: Sequence[Token], language: Language) -> tuple[str, str, str, str]:
    """Of the number at `at`: sign before, sign after, qualifier before, word behind (its unit)."""
    before = tokens[at - 1] if at else None
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    sign_before = (
        before.text if before is not None and before.kind == "sign" and before.text in {*CURRENCY, "+", "<", ">", "~", "≥", "≤"} else ""
    )
    place = at - 1 - bool(sign_before)
    word = tokens[place] if place >= 0 else None
    qualifier = word.text if word is not None and word.text in language.qualifiers else ""
    sign_after = after.text if after is not None and after.kind == "sign" and after.text not in ("<", ">", "~") else ""
    behind = tokens[at + 1 + bool(sign_after)] if at + 1 + bool(sign_after) < len(tokens) else None
    if behind is None or behind.kind != "word" or (behind.text in language.connecting and behind.text not in language.number_words):
        return sign_before, sign_after, qualifier, ""
    return sign_before, sign_after, qualifier, behind.text


__all__ = [
    "CURRENCY",
    "NAMES",
    "UNSPACED",
    "Kind",
    "Token",
    "around",
    "clauses",
    "find_whole",
    "folded",
    "joins",
    "kind_of",
    "needs_fact",
    "own_words",
    "same_word",
    "tokens_of",
]
