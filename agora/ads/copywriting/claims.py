"""Does a text say anything that the brief does not? Goes in: a text, and what the brief states. Comes out: for each clause the fact that it
rests on, or why it is blocked.

A clause passes when ONE statement of the brief holds everything that it says: every number with its unit, sign and qualifier ("up to"),
every name, every superlative together with what it is about, every other word. Free are words that claim nothing (articles, connecting
words of data/*.toml), names of product and brand, and the audience's topics. What a fact denies may not be affirmed, nor the reverse, and
what limits or narrows the fact travels with the claim (qualifiers.py, narrowing.py). Comparisons and numbers keep the order of the fact
(comparisons.py). Signs that claim ("#1", a gold medal, five stars) need a fact as words do (symbols.py).

Not covered: a fact that is false, and other meaning that only the order of words makes ("dogs for children", "children for dogs").
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import regex

from agora.ads.brief import Fact
from agora.ads.copywriting.comparisons import out_of_order, turned, without_what
from agora.ads.copywriting.language import Language, language_named
from agora.ads.copywriting.narrowing import narrowed
from agora.ads.copywriting.qualifiers import left_out
from agora.ads.copywriting.symbols import plain_signs, unsupported_signs
from agora.ads.copywriting.unspaced import check_unspaced
from agora.ads.copywriting.verdicts import Blocked, Claim
from agora.ads.copywriting.words import (
    NAMES,
    UNSPACED,
    Token,
    around,
    clauses,
    find_whole,
    folded,
    kind_of,
    needs_fact,
    own_words,
    same_word,
    tokens_of,
)

_SENTENCE: Final = regex.compile(r"[.!?;…\n。！？；](?!\d)")
_ENDS: Final = regex.compile(r"(?:^|[!?;:|()\[\]{}…\"“”„«»¡¿、，。！？；：「」『』（）,.]|[–—]|\s-)\s*$")
_BEGINS: Final = regex.compile(r"\s*(?:$|[!?;:|()\[\]{}…\"“”„«»¡¿、，。！？；：「」『』（）,.]|[–—]|-\s)")
"""Where a clause is open to the left, and closed to the right."""
_EMPHASIS: Final = frozenset(["just", "only", "nur", "bloß", "seulement", "solo", "sólo", "solamente", "apenas", "soltanto"])
"""Before a number they limit nothing that the fact does not say."""
_ONE: Final = frozenset(["one", "ein", "eine", "einen", "eins", "un", "une", "uno", "una", "um", "uma"])
_MORE: Final = frozenset(["more", "less", "mehr", "weniger", "plus", "moins", "más", "menos", "mais", "più", "meno"])
"""They compare, though "see more" does not: beside what a fact says they need it too."""


def trace(text: str, statements: Sequence[Fact], language: str, *, topics: Iterable[str] = (), field: str = "") -> list[Claim | Blocked]:
    """Each clause of `text` that says something, with the statement it rests on, or blocked."""
    spoken, written, stated = language_named(language), text, statements
    text, statements = plain_signs(text), [replace(one, text=plain_signs(one.text)) for one in statements]
    names = [one for one in statements if one.id in NAMES]
    free = frozenset(word for topic in topics for word in folded(topic).split())
    found: list[Claim | Blocked] = []
    for clause, sentence in _clauses_in_sentences(_without_statements(text, statements)):
        result = _check(clause, sentence, statements, names, spoken, free, field)
        if result is not None:
            found.append(result)
    for whole in _whole_statements(text, statements):
        found.append(Claim(field=field, text=whole.text, fact=whole.id, source=whole.source))
    told = {*NAMES, *(one.fact for one in found if isinstance(one, Claim))}
    for sign in unsupported_signs(written, [one for one in stated if one.id in told], spoken):
        reason = f"the sign {sign.text!r} says {sign.says}, and no fact that stands beside it does"
        found.append(Blocked(reason=reason, field=field, text=sign.text))
    return found


def blocked_in(text: str, statements: Sequence[Fact], language: str, *, topics: Iterable[str] = (), field: str = "") -> Blocked | None:
    """The first clause that the brief does not carry, or None."""
    return next((one for one in trace(text, statements, language, topics=topics, field=field) if isinstance(one, Blocked)), None)


def unsupported(
    text: str, statements: Sequence[Fact], language: str, *, is_superlative: Callable[[str], bool] | None = None
) -> list[Blocked]:
    """Numbers, prices and (by `is_superlative`) superlatives of a text that no single statement has. Other words are not looked at."""
    spoken = language_named(language)
    text, statements = plain_signs(text), [replace(one, text=plain_signs(one.text)) for one in statements]
    own = own_words([one for one in statements if one.id in NAMES], spoken)
    found = []
    for clause in clauses(_without_statements(text, statements)):
        for token in tokens_of(clause, spoken):
            kind = "number" if token.kind == "number" else kind_of(token, spoken)
            counted = token.kind == "number" or (is_superlative is not None and token.kind == "word" and is_superlative(token.text))
            if counted and all(
                _missing([token], clause, fact, own, spoken)
                or _turns_numbers(tokens_of(clause, spoken), tokens_of(fact.text, spoken), spoken)
                for fact in statements
            ):
                shown = _shown(token, clause)
                found.append(Blocked(reason=f"the {kind} {shown!r} is in no fact of the brief", field="", text=shown))
    return found


def _clauses_in_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Each clause, with the sentence that it stands in."""
    for sentence in _SENTENCE.split(text):
        for clause in clauses(sentence):
            yield clause, sentence


def _whole_statements(text: str, statements: Sequence[Fact]) -> list[Fact]:
    plain = folded(text)
    return [one for one in statements if find_whole(plain, folded(one.text)) >= 0]


def _without_statements(text: str, statements: Sequence[Fact]) -> str:
    """`text` without what needs no further look: names, and statements that stand there as clauses of their own."""
    plain = unicodedata.normalize("NFKC", text)
    for one in sorted(statements, key=lambda one: -len(one.text)):
        sought, start = folded(one.text), 0
        while len(folded(plain)) == len(plain) and (place := find_whole(folded(plain), sought, start)) >= 0:
            end = place + len(sought)
            is_name = one.id in NAMES
            if is_name or (_ENDS.search(plain[:place]) and _BEGINS.match(plain[end:])):
                mark = " " if is_name and not UNSPACED.search(plain) else " ; "
                plain, start = plain[:place] + mark + plain[end:], place
            else:
                start = place + 1
    return plain


def _check(
    clause: str, sentence: str, statements: Sequence[Fact], names: Sequence[Fact], language: Language, free: frozenset[str], field: str
) -> Claim | Blocked | None:
    if folded(clause) in language.phrases:
        return None
    if UNSPACED.search(clause):
        return check_unspaced(clause, statements, names, language, free, field)
    said = [token for token in tokens_of(clause, language) if needs_fact(token, language, free)]
    if not said:
        return None
    problem, limit, is_turned = "", "", ""
    own = own_words(names, language)
    for fact in statements:
        problem_here = _missing(said, clause, fact, own, language)
        if not problem_here and _turns(said, clause, fact, own, language):
            problem_here = is_turned = "order"
        problem_here = problem_here or _compares(clause, fact, language)
        if not problem_here and fact.id not in NAMES:
            telling = {token.text for token in said if token.text not in own}
            dropped = left_out(folded(clause), folded(sentence), folded(fact.text), telling, language)
            dropped = dropped or narrowed(clause, sentence, fact.text, own, language)
            limit = limit or dropped
            problem_here = dropped and f"limit {dropped}"
        limit = limit or problem_here.partition("limit ")[2]
        if not problem_here:
            return Claim(field=field, text=clause, fact=fact.id, source=fact.source)
        problem = problem or problem_here
    if limit:
        return Blocked(reason=f"the fact says {limit!r}, which {clause!r} leaves out", field=field, text=clause)
    if is_turned:
        return Blocked(reason=f"{clause!r} compares or counts otherwise than the fact: say it in its order", field=field, text=clause)
    return Blocked(reason=_reason(said, statements, own, language, clause), field=field, text=clause)


def _compares(clause: str, fact: Fact, language: Language) -> str:
    """What is wrong where a clause says "more" of something and its fact does not, or "lighter" without "than what"."""
    if fact.id in NAMES:
        return ""
    ours, theirs = ({one.text for one in tokens_of(text, language)} for text in (clause, fact.text))
    if more := sorted((ours & _MORE) - theirs):
        return f"word {more[0]}"
    dropped = without_what(folded(clause), folded(fact.text), language.code)
    return f"limit {dropped}" if dropped else ""


def _turns(said: Sequence[Token], clause: str, fact: Fact, own: Collection[str], language: Language) -> bool:
    """Whether the clause has all words of the fact and says them the other way round."""
    whole = tokens_of(fact.text, language)
    told = [token.text for token in whole if needs_fact(token, language, frozenset())]
    ours = [token.text for token in said if token.text not in own]
    is_compared = turned(folded(clause), folded(fact.text), ours, told, language.code)
    return is_compared or _turns_numbers(tokens_of(clause, language), whole, language)


def _turns_numbers(clause: Sequence[Token], fact: Sequence[Token], language: Language) -> bool:
    """Whether numbers that no unit tells apart stand in another order than in the fact."""
    places = [at for at, one in enumerate(clause) if _counts(one, language)]
    units = [around(at, clause, language)[3] for at in places]
    if len(set(units)) == len(units) and all(clause[at].kind == "number" for at in places):
        return False
    return out_of_order([clause[at].text for at in places], [one.text for one in fact if _counts(one, language)])


def _counts(token: Token, language: Language) -> bool:
    """Whether it is a number, in digits or as a word."""
    return token.kind == "number" or token.text in language.number_words or token.text in _ONE


def _reason(said: Sequence[Token], statements: Sequence[Fact], own: Collection[str], language: Language, clause: str) -> str:
    """The most telling reason: a part that no fact has at all comes first."""
    for token in said:
        alone = [_missing([token], clause, fact, own, language) for fact in statements]
        if all(alone):
            return f"the {kind_of(token, language)} {_shown(token, clause)!r} is in no fact of the brief"
    return f"no single fact says all of {clause!r}: it joins what different facts say"


def _shown(token: Token, clause: str) -> str:
    place = clause.casefold().find(token.text)
    return clause[place : place + len(token.text)] if place >= 0 else token.text


def _missing(said: Sequence[Token], clause: str, fact: Fact, own: Collection[str], language: Language) -> str:
    """What of `said` this fact does not hold; empty when it holds all."""
    whole = tokens_of(fact.text, language)
    clause_tokens = tokens_of(clause, language)
    is_name = fact.id in NAMES
    for token in said:
        if token.kind == "number":
            if not _same_number(token, clause_tokens, whole, language) and not _numbers_name(token, clause_tokens, own):
                return f"number {token.text}"
        elif token.kind == "sign":
            if not any(other.kind == "sign" and other.text == token.text for other in whole):
                return f"sign {token.text}"
        elif token.text in own and not language.is_superlative(token.text):
            continue
        elif language.is_superlative(token.text):
            if not _same_neighbour(token, clause_tokens, whole, language):
                return f"superlative {token.text}"
            if not is_name and (dropped := _scope_left_out(token, clause_tokens, fact.text, own, language)):
                return f"limit {dropped}"
        elif not any(same_word(token.text, other.text, language) and (is_name or token.is_denied == other.is_denied) for other in whole):
            return f"word {token.text}"
    return ""


def _numbers_name(token: Token, clause: Sequence[Token], own: Collection[str]) -> bool:
    """Whether a number stands in the clause as part of a name each time."""
    beside = [(clause[max(0, at - 1) : at], one, clause[at + 1 : at + 2]) for at, one in enumerate(clause) if one.text == token.text]
    return all(
        any(f"{other.text} {one.text}" in own for other in before) or any(f"{one.text} {other.text}" in own for other in after)
        for before, one, after in beside
    )


def _same_number(token: Token, clause: Sequence[Token], fact: Sequence[Token], language: Language) -> bool:
    """Whether the number stands in the fact with the same signs, qualifier and unit, wherever it stands in the clause."""
    theirs = [around(at, fact, language) for at, one in enumerate(fact) if one.kind == "number" and one.text == token.text]
    ours = [around(at, clause, language) for at, one in enumerate(clause) if one.kind == "number" and one.text == token.text]
    ours = [(one[0], one[1], "" if one[2] in _EMPHASIS and all(not other[2] for other in theirs) else one[2], one[3]) for one in ours]
    return all(
        any(mine[:3] == other[:3] and (mine[3] == other[3] or same_word(mine[3], other[3], language)) for other in theirs) for mine in ours
    )


def _same_neighbour(token: Token, clause: Sequence[Token], fact: Sequence[Token], language: Language) -> bool:
    """Whether the fact says the superlative about the same word: the next one that is not a connecting word, or the one before."""

    def neighbours(tokens: Sequence[Token]) -> list[tuple[str, str]]:
        content = [one for one in tokens if language.is_superlative(one.text) or needs_fact(one, language, frozenset())]
        return [
            (content[at - 1].text if at else "", content[at + 1].text if at + 1 < len(content) else "")
            for at, one in enumerate(content)
            if same_word(one.text, token.text, language)
        ]

    return all(
        any((mine[1] == other[1] and (mine[1] or mine[0] == other[0])) for other in neighbours(fact)) for mine in neighbours(clause)
    ) and bool(neighbours(fact))


def _scope_left_out(token: Token, clause: Sequence[Token], fact: str, own: Collection[str], language: Language) -> str:
    """A word of the fact's clause behind a superlative that this clause lacks: "the fastest" of which, where, when."""
    dropped = ""
    for part in clauses(fact):
        tokens = tokens_of(part, language)
        at = next((at for at, one in enumerate(tokens) if same_word(one.text, token.text, language)), None)
        if at is None:
            continue
        scope = [one for one in tokens[at + 1 :] if needs_fact(one, language, frozenset()) and one.text not in own]
        here = next((one.text for one in scope if not any(same_word(one.text, other.text, language) for other in clause)), "")
        if not here:
            return ""
        dropped = dropped or here
    return dropped


__all__ = ["NAMES", "Blocked", "Claim", "blocked_in", "trace", "unsupported"]
