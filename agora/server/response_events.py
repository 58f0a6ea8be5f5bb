"""POST /v1/responses, what is answered. Goes in: a request and its answer to run. Comes out: a `response`, whole or as its events."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from agora.engine import Delta, Usage
from agora.engine.tools import CallPiece, CallReader, ToolUse
from agora.server.answers import is_cut
from agora.server.errors import ApiError
from agora.server.responses import ResponsesRequest
from agora.server.running import Counted, Prepared, Stopping, Tally, run_answer, used

Event = dict[str, Any]


class _Item:
    """A part of the output: words (a message), or the call of a function."""

    def __init__(self, place: int, call: CallPiece | None) -> None:
        self.place, self.call = place, call
        self.id = f"{'msg' if call is None else 'fc'}_{uuid.uuid4().hex}"
        self.text, self.status = "", "in_progress"

    def part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def body(self) -> dict[str, Any]:
        head = {"id": self.id, "status": self.status}
        if self.call is None:
            return {**head, "type": "message", "role": "assistant", "content": [] if self.status == "in_progress" else [self.part()]}
        return {**head, "type": "function_call", "call_id": self.call.id, "name": self.call.name, "arguments": self.text}

    def begun(self) -> Iterator[Event]:
        yield {"type": "response.output_item.added", "output_index": self.place, "item": self.body()}
        if self.call is None:
            yield {"type": "response.content_part.added", "part": self.part(), **self._where()}

    def grown(self, text: str) -> Iterator[Event]:
        self.text += text
        if self.call is None:
            yield {"type": "response.output_text.delta", "delta": text, "logprobs": [], **self._where()}
        else:
            yield {"type": "response.function_call_arguments.delta", "delta": text, **self._where()}

    def ended(self, status: str) -> Iterator[Event]:
        self.status = status
        if self.call is None:
            yield {"type": "response.output_text.done", "text": self.text, "logprobs": [], **self._where()}
            yield {"type": "response.content_part.done", "part": self.part(), **self._where()}
        else:
            done = {"type": "response.function_call_arguments.done", "name": self.call.name, "arguments": self.text}
            yield {**done, **self._where()}
        yield {"type": "response.output_item.done", "output_index": self.place, "item": self.body()}

    def _where(self) -> dict[str, Any]:
        return {"output_index": self.place, "item_id": self.id, **({"content_index": 0} if self.call is None else {})}


class Response:
    """One response as it grows. What it yields are its events, without their numbers."""

    def __init__(self, body: ResponsesRequest, tools: ToolUse | None) -> None:
        self._body, self._tools = body, tools
        self._reader = CallReader() if tools is not None else None
        self.id, self.created = f"resp_{uuid.uuid4().hex}", int(time.time())
        self.items: list[_Item] = []
        self.finish: str | None = None
        self.usage: Usage | None = None

    @property
    def status(self) -> str:
        return "in_progress" if self.finish is None else "incomplete" if self.finish == "length" else "completed"

    def begin(self) -> Iterator[Event]:
        """Before anything is there."""
        yield {"type": "response.created", "response": self.body()}
        yield {"type": "response.in_progress", "response": self.body()}

    def add(self, delta: Delta) -> Iterator[Event]:
        """What one Delta adds."""
        pieces: list[str | CallPiece] = [delta.text]
        if self._reader is not None and self._tools is not None:
            pieces = self._reader.push(delta.text)
            if delta.finish_reason:
                pieces.append(self._reader.finish(is_cut=is_cut(delta.finish_reason, self._tools)))
        for piece in pieces:
            if piece:
                yield from self._piece(piece)
        self.finish, self.usage = delta.finish_reason, delta.usage or self.usage

    def end(self) -> Iterator[Event]:
        """When the last Delta was added."""
        if not self.items:
            yield from self._open(None)
        yield from self.items[-1].ended(self.status)
        yield {"type": f"response.{self.status}", "response": self.body()}

    def _piece(self, piece: str | CallPiece) -> Iterator[Event]:
        if isinstance(piece, str):
            if not self.items or self.items[-1].call is not None:
                yield from self._open(None)
            yield from self.items[-1].grown(piece)
        elif piece.name is not None:
            yield from self._open(piece)
        else:
            yield from self.items[-1].grown(piece.arguments)

    def _open(self, call: CallPiece | None) -> Iterator[Event]:
        if self.items:
            yield from self.items[-1].ended("completed")
        self.items.append(_Item(len(self.items), call))
        yield from self.items[-1].begun()

    def body(self) -> dict[str, Any]:
        """The response as it is now."""
        counted = used([self.usage], [0])
        usage = {
            "input_tokens": counted["prompt_tokens"], "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counted["completion_tokens"], "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        }  # fmt: skip
        body = self._body
        wanted = body.text.format if body.text and body.text.format else None
        written_as = wanted.model_dump(by_alias=True, exclude_none=True) if wanted else {"type": "text"}
        choice = body.tool_choice if body.tool_choice is None or isinstance(body.tool_choice, str) else body.tool_choice.model_dump()
        return {
            "id": self.id, "object": "response", "created_at": self.created, "status": self.status, "model": body.model, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if self.status == "incomplete" else None,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens, "metadata": body.metadata or {},
            "output": [item.body() for item in self.items] if self.finish is not None else [],
            "parallel_tool_calls": body.parallel_tool_calls is not False, "previous_response_id": None, "store": False,
            "temperature": body.temperature, "text": {"format": written_as}, "tool_choice": choice or "auto",
            "tools": [tool.model_dump() for tool in body.tools or ()], "top_p": body.top_p, "truncation": "disabled",
            "usage": usage if self.finish is not None else None,
        }  # fmt: skip


async def whole_response(made: Response, prepared: Prepared, stopping: Stopping, counted: Counted) -> dict[str, Any]:
    """The response, complete. Raises ApiError."""
    async with aclosing(run_answer(prepared, stopping, Tally(counted))) as batches:
        async for deltas in batches:
            for delta in deltas:
                for _ in made.add(delta):
                    pass
    for _ in made.end():
        pass
    return made.body()


async def response_lines(made: Response, prepared: Prepared, stopping: Stopping, counted: Counted) -> AsyncGenerator[bytes, None]:
    """The response as events. An ApiError of the first token is raised; a later one is an event of the stream."""
    number = 0

    def lines(events: Iterator[Event]) -> bytes:
        nonlocal number
        told = []
        for event in events:
            told.append(f"event: {event['type']}\ndata: {json.dumps({**event, 'sequence_number': number})}\n\n")
            number += 1
        return "".join(told).encode()

    try:
        async with aclosing(run_answer(prepared, stopping, Tally(counted))) as batches:
            async for deltas in batches:
                begun = lines(made.begin()) if not number else b""
                if text := begun + b"".join(lines(made.add(delta)) for delta in deltas):
                    yield text
        yield lines(made.end())
    except ApiError as error:
        if not number:
            raise
        details = error.body["error"]
        yield lines(iter([{"type": "error", "code": details["code"], "message": details["message"], "param": details["param"]}]))


__all__ = ["Response", "response_lines", "whole_response"]
