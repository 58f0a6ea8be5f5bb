"""Whether posts support a sentence. Goes in: a sentence and the posts that it cites. Comes out: the posts it needs, or why it is refused.

A lexical stand-in for entailment, made to refuse rather than to believe. Of a sentence
- every quotation is found in a cited post, character by character;
- every number, name, tag, handle, quantity word ("all", "most") and `MIN_CONTENT` of the other content words stand in the cited posts;
- a number stands beside the same word, neighbouring words stand in one sentence of one post, mostly in the same order;
- what is negated is negated there, and the other way round; what is only asked, supposed or denied there is not asserted;
- all of it is what one clause of a post says, in its order (`aligned.py`);
- there is no link: links belong to the posts, and one made of what the writer saw could carry it away.
Citations that the sentence does not need are dropped, as ALCE counts them (Gao et al., "Enabling large language models to
generate text with citations", 2023, section 3).

Not covered: irony, and whether the post itself is true. Content words of other languages than English are all asked for; their
negations are known for some languages only.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, zip_longest
from typing import Final

from agora.search.answers.aligned import is_said
from agora.search.answers.records import Draft, Evidence, Quote
from agora.search.answers.tokens import LINK, Token, fold, keys_of, split_sentences, tokens, word_list

MIN_CONTENT: Final = 1.0
"""Share of plain content words that the posts must have. At 0.9 one exchanged word ("arrested") in a longer sentence got through."""
MIN_IN_ORDER: Final = 0.6
"""Share of neighbouring content words that one sentence of a post has in the same order: "dog bites man" is not "man bites dog"."""
_SCOPE: Final = 5
"""Content words after "not" that are negated, up to a comma or "but"."""
_VERDICT_WORDS: Final = 2
"""A sentence of so few words with "false" among them speaks of the rest of its post."""
_NEAR: Final = 3
"""Positions within which a number stands by its word."""
MAX_CHARS: Final = 1_000
"""Longest sentence."""

_NEGATIONS: Final = word_list("negation")
_DENIALS: Final = word_list("denial")
"""Say that a whole sentence is not so."""
_HEDGES: Final = word_list("hedge")
"""What is said with one of these is supposed, wished or feared, not said to be so."""
_QUANTITIES: Final = word_list("quantity")
_REPORTING: Final = word_list("reporting")
"""Words of telling who said it: they need no support."""
_MARKS: Final = (("“", "”"), ("„", "“"), ("«", "»"), ("「", "」"), ("『", "』"), ("‘", "’"), ('"', '"'))
_SPOKEN: Final = re.compile("|".join(f"{re.escape(low)}([^{re.escape(low + high)}]*){re.escape(high)}" for low, high in _MARKS))
_LOOSE_MARKS: Final = re.compile('[“”„«»「」『』"]')
_DOMAIN: Final = re.compile(
    r"\b[a-z0-9-]{2,}\.(?:com|net|org|io|co|ru|cn|info|biz|xyz|top|app|dev|me|ly|gl|link|site|online)\b", re.IGNORECASE
)
_UNSAFE: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]|<\|?|\|>|```|]\("
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is None when the sentence stands; then `post_ids` are the posts it needs and `quotes` its checked quotations."""

    reason: str | None
    post_ids: tuple[str, ...] = ()
    quotes: tuple[Quote, ...] = ()


def judge(draft: Draft, retrieved: Mapping[str, Evidence]) -> Verdict:
    """Whether `draft` stands on posts among `retrieved`."""
    if reason := _malformed(draft, retrieved):
        return Verdict(reason)
    cited = [retrieved[post_id] for post_id in dict.fromkeys(draft.post_ids)]
    quotes, rest, reason = _quotes(draft, cited)
    if reason:
        return Verdict(reason)
    if LINK.search(told := _claimed(rest, cited, frozenset(quote.post_id for quote in quotes))) or _DOMAIN.search(told):
        return Verdict("it holds a link outside of a quotation")
    speakers = frozenset(quote.post_id for quote in quotes)
    if reason := _unsupported(rest, cited, speakers):
        return Verdict(reason)
    needed = _needed(rest, cited, speakers)
    return Verdict(None, tuple(one.id for one in needed), quotes)


def _malformed(draft: Draft, retrieved: Mapping[str, Evidence]) -> str | None:
    if not draft.text.strip() or not any(character.isalnum() for character in draft.text):
        return "it is empty"
    if len(draft.text) > MAX_CHARS:
        return f"it is longer than {MAX_CHARS} characters"
    if not draft.post_ids:
        return "it cites no post"
    if unknown := [post_id for post_id in draft.post_ids if post_id not in retrieved]:
        return f"it cites {unknown[0]!r}, which was not retrieved"
    outside = draft.text
    for quote in draft.quotes:
        outside = outside.replace(quote, " ")
    if _UNSAFE.search(outside):
        return "it holds control characters, special tokens or markup"
    return None


def _quotes(draft: Draft, cited: Sequence[Evidence]) -> tuple[tuple[Quote, ...], str, str | None]:
    """The quotations with their places, the sentence without them, and what is wrong with one of them."""
    found: list[Quote] = []
    rest = draft.text
    spoken = [quote for quote in draft.quotes if quote]
    if missing := [quote for quote in spoken if quote not in rest]:
        return (), rest, f"its quotation {_short(missing[0])} does not stand in it"
    for quote in sorted(spoken, key=len, reverse=True):
        rest = rest.replace(quote, " ")
    inner = [next(part for part in match.groups() if part is not None) for match in _SPOKEN.finditer(rest)]
    rest = _SPOKEN.sub(" ", rest)
    if _LOOSE_MARKS.search(rest):
        return (), rest, "its quotation marks do not pair"
    for quote in [*spoken, *(part for part in inner if part.strip())]:
        place = next(((one.id, start) for one in cited if (start := one.text.find(quote)) >= 0), None)
        if place is None:
            return (), rest, f"its quotation {_short(quote)} is in none of its posts"
        found.append(Quote(quote, *place))
    return tuple(found), rest, None


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _needed(rest: str, cited: list[Evidence], speakers: frozenset[str]) -> list[Evidence]:
    """The fewest of the cited posts, dropping from the last on, with which the sentence still stands. Quoted posts stay."""
    needed = list(cited)
    for one in reversed(cited):
        others = [other for other in needed if other is not one]
        if others and one.id not in speakers and _unsupported(rest, others, speakers) is None:
            needed = others
    return needed


@dataclass(frozen=True, slots=True)
class _Word:
    keys: tuple[str, ...]
    token: Token
    negated: bool


@dataclass(frozen=True, slots=True)
class _Read:
    """A sentence as it is compared."""

    words: tuple[_Word, ...]
    hedged: bool
    asks: bool
    negations: tuple[str, ...]


def _unsupported(claim: str, cited: Sequence[Evidence], quoted: frozenset[str]) -> str | None:
    """Why the posts do not support what is claimed outside of quotations from the `quoted` ones; None when they do."""
    source = [sentence for one in cited for sentence in _sentences(one.text)]
    claim = _claimed(claim, cited, quoted)
    texts = [one.text for one in cited]
    parts = [_read(claim[low:high]) for low, high in split_sentences(claim)]
    if not quoted and not any(word for part in parts for word in part.words if word.token.key not in _REPORTING):
        return "it claims nothing that posts could support"
    if quoted and any(_is_negation(one) or one.key in _DENIALS | _HEDGES for one in tokens(claim)):
        return "it denies or doubts a quotation in its own words"
    if reason := next((reason for part in parts if (reason := _part_unsupported(part, source))), None):
        return reason
    spans = [claim[low:high] for low, high in split_sentences(claim)]
    told = [(span, part) for span, part in zip(spans, parts, strict=True) if not quoted or _tells(part)]
    if any(not is_said(span, texts, asks=part.asks) for span, part in told):
        return "no clause of its posts says it like this, with all its conditions, doubts and numbers"
    return None


def _tells(part: _Read) -> bool:
    """Whether it holds more than words of telling who said it."""
    return any(word.token.key not in _REPORTING for word in part.words)


def _claimed(claim: str, cited: Sequence[Evidence], quoted: frozenset[str]) -> str:
    """The claim without what may be told of a post besides its words: who wrote it and when, of a quotation only where it is from.
    An account whose name is a word of the claim gains nothing: outside of a quotation only `@name` counts, and where several are quoted
    no name does, since it could be told of the other."""
    speakers = {one.speaker for one in cited if one.id in quoted}
    for one in cited:
        if len(speakers) <= 1 and (not quoted or one.id in quoted):
            names = [one.day, f"@{one.speaker}", *([one.speaker] if quoted else [])]
            claim = re.sub("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in names), " ", claim)
    return claim


def _sentences(text: str) -> list[_Read]:
    """The sentences of a post; "FALSE." denies all others."""
    found = [_read(text[low:high]) for low, high in split_sentences(text)]
    if not any(len(one.words) <= _VERDICT_WORDS and any(word.token.key in _DENIALS for word in one.words) for one in found):
        return found
    return [replace(one, words=tuple(replace(word, negated=not word.negated) for word in one.words)) for one in found]


def _part_unsupported(part: _Read, source: list[_Read]) -> str | None:
    told = [word for word in part.words if word.token.key not in _REPORTING]
    if not told:
        return None
    usable = [one for one in source if (part.asks or not one.asks) and (part.hedged or not one.hedged)]
    held = frozenset((key, word.negated) for one in usable for word in one.words for key in word.keys)
    if added := list((Counter(part.negations) - Counter(cue for one in usable for cue in one.negations)).elements()):
        return f"its posts do not say {added[0]!r}"
    missing = []
    for word in told:
        if (word.token.key, word.negated) in held:
            continue
        if (word.token.key, not word.negated) in held:
            return f"its posts {'assert' if word.negated else 'deny'} what it says of {word.token.text!r}"
        if _is_strict(word.token):
            return f"{word.token.text!r} is in none of its posts" + (" as something that is so" if _anywhere(word, source) else "")
        missing.append(word)
    if len(missing) > (1 - MIN_CONTENT) * len(told) + 1e-9:
        names = ", ".join(repr(word.token.text) for word in missing[:4])
        return f"its posts do not say {names}" + (" as something that is so" if any(_anywhere(word, source) for word in missing) else "")
    return _misordered([word for word in told if word not in missing], usable)


def _anywhere(word: _Word, source: list[_Read]) -> bool:
    return any(word.token.key in other.keys for one in source for other in one.words)


def _is_strict(token: Token) -> bool:
    return token.kind != "word" or token.is_capital or token.key in _QUANTITIES


def _misordered(told: list[_Word], usable: list[_Read]) -> str | None:
    """Words that the posts have, but not together or not in this order."""
    pairs = list(dict.fromkeys(pairwise(told)))
    places = [_places(one) for one in usable]
    in_order = 0
    for left, right in pairs:
        gaps = [gap for one in places if (gap := _gap(one, left.token.key, right.token.key)) is not None]
        numeric = "number" in (left.token.kind, right.token.kind)
        if numeric and not any(0 < gap <= _NEAR for gap in gaps) and not _bound(told, left, right, places):
            return f"its posts do not have {left.token.text!r} beside {right.token.text!r}"
        in_order += any(gap > 0 for gap in gaps)
    if pairs and in_order < MIN_IN_ORDER * len(pairs):
        return "its posts have its words, but not together in this order"
    return None


def _bound(told: list[_Word], left: _Word, right: _Word, places: list[dict[str, list[int]]]) -> bool:
    """Whether the number of a pair stands by its other neighbour instead: "the 11 dead" as well as "dead: 11"."""
    number = left if left.token.kind == "number" else right
    index = told.index(number)
    for other in (told[index - 1] if index else None, told[index + 1] if index + 1 < len(told) else None):
        if other is None or other in (left, right):
            continue
        first, second = (other, number) if told.index(other) < index else (number, other)
        if first is number and any(0 < (_gap(one, first.token.key, second.token.key) or 0) <= _NEAR for one in places):
            return True
    return False


def _places(one: _Read) -> dict[str, list[int]]:
    places: dict[str, list[int]] = {}
    for position, word in enumerate(one.words):
        for key in word.keys:
            places.setdefault(key, []).append(position)
    return places


def _gap(places: Mapping[str, Sequence[int]], left: str, right: str) -> int | None:
    """Positions from `left` to the nearest `right` after it, -1 when it only stands before; None when not both are there."""
    if left not in places or right not in places:
        return None
    following = places[right]
    gaps = [following[at] - first for first in places[left] if (at := bisect_right(following, first)) < len(following)]
    return min(gaps, default=None if left == right else -1)


def _read(text: str) -> _Read:
    """Content words with their polarity. Quantity words count as content."""
    found = tokens(text)
    cues = [_is_negation(one) for one in found]
    denials = [one for one, following in zip_longest(found, found[1:]) if one and one.key in _DENIALS and not _is_fake_news(one, following)]
    denied = len(denials) % 2 == 1
    words, left, previous_end = [], 0, 0
    for one, cue in zip(found, cues, strict=True):
        between = text[previous_end : one.start]
        previous_end = one.end
        if any(mark in between for mark in ",;:()–—") or one.key == "but":
            left = 0
        if cue:
            left = _SCOPE
            continue
        if one.key in _DENIALS:
            words.append(_Word(keys_of(one), one, False))
            continue
        if one.kind == "link" or not (one.is_content or one.key in _QUANTITIES) or one.key in _HEDGES:
            continue
        words.append(_Word(keys_of(one), one, (left > 0) != denied))
        left = max(0, left - 1)
    hedged = any(one.key in _HEDGES and not _is_month(one) for one in found)
    asks = text.rstrip("\"”'’) ").endswith(("?", "？"))
    return _Read(tuple(words), hedged, asks, tuple(_negation(one) for one, cue in zip(found, cues, strict=True) if cue))


def _is_fake_news(token: Token, following: Token | None) -> bool:
    """ "Fake news" names something; it does not say that the sentence is not so."""
    return token.key == "fake" and following is not None and fold(following.text) == "news"


def _negation(token: Token) -> str:
    """Which negation a word is: all short and long forms of "not" are one."""
    folded = fold(token.text)
    return "not" if folded.endswith("nt") or folded.endswith("n't") or folded == "cannot" else folded


def _is_month(token: Token) -> bool:
    return token.text in ("May", "Will")


def _is_negation(token: Token) -> bool:
    folded = fold(token.text)
    return token.kind == "word" and (folded in _NEGATIONS or token.key in _NEGATIONS or folded.endswith("n't"))
