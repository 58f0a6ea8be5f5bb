"""The assistant. Goes in: a conversation. Comes out: events that make an answer, from posts wherever posts are asked for.

    assistant = Assistant(searcher)                                  quotes posts
    assistant = Assistant(searcher, model)                           lets a model write; each sentence is checked before it is shown
    for event in assistant.answer([{"role": "user", "content": "What about the night trains?"}]): ...
    for event in assistant.research("How did the strike begin?"): ...
    assistant.explain_post("t1")

plan (plan.py) -> search with one voice (agora/search) -> write and check, sentence by sentence (writing.py) -> compose (compose.py).
Nothing is kept between calls, and threads may share one: the conversation comes with each call, whoever stores it.

What holds whatever posts, names, links, tools or the model say: only posts that the search returned are cited; every sentence about posts
is one that `support.judge` let through, quotations being copied; no text changes who speaks, what is searched, or which tool runs; what
is shown holds no markup, no image and no live link. Not covered: whether a post is true.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Final, cast

from agora.chat.compose import ALONE, Composition, is_group_alone, told
from agora.chat.events import Caution, ChatEvent, Citation, Done, Kind, Reply, Said, Step, Text, event_as_json
from agora.chat.explain import PostExplanation, explain_post, explained
from agora.chat.memory import Message, Remembered, remember, token_counter
from agora.chat.personas import NEUTRAL, Persona, Personas
from agora.chat.plan import Plan, make_plan
from agora.chat.rephrase import rephrased
from agora.chat.research import ResearchConfig, research
from agora.chat.rising import HISTORY_S, MAX_TRENDS, WINDOW_S, rising
from agora.chat.shown import one_line
from agora.chat.square import Square
from agora.chat.talk import talk
from agora.chat.tool_calls import ToolModel, answer_with_tools
from agora.chat.tools import Toolbox
from agora.chat.writing import EXTRACTIVE, Written, write
from agora.errors import GenerationError, UsageError
from agora.search.answers.ask import AskConfig, Gathered, finished, gather
from agora.search.answers.records import Finder, Found, Sentence
from agora.search.answers.rewrite import MAX_CHARS

if TYPE_CHECKING:
    from agora.engine import LanguageModel

log = logging.getLogger(__name__)

_FOR_MORE: Final = 3
"""So many times more hits are read where posts that were shown already are left out."""
_SHORT: Final = 6
"""A message of more words than this stands alone where the rules find nothing to carry over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssistantConfig:
    """memory_tokens   earlier turns that are read, in tokens; never more than half of what the model's context holds
    answers         how answers from posts are made (agora/search/answers)
    rephrase        let a model put a follow-up question so that it stands alone; its reading is tried before those of the rules
    tools           let a model that calls functions (ToolEndpoint) look things up itself; where that fails, the plain way is taken"""

    memory_tokens: int = 2_000
    rephrase: bool = True
    tools: bool = True
    answers: AskConfig = field(default_factory=AskConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.memory_tokens <= 1_000_000:
            raise UsageError(f"chat.memory_tokens={self.memory_tokens} must be from 0 to 1,000,000")


DEFAULTS: Final = AssistantConfig()


class Assistant:
    """`searcher`: Searcher, HeldSearcher or anything alike. `model`: any LanguageModel, or None to quote posts."""

    def __init__(
        self,
        searcher: Finder,
        model: LanguageModel | None = None,
        *,
        square: Square | None = None,
        personas: Personas | None = None,
        config: AssistantConfig = DEFAULTS,
    ) -> None:
        self._searcher, self._model, self._square, self._config = searcher, model, square, config
        self.personas = personas or Personas()
        self._count = token_counter(model)

    @property
    def writer(self) -> str:
        """Who writes: `extractive`, or the model's name."""
        return EXTRACTIVE if self._model is None else f"model {self._model.name}"

    def answer(
        self,
        messages: Sequence[Message],
        *,
        persona: str = NEUTRAL,
        now: datetime | None = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[ChatEvent]:
        """Answer the last of `messages` ({"role": "user" or "assistant", "content": text}; an assistant's may carry `citations`, as Reply
        has them, so that "[2]" and "more" are understood). The last event is Done. Setting `cancelled`, or closing the iterator, ends it.

        Raises UsageError at once for other roles, no question, or an unknown persona.
        """
        voice, at = self.personas.get(persona), now or datetime.now(timezone.utc)
        budget = self._config.memory_tokens
        if self._model is not None:
            budget = min(budget, self._model.context_tokens // 2)
        remembered = remember(messages, budget, self._count, max_chars=MAX_CHARS)
        return self._answer(remembered, make_plan(remembered, now=at), persona, voice, at, cancelled or threading.Event())

    def _answer(
        self, remembered: Remembered, plan: Plan, name: str, voice: Persona, now: datetime, cancelled: threading.Event
    ) -> Iterator[ChatEvent]:
        if plan.kind == "posts":
            plan = self._reread(plan, remembered, cancelled)
            if self._config.tools and hasattr(self._model, "turn") and not plan.skip:
                try:
                    yield from self._with_tools(plan, name, remembered, now, cancelled)
                    return
                except GenerationError as error:
                    log.warning("no answer with tools: %s", error)
            yield from self._from_posts(plan, name, voice, remembered, now, cancelled)
            return
        if self._square is not None and plan.kind == "explain":
            yield from self._explained(plan, name, self._square, now)
        elif self._square is not None and plan.kind == "trends":
            yield Step("tool", "Counting what more voices talk about than usual")
            report = self._square.trends("", WINDOW_S, HISTORY_S, MAX_TRENDS, now)
            yield from rising(report, self._square, name, plan.questions[0])
        else:
            yield from talk(plan, remembered, voice, name, self._model, now=now, cancelled=cancelled)

    def _reread(self, plan: Plan, remembered: Remembered, cancelled: threading.Event) -> Plan:
        """The plan with a model's reading of a follow-up before those of the rules. A message that stands alone by them, and says enough,
        is left as it is."""
        said = " ".join(remembered.said.split())
        if self._model is None or not self._config.rephrase or plan.before is None or plan.skip:
            return plan
        if plan.questions == (said,) and len(said.split()) > _SHORT:
            return plan
        earlier = [turn["content"] for turn in remembered.turns if turn["role"] == "user" and turn["content"].strip()]
        question = rephrased(said, earlier, self._model, cancelled=cancelled)
        return plan if question is None else replace(plan, questions=tuple(dict.fromkeys((question, *plan.questions))))

    def _with_tools(self, plan: Plan, name: str, remembered: Remembered, now: datetime, cancelled: threading.Event) -> Iterator[ChatEvent]:
        """The model looks things up itself. Raises GenerationError, before anything but Steps, where it makes no answer."""
        model = cast("ToolModel", self._model)
        yield from answer_with_tools(
            plan.questions[0], model, self.toolbox(now=now), now=now, persona=name, num_forgotten=remembered.num_forgotten,
            cancelled=cancelled,
        )  # fmt: skip

    def research(
        self,
        question: str,
        *,
        persona: str = NEUTRAL,
        now: datetime | None = None,
        config: ResearchConfig | None = None,
        cancelled: threading.Event | None = None,
    ) -> Iterator[ChatEvent]:
        """A report from several searches, bounded in searches and time (research.py). Raises UsageError at once."""
        self.personas.get(persona)
        at = now or datetime.now(timezone.utc)
        chosen = config or ResearchConfig(answers=self._config.answers)
        return research(question, self._searcher, self._model, now=at, persona=persona, config=chosen, cancelled=cancelled)

    def toolbox(self, *, now: datetime | None = None) -> Toolbox:
        """The tools over what this assistant searches; for clients that bring their own model."""
        return Toolbox(self._searcher, self._square, now=lambda: now or datetime.now(timezone.utc))

    def explain_post(self, post_id: str, *, now: datetime | None = None) -> PostExplanation:
        """What a post answers, who amplified it (in voices), who says the same, how it is labelled. Raises UsageError for an unknown post,
        or for an assistant without a square."""
        if self._square is None:
            raise UsageError("posts cannot be explained here: this assistant has no store of posts")
        return explain_post(post_id, self._square, self._searcher, now=now or datetime.now(timezone.utc))

    def explain(self, post_id: str, *, persona: str = NEUTRAL, now: datetime | None = None) -> Iterator[ChatEvent]:
        """The same as an answer. Raises UsageError at once."""
        self.personas.get(persona)
        return explained(self.explain_post(post_id, now=now), persona, f"explain post {post_id}")

    def _explained(self, plan: Plan, name: str, square: Square, now: datetime) -> Iterator[ChatEvent]:
        try:
            explanation = explain_post(plan.subject, square, self._searcher, now=now)
        except UsageError as error:
            made = Composition()
            yield made.say(f"{one_line(str(error), 500)}\n")
            yield Done(Reply(kind="explain", question=plan.questions[0], text=made.text, writer="rules", persona=name, abstained=made.text))
            return
        yield from explained(explanation, name, plan.questions[0])

    def _from_posts(
        self, plan: Plan, name: str, voice: Persona, remembered: Remembered, now: datetime, cancelled: threading.Event
    ) -> Iterator[ChatEvent]:
        """Each question of the plan in turn, until posts answer one."""
        made, written, queries = Composition(), Written(), list[str]()
        gathered: Gathered | None = None
        question = plan.questions[0]
        for question in plan.questions:
            yield Step("search", f"Searching posts: {one_line(question)}")
            gathered = self._gathered(question, plan, now)
            queries.append(gathered.asked.queries[0])
            yield Step("read", _found(gathered))
            if gathered.shown:
                yield Step("write", "Quoting posts" if self._model is None else "Writing, and checking each sentence against its posts")
                sentences = write(gathered, self._model, self._config.answers, written, cancelled=cancelled)
                yield from told(sentences, gathered.shown, made, opening=voice.line("opening", len(remembered.turns)))
            if made.sentences or cancelled.is_set():
                break
        assert gathered is not None
        yield from self._ended(gathered, made, written, question, queries, name, voice, remembered)

    def _gathered(self, question: str, plan: Plan, now: datetime) -> Gathered:
        searcher = _Without(self._searcher, plan.skip) if plan.skip else self._searcher
        return gather(question, searcher, now=now, config=self._config.answers)

    def _ended(
        self, gathered: Gathered, made: Composition, written: Written, question: str, queries: Sequence[str], name: str, voice: Persona,
        remembered: Remembered,
    ) -> Iterator[ChatEvent]:  # fmt: skip
        answer = finished(gathered, written.writer, _sentences(made), written.refused, written.warnings)
        abstained = answer.abstained
        if abstained:
            lines = " ".join(part for part in (voice.line("nothing", len(remembered.turns)), one_line(abstained, 2_000)) if part)
            yield made.say(f"{lines}\n")
        elif is_group_alone(made.sentences, gathered.shown):
            abstained = ALONE
        for warning in answer.warnings:
            yield Caution(one_line(warning, 500))
        yield Done(
            Reply(
                kind="posts", question=question, text=made.text, writer=written.writer, persona=name, sentences=tuple(made.sentences),
                citations=tuple(made.citations), warnings=tuple(one_line(one, 500) for one in answer.warnings), queries=tuple(queries),
                abstained=abstained, confidence=answer.confidence, is_grounded=True, num_forgotten=remembered.num_forgotten,
                num_removed=len(written.refused),
            )
        )  # fmt: skip


def _sentences(made: Composition) -> list[Sentence]:
    return [Sentence(one.text, one.post_ids, (), one.labelled) for one in made.sentences]


def _found(gathered: Gathered) -> str:
    voices = len({one.voice for one in gathered.shown})
    if not gathered.shown:
        return f"{len(gathered.hits)} posts found, none of them on the question"
    return f"{len(gathered.hits)} posts found; reading {len(gathered.shown)} of {voices} voice{'s' if voices != 1 else ''}"


@dataclass(frozen=True, slots=True)
class _Hits:
    hits: Sequence[Found]
    confidence: float | None
    total: int


class _Without:
    """A searcher that leaves out posts that were shown before."""

    def __init__(self, searcher: Finder, skip: frozenset[str]) -> None:
        self._searcher, self._skip = searcher, skip

    def find(self, text: str, *, limit: int = 10, now: datetime | None = None, match: Any = "auto") -> _Hits:
        """The hits that are new."""
        found = self._searcher.find(text, limit=min(1_000, limit * _FOR_MORE), now=now, match=match)
        hits = [hit for hit in found.hits if hit.post["id"] not in self._skip][:limit]
        return _Hits(hits, None, len(hits))


__all__ = [
    "Assistant", "AssistantConfig", "Caution", "ChatEvent", "Citation", "Done", "Kind", "Reply", "Said", "Step", "Text", "event_as_json",
]  # fmt: skip
