"""An answer is put together. Goes in: checked sentences and the evidence they rest on. Comes out: events, each citation before its number
is used; and what a coordinated group says is kept apart from what others say.

A sentence that rests on posts of a coordinated group alone never stands among the others: it comes last, under a line that says whose it
is. Where nothing else was found, the answer says first that it cannot tell what people think. N accounts acting as one say one sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from agora.chat.events import ChatEvent, Citation, Said, Text
from agora.chat.shown import safe_text
from agora.search.answers.evidence import is_coordinated
from agora.search.answers.records import Evidence, Sentence

ALONE = (
    "The posts found on this come from accounts that act together as one group. That is one voice, and no picture of what people think "
    "or of what is so."
)
GROUP = "A group of accounts that act together, counted as one voice, says:"


@dataclass(slots=True)
class Composition:
    """What was said so far. Numbers go to posts in the order in which they are first cited, through all sections."""

    numbers: dict[str, int] = field(default_factory=dict)
    citations: list[Citation] = field(default_factory=list)
    sentences: list[Said] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.parts).strip()

    def say(self, text: str) -> Text:
        """Words of the assistant itself, or of a model, made safe."""
        self.parts.append(text)
        return Text(text)

    def card(self, card: Citation) -> Citation:
        """The card of a post that was not cited yet, with the next number."""
        self.numbers[card.post_id] = len(self.numbers) + 1
        self.citations.append(replace(card, number=self.numbers[card.post_id]))
        return self.citations[-1]

    def tell(self, sentence: Sentence, by_id: Mapping[str, Evidence], *, section: str = "") -> Iterator[ChatEvent]:
        """One sentence with its citations, on a line of its own."""
        for post_id in sentence.post_ids:
            if post_id not in self.numbers:
                yield self.card(citation(by_id[post_id], sentence))
        cites = " ".join(f"[{self.numbers[post_id]}]" for post_id in sentence.post_ids)
        mark = " (labelled as coordinated)" if sentence.labelled else ""
        self.sentences.append(Said(safe_text(sentence.text), sentence.post_ids, sentence.labelled, section))
        yield self.say(f"{safe_text(sentence.text)} {cites}{mark}\n")


def citation(one: Evidence, sentence: Sentence | None = None, number: int = 0) -> Citation:
    """The card of a post, with the first of its quotations."""
    quote = next((quote for quote in sentence.quotes if quote.post_id == one.id), None) if sentence is not None else None
    return Citation(
        number=number, post_id=one.id, author=one.author, speaker=safe_text(one.speaker), created_at=one.created_at.isoformat(),
        text=one.text, quote=quote.text if quote else "", start=quote.start if quote else 0, label=one.label, voice=one.voice,
        alike=one.alike,
    )  # fmt: skip


def is_of_group(sentence: Sentence, by_id: Mapping[str, Evidence]) -> bool:
    """Whether a sentence rests on posts of coordinated groups alone."""
    posts = [by_id[post_id] for post_id in sentence.post_ids]
    return all(is_coordinated(one.voice, one.author, one.label) for one in posts)


def told(
    sentences: Iterator[Sentence] | Sequence[Sentence],
    evidence: Sequence[Evidence],
    made: Composition,
    *,
    opening: str = "",
    section: str = "",
) -> Iterator[ChatEvent]:
    """The sentences as they come, those of coordinated groups last and apart, one of each group. Nothing comes of no sentences."""
    by_id = {one.id: one for one in evidence}
    apart: list[Sentence] = []
    is_begun = False
    for sentence in sentences:
        if is_of_group(sentence, by_id):
            apart.append(sentence)
            continue
        if opening and not is_begun:
            yield made.say(f"{opening}\n")
        is_begun = True
        yield from made.tell(sentence, by_id, section=section)
    if apart:
        yield made.say(f"{GROUP}\n" if is_begun else f"{ALONE} It says:\n")
        yield from told_of_groups(apart, by_id, made, section=section)


def told_of_groups(apart: Sequence[Sentence], by_id: Mapping[str, Evidence], made: Composition, *, section: str) -> Iterator[ChatEvent]:
    """Sentences of coordinated groups, one of each group."""
    voices: set[str] = set()
    for sentence in apart:
        spoken = {by_id[post_id].voice for post_id in sentence.post_ids}
        if not spoken <= voices:
            yield from made.tell(sentence, by_id, section=section)
        voices |= spoken


def is_group_alone(said: Sequence[Said], evidence: Sequence[Evidence]) -> bool:
    """Whether everything that was said is a coordinated group's."""
    by_id = {one.id: one for one in evidence}
    posts = [by_id[post_id] for one in said for post_id in one.post_ids if post_id in by_id]
    return bool(posts) and all(is_coordinated(one.voice, one.author, one.label) for one in posts)


__all__ = ["ALONE", "GROUP", "Composition", "citation", "is_group_alone", "is_of_group", "told", "told_of_groups"]
