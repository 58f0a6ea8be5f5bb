"""Whether words give what a question asks for. Goes in: a question and words of a post. Comes out: yes or no.

"When" asks for a time, "how many" for a count by what is counted, "where" for a place behind what was asked about, "why" for a word of
reason, "who" for a name that the question does not hold: of "who killed X" one before the verb or after "by", unless the verb tells what
was done to it ("the soldier killed in Ottawa"). Sentences that only ask give nothing. Rules of English; where they do not know, there is
no answer. Not covered: whether it is the right time, count, place, reason or name.
"""

from __future__ import annotations

import re
from typing import Final

from agora.search.answers.rewrite import Question
from agora.search.answers.tokens import FUNCTION_WORDS, Token, fold, keys_of, split_sentences, tokens, word_list

_BEFORE_NAMES: Final = word_list("before_name")
"""May stand between a verb and whom it was done to ("at least 3")."""
_NEAR: Final = 3
"""Words between a number and what it counts, at most."""
_BEFORE: Final = 4
_BY: Final = 6
"""Words between a verb and who did it, at most: before it, or after it with "by"."""
_PLACES: Final = word_list("place")
_WHERE: Final = frozenset(["at", "from", "in", "inside", "near", "on", "outside", "to"])
_NO_NAMES: Final = FUNCTION_WORDS | word_list("time_name") | word_list("frame") | word_list("no_name")
_PERIOD: Final = "minute|hour|day|night|week|weekend|month|year|hr|min|sec|second"
_TIME: Final = re.compile(
    r"\b\d{1,2}:\d\d\b|\b\d{1,2}\s?(?:am|pm|a\.m|p\.m|o['’]clock|uhr)\b|\b(?:19|20)\d\d\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"
    r"|\b(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\.?\s?\d{1,2}\b|\b(?:january|february|april|june|july|august|september|october"
    r"|november|december)\b|\b(?:march|may)\s\d|\b\d{1,2}(?:st|nd|rd|th)?\s(?:of\s)?(?:march|may)\b|\bin\s(?-i:March|May)\b"
    r"|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b|\b(?:today|tonight|tomorrow|yesterday|noon|midnight)\b"
    rf"|\b(?:this|next|last|every)\s(?:morning|afternoon|evening|spring|summer|autumn|fall|winter|{_PERIOD})\b"
    rf"|\b(?:in|after|within|for)\s(?:\d+|an?|two|three|four|five|six|seven|eight|nine|ten|few)\s(?:{_PERIOD})s?\b"
    rf"|\b(?:{_PERIOD})s?\s(?:ago|later|from\snow)\b",
    re.IGNORECASE,
)
_REASON: Final = re.compile(
    r"\b(?:because|cuz|due\sto|owing\sto|thanks\sto|as\sa\sresult\sof|in\sresponse\sto|on\saccount\sof|caused\sby|so\sthat|in\sorder\sto|therefore"
    r"|(?:the|its|their|his|her|my|main|only|real)\sreasons?\s(?:is|was|are|were|for)|for\s(?:safety|security|fear|lack)|over\sfears?)\b",
    re.IGNORECASE,
)
_NO_REASON: Final = re.compile(r"\b(?:no|not|without|unclear|unknown|nobody|whatever)\b[^.!?]{0,30}\breasons?\b", re.IGNORECASE)
_PASSIVE_BEFORE: Final = FUNCTION_WORDS | word_list("preposition") | word_list("time_name")
_FOLLOWS: Final = 8
"""Words from what was asked about to the place where it is, at most."""
_TELLS: Final = re.compile(r"(?:\b(?:RT|MT|via|h/t)\s+@\S+)|:\s|\s[-–—|]+\s")
"""What comes behind begins anew, and who told it is no answer: "MT @news: Gunman shot ..."."""
_AMOUNT: Final = re.compile(r"[$€£]?\d+(?:\.\d+)?(?:%|k|m|bn|km|kg|h|hr|hrs|min|lb|lbs|mph)?")
_YEAR: Final = re.compile(r"(?:19|20)\d\d")


def gives(words: str, question: Question) -> bool:
    """Whether the words hold the kind of thing that was asked for; always for questions of another kind."""
    if question.kind not in ("time", "reason", "count", "place", "person"):
        return True
    words = _without_asking(words)
    if question.kind == "time":
        return bool(_TIME.search(words))
    if question.kind == "reason":
        return any(_REASON.search(words[low:high]) and not _NO_REASON.search(words[low:high]) for low, high in split_sentences(words))
    test = {"count": _counts, "place": _places, "person": _names}[question.kind]
    sentences = [words[low:high] for low, high in split_sentences(words)]
    parts = [part for one in sentences for part in (_TELLS.split(one) if question.kind == "person" else [one])]
    return any(test(tokens(part), question) for part in parts)


def _without_asking(words: str) -> str:
    """The sentences that are no questions: who asks gives nothing."""
    return "\n".join(words[low:high] for low, high in split_sentences(words) if not words[low:high].rstrip("\"”'’) ").endswith("?"))


def _counts(found: list[Token], question: Question) -> bool:
    """A number that the question does not hold, by what is counted when the question names it."""
    numbers = [place for place, token in enumerate(found) if is_amount(token) and token.key not in question.keys]
    if question.focus is None:
        return bool(numbers)
    counted = [place for place, token in enumerate(found) if question.focus in keys_of(token)]
    return any(abs(number - place) <= _NEAR for number in numbers for place in counted)


def is_amount(token: Token) -> bool:
    """A number that can count something: no year, no ordinal, no clock time, no flight number with letters."""
    return token.kind == "number" and not _YEAR.fullmatch(token.key) and bool(_AMOUNT.fullmatch(token.key))


def _names(found: list[Token], question: Question) -> bool:
    """A name; of "who killed X" in the place of who did it."""
    names = [place for place, _ in enumerate(found) if _is_name(found, place, question)]
    if question.focus is None:
        return bool(names)
    for at in (
        place
        for place, token in enumerate(found)
        if (not place or found[place - 1].key != "who") and any(_same_verb(question.focus, key) for key in keys_of(token))
    ):
        before = [place for place in names if 0 < at - place <= _BEFORE]
        by = next((place for place in range(at + 1, min(len(found), at + _BY)) if found[place].key == "by"), None)
        if by is not None:
            before = [place for place in names if 0 < place - by <= 2]
        elif at and found[at - 1].key in ("was", "were", "been", "being", "got", "is", "are"):
            before = []  # whom it was done to
        elif _takes_an_object(question) and not _has_object(found, at):
            before = []  # "the soldier killed in Ottawa"
        if before:
            return True
    return False


def _takes_an_object(question: Question) -> bool:
    """Whether somebody did it to somebody: "who killed the soldier", not "who resigned in Lindau"."""
    asked = tokens(question.text)
    at = next((place for place, token in enumerate(asked) if token.key == question.focus), len(asked))
    return _has_object(asked, at)


def _has_object(found: list[Token], at: int) -> bool:
    """Whether words that name somebody or something follow a verb."""
    return at + 1 < len(found) and (found[at + 1].key not in _PASSIVE_BEFORE or fold(found[at + 1].text) in _BEFORE_NAMES)


def _same_verb(one: str, other: str) -> bool:
    return one == other or (len(one) >= 4 and other[:4] == one[:4])


def _is_name(found: list[Token], place: int, question: Question) -> bool:
    """A word with a capital inside the sentence, or two in a row at its beginning, or a handle; not shouted, not of the question."""
    token = found[place]
    if set(keys_of(token)) & {*question.keys, *(part for key in question.keys for part in key.split("-"))}:
        return False
    if token.kind == "handle":
        return True
    shouted = sum(one.text.isupper() and len(one.text) > 1 for one in found) > len(found) / 2
    if not token.is_capital or shouted or fold(token.text) in _NO_NAMES or token.key in _NO_NAMES:
        return False
    return place > 0 or (len(found) > 1 and found[1].is_capital and fold(found[1].text) not in _NO_NAMES)


def _places(found: list[Token], question: Question) -> bool:
    """A name or a word for a place behind "in", "at", ..., which begin the sentence or follow what was asked about; tags at the end of a
    post say nothing about where."""
    end = next((place for place in range(len(found), 0, -1) if found[place - 1].kind not in ("tag", "link")), 0)
    asked = [place for place, token in enumerate(found[:end]) if set(keys_of(token)) & set(question.keys)]
    for place, token in enumerate(found[:-1]):
        follows = any(0 < place - one <= _FOLLOWS for one in asked) or (asked and place == 0)
        if token.key in _WHERE and follows:
            following = place + 1 + (found[place + 1].key in ("a", "an", "the", "my", "our"))
            if following < len(found) and (_is_name(found, following, question) or _is_tag(found[following], question)):
                return True
            if any(one.key in _PLACES and one.key not in question.keys for one in found[following : following + 2]):
                return True
    return False


def _is_tag(token: Token, question: Question) -> bool:
    return token.kind == "tag" and not set(keys_of(token)) & set(question.keys)
