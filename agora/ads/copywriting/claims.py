"""Does a text say anything that the brief does not? Goes in: a text, and what the brief states. Comes out: for each clause the fact that it
rests on, or why it is blocked.

A clause passes when ONE statement of the brief holds everything that it says: every number with its unit, sign and qualifier ("up to"),
every name, every superlative together with what it is about, every other word. Free are words that claim nothing (articles, connecting
words of data/*.toml), names of product and brand, and the audience's topics. What a fact denies may not be affirmed, nor the reverse, and
what limits the fact travels with the claim (qualifiers.py). Comparisons and numbers keep the order of the fact (comparisons.py).

Not covered: a fact that is false, and other meaning that only the order of words makes ("dogs for children", "children for dogs").
"""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import regex

from agora.ads.brief import Fact
from agora.ads.copywriting.comparisons import out_of_order, turned, without_what
from agora.ads.copywriting.language import Language, language_named
from agora.ads.copywriting.qualifiers import left_out
from agora.ads.copywriting.shorten import without_emoji

Kind = Literal["number", "price", "name", "superlative", "claim"]
NAMES: Final = ("product", "short_name", "brand", "call_to_action")
"""Statements that any clause may name, whatever fact it rests on."""

_CLAUSE: Final = regex.compile(r"[!?;:|()\[\]{}…\n\"“”„«»¡¿、，。！？；：「」『』（）]+|[,.](?!\d)|\s[–—-]\s|—")
_SENTENCE: Final = regex.compile(r"[.!?;…\n。！？；](?!\d)")
_ENDS: Final = regex.compile(r"(?:^|[!?;:|()\[\]{}…\"“”„«»¡¿、，。！？；：「」『』（）,.]|[–—]|\s-)\s*$")
_BEGINS: Final = regex.compile(r"\s*(?:$|[!?;:|()\[\]{}…\"“”„«»¡¿、，。！？；：「」『』（）,.]|[–—]|-\s)")
"""Where a clause is open to the left, and closed to the right."""
_TOKEN: Final = regex.compile(
    r"(?P<number>(?:(?<!\S)[-−])?\p{N}+(?:[.,:/×'’ \u202f–-]\p{N}+)*)|(?P<word>[\p{L}\p{M}]+(?:['’][\p{L}\p{M}]+)*)"
    r"|(?P<sign>[%‰°℃℉€$£¥₩₹+★<>≥≤~#&@*†])"
)
_UNSPACED: Final = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]")
_SHARE: Final = regex.compile(r"\p{N}+\p{Han}?[中にのうち]+\p{N}+")
"""3人に1人, 10人中9人: whom a share counts is not left out."""
_HANGUL: Final = regex.compile(r"\p{Hangul}")
_ELISION: Final = regex.compile(r"^(?:l|d|j|n|s|t|c|m|qu|un|dell|nell|all|sull|o)['’](?=\p{L}{2})")
_CURRENCY: Final = frozenset("€$£¥₩₹")
_SILENT: Final = frozenset("&*†@#")
_REACH: Final = 3
"""How many words before a word still deny it."""
_EMPHASIS: Final = frozenset(["just", "only", "nur", "bloß", "seulement", "solo", "sólo", "solamente", "apenas", "soltanto"])
"""Before a number they limit nothing that the fact does not say."""


_ONE: Final = frozenset(["one", "ein", "eine", "einen", "eins", "un", "une", "uno", "una", "um", "uma"])
_MORE: Final = frozenset(["more", "less", "mehr", "weniger", "plus", "moins", "más", "menos", "mais", "più", "meno"])
"""They compare, though "see more" does not: beside what a fact says they need it too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One clause of a text, and the statement that it rests on."""

    field: str
    text: str
    fact: str
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """Why a text may not be shown. `text` is the part at fault."""

    reason: str
    field: str
    text: str


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    is_capital: bool
    is_denied: bool


def trace(text: str, statements: Sequence[Fact], language: str, *, topics: Iterable[str] = (), field: str = "") -> list[Claim | Blocked]:
    """Each clause of `text` that says something, with the statement it rests on, or blocked."""
    spoken = language_named(language)
    text, statements = without_emoji(text), [replace(one, text=without_emoji(one.text)) for one in statements]
    names = [one for one in statements if one.id in NAMES]
    free = frozenset(word for topic in topics for word in _folded(topic).split())
    found: list[Claim | Blocked] = []
    for clause, sentence in _clauses_in_sentences(_without_statements(text, statements)):
        result = _check(clause, sentence, statements, names, spoken, free, field)
        if result is not None:
            found.append(result)
    for whole in _whole_statements(text, statements):
        found.append(Claim(field=field, text=whole.text, fact=whole.id, source=whole.source))
    return found


def blocked_in(text: str, statements: Sequence[Fact], language: str, *, topics: Iterable[str] = (), field: str = "") -> Blocked | None:
    """The first clause that the brief does not carry, or None."""
    return next((one for one in trace(text, statements, language, topics=topics, field=field) if isinstance(one, Blocked)), None)


def unsupported(
    text: str, statements: Sequence[Fact], language: str, *, is_superlative: Callable[[str], bool] | None = None
) -> list[Blocked]:
    """Numbers, prices and (by `is_superlative`) superlatives of a text that no single statement has. Other words are not looked at."""
    spoken = language_named(language)
    text, statements = without_emoji(text), [replace(one, text=without_emoji(one.text)) for one in statements]
    own = _own([one for one in statements if one.id in NAMES], spoken)
    found = []
    for clause in clauses(_without_statements(text, statements)):
        for token in _tokens(clause, spoken):
            kind = "number" if token.kind == "number" else kind_of(token, spoken)
            counted = token.kind == "number" or (is_superlative is not None and token.kind == "word" and is_superlative(token.text))
            if counted and all(
                _missing([token], clause, fact, own, spoken) or _turns_numbers(_tokens(clause, spoken), _tokens(fact.text, spoken), spoken)
                for fact in statements
            ):
                shown = _shown(token, clause)
                found.append(Blocked(reason=f"the {kind} {shown!r} is in no fact of the brief", field="", text=shown))
    return found


def clauses(text: str) -> Iterator[str]:
    """Parts of a text between marks that end a thought."""
    for part in _CLAUSE.split(unicodedata.normalize("NFKC", text)):
        if part and part.strip():
            yield part.strip()


def _clauses_in_sentences(text: str) -> Iterator[tuple[str, str]]:
    """Each clause, with the sentence that it stands in."""
    for sentence in _SENTENCE.split(text):
        for clause in clauses(sentence):
            yield clause, sentence


def _whole_statements(text: str, statements: Sequence[Fact]) -> list[Fact]:
    plain = _folded(text)
    return [one for one in statements if _find_whole(plain, _folded(one.text)) >= 0]


def _without_statements(text: str, statements: Sequence[Fact]) -> str:
    """`text` without what needs no further look: names, and statements that stand there as clauses of their own."""
    plain = unicodedata.normalize("NFKC", text)
    for one in sorted(statements, key=lambda one: -len(one.text)):
        sought, start = _folded(one.text), 0
        while len(_folded(plain)) == len(plain) and (place := _find_whole(_folded(plain), sought, start)) >= 0:
            end = place + len(sought)
            is_name = one.id in NAMES
            if is_name or (_ENDS.search(plain[:place]) and _BEGINS.match(plain[end:])):
                mark = " " if is_name and not _UNSPACED.search(plain) else " ; "
                plain, start = plain[:place] + mark + plain[end:], place
            else:
                start = place + 1
    return plain


def _find_whole(text: str, sought: str, start: int = 0) -> int:
    """Where `sought` stands in `text` as whole words; -1 for nowhere. A name that ends in a digit is not found inside a longer number."""
    while sought and (place := text.find(sought, start)) >= 0:
        before, after = text[place - 1 : place], text[place + len(sought) : place + len(sought) + 1]
        cut = (_joins(before, sought[0]), _joins(sought[-1], after))
        if not any(cut):
            return place
        start = place + 1
    return -1


def _joins(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word or number."""
    if not left or not right or (_UNSPACED.match(left) and not right.isdigit()) or (_UNSPACED.match(right) and not left.isdigit()):
        return False
    return (left.isalnum() and right.isalnum()) or (left.isdigit() and right in "%‰°") or (left in "+-−–€$£¥" and right.isdigit())


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().replace("’", "'")


def _check(
    clause: str, sentence: str, statements: Sequence[Fact], names: Sequence[Fact], language: Language, free: frozenset[str], field: str
) -> Claim | Blocked | None:
    if _folded(clause) in language.phrases:
        return None
    if _UNSPACED.search(clause):
        return _check_unspaced(clause, statements, names, language, free, field)
    said = [token for token in _tokens(clause, language) if _needs_fact(token, language, free)]
    if not said:
        return None
    problem, limit, is_turned = "", "", ""
    own = _own(names, language)
    for fact in statements:
        problem_here = _missing(said, clause, fact, own, language)
        if not problem_here and _turns(said, clause, fact, own, language):
            problem_here = is_turned = "order"
        problem_here = problem_here or _compares(clause, fact, language)
        if not problem_here and fact.id not in NAMES:
            telling = {token.text for token in said if token.text not in own}
            dropped = left_out(_folded(clause), _folded(sentence), _folded(fact.text), telling, language)
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
    ours, theirs = ({one.text for one in _tokens(text, language)} for text in (clause, fact.text))
    if more := sorted((ours & _MORE) - theirs):
        return f"word {more[0]}"
    dropped = without_what(_folded(clause), _folded(fact.text), language.code)
    return f"limit {dropped}" if dropped else ""


def _turns(said: Sequence[_Token], clause: str, fact: Fact, own: Collection[str], language: Language) -> bool:
    """Whether the clause has all words of the fact and says them the other way round."""
    whole = _tokens(fact.text, language)
    told = [token.text for token in whole if _needs_fact(token, language, frozenset())]
    ours = [token.text for token in said if token.text not in own]
    is_compared = turned(_folded(clause), _folded(fact.text), ours, told, language.code)
    return is_compared or _turns_numbers(_tokens(clause, language), whole, language)


def _turns_numbers(clause: Sequence[_Token], fact: Sequence[_Token], language: Language) -> bool:
    """Whether numbers that no unit tells apart stand in another order than in the fact."""
    places = [at for at, one in enumerate(clause) if _counts(one, language)]
    units = [_around(at, clause, language)[3] for at in places]
    if len(set(units)) == len(units) and all(clause[at].kind == "number" for at in places):
        return False
    return out_of_order([clause[at].text for at in places], [one.text for one in fact if _counts(one, language)])


def _counts(token: _Token, language: Language) -> bool:
    """Whether it is a number, in digits or as a word."""
    return token.kind == "number" or token.text in language.number_words or token.text in _ONE


def _reason(said: Sequence[_Token], statements: Sequence[Fact], own: Collection[str], language: Language, clause: str) -> str:
    """The most telling reason: a part that no fact has at all comes first."""
    for token in said:
        alone = [_missing([token], clause, fact, own, language) for fact in statements]
        if all(alone):
            return f"the {kind_of(token, language)} {_shown(token, clause)!r} is in no fact of the brief"
    return f"no single fact says all of {clause!r}: it joins what different facts say"


def _shown(token: _Token, clause: str) -> str:
    place = clause.casefold().find(token.text)
    return clause[place : place + len(token.text)] if place >= 0 else token.text


def kind_of(token: _Token, language: Language) -> Kind:
    """What a part of a text is called in a reason."""
    if token.kind == "number" or token.text in language.number_words:
        return "number"
    if token.kind == "sign":
        return "price" if token.text in _CURRENCY else "number"
    if language.is_superlative(token.text):
        return "superlative"
    return "name" if token.is_capital and language.code != "de" else "claim"


def _tokens(text: str, language: Language) -> tuple[_Token, ...]:
    return _tokens_in(text, language.code)


@functools.lru_cache(maxsize=8192)
def _tokens_in(text: str, code: str) -> tuple[_Token, ...]:
    language = language_named(code)
    found: list[_Token] = []
    recent = _REACH + 1
    for match in _TOKEN.finditer(unicodedata.normalize("NFKC", text).replace("’", "'")):
        kind, raw = str(match.lastgroup), match.group()
        if kind == "sign" and raw in _SILENT:
            continue
        word = raw.casefold() if kind == "word" else raw.replace("−", "-").replace("–", "-")
        if word not in language.connecting and word not in language.negations:
            word = _ELISION.sub("", word).removesuffix("'s")
        denies = kind == "word" and (word in language.negations or word.endswith("n't"))
        recent = 0 if denies else recent + 1
        found.append(_Token(kind, word, raw[:1].isupper() and match.start() > 0, not denies and recent <= _REACH))
    return tuple(found)


def _needs_fact(token: _Token, language: Language, free: frozenset[str]) -> bool:
    if token.kind != "word":
        return True
    if token.text in language.number_words or language.is_superlative(token.text):
        return True
    if token.text in language.negations and token.text not in ("no", "ne"):
        return token.text not in ("un", "non")
    return token.text not in language.connecting and token.text not in free


def _missing(said: Sequence[_Token], clause: str, fact: Fact, own: Collection[str], language: Language) -> str:
    """What of `said` this fact does not hold; empty when it holds all."""
    whole = _tokens(fact.text, language)
    clause_tokens = _tokens(clause, language)
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


def _own(names: Sequence[Fact], language: Language) -> set[str]:
    """Words of names, and their numbers together with the word beside them: the 2 of "Lynx 2" is no 2 of anything else."""
    found: set[str] = set()
    for name in names:
        tokens = _tokens(name.text, language)
        found |= {one.text for one in tokens if one.kind != "number"}
        found |= {f"{one.text} {two.text}" for one, two in itertools.pairwise(tokens) if "number" in (one.kind, two.kind)}
    return found


def _numbers_name(token: _Token, clause: Sequence[_Token], own: Collection[str]) -> bool:
    """Whether a number stands in the clause as part of a name each time."""
    beside = [(clause[max(0, at - 1) : at], one, clause[at + 1 : at + 2]) for at, one in enumerate(clause) if one.text == token.text]
    return all(
        any(f"{other.text} {one.text}" in own for other in before) or any(f"{one.text} {other.text}" in own for other in after)
        for before, one, after in beside
    )


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


def _around(at: int, tokens: Sequence[_Token], language: Language) -> tuple[str, str, str, str]:
    """Of the number at `at`: sign before, sign after, qualifier before, word behind (its unit)."""
    before = tokens[at - 1] if at else None
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    sign_before = (
        before.text if before is not None and before.kind == "sign" and before.text in {*_CURRENCY, "+", "<", ">", "~", "≥", "≤"} else ""
    )
    place = at - 1 - bool(sign_before)
    word = tokens[place] if place >= 0 else None
    qualifier = word.text if word is not None and word.text in language.qualifiers else ""
    sign_after = after.text if after is not None and after.kind == "sign" and after.text not in ("<", ">", "~") else ""
    behind = tokens[at + 1 + bool(sign_after)] if at + 1 + bool(sign_after) < len(tokens) else None
    if behind is None or behind.kind != "word" or (behind.text in language.connecting and behind.text not in language.number_words):
        return sign_before, sign_after, qualifier, ""
    return sign_before, sign_after, qualifier, behind.text


def _same_number(token: _Token, clause: Sequence[_Token], fact: Sequence[_Token], language: Language) -> bool:
    """Whether the number stands in the fact with the same signs, qualifier and unit, wherever it stands in the clause."""
    theirs = [_around(at, fact, language) for at, one in enumerate(fact) if one.kind == "number" and one.text == token.text]
    ours = [_around(at, clause, language) for at, one in enumerate(clause) if one.kind == "number" and one.text == token.text]
    ours = [(one[0], one[1], "" if one[2] in _EMPHASIS and all(not other[2] for other in theirs) else one[2], one[3]) for one in ours]
    return all(
        any(mine[:3] == other[:3] and (mine[3] == other[3] or same_word(mine[3], other[3], language)) for other in theirs) for mine in ours
    )


def _same_neighbour(token: _Token, clause: Sequence[_Token], fact: Sequence[_Token], language: Language) -> bool:
    """Whether the fact says the superlative about the same word: the next one that is not a connecting word, or the one before."""

    def neighbours(tokens: Sequence[_Token]) -> list[tuple[str, str]]:
        content = [one for one in tokens if language.is_superlative(one.text) or _needs_fact(one, language, frozenset())]
        return [
            (content[at - 1].text if at else "", content[at + 1].text if at + 1 < len(content) else "")
            for at, one in enumerate(content)
            if same_word(one.text, token.text, language)
        ]

    return all(
        any((mine[1] == other[1] and (mine[1] or mine[0] == other[0])) for other in neighbours(fact)) for mine in neighbours(clause)
    ) and bool(neighbours(fact))


def _scope_left_out(token: _Token, clause: Sequence[_Token], fact: str, own: Collection[str], language: Language) -> str:
    """A word of the fact's clause behind a superlative that this clause lacks: "the fastest" of which, where, when."""
    dropped = ""
    for part in clauses(fact):
        tokens = _tokens(part, language)
        at = next((at for at, one in enumerate(tokens) if same_word(one.text, token.text, language)), None)
        if at is None:
            continue
        scope = [one for one in tokens[at + 1 :] if _needs_fact(one, language, frozenset()) and one.text not in own]
        here = next((one.text for one in scope if not any(same_word(one.text, other.text, language) for other in clause)), "")
        if not here:
            return ""
        dropped = dropped or here
    return dropped


def _check_unspaced(
    clause: str, statements: Sequence[Fact], names: Sequence[Fact], language: Language, free: frozenset[str], field: str
) -> Claim | Blocked | None:
    """Scripts without blanks: the clause must be made of pieces of one fact, names and connecting pieces."""
    text = "".join(_folded(clause).split())
    marks = {mark for mark in (*language.negations, *language.qualifiers) if len(mark) > 1 or mark in "不无無没沒非未別别約约"}
    helpers = ["".join(_folded(name.text).split()) for name in names]
    farthest, empty = "", ""
    for fact in (None, *statements):
        whole = "" if fact is None else "".join(_folded(fact.text).split())
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
    return _joins(text[at - 1], text[at])


def _fits_whole(piece: str, fact: str) -> bool:
    """Whether the piece stands in the fact without cutting a number or a Latin word there."""
    return _find_whole(fact, piece) >= 0


__all__ = ["NAMES", "Blocked", "Claim", "blocked_in", "clauses", "same_word", "trace"]
