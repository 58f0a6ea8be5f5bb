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
from agora.search.answers.evidence import on_question, own_words
from agora.search.answers.kinds import gives
from agora.search.answers.records import Draft, Evidence
from agora.search.answers.rewrite import Question
from agora.search.answers.tokens import LINK, keys_of, split_sentences, tokens, trimmed

WHOLE_CHARS: Final = 180
"""A post up to this long is quoted whole: a part of it could mean something else."""
LINES_CHARS: Final = 300
"""A post of several lines up to this long may be quoted line by line."""
MAX_SENTENCES: Final = 4
MIN_SHARE: Final = 0.6
"""Share of the question's words that the quoted part itself must have."""
_LEADING: Final = re.compile(r"^[\s.=:\-–—]*@[\w]+(?:[.\-]\w+)*[:,]?")


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
            if words := _best_words(one.text, question):
                drafts.append(_told(one, words))
            if len(drafts) == self._max_sentences:
                break
        return drafts


def _told(one: Evidence, words: tuple[str, ...]) -> Draft:
    verb = "reposted" if one.kind == REPOST else "wrote"
    said = " / ".join(f"“{part}”" for part in words)
    return Draft(f"{one.speaker} {verb} on {one.day}: {said}", (one.id,), words)


def _best_words(text: str, question: Question) -> tuple[str, ...]:
    """What of a post to quote: all of it when short and on one line, else the run of sentences with most of the question in it, else
    all lines of a post that is not long. Empty when the post does not have what was asked for."""
    low, high = _bounds(text, question)
    if low >= high:
        return ()
    if high - low <= WHOLE_CHARS and "\n" not in text[low:high]:
        part = _Part(low, high, _value(text[low:high], question))
    else:
        part = max(_runs(text, low, high, question), key=lambda one: (one.value, one.start - one.end))
    if part.value > 0:
        return (text[part.start : part.end],)
    if "\n" in text[low:high] and high - low <= LINES_CHARS and _value(text[low:high], question) > 0:
        lines = [line.strip() for line in text[low:high].splitlines()]
        return tuple(line for line in lines if any(character.isalnum() for character in line))
    return ()


def _bounds(text: str, question: Question) -> tuple[int, int]:
    low, high = trimmed(text, len(text) - len(own_words(text)), len(text))
    while (match := _LEADING.match(text[low:high])) and not set(keys_of(tokens(match.group())[0])) & set(question.keys):
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


def _value(words: str, question: Question) -> float:
    """How much of the question stands in these words, and whether they hold the kind of thing that was asked for; 0 = they do not."""
    found = tokens(words)
    value = on_question(words, question) + 0.01
    if not any(token.is_content for token in found) or value < MIN_SHARE:
        return 0.0
    if not gives(words, question):
        return 0.0
    return value
