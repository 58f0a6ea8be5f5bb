"""Does a claim leave out what narrows it in its fact? Goes in: a clause of a text and a fact. Comes out: the word that is missing, or
nothing.

    narrowed("30-day guarantee", "30-day guarantee", "30-day money-back guarantee", (), language_named("en"))     # "money"

What is promised (a guarantee, returns, delivery, a discount) holds with all that stands beside it: within how many days, on what, for
whom. So do a number "per person", a price "for two", an offer "for new customers", and what has to be done first ("buy two, get one").
What something is for stays as narrow as it is: "for dry hair" is not for all hair. And a quality belongs to its thing: "made with recycled
plastic" is not "recycled" (the last two in English and German, whose things stand behind their qualities). In doubt a claim is blocked.
Not covered: words that no list has (data/LANGUAGE.toml), languages without a list.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import regex

from agora.ads.copywriting.language import Language
from agora.ads.copywriting.words import Token, clauses, folded, needs_fact, same_word, tokens_of

_FREE: Final = regex.compile(r"(?<![-–\p{L}])free(?![-–]|\s+(?:of|from)\b)")
_OFF: Final = regex.compile(r"(?:[%€$£]|\b(?:percent|eur|euros?|dollars?|pounds?)|[€$£]\s?\p{N}[\p{N}.,]*)\s*off\b")
_NUMBER: Final = r"(?P<number>\p{N}+(?:[.,]\p{N}+)*)"
_PER: Final = {
    language: regex.compile(rf"{_NUMBER}\s*(?:\p{{L}}+|[%€$£¥])?\s*(?:\b(?:{words})\s+|/\s*)(?P<what>\p{{L}}{{2,}})")
    for language, words in (
        ("en", "per|a|an|each|every"), ("de", "pro|je|per"), ("fr", "par"), ("es", "por|al|a"), ("pt", "por|ao"), ("it", "a|al|alla|per"),
    )
}  # fmt: skip
_PRICE_FOR: Final = regex.compile(
    rf"(?:[€$£¥]\s?{_NUMBER}|{_NUMBER}\s?(?:[€$£¥]|(?:eur|usd|gbp|chf|euros?|dollars?|pounds?)\b))\s+(?:for|für|pour|para|plus|with|mit)\s+"
    r"(?:(?:a|an|the|ein|eine|das|die|le|la|les)\s+)?(?P<what>[\p{L}\p{N}]+(?:\s+\p{L}+)?)"
)
_FOR_PRICE: Final = regex.compile(
    rf"(?P<what>\p{{L}}{{3,}})\s(?:for|für|pour|por)\s(?:[€$£]\s?{_NUMBER}|{_NUMBER}\s?(?:[€$£]|(?:eur|usd|gbp|chf|euros?|dollars?|pounds?)\b))"
)
_BOUND: Final = regex.compile(
    r"\b(?P<what>start\p{L}*|low|little|least|most|more|less|fewer|fino|partire?|hasta|até|jusqu'\p{L}+|desde|dès|ab|bis|mindestens|höchstens)"
    rf"(?:\s(?:at|from|as|than|a|al|alla|da|de|un|una|um|uma|zu))*\s[€$£]?\s?{_NUMBER}"
)
_FIRST: Final = regex.compile(
    r"\b(?:for|in|on|für|in den|auf|pendant|durante|per|por)\s(?:\p{L}{2,4}\s)?(?P<what>first|ersten?|premi[eè]re?s?|primer\p{L}*"
    r"|prim[aei]\p{L}*)\b"
)
_OFFER: Final = regex.compile(r"[%€$£]|\b(?:free|half|off|price|discount|gratis|kostenlos|umsonst|rabatt|preis)\b")
_GROUP: Final = regex.compile(
    r"^\s*(?P<what>(?:students|members|kids|children|seniors|pensioners|subscribers|customers|newcomers|teachers|nurses|families|groups|guests"
    r"|kinder|studierende|studenten|mitglieder|schüler|senioren|rentner|kunden|familien|gruppen|gäste))\b"
)
_OVER: Final = frozenset(["over", "under", "above", "below", "from", "until", "ab", "über", "unter", "bis"])
_ARTICLES: Final = frozenset(["a", "an", "the", "its", "your", "our", "their", "der", "die", "das", "den", "dem", "des", "ein", "eine"])
_WITHIN: Final = frozenset(["within", "during", "innerhalb", "binnen", "während"])
_NEW: Final = regex.compile(
    r"\b(?:(?:new|first|registered|existing|loyal)[-\s](?:time\s)?(\p{L}*(?:customers?|members?|subscribers?|users?|clients?|patients?|orders?))"
    r"|(neukund\p{L}+|erstbesteller\p{L}*)|(?:neue[nr]?|registrierte[nr]?)\s(kund\p{L}+|mitglieder\p{L}*)"
    r"|nouve(?:aux|lles)\s(client\p{L}+|membres|abonnés)|nuev[oa]s\s(client\p{L}+|soci[oa]s|miembros|suscriptores)"
    r"|nuov[ie]\s(client[ie]|soci|iscritti)|nov[oa]s\s(clientes|sóci[oa]s|membros|assinantes))\b"
)
_BUY: Final = regex.compile(
    r"^\s*(?P<deed>(?:buy|order|spend|subscribe|sign up|register|kaufe?n?|bestellen?|achetez|compra|acquista|compre)\b[^,:–—]*?)"
    r"(?:,|:|–|—|\b(?:and|und|et|y|e)\b)\s*(?P<reward>.+)$"
)


def narrowed(clause: str, sentence: str, fact: str, own: Collection[str], language: Language) -> str:
    """The word of `fact` that narrows it and that a clause leaves out; empty for none. `sentence`: where the clause stands; `own`: words of
    the product's and the brand's names, which need not be said."""
    said, around = _words(clause, language), _words(sentence, language)
    needed = list(_deed(folded(fact), said, language))
    for part in clauses(fact):
        tokens = tokens_of(part, language)
        if any(_is_content(token, language) and _holds(said, token.text, language) for token in tokens):
            needed += [
                *_beside_promises(folded(part), tokens, said, language),
                *_per_what(folded(part), said, language),
                *_who(folded(part)),
            ]
            needed += [*_narrow_kind(tokens, said, language), *_things(tokens, said, own, language)]
    return next((word for word in needed if word not in own and not _holds(around, word, language)), "")


def _words(text: str, language: Language) -> frozenset[str]:
    return frozenset(token.text for token in tokens_of(text, language))


def _holds(words: Collection[str], word: str, language: Language) -> bool:
    return word in words or any(same_word(word, other, language) for other in words)


def _is_content(token: Token, language: Language) -> bool:
    if token.kind != "word":
        return True
    return token.text not in language.small and token.text not in language.manner and needs_fact(token, language, frozenset())


def _deed(fact: str, said: Collection[str], language: Language) -> Iterator[str]:
    """What has to be done first: "buy two, get one free"."""
    match = _BUY.match(fact)
    if match is not None and any(_holds(said, token.text, language) for token in _content(match["reward"], language)):
        yield from (token.text for token in _content(match["deed"], language))


def _content(text: str, language: Language) -> list[Token]:
    return [token for token in tokens_of(text, language) if _is_content(token, language)]


def _beside_promises(part: str, tokens: Sequence[Token], said: Collection[str], language: Language) -> Iterator[str]:
    """Words beside a promise that the clause makes: right before it, and all behind it but how it is kept."""
    is_english = language.code == "en"
    more = {word for word, found in (("free", _FREE), ("off", _OFF)) if is_english and found.search(part)}
    for at, token in enumerate(tokens):
        if token.text not in said or not (token.text in more or _listed(token.text, language.promises)):
            continue
        start = at
        while start and _is_content(tokens[start - 1], language) and tokens[start - 1].text not in {*language.giving, *more}:
            start -= 1
        yield from (before.text for before in tokens[start:at] if before.text not in language.easy)
        yield from _behind(tokens[at + 1 :], language)


def _behind(tokens: Sequence[Token], language: Language) -> Iterator[str]:
    """The telling words of `tokens`, but for those that say how ("by bike") and what only stands beside ("and gift wrapping")."""
    is_free, before = False, ""
    for token in tokens:
        if _is_content(token, language):
            if not is_free:
                yield token.text
        elif token.text in language.small and token.text not in _ARTICLES:
            is_free = False
        elif before not in language.small:
            is_free = token.text in language.manner or (bool(language.small) and token.text not in _ARTICLES) or is_free
        before = token.text


def _per_what(part: str, said: Collection[str], language: Language) -> Iterator[str]:
    """What a number that the clause says is for, or how it is bounded."""
    for pattern in (_PER.get(language.code, _BOUND), _PRICE_FOR, _FOR_PRICE, _BOUND):
        for match in pattern.finditer(part):
            if match["number"] in said:
                yield from (word for word in match["what"].split() if word not in language.connecting)
    words = regex.findall(r"[\p{L}\p{N}.,]+", part)
    if any(word in said for word in words if word[0].isdigit()):
        yield from (word for word in words if word in language.when)


def _who(part: str) -> Iterator[str]:
    """For whom an offer is, and for what time: the customers of "for new customers", the students of "students travel free"."""
    for match in _NEW.finditer(part):
        yield next(group for group in match.groups() if group)
    yield from (match["what"] for match in _FIRST.finditer(part))
    if (group := _GROUP.match(part)) and _OFFER.search(part):
        yield group["what"]


def _narrow_kind(tokens: Sequence[Token], said: Collection[str], language: Language) -> Iterator[str]:
    """Words that narrow what something is for, or when it holds: the wet of "for wet rock", all of "within 14 days"."""
    for at, token in enumerate(tokens):
        if token.text in _WITHIN:
            yield from (one.text for one in _thing(tokens[at + 1 :], language))
        if token.text in _OVER:
            yield from (one.text for one in tokens[at + 1 : at + 2] if one.text in language.number_words)
        phrase = _thing(tokens[at + 1 :], language) if token.text in language.meant_for else []
        if phrase and _holds(said, phrase[-1].text, language):
            yield from (one.text for one in phrase[:-1])


def _things(tokens: Sequence[Token], said: Collection[str], own: Collection[str], language: Language) -> Iterator[str]:
    """Things whose quality a clause says without them."""
    for at, token in enumerate(tokens):
        is_verb = at == 0 and language.code == "en" and token.text.endswith("s") and not token.text.endswith("ss")
        if is_verb or not _is_content(token, language) or (at and not _begins(tokens[at - 1], language)):
            continue
        phrase = _thing(tokens[at:], language)
        is_said = any(one.kind == "word" and _holds(said, one.text, language) for one in phrase[:-1])
        if is_said and phrase[-1].kind == "word" and phrase[-1].text not in own:
            yield phrase[-1].text


def _begins(before: Token, language: Language) -> bool:
    """Whether the word behind `before` may begin a thing."""
    return before.text in language.small or before.text in language.manner or before.text in language.giving


def _thing(tokens: Sequence[Token], language: Language) -> list[Token]:
    """The words at the beginning of `tokens` that name one thing, itself last; empty for none. In English up to the next small word,
    without adverbs at the end; in German adjectives up to the next word with a capital. Other languages name the thing first."""
    found: list[Token] = []
    for at, token in enumerate(tokens if language.small else ()):
        is_deed = at > 0 and token.text.endswith("ed") and (at + 1 == len(tokens) or not _is_content(tokens[at + 1], language))
        is_end = not _is_content(token, language) or token.text in language.passing or (is_deed and language.code == "en")
        if is_end and found:
            break
        if not is_end:
            found.append(token)
            if language.code == "de" and token.kind == "word" and (token.is_capital or not regex.fullmatch(r"\p{L}+e[nmrs]?", token.text)):
                break
    if language.code == "de":
        return found if found and found[-1].is_capital else []
    while found and (found[-1].kind != "word" or _listed(found[-1].text, language.passing)):
        found.pop()
    return found


def _listed(word: str, entries: frozenset[str]) -> bool:
    return bool(_pattern(entries).fullmatch(word))


@functools.cache
def _pattern(entries: frozenset[str]) -> regex.Pattern[str]:
    return regex.compile("|".join(sorted(regex.escape(entry).replace(r"\*", r"\p{L}*") for entry in entries)) or r"\0")


__all__ = ["narrowed"]
