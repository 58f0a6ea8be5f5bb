"""What an answer sends while it is made. Every part is plain data: whoever shows it, shows texts as text, never as HTML or Markdown.

    for event in assistant.answer(messages):
        match event:
            case Step(): ...          what is being done
            case Citation(): ...      a post that the text names by [number], sent before the text does
            case Text(): ...          more of the answer
            case Caution(): ...       something to know beside it
            case Done(): ...          the whole answer once more; always the last event

`event_as_json` is the form that travels.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeAlias

Kind = Literal["posts", "trends", "explain", "calculation", "clock", "about", "talk", "free", "research", "tools"]
"""What an answer is: from posts, of trends, an explained post, arithmetic, the time, about the assistant, small talk, a model's own words
without posts, a report, or made with tools."""
Doing = Literal["plan", "search", "read", "write", "tool", "outline"]


@dataclass(frozen=True, slots=True)
class Step:
    """What is being done, in words for people. `done` of `total` where that is known."""

    doing: Doing
    text: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """More of the answer. Nothing in it is markup: `safe_text` (agora/chat/shown.py) took away what browsers or Markdown would act on."""

    delta: str


@dataclass(frozen=True, slots=True)
class Citation:
    """The post behind `[number]`. `quote` are words of it, character by character (`text[start : start + len(quote)]`), empty where the
    answer tells it in words of its own. `text`, `author` and `label` are as written: show them as text. `speaker` is the name made safe.
    `label` says why the post or its account is labelled as coordinated, or None. `voice`: equal for whoever acts as one.
    `alike`: near-duplicates that it stands for."""

    number: int
    post_id: str
    author: str
    speaker: str
    created_at: str
    text: str
    quote: str = ""
    start: int = 0
    label: str | None = None
    voice: str = ""
    alike: int = 0


@dataclass(frozen=True, slots=True)
class Caution:
    """Something to know beside the answer: a flood, labelled posts, sentences that were removed."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """One sentence of an answer, with the posts it rests on; `labelled` are those of them that are labelled as coordinated."""

    text: str
    post_ids: tuple[str, ...] = ()
    labelled: tuple[str, ...] = ()
    section: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole answer. `text` is all that the Text events said. `question`: as it was understood, with what earlier turns add.
    `abstained`: why posts do not answer it. `is_grounded`: every sentence in `sentences` cites posts, and nothing else is claimed.
    `num_forgotten`: earlier messages that the memory's budget left out. `num_removed`: sentences that posts did not support."""

    kind: Kind
    question: str
    text: str
    writer: str
    persona: str
    sentences: tuple[Said, ...] = ()
    citations: tuple[Citation, ...] = ()
    warnings: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    abstained: str | None = None
    confidence: float = 0.0
    is_grounded: bool = False
    num_forgotten: int = 0
    num_removed: int = 0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """The end, with everything."""

    answer: Reply


ChatEvent: TypeAlias = Step | Text | Citation | Caution | Done

_TYPES: Final[dict[type, str]] = {Step: "step", Text: "text", Citation: "citation", Caution: "warning", Done: "done"}


def event_as_json(event: ChatEvent) -> dict[str, Any]:
    """Plain values: `type` is step, text, citation, warning or done."""
    return {"type": _TYPES[type(event)], **asdict(event)}


__all__ = ["Caution", "ChatEvent", "Citation", "Doing", "Done", "Kind", "Reply", "Said", "Step", "Text", "event_as_json"]
