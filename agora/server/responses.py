"""POST /v1/responses. Goes in: OpenAI's newer request. Comes out: a `response`, whole or as its events, of a model that is served.

Text only. Nothing is kept, so `previous_response_id` is refused and `store` has no effect; tools are refused by name.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from agora.engine import SamplingConfig, Usage
from agora.server.answers import Counted
from agora.server.errors import ApiError
from agora.server.requests import Text, TextPart, _Request
from agora.server.running import Prepared, Stopping, run_answer

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (None, False),
    "conversation": (None,),
    "include": (None, []),
    "max_tool_calls": (None,),
    "parallel_tool_calls": (None, True, False),
    "previous_response_id": (None,),
    "prompt": (None,),
    "prompt_cache_key": (None,),
    "reasoning": (None,),
    "service_tier": (None, "auto", "default"),
    "stream_options": (None,),
    "text": (None, {"format": {"type": "text"}}),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "truncation": (None, "disabled"),
}
"""Parameters of OpenAI's API that are not here, with the values that ask for nothing."""


class InputText(_Request):
    type: Literal["input_text", "output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(_Request):
    """One turn; what an earlier answer gave as an item is taken as it is."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[InputText | TextPart]
    id: str | None = None
    status: str | None = None

    def plain(self) -> dict[str, str]:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


class ResponsesRequest(_Request):
    """POST /v1/responses."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    model: str
    input: Text | Annotated[list[InputMessage], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    stream: bool | None = None
    store: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, values: Any) -> Any:
        return cls._known(values, NEUTRAL, "")

    def messages(self) -> list[dict[str, str]]:
        before = [{"role": "system", "content": self.instructions}] if self.instructions else []
        asked = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else [one.plain() for one in self.input]
        return before + asked

    def sampling(self) -> SamplingConfig:
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        return SamplingConfig(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


class Response:
    """One response as it grows."""

    def __init__(self, body: ResponsesRequest) -> None:
        self._body = body
        self.id, self.item, self.created = f"resp_{uuid.uuid4().hex}", f"msg_{uuid.uuid4().hex}", int(time.time())
        self.text, self.finish = "", None
        self.usage: Usage | None = None

    @property
    def status(self) -> str:
        return "in_progress" if self.finish is None else "incomplete" if self.finish == "length" else "completed"

    def counted(self) -> dict[str, int]:
        """The counts as chat completions call them."""
        read, written = (self.usage.prompt_tokens, self.usage.completion_tokens) if self.usage else (0, 0)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}

    def part(self) -> dict[str, Any]:
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}

    def message(self) -> dict[str, Any]:
        content: list[dict[str, Any]] = [self.part()] if self.finish is not None else []
        return {"id": self.item, "type": "message", "role": "assistant", "status": self.status, "content": content}

    def body(self) -> dict[str, Any]:
        counted = self.counted()
        usage = {
            "input_tokens": counted["prompt_tokens"], "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": counted["completion_tokens"], "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": counted["total_tokens"],
        }  # fmt: skip
        body = self._body
        return {
            "id": self.id, "object": "response", "created_at": self.created, "status": self.status, "model": body.model, "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if self.status == "incomplete" else None,
            "instructions": body.instructions, "max_output_tokens": body.max_output_tokens, "metadata": body.metadata or {},
            "output": [self.message()] if self.finish is not None else [], "parallel_tool_calls": False, "previous_response_id": None,
            "store": False, "temperature": body.temperature, "text": {"format": {"type": "text"}}, "tool_choice": "none", "tools": [],
            "top_p": body.top_p, "truncation": "disabled", "usage": usage if self.finish is not None else None,
        }  # fmt: skip


async def whole_response(body: ResponsesRequest, prepared: Prepared, stopping: Stopping, counted: Counted) -> dict[str, Any]:
    """The response, complete. Raises ApiError."""
    made = Response(body)
    async with aclosing(run_answer(prepared, stopping)) as deltas:
        async for delta in deltas:
            made.text, made.finish, made.usage = made.text + delta.text, delta.finish_reason, delta.usage  # type: ignore[assignment]
    counted(made.counted())
    return made.body()


async def response_lines(body: ResponsesRequest, prepared: Prepared, stopping: Stopping, counted: Counted) -> AsyncGenerator[str, None]:
    """The response as events. An ApiError of the first token is raised; a later one is an event of the stream."""
    made, number = Response(body), 0
    started = False

    def event(kind: str, **data: Any) -> str:
        nonlocal number
        number += 1
        return _line({"type": kind, "sequence_number": number - 1, **data})

    place: Mapping[str, Any] = {"output_index": 0, "item_id": made.item, "content_index": 0}
    try:
        async with aclosing(run_answer(prepared, stopping)) as deltas:
            async for delta in deltas:
                if not started:
                    started = True
                    yield event("response.created", response=made.body())
                    yield event("response.in_progress", response=made.body())
                    yield event("response.output_item.added", output_index=0, item=made.message())
                    yield event("response.content_part.added", part=made.part(), **place)
                if delta.text:
                    made.text += delta.text
                    yield event("response.output_text.delta", delta=delta.text, logprobs=[], **place)
                made.finish, made.usage = delta.finish_reason, delta.usage or made.usage  # type: ignore[assignment]
        yield event("response.output_text.done", text=made.text, logprobs=[], **place)
        yield event("response.content_part.done", part=made.part(), **place)
        yield event("response.output_item.done", output_index=0, item=made.message())
        yield event(f"response.{made.status}", response=made.body())
    except ApiError as error:
        if not started:
            raise
        details = error.body["error"]
        yield event("error", code=details["code"], message=details["message"], param=details["param"])
    finally:
        counted(made.counted())


def _line(data: dict[str, Any]) -> str:
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"
