"""What a message means after those before it. Goes in: a message and the question before it, as it was understood. Comes out: questions
that stand alone, to try in turn.

    follow_up("and yesterday?", "How many passengers waited in Lindau?", now)    ("How many passengers waited in Lindau yesterday",)
    follow_up("and in Bern?", ...)         the names change
    follow_up("why?", ...)                 another asking word about the same
    follow_up("were they late?", ...)      pronouns become what was asked about

Rules of English; followup_words.py has those for other languages. From the person's own turns alone: what posts say never decides what is
asked next. A message that stands on its own comes back as it is. Not covered: pronouns for what only an answer mentioned.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from agora.chat.followup_words import follow_up_in, is_more_in_any
from agora.errors import UsageError
from agora.search.answers.rewrite import Question, rewrite
from agora.search.answers.tokens import Token, tokens

_LEADING: Final = re.compile(
    r"^\W*(?:(?:ok(?:ay)?|so|then|hm+|right|well|yes|no)\b[\s,]*)*(?:(?:and|but|or|also|plus)\b\s*)?"
    r"(?:(?:what|how)\s+about\b|(?:and|but|or|also|then|so)\b)\s*",
    re.IGNORECASE,
)
_ASKING: Final = "why|when|where|who|whom|how many|how much|how long|how often|how|since when|what time|how come"
_BARE: Final = re.compile(
    rf"(?:(?:and|but|so|ok)\b[\s,]*)*(?P<word>{_ASKING})(?:\s+(?:not|exactly|is that|was that|did that happen|so|though|then|and how))?",
    re.IGNORECASE,
)
_OTHERS: Final = (
    "more|more posts|more sources|other posts|other sources|more about (?:it|this|that|them)|anything else|what else|who else|go on"
    "|continue|others|another(?: one)?"
)
_MORE: Final = re.compile(
    r"(?:(?:and|but|so|ok|please|can you|could you)\b[\s,]*)*(?:(?:tell me|show me|give me|say)\s+)?(?:some\s+|any\s+|a few\s+)?"
    rf"(?:{_OTHERS})(?:\s+(?:please|about (?:it|this|that|them)))?",
    re.IGNORECASE,
)
_PERSONS: Final = frozenset(("he", "she", "him", "her", "his", "hers"))
_PRONOUNS: Final = _PERSONS | {"it", "they", "them", "that", "this", "these", "those", "its", "their", "there"}
_OWN: Final = 2
"""A message with so few content words beside a pronoun does not stand alone."""


def is_more(said: str) -> bool:
    """Whether a message asks for more of the same."""
    return _MORE.fullmatch(_bare(said)) is not None or is_more_in_any(said)


def follow_up(said: str, before: str | None, now: datetime) -> tuple[str, ...]:
    """Questions that stand alone, best first. The first is the message itself where it does, or where nothing came before."""
    if before is None:
        return (said,)
    try:
        earlier = rewrite(before, now=now)
    except UsageError:
        return (said,)
    if is_more(said):
        return (before,)
    if other := follow_up_in(said, before, now):
        return other
    if bare := _BARE.fullmatch(_bare(said)):
        return (f"{bare.group('word')} {_topic(earlier)}{_time(earlier)}",)
    leading = _LEADING.match(said)
    rest = said[leading.end() :] if leading else said
    asked = rewrite(said, now=now)
    words = [one for one in _content(rest, now) if one.kind != "link"]
    if not words and asked.span.words:
        return (_at_time(earlier, asked),)
    pronouns = [one for one in tokens(rest) if one.kind == "word" and one.text.casefold() in _PRONOUNS]
    if pronouns and not any(_is_name(one) for one in words):
        replaced = _replaced(rest, pronouns, earlier) + _carried(asked, earlier)
        return (replaced,) if len(words) <= _OWN else (said, replaced)
    if leading and words:
        return _about(rest, words, earlier, asked)
    return (said,)


def _bare(said: str) -> str:
    return " ".join(said.split()).strip(" ?!.,…")


def _topic(question: Question) -> str:
    return " ".join(question.words)


def _time(question: Question) -> str:
    """The time words of a question, to be put behind another one."""
    said = " ".join(question.text[low:high] for low, high in question.span.words)
    return f" {said}" if said else ""


def _carried(asked: Question, earlier: Question) -> str:
    """The time that was asked for before holds until another is named."""
    return "" if asked.span.words else _time(earlier)


def _content(text: str, now: datetime) -> list[Token]:
    """Words that say something, without the time."""
    gone = rewrite(text, now=now).span.words if text.strip() else ()
    flat = " ".join(text.split())
    return [one for one in tokens(flat) if one.is_content and not any(low <= one.start < high for low, high in gone)]


def _at_time(earlier: Question, asked: Question) -> str:
    """The question before, at another time."""
    text = earlier.text
    for low, high in sorted(earlier.span.words, reverse=True):
        text = f"{text[:low].rstrip()} {text[high:].lstrip()}"
    return f"{text.strip(' ?!.')}{_time(asked)}"


def _is_name(token: Token) -> bool:
    return token.kind in ("handle", "tag", "number", "cash") or (token.is_capital and token.start > 0)


def _replaced(text: str, pronouns: list[Token], earlier: Question) -> str:
    """The first pronoun becomes what was asked about; of a person, the name."""
    first = pronouns[0]
    names = [word for word, one in _named(earlier) if one] if first.text.casefold() in _PERSONS else []
    topic = " ".join(names) or _topic(earlier)
    following = text[first.end :]
    return f"{text[: first.start]}{topic}{following}"


def _named(earlier: Question) -> list[tuple[str, bool]]:
    """The words of a question, and whether they are names."""
    return [(word, any(_is_name(one) for one in tokens(earlier.text) if one.text == word)) for word in earlier.words]


def _about(rest: str, words: list[Token], earlier: Question, asked: Question) -> tuple[str, ...]:
    """ "And in Bern?": the same of another name; else the same with this added; else this alone. The time stays."""
    alone = rest.strip() + _carried(asked, earlier)
    flat = " ".join(rest.split())
    fresh = [one.text for one in words if one.is_capital or one.kind in ("handle", "tag", "number", "cash")]
    old = [word for word, is_name in _named(earlier) if is_name]
    if fresh and len(fresh) == len(words):
        swapped = _swapped(earlier.text, old, fresh) if old else f"{earlier.text.strip(' ?!.')} {' '.join(fresh)}"
        if asked.span.words:
            swapped = f"{swapped.strip(' ?!.')}{_time(asked)}"
        return (swapped, alone)
    return (f"{flat.strip(' ?!.')} {_topic(earlier)}{_carried(asked, earlier)}", alone)


def _swapped(text: str, old: list[str], fresh: list[str]) -> str:
    """A question with its names exchanged."""
    first, *others = old
    text = re.sub(rf"(?<!\w){re.escape(first)}(?!\w)", lambda _: " ".join(fresh), text, count=1)
    for word in others:
        text = re.sub(rf"\s*(?<!\w){re.escape(word)}(?!\w)", "", text, count=1)
    return " ".join(text.split())


__all__ = ["follow_up", "is_more"]
