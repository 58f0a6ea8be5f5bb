"""Does a claim leave out what limits it in its fact? Goes in: a clause of a text and a fact. Comes out: the word that is
missing, or nothing.

    left_out("any sugar", "hardly any sugar", language_named("en"))     # "hardly"

A condition ("if", "only", "except") belongs to its whole sentence. Denials, hard and soft, and weakening words belong to their part between
commas; a denial goes on over the list behind it ("without sugar, gluten or lactose"), up to a "but". Shares ("1 in 4", "30%") belong to
their part, as do bounds behind something ("delivery over $50"); what is said behind a price ("per month for 12 months") belongs to the
price. In doubt a claim is blocked. Not covered: soft denials in languages other than English and German; limits in words that no list has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import regex

from agora.ads.copywriting.language import Language

_WORD: Final = regex.compile(r"[\p{L}\p{M}]+(?:'[\p{L}\p{M}]+)*|\p{N}+(?:[.,]\p{N}+)*|[€$£¥%]")
_SENTENCE: Final = regex.compile(r"[.!?;](?!\p{N})|[–—|()]")
_COMMA: Final = regex.compile(r",(?!\p{N})")
_AND: Final = regex.compile(
    r"\s(?:and|or|und|oder)\s+(?=(?:not|no|never|without|nicht|kein\p{L}*|nie|ohne)\b)|\s(?=(?:but|yet|aber|sondern|jedoch)\s)"
)
_TURNS: Final = frozenset({"but", "yet", "aber", "sondern", "jedoch"})
_SHARE: Final = regex.compile(r"(\p{N}+)\s+(?:in|of|out of|von|aus)\s+(?:\p{L}+\s+)?(\p{N}+)|(\p{N}+(?:[.,]\p{N}+)?)\s?%")
_BOUND: Final = regex.compile(
    r"\p{L}\s(?:from|over|above|under|below|until|till|up to|at least|ab|über|unter|bis zu|bis|mindestens|höchstens|dès|à partir de"
    r"|jusqu'(?:à|au)|desde|hasta|a partir de|a partire da|fino a|da|até)\s+"
    r"[€$£]?\s?(\p{N}+(?:[.,]\p{N}+)*)"
)
"""A bound behind what it limits: "free delivery over $50", "for children from 6 years"."""
_PRICE: Final = regex.compile(r"[€$£¥]|\b(?:eur|usd|gbp|chf|euros?|dollars?|pounds?|franken)\b")


def left_out(clause: str, sentence: str, fact: str, said: Collection[str], language: Language) -> str:
    """The limit of `fact` that a clause leaves out; empty for none. `said`: the telling words of the clause; `sentence`: where it stands.
    All are folded."""
    ours, around = frozenset[str](_WORD.findall(clause)), frozenset[str](_WORD.findall(sentence))
    for whole in _SENTENCE.split(fact):
        if not _touches(whole, said):
            continue
        for word in map(str, _WORD.findall(whole)):
            if word in language.conditions and word not in around:
                return word
        for part, inherited in _parts(whole, language):
            if _touches(part, said) and (missing := _missing_in(part, inherited, ours, language)):
                return missing
    return ""


def _parts(sentence: str, language: Language) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The parts of a sentence, each with the denials that reach it from the parts before."""
    reaching: tuple[str, ...] = ()
    for comma in _COMMA.split(sentence):
        for part in _AND.split(comma):
            words = _WORD.findall(part)
            if words and words[0] in _TURNS:
                reaching = ()
            yield part, reaching
            reaching += _denials(words, language)


def _denials(words: Sequence[str], language: Language) -> tuple[str, ...]:
    """Words that deny: of "free" that of "sugar free" and "free from sugar", not that of "free returns"."""
    found = [word for word in words if word != "free" and (word in language.negations or word.endswith("n't") or word in _SOFT)]
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        is_praise = not before or before in language.connecting or before in language.small or before in language.giving
        if word == "free" and word in language.negations and (not is_praise or after in ("of", "from")):
            found.append(word)
    return tuple(found)


_SOFT: Final = frozenset(["hardly", "barely", "scarcely", "rarely", "seldom", "few", "fails", "fail", "kaum", "selten", "wenig", "wenige"])


def _missing_in(part: str, inherited: tuple[str, ...], ours: Collection[str], language: Language) -> str:
    words = _WORD.findall(part)
    limits = [
        word for before, word in zip(["", *words], words, strict=False) if word in language.limits and (before, word) != ("you", "can")
    ]
    marks = limits + [word for word in _denials(words, language) if word not in ("un", "non")]
    needed = [*inherited, *marks, *(number for match in _SHARE.finditer(part) for number in match.groups() if number)]
    needed += [match.group(1) for match in _BOUND.finditer(part)]
    if (price := _PRICE.search(part)) and any(word in ours for word in words if word[0].isdigit()):
        behind = _WORD.findall(part[price.end() :])
        is_timed = any(word in language.periods for word in behind)
        needed += [word for word in behind if is_timed and (word in language.periods or (word[0].isdigit() and price.group().isalpha()))]
    return next((word for word in needed if word not in ours), "")


def _touches(text: str, said: Collection[str]) -> bool:
    words = _WORD.findall(text)
    return any(
        word == one or (len(one) > 3 and (word.startswith(one) or (len(word) > 3 and one.startswith(word))))
        for word in words
        for one in said
    )


__all__ = ["left_out"]
