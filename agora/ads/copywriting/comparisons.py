"""Does a claim compare as its fact does? Goes in: a clause and a fact, as texts and as their telling words. Comes out: whether nothing was
turned round.

    turned("a cup weighs less than the shoe", "the shoe weighs less than a cup", said, told, "en")     # True
    out_of_order(["3", "2"], ["2", "3"])                                                              # True: "3 for the price of 2"

Not covered: comparisons without a word for them ("the cup or the shoe: guess which is lighter"), languages other than those below.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import regex

_COMPARING: Final = {
    "en": r"\bthan\b",
    "de": r"\b(?:mehr|weniger|\p{L}{3,}er)\b[^.!?]{0,25}?\bals\b",
    "fr": r"\b(?:plus|moins|davantage|meilleure?s?)\b[^.!?]{0,25}?\bqu(?:e\b|')",
    "es": r"\b(?:más|menos|mejor|peor|mayor|menor)\b[^.!?]{0,25}?\bque\b",
    "pt": r"\b(?:mais|menos|melhor|pior|maior|menor)\b[^.!?]{0,25}?\bque\b",
    "it": r"\b(?:più|meno|meglio|migliore|peggio)\b[^.!?]{0,25}?\b(?:che|di|del|della)\b",
}
_COMPARED: Final = {"en": r"\b(?P<how>\p{L}+)\s+(?P<than>than)\b", "de": r"\b(?P<how>mehr|weniger|\p{L}{3,}er)\s+(?P<than>als)\b"}
"""The word that compares, where it stands right before "than"."""
_WORD: Final = regex.compile(r"[\p{L}\p{M}]+|\p{N}+(?:[.,]\p{N}+)*")


def turned(clause: str, fact: str, said: Sequence[str], told: Sequence[str], language: str) -> bool:
    """Whether the clause compares and the fact does not, or with something else, or the other way round. `said`, `told`: the telling
    words of clause and fact in their order. All are folded."""
    pattern = _COMPARING.get(language)
    ours = regex.search(pattern, clause) if pattern else None
    if ours is None:
        return False
    theirs = regex.search(str(pattern), fact)
    if theirs is None:
        return True
    with_what, with_what_there = set(_WORD.findall(clause[ours.end() :])), set(_WORD.findall(fact[theirs.end() :]))
    is_open = not with_what & set(said) and bool(with_what_there & set(told))
    return is_open or not with_what <= with_what_there or out_of_order(said, told)


def without_what(clause: str, fact: str, language: str) -> str:
    """The comparing word ("than") that a clause leaves out though it says the word compared by ("lighter"); empty for none."""
    pattern = _COMPARED.get(language)
    if pattern is None or regex.search(pattern, clause):
        return ""
    said = set(_WORD.findall(clause))
    return next((str(match["than"]) for match in regex.finditer(pattern, fact) if match["how"] in said), "")


def out_of_order(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    """Whether the words that both hold stand in another order. Words that `theirs` lacks are passed over."""
    rest = iter(theirs)
    return not all(word in rest for word in ours if word in theirs)


__all__ = ["out_of_order", "turned", "without_what"]
