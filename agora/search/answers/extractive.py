"""The writer that needs no model. Goes in: a question and evidence. Comes out: words of posts, each as a quotation with who wrote it and
when: "anna wrote on 2015-08-07: “The moderators were unfair.”"

A short post is quoted whole, of a longer one the sentences that hold most of what was asked. Handles at its beginning (whom it
answers) and links at its end go, unless the question asks for them; emoji and tags stay; nothing inside a quotation changes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from agora.posts.schema import REPOST
from agora.search.answers.evidence import own_words
from agora.search.answers.records import Draft, Evidence
from agora.search.answers.rewrite import Question, all_keys
from agora.search.answers.tokens import LINK, Token, keys_of, split_sentences, tokens, trimmed, word_list

WHOLE_CHARS: Final = 180
"""A post up to this long is quoted whole: a part of it could mean something else."""
MAX_SENTENCES: Final = 4
_LEADING: Final = re.compile(r"^[\s.=:\-–—]*@[\w]+(?:[.\-]\w+)*[:,]?")
_NEAR: Final = 5
"""Words between a number and what it counts, at most."""
_AUTHOR_CHARS: Final = 60
_TIME_WORDS: Final = word_list("time")
_REASONS: Final = word_list("reason")


@dataclass(frozen=True, slots=True)
class _Part:
    start: int
    end: int
    value: float


class ExtractiveWriter:
    """Quotes posts; invents nothing."""

    name: Final = "extractive"

    def __init__(self, *, max_sentences: int = MAX_SENTENCES) -> None:
        self._max_sentences = max_sentences

    def write(self, question: Question, evidence: Sequence[Evidence]) -> list[Draft]:
        """One draft for each post that has the kind of thing that was asked for, best first."""
        drafts = []
        for one in evidence:
            part = _best_part(one.text, question)
            if part is not None:
                drafts.append(_told(one, one.text[part.start : part.end]))
            if len(drafts) == self._max_sentences:
                break
        return drafts


def _told(one: Evidence, words: str) -> Draft:
    verb = "reposted" if one.kind == REPOST else "wrote"
    return Draft(f"{shown_author(one.author)} {verb} on {one.created_at:%Y-%m-%d}: “{words}”", (one.id,), (words,))


def shown_author(author: str) -> str:
    """An account's name on one line, without anything that could pass for a quotation."""
    return re.sub(r"[^\w.\-:@/+~%]+", " ", author).strip()[:_AUTHOR_CHARS] or "somebody"


def _best_part(text: str, question: Question) -> _Part | None:
    """The part of a post to quote: whole when short and on one line, else the run of sentences with most of the question in it."""
    low, high = _bounds(text, question)
    if low >= high:
        return None
    if high - low <= WHOLE_CHARS and "\n" not in text[low:high]:
        part = _Part(low, high, _value(text[low:high], question))
    else:
        part = max(_runs(text, low, high, question), key=lambda one: (one.value, one.start - one.end))
    return part if part.value > 0 else None


def _bounds(text: str, question: Question) -> tuple[int, int]:
    low, high = trimmed(text, len(text) - len(own_words(text)), len(text))
    asked = {key for key in question.keys if key.startswith("@")}
    while (match := _LEADING.match(text[low:high])) and tokens(match.group())[0].key not in asked:
        low, high = trimmed(text, low + match.end(), high)
    while (links := [match for match in LINK.finditer(text, low, high) if match.end() == high]) and links[0].start() > low:
        low, high = trimmed(text, low, links[0].start())
    return low, high


def _runs(text: str, low: int, high: int, question: Question) -> list[_Part]:
    """One, two or three sentences in a row that stand on one line."""
    spans = [(start + low, end + low) for start, end in split_sentences(text[low:high])]
    runs = []
    for first, (start, _) in enumerate(spans):
        for _, end in spans[first : first + 3]:
            if "\n" not in text[start:end]:
                runs.append(_Part(start, end, _value(text[start:end], question)))
    return runs


def _counts(found: list[Token], question: Question) -> bool:
    """Whether a number that the question does not hold stands there, by what is counted when the question names it."""
    numbers = [place for place, token in enumerate(found) if token.kind == "number" and token.key not in question.keys]
    counted = [place for place, token in enumerate(found) if question.focus in keys_of(token)]
    if question.focus is None:
        return bool(numbers)
    return any(abs(number - place) <= _NEAR for number in numbers for place in counted)


def _value(words: str, question: Question) -> float:
    """How much of the question stands in these words, and whether they hold the kind of thing that was asked for; 0 = they do not."""
    found = tokens(words)
    if not any(token.is_content for token in found):
        return 0.0
    present = all_keys(words)
    value = 0.01 + sum(2 * (key in present) for key in question.required) + sum(key in present for key in question.wanted)
    if question.kind == "count":
        return value + 1 if _counts(found, question) else 0.0
    kind_words = {"time": _TIME_WORDS, "reason": _REASONS}.get(question.kind, frozenset())
    fits = any(token.key in kind_words or (question.kind == "time" and token.kind == "number") for token in found)
    return value + fits
