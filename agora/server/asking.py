"""A question in a conversation. Goes in: an account, a conversation, what was asked. Comes out: events, and the stored answer.

The question is on the disk before anything is looked for; the answer is there as `writing` from then on, saved every SAVE_S, and at the
end `complete`, `stopped` or `failed`. Whoever stops listening stops the answer; what was said so far stays, as `stopped`.

Events: step (what is being done), text (a piece of the answer), citation, warning, done, error. See `Event`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from agora.config import unknown_value
from agora.errors import AgoraError
from agora.server.conversations import Conversations, State
from agora.server.errors import FAILED, ApiError, from_agora_error
from agora.server.running import Stopping

SAVE_S: Final = 1.0
MAX_TURNS: Final = 40
log = logging.getLogger(__name__)

Kind = Literal["step", "text", "citation", "warning", "done", "error"]


@dataclass(frozen=True, slots=True)
class Event:
    """`data` by kind:

    step      text
    text      delta
    citation  number, post_id, author, created_at, text, quote, label, voice, alike: what [number] in the answer stands for
    warning   text
    done      message (its number), state, abstained
    error     text
    """

    kind: Kind
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """What an answerer gets: the conversation so far (the question last), and how it is to answer."""

    messages: Sequence[Mapping[str, Any]]
    persona: str = "neutral"
    is_deep: bool = False
    now: datetime | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)


Answerer = Callable[[Asked], Iterator[Event]]
"""Yields step, text, citation and warning events; may end with a `done` whose data are kept with the answer."""


@dataclass(slots=True)
class Growing:
    """An answer as it is stored: its text, and what the page needs to show it again."""

    text: str = ""
    details: dict[str, Any] = field(default_factory=lambda: {"citations": [], "warnings": [], "steps": []})

    def take(self, event: Event) -> None:
        if event.kind == "text":
            self.text += event.data["delta"]
        elif event.kind == "citation":
            self.details["citations"].append(event.data)
        elif event.kind in ("warning", "step"):
            self.details[f"{event.kind}s"].append(event.data["text"])
        elif event.kind == "error":
            self.details["error"] = event.data["text"]
        elif event.kind == "done":
            self.details.update(event.data)


class Asker:
    """Answers in conversations. `answerer` does the work in a thread of its own."""

    def __init__(self, talks: Conversations, answerer: Answerer, stopping: Stopping, *, personas: Collection[str] = ()) -> None:
        self.personas = tuple(personas)
        self._talks = talks
        self._answerer = answerer
        self._stopping = stopping

    def begin(
        self, account: int, talk: str, text: str | None, *, after: int | None = None, persona: str = "neutral", is_deep: bool = False,
        now: datetime | None = None,
    ) -> tuple[int, int, Asked]:  # fmt: skip
        """Store the question; its number, the answer's, and what to answer. With `after`, that message and what follows go first (an edit);
        without `text` the last question is answered again. Raises UsageError for a conversation that is not the account's,
        ApiError for what cannot be asked; then nothing has changed."""
        if self.personas and persona not in self.personas:
            raise ApiError(400, unknown_value(persona, self.personas, "persona"), param="persona")
        details = {"persona": persona, "is_deep": is_deep}
        question, answer, known = self._talks.ask(account, talk, text, after=after, details=details)
        messages = [_turn(one) for one in known[-MAX_TURNS:] if one["content"]]
        return question, answer, Asked(messages=messages, persona=persona, is_deep=is_deep, now=now)

    async def events(self, answer: int, asked: Asked) -> AsyncGenerator[Event, None]:
        """The events of an answer that was begun. It is stored whatever happens."""
        loop, queue = asyncio.get_running_loop(), asyncio.Queue[Event | None]()

        def tell(event: Event | None) -> None:
            try:
                loop.call_soon_threadsafe(queue.put_nowait, event)
            except RuntimeError:  # the loop is closed: nobody listens any more
                asked.cancelled.set()

        self._stopping.running.add(asked.cancelled)
        if self._stopping.stopped:
            asked.cancelled.set()
        try:
            threading.Thread(target=self._work, args=(answer, asked, tell), name="ask", daemon=True).start()
            while (event := await queue.get()) is not None:
                yield event
        finally:
            asked.cancelled.set()
            self._stopping.running.discard(asked.cancelled)

    def _work(self, answer: int, asked: Asked, tell: Callable[[Event | None], None]) -> None:
        grown, saved = Growing(), time.monotonic()
        grown.details |= {"persona": asked.persona, "is_deep": asked.is_deep}
        try:
            state: State = "complete"
            error = ""
            try:
                for event in self._answerer(asked):
                    if asked.cancelled.is_set():
                        state = "stopped"
                        break
                    grown.take(event)
                    if event.kind != "done":
                        tell(event)
                    if time.monotonic() - saved >= SAVE_S:
                        self._talks.write(answer, grown.text, state="writing", details=grown.details)
                        saved = time.monotonic()
            except (AgoraError, ApiError) as failure:
                state, error = "failed", str(from_agora_error(failure).detail if isinstance(failure, AgoraError) else failure.detail)
            except Exception:
                log.exception("an answer failed")
                state, error = "failed", FAILED
            if error:
                grown.take(failed := Event("error", {"text": error}))
                tell(failed)
            self._talks.write(answer, grown.text, state=state, details=grown.details)
            tell(Event("done", {"message": answer, "state": state, "abstained": grown.details.get("abstained")}))
        except Exception:
            log.exception("an answer could not be stored")
            tell(Event("error", {"text": "The answer could not be stored; the server's log has the details"}))
        finally:
            tell(None)


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    """A stored message as the assistant reads it."""
    turn = {"role": message["role"], "content": message["content"]}
    citations = (message.get("details") or {}).get("citations")
    return {**turn, "citations": citations} if citations else turn


__all__ = ["Answerer", "Asked", "Asker", "Event"]
