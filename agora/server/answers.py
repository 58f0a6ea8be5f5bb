"""Answers in OpenAI's forms, whole or as server-sent events.

Goes in: one `Form` (chat or completion) and the answers to run. Comes out: a JSON body, or an iterator of `data: ...` lines.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from agora.engine import Delta, TokenLogprob, Usage
from agora.engine.tools import CallPiece, CallReader, ReadCall, ToolUse, read_calls
from agora.server.errors import ApiError
from agora.server.running import Counted, Prepared, Stopping, Tally, run_answers, used


@dataclass(slots=True)
class Answer:
    """One answer as it grows."""

    text: str = ""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage | None = None

    def add(self, delta: Delta) -> None:
        self.text += delta.text
        self.logprobs += _reported(delta)
        self.finish_reason = delta.finish_reason
        self.usage = delta.usage


Json = dict[str, Any]


class ChoiceStream(Protocol):
    """One choice while it is written."""

    def opening(self) -> Json | None:
        """The first piece, before any token."""

    def pieces(self, delta: Delta) -> list[Json]:
        """What one Delta adds."""


class Form(Protocol):
    """How one endpoint writes its choices. `before` is text that stands before the answer (a prompt echoed)."""

    prefix: str
    object: str
    chunk_object: str

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> Json:
        """A whole choice."""

    def stream(self, index: int, before: str, *, logprobs: bool) -> ChoiceStream:
        """A choice that is sent piece by piece."""


class ChatForm:
    """chat.completion. `tools`: answers may hold calls of these functions."""

    prefix, object, chunk_object = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, tools: ToolUse | None = None) -> None:
        self._tools = tools

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> Json:
        text, calls = answer.text, list[ReadCall]()
        if self._tools is not None:
            text, calls = read_calls(answer.text, is_cut=is_cut(answer.finish_reason, self._tools))
        message: Json = {"role": "assistant", "content": None if calls and not text else before + text, "refusal": None}
        if calls:
            message["tool_calls"] = [called(call) for call in calls]
        listed = {"content": [_chat_logprob(one) for one in answer.logprobs], "refusal": None} if logprobs else None
        return {"index": index, "message": message, "logprobs": listed, "finish_reason": finish_reason(answer.finish_reason, len(calls))}

    def stream(self, index: int, before: str, *, logprobs: bool) -> ChoiceStream:
        return _ChatStream(index, before, self._tools, logprobs=logprobs)


class _ChatStream:
    def __init__(self, index: int, before: str, tools: ToolUse | None, *, logprobs: bool) -> None:
        self._index, self._before, self._tools, self._has_logprobs = index, before, tools, logprobs
        self._reader = CallReader() if tools is not None else None

    def opening(self) -> Json | None:
        return self._piece({"role": "assistant", "content": None if self._reader else self._before})

    def pieces(self, delta: Delta) -> list[Json]:
        if self._reader is None or self._tools is None:
            parts = [{"content": delta.text}] if delta.text else []
        else:
            found = self._reader.push(delta.text)
            if delta.finish_reason:
                found.append(self._reader.finish(is_cut=is_cut(delta.finish_reason, self._tools)))
            parts = [_chat_part(one) for one in found if one]
        if not parts and (delta.finish_reason or self._has_logprobs):
            parts = [{}]
        made = [self._piece(part) for part in parts]
        if made and self._has_logprobs:
            made[0]["logprobs"] = {"content": [_chat_logprob(one) for one in _reported(delta)], "refusal": None}
        if delta.finish_reason:
            made[-1]["finish_reason"] = finish_reason(delta.finish_reason, self._reader.num_calls if self._reader else 0)
        return made

    def _piece(self, part: Json) -> Json:
        return {"index": self._index, "delta": part, "logprobs": None, "finish_reason": None}


def _chat_part(piece: str | CallPiece) -> Json:
    if isinstance(piece, str):
        return {"content": piece}
    if piece.name is None:
        return {"tool_calls": [{"index": piece.index, "function": {"arguments": piece.arguments}}]}
    function = {"name": piece.name, "arguments": ""}
    return {"tool_calls": [{"index": piece.index, "id": piece.id, "type": "function", "function": function}]}


def is_cut(reason: str | None, tools: ToolUse) -> bool:
    """Whether what began like a call at the end of an answer was to be one."""
    return reason == "length" or tools.choice != "auto"


def called(call: ReadCall) -> Json:
    """A whole call as chat completions write it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def finish_reason(reason: str | None, num_calls: int) -> str | None:
    """The reason as OpenAI names it: an answer that ends with calls has one of its own."""
    return "tool_calls" if reason == "stop" and num_calls else reason


class CompletionForm:
    """text_completion"""

    prefix, object, chunk_object = "cmpl", "text_completion", "text_completion"

    def choice(self, index: int, answer: Answer, before: str, *, logprobs: bool) -> Json:
        listed = _completion_logprobs(answer.logprobs, len(before)) if logprobs else None
        return {"index": index, "text": before + answer.text, "logprobs": listed, "finish_reason": answer.finish_reason}

    def stream(self, index: int, before: str, *, logprobs: bool) -> ChoiceStream:
        return _CompletionStream(index, before, logprobs=logprobs)


class _CompletionStream:
    def __init__(self, index: int, before: str, *, logprobs: bool) -> None:
        self._index, self._before, self._has_logprobs = index, before, logprobs
        self._offset = len(before)

    def opening(self) -> Json | None:
        return {"index": self._index, "text": self._before, "logprobs": None, "finish_reason": None} if self._before else None

    def pieces(self, delta: Delta) -> list[Json]:
        if not (delta.text or delta.finish_reason or self._has_logprobs):
            return []
        listed = _completion_logprobs(_reported(delta), self._offset) if self._has_logprobs else None
        self._offset += len(delta.text)
        return [{"index": self._index, "text": delta.text, "logprobs": listed, "finish_reason": delta.finish_reason}]


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

    def head(self, object: str) -> Json:
        return {"id": f"{self.form.prefix}-{uuid.uuid4().hex}", "object": object, "created": int(time.time()), "model": self.model}


async def whole_body(plan: Plan, stopping: Stopping, counted: Counted) -> Json:
    """All answers, complete. Raises ApiError."""
    answers = [Answer() for _ in plan.answers]
    async with aclosing(run_answers(plan.answers, stopping, Tally(counted, plan.prompt_of))) as batches:
        async for index, deltas in batches:
            for delta in deltas:
                answers[index].add(delta)
    choices = [
        plan.form.choice(index, answer, plan.before[index], logprobs=plan.logprobs) for index, answer in enumerate(answers)
    ]  # fmt: skip
    return {**plan.head(plan.form.object), "choices": choices, "usage": used([answer.usage for answer in answers], plan.prompt_of)}


async def event_lines(plan: Plan, stopping: Stopping, counted: Counted) -> AsyncGenerator[bytes, None]:
    """All answers as server-sent events, side by side, those that came together in one piece. An ApiError of the first token is raised; a
    later one is an event of the stream.
    """
    head = plan.head(plan.form.chunk_object) | ({"usage": None} if plan.include_usage else {})
    begin = b'data: %b,"choices":[' % orjson.dumps(head)[:-1]
    usages: list[Usage | None] = [None] * len(plan.answers)
    streams = [plan.form.stream(index, before, logprobs=plan.logprobs) for index, before in enumerate(plan.before)]
    openings = [stream.opening() for stream in streams]
    started = False
    try:
        async with aclosing(run_answers(plan.answers, stopping, Tally(counted, plan.prompt_of))) as batches:
            async for index, deltas in batches:
                opening, openings[index] = openings[index], None
                pieces = [] if opening is None else [opening]
                for delta in deltas:
                    pieces += streams[index].pieces(delta)
                    usages[index] = delta.usage or usages[index]
                if pieces:
                    started = True
                    yield b"".join([b"%b%b]}\n\n" % (begin, orjson.dumps(piece)) for piece in pieces])
        if plan.include_usage:
            yield _event({**head, "choices": [], "usage": used(usages, plan.prompt_of)})
        yield b"data: [DONE]\n\n"
    except ApiError as error:
        if not started:
            raise
        yield _event(error.body)


async def first_line(lines: AsyncGenerator[bytes, None]) -> tuple[bytes, AsyncGenerator[bytes, None]]:
    """The first event and the rest, so that an error before it can still be an HTTP status."""
    try:
        return await anext(lines), lines
    except asyncio.CancelledError:
        await lines.aclose()
        raise


def _event(body: Json) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(body)


def _reported(delta: Delta) -> list[TokenLogprob]:
    # The token that ends an answer (<|im_end|>) has no text; OpenAI's lists hold only tokens of the text.
    return [delta.logprob] if delta.logprob is not None and delta.logprob.data else []


def _chat_logprob(one: TokenLogprob) -> Json:
    def entry(data: bytes, logprob: float) -> Json:
        return {"token": data.decode("utf-8", errors="replace"), "logprob": logprob, "bytes": list(data)}

    return {**entry(one.data, one.logprob), "top_logprobs": [entry(data, logprob) for data, logprob in one.top]}


def _completion_logprobs(listed: Sequence[TokenLogprob], offset: int) -> Json:
    offsets = [offset]
    for one in listed:
        offsets.append(offsets[-1] + len(one.text))
    return {
        "tokens": [one.text for one in listed],
        "token_logprobs": [one.logprob for one in listed],
        "top_logprobs": [{data.decode("utf-8", errors="replace"): logprob for data, logprob in one.top} for one in listed],
        "text_offset": offsets[:-1],
    }
