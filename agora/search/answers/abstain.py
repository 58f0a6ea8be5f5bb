"""When not to answer. Goes in: a question and what was found and kept. Comes out: why posts do not support an answer, and what would.

Two gates. The search itself is not sure of its best hit, where it says how sure it is (`AskConfig.least`). And a rule: there is evidence
that has every name and number of the question and most of its other words (`evidence.on_question`), and of it at least one sentence
passed the check. `confidence` says how well the best cited post covers the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agora.search.answers.evidence import on_question
from agora.search.answers.records import Evidence, Found, Sentence
from agora.search.answers.rewrite import Question, all_keys
from agora.search.answers.times import Span

WHAT: dict[str, str] = {
    "count": "a number", "time": "a time", "place": "a place", "person": "who it was", "reason": "a reason", "any": "something",
}  # fmt: skip


_SHOWN: Final = 60
"""Characters of a word that are shown."""


def confidence(question: Question, cited: Sequence[Evidence]) -> float:
    """From 0 to 1: how much of the question the best cited post holds, less where it stands alone."""
    if not cited:
        return 0.0
    voices = len({one.voice for one in cited})
    return max(on_question(one.text, question) for one in cited) * (1 - 0.3 / voices)


def why_not(
    question: Question, hits: Sequence[Found], evidence: Sequence[Evidence], sentences: Sequence[Sentence], *, unsure: float | None = None
) -> str | None:
    """Why there is no answer and what would support one; None when there is. `unsure`: the confidence of a search that found too little."""
    if sentences:
        return None
    about = _about(question)
    is_strict = question.kind != "any"
    what = f"about {about} that gives {WHAT[question.kind]}" if is_strict else f"that says something about {about}"
    would = f"A post{_when(question.span)}{_by(question)} {what} would support an answer."
    if not hits:
        return f"No post was found for {about}. {would}"
    if not evidence:
        return f"{_missing(question, hits, unsure)} {would}"
    kind = f"none gives {WHAT[question.kind]}" if is_strict else "no sentence of an answer could be supported by them"
    return f"Posts about {about} were found, but {kind}. {would}"


def _about(question: Question) -> str:
    words = [repr(word if len(word) <= _SHOWN else f"{word[:_SHOWN]}...") for word in question.words[:12]]
    return " + ".join(words) + (" ..." if len(question.words) > 12 else "") if words else repr(question.text[:100])


def _missing(question: Question, hits: Sequence[Found], unsure: float | None) -> str:
    """Which words of the question no hit holds, or that none holds them together, or that the search is not sure of any."""
    present: set[str] = set()
    for hit in hits:
        present |= all_keys(hit.post["text"])
    absent = [word for word in question.words if not any(key in present for key in all_keys(word)) and all_keys(word) & {*question.keys}]
    if absent:
        return f"No post that was found mentions {' or '.join(repr(word[:_SHOWN]) for word in absent[:5])}."
    if unsure is not None:
        return f"The search is not sure that any post is about {_about(question)} (confidence {unsure:.2f})."
    return f"No post that was found is about {_about(question)} together{_when(question.span)}{_by(question)}."


def _when(span: Span) -> str:
    if span.is_year or (span.since is None and span.until is None):
        return ""
    low = f" since {span.since:%Y-%m-%d}" if span.since else ""
    return low + (f" before {span.until:%Y-%m-%d}" if span.until else "")


def _by(question: Question) -> str:
    name = question.author or " ".join(question.speaker)
    return f" by {name}" if name else ""
