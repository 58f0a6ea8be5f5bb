"""Claims in scripts without blanks: does a clause say only what one statement of the brief says? A clause must be made of pieces of one
statement, names and connecting pieces, and keep the marks that limit what it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import regex

from agora.ads.brief import Fact
from agora.ads.copywriting.language import Language
from agora.ads.copywriting.verdicts import Blocked, Claim
from agora.ads.copywriting.words import NAMES, clauses, find_whole, folded, joins

_SHARE: Final = regex.compile(r"\p{N}+\p{Han}?[中にのうち]+\p{N}+")
"""3人に1人, 10人中9人: whom a share counts is not left out."""


def check_unspaced(
    clause: str, statements: Sequence[Fact], names: Sequence[Fact], language: Language, free: frozenset[str], field: str
) -> Claim | Blocked | None:
    """The statement that a clause rests on, or blocked; None where it claims nothing. `free`: words of the audience's topics."""
    text = "".join(folded(clause).split())
    marks = {mark for mark in (*language.negations, *language.qualifiers) if len(mark) > 1 or mark in "不无無没沒非未別别約约"}
    helpers = ["".join(folded(name.text).split()) for name in names]
    farthest, empty = "", ""
    for fact in (None, *statements):
        whole = "" if fact is None else "".join(folded(fact.text).split())
        rest = _cover(text, whole, helpers, language.connecting | free)
        if not rest:
            limits = {mark for mark in marks if mark in whole and mark not in text} if fact is not None and fact.id not in NAMES else set()
            limits |= {share for share in _SHARE.findall(whole) if share not in text}
            dropped = {mark for mark in limits if _limits(whole, mark, text, language)}
            if fact is None:
                return None
            if not dropped:
                return Claim(field=field, text=clause, fact=fact.id, source=fact.source)
            empty = sorted(dropped)[0]
        elif not farthest or len(rest) < len(farthest):
            farthest = rest
    if empty:
        return Blocked(reason=f"the fact says {empty!r}, which {clause!r} leaves out", field=field, text=clause)
    return Blocked(reason=f"{clause!r} is in no fact of the brief (from {farthest[:12]!r} on)", field=field, text=clause)


def _limits(fact: str, mark: str, text: str, language: Language) -> bool:
    """Whether a mark that the text lacks limits a clause of the fact that the text uses."""
    return any(mark in part and _shares(part, text) for part in clauses(fact))


def _shares(one: str, other: str) -> bool:
    return any(one[at : at + 2] in other for at in range(len(one) - 1))


def _cover(text: str, fact: str, names: Sequence[str], connecting: frozenset[str]) -> str:
    """What of `text` is left when it is covered from the left with pieces; empty when all is covered. Pieces never part a number."""
    reached = {0}
    for at in range(len(text)):
        if at not in reached:
            continue
        for end in range(at + 1, len(text) + 1):
            piece = text[at:end]
            if end < len(text) and _parts_word(text, end):
                continue
            if piece in connecting or piece in names or (piece in fact and (len(piece) > 1 or piece == fact) and _fits_whole(piece, fact)):
                reached.add(end)
    return "" if len(text) in reached else text[max(reached) :]


def _parts_word(text: str, at: int) -> bool:
    return joins(text[at - 1], text[at])


def _fits_whole(piece: str, fact: str) -> bool:
    """Whether the piece stands in the fact without cutting a number or a Latin word there."""
    return find_whole(fact, piece) >= 0


__all__ = ["check_unspaced"]
