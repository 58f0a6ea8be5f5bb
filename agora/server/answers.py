"""Answers in OpenAI's forms, whole or as server-sent events.

Goes in: one `Form` (chat or completion) and the answers to run. Comes out: a JSON body, or an iterator of `data: ...` lines.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

from agora.engine import Delta, TokenLogprob, Usage
from agora.server.errors import ApiError
from agora.server.running import Prepared, Stopping, run_answer


@dataclass(slots=True)
class Answer:
    """One answer as it grows."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        if delta.logprob is not None and not _ends_answer(delta):
            self.logprobs.append(delta.logprob)
        self.finish_reason = delta.finish_reason
        self.usage = delta.usage


Counted = Callable[[dict[str, int]], None]
"""Gets prompt_tokens and completion_tokens of a request when it ends, however it ends."""


class Form(Protocol):
    """How one endpoint writes its choices. `before` is text that stands before the answer (a prompt echoed)."""

    prefix: str
    object: str
    chunk_object: str

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> dict[str, Any]:
        """A whole choice."""

    def opening(self, index: int, before: str) -> dict[str, Any] | None:
        """The first piece of a streamed choice, before any token."""

    def piece(self, index: int, delta: Delta, offset: int, *, logprobs: bool) -> dict[str, Any]:
        """What one Delta adds; `offset` characters of the choice were sent before."""


class ChatForm:
    """chat.completion"""

    prefix, object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> dict[str, Any]:
        message = {"role": "assistant", "content": before + answer.text, "refusal": None}
        listed = {"content": [_chat_logprob(one) for one in answer.logprobs], "refusal": None} if logprobs else None
        return {"index": index, "message": message, "logprobs": listed, "finish_reason": answer.finish_reason}

    def opening(self, index: int, before: str) -> dict[str, Any] | None:
        return {"index": index, "delta": {"role": "assistant", "content": before}, "logprobs": None, "finish_reason": None}

    def piece(self, index: int, delta: Delta, offset: int, *, logprobs: bool) -> dict[str, Any]:
        own = [] if delta.logprob is None or _ends_answer(delta) else [_chat_logprob(delta.logprob)]
        return {
            "index": index,
            "delta": {"content": delta.text} if delta.text else {},
            "logprobs": {"content": own, "refusal": None} if logprobs else None,
            "finish_reason": delta.finish_reason,
        }


class CompletionForm:
    """text_completion"""

    prefix, object, chunk_object = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> dict[str, Any]:
        listed = _completion_logprobs(answer.logprobs, len(before)) if logprobs else None
        return {"index": index, "text": before + answer.text, "logprobs": listed, "finish_reason": answer.finish_reason}

    def opening(self, index: int, before: str) -> dict[str, Any] | None:
        return {"index": index, "text": before, "logprobs": None, "finish_reason": None} if before else None

    def piece(self, index: int, delta: Delta, offset: int, *, logprobs: bool) -> dict[str, Any]:
        own = [] if delta.logprob is None or _ends_answer(delta) else [delta.logprob]
        listed = _completion_logprobs(own, offset) if logprobs else None
        return {"index": index, "text": delta.text, "logprobs": listed, "finish_reason": delta.finish_reason}


@dataclass(frozen=True, slots=True)
class Plan:
    """The answers that one request asks for: `answers[i]` becomes choice i; choices of equal `prompt_of` share a prompt."""

    form: Form
    model: str
    answers: Sequence[Prepared]
    before: Sequence[str]
    prompt_of: Sequence[int]
    logprobs: bool
    include_usage: bool = False

    def head(self, object: str) -> dict[str, Any]:
        return {"id": f"{self.form.prefix}-{uuid.uuid4().hex}", "object": object, "created": int(time.time()), "model": self.model}

    def usage(self, usages: Sequence[Usage | None]) -> dict[str, int]:
        """Prompts are counted once however many answers they got."""
        prompts = {prompt: usage.prompt_tokens for prompt, usage in zip(self.prompt_of, usages, strict=True) if usage}
        read, written = sum(prompts.values()), sum(usage.completion_tokens for usage in usages if usage)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def whole_body(plan: Plan, stopping: Stopping, counted: Counted) -> dict[str, Any]:
    """All answers, complete. Raises ApiError."""

    async def complete(prepared: Prepared) -> Answer:
        answer = Answer()
        async with aclosing(run_answer(prepared, stopping)) as deltas:
            async for delta in deltas:
                answer.add(delta)
        return answer

    answers = [await complete(prepared) for prepared in plan.answers]
    choices = [
        plan.form.choice(index, answer, plan.before[index], logprobs=plan.logprobs) for index, answer in enumerate(answers)
    ]  # fmt: skip
    usage = plan.usage([answer.usage for answer in answers])
    counted(usage)
    return {**plan.head(plan.form.object), "choices": choices, "usage": usage}


async def event_lines(plan: Plan, stopping: Stopping, counted: Counted) -> AsyncGenerator[str, None]:
    """All answers as server-sent events. An ApiError of the first token is raised; a later one is an event of the stream."""
    head = plan.head(plan.form.chunk_object) | ({"usage": None} if plan.include_usage else {})
    usages: list[Usage | None] = [None] * len(plan.answers)
    started = False
    try:
        for index, prepared in enumerate(plan.answers):
            offset = len(plan.before[index])
            async with aclosing(run_answer(prepared, stopping)) as deltas:
                opening = plan.form.opening(index, plan.before[index])
                async for delta in deltas:
                    if opening is not None:
                        started = True
                        yield _event({**head, "choices": [opening]})
                        opening = None
                    if delta.text or delta.finish_reason or plan.logprobs:
                        started = True
                        yield _event({**head, "choices": [plan.form.piece(index, delta, offset, logprobs=plan.logprobs)]})
                    offset += len(delta.text)
                    if delta.usage is not None:
                        usages[index] = delta.usage
        if plan.include_usage:
            yield _event({**head, "choices": [], "usage": plan.usage(usages)})
        yield "data: [DONE]\n\n"
    except ApiError as error:
        if not started:
            raise
        yield _event(error.body)
    finally:
        counted(plan.usage(usages))


async def first_line(lines: AsyncGenerator[str, None]) -> tuple[str, AsyncGenerator[str, None]]:
    """The first event and the rest, so that an error before it can still be an HTTP status."""
    try:
        return await anext(lines), lines
    except asyncio.CancelledError:
        await lines.aclose()
        raise


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body)}\n\n"


def _ends_answer(delta: Delta) -> bool:
    # The token that ends an answer (<|im_end|>) has no text; OpenAI's lists hold only tokens of the text.
    return delta.logprob is not None and not delta.logprob.data


def _chat_logprob(one: TokenLogprob) -> dict[str, Any]:
    def entry(data: bytes, logprob: float) -> dict[str, Any]:
        return {"token": data.decode("utf-8", errors="replace"), "logprob": logprob, "bytes": list(data)}

    return {**entry(one.data, one.logprob), "top_logprobs": [entry(data, logprob) for data, logprob in one.top]}


def _completion_logprobs(listed: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets = [offset]
    for one in listed:
        offsets.append(offsets[-1] + len(one.text))
    return {
        "tokens": [one.text for one in listed],
        "token_logprobs": [one.logprob for one in listed],
        "top_logprobs": [{data.decode("utf-8", errors="replace"): logprob for data, logprob in one.top} for one in listed],
        "text_offset": offsets[:-1],
    }
