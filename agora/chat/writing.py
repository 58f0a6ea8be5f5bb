"""Who writes, sentence by sentence. Goes in: a question and evidence. Comes out: checked sentences while they are made.

A model's answer is read line by line as it streams: each line is judged (agora/search/answers/support.py) before anybody sees it, so the
first sentence is shown while the next is still being written, and what posts do not support is never shown. Where a model fails or
nothing of it holds, posts are quoted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agora.errors import ContextLengthError, GenerationError
from agora.search.answers.ask import AskConfig, Gathered, check
from agora.search.answers.evidence import is_coordinated
from agora.search.answers.extractive import ExtractiveWriter
from agora.search.answers.generated import MAX_CHARS, MAX_SECONDS, MAX_TOKENS
from agora.search.answers.prompt import Prompt, build, read
from agora.search.answers.records import Draft, Evidence, Refused, Sentence

if TYPE_CHECKING:
    from agora.engine import LanguageModel

log = logging.getLogger(__name__)

EXTRACTIVE: Final = "extractive"
_REMOVED: Final = "sentences removed because the posts do not support them: "
_MOST_DRAFTS: Final = 4
"""Drafts that are judged, as a multiple of the sentences wanted."""


@dataclass(slots=True)
class Written:
    """What came of the writing, beside the sentences: who wrote, what was refused, what to say about it."""

    writer: str = EXTRACTIVE
    refused: list[Refused] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def write(
    gathered: Gathered, model: LanguageModel | None, config: AskConfig, written: Written, *, cancelled: threading.Event | None = None
) -> Iterator[Sentence]:
    """The sentences that hold, as soon as each does; `written` is filled meanwhile."""
    if not gathered.shown:
        return
    said: list[Sentence] = []
    if model is not None:
        written.writer = f"model {model.name}"
        try:
            for one in _checked(_drafts(model, gathered, cancelled), gathered, config, written):
                said.append(one)
                yield one
        except GenerationError as error:
            log.warning("the writer failed: %s", error)
            written.warnings.append(f"the writer ({written.writer}) failed{'; posts are quoted instead' if not said else ''}")
        if written.refused:
            earlier = [one for one in written.warnings if not one.startswith(_REMOVED)]  # a report writes several times
            written.warnings[:] = [*earlier, f"{_REMOVED}{len(written.refused)}"]
        if cancelled is not None and cancelled.is_set():
            return
        if said:
            yield from _others(said, gathered, config, written)
            return
        written.warnings.append("nothing that the writer said is supported; posts are quoted instead")
        written.writer = EXTRACTIVE
    yield from _checked(iter(ExtractiveWriter().write(gathered.asked, gathered.shown)), gathered, config, written)


def _others(said: Sequence[Sentence], gathered: Gathered, config: AskConfig, written: Written) -> Iterator[Sentence]:
    """Quotations of everybody else, where a model told what coordinated groups say and left the others out."""
    grouped = {one.id for one in gathered.shown if is_coordinated(one.voice, one.author, one.label)}
    others = tuple(one for one in gathered.shown if one.id not in grouped)
    if others and all(grouped.issuperset(sentence.post_ids) for sentence in said):
        written.warnings.append("the writer told only what a coordinated group says; posts of others are quoted beside it")
        yield from _checked(iter(ExtractiveWriter().write(gathered.asked, others)), gathered, config, written)


def _checked(drafts: Iterator[Draft], gathered: Gathered, config: AskConfig, written: Written) -> Iterator[Sentence]:
    by_id = {one.id: one for one in gathered.shown}
    said: list[Sentence] = []
    for number, draft in enumerate(drafts):
        one = check(draft, gathered.asked, by_id, said)
        if isinstance(one, Refused):
            written.refused.append(one)
        else:
            said.append(one)
            yield one
        if len(said) == config.sentences or number + 1 == _MOST_DRAFTS * config.sentences:
            _close(drafts)
            return


def _drafts(model: LanguageModel, gathered: Gathered, cancelled: threading.Event | None) -> Iterator[Draft]:
    """What a model says, line by line. Where its context is short, fewer posts are shown. Raises GenerationError."""
    from agora.engine import SamplingConfig

    shown: Sequence[Evidence] = gathered.shown
    sampling = SamplingConfig(temperature=0.0, max_tokens=MAX_TOKENS)
    while True:
        prompt = build(gathered.asked.text, shown)
        try:
            deltas = model.chat(prompt.messages, sampling, cancelled=cancelled)
            first = next(deltas, None)
        except ContextLengthError:
            if len(shown) <= 1:
                raise
            shown = shown[: len(shown) // 2]
            continue
        if first is not None:
            yield from _lines(first.text, deltas, prompt)
        return


def _lines(begun: str, deltas: Any, prompt: Prompt) -> Iterator[Draft]:
    """Drafts of each line when it is whole. A model that does not stop is cut off."""
    rest, length, end = begun, len(begun), time.monotonic() + MAX_SECONDS
    try:
        for delta in deltas:
            *lines, rest = (rest + delta.text).split("\n")
            for line in lines:
                yield from read(line[:MAX_CHARS], prompt)
            length += len(delta.text)
            if length > MAX_CHARS or time.monotonic() > end:
                break
        yield from read(rest[:MAX_CHARS], prompt)
    finally:
        _close(deltas)


def _close(iterator: Any) -> None:
    """A generator frees its place in the queue at once; a plain iterator has nothing to close."""
    if (close := getattr(iterator, "close", None)) is not None:
        close()


__all__ = ["EXTRACTIVE", "Written", "write"]
