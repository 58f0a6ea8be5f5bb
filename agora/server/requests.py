"""What may be asked. Goes in: the JSON of OpenAI's chat and completion requests. Comes out: messages or prompts, and a SamplingConfig.

Nothing is dropped in silence: a parameter of OpenAI's API that this server does not have is accepted only with the value
that asks for nothing (NEUTRAL); any other value, and any unknown name, is refused by name.

Accepted without effect, and kept nowhere: `user` and `safety_identifier` (whom the request is for), `prompt_cache_key` (beginnings that
are shared are found without it), `metadata`, `store` (no answer is ever stored), and a message's `name`.
Beyond OpenAI's API: top_k, min_p, repetition_penalty.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, model_validator

from agora.engine import SamplingConfig
from agora.engine.sampling import MAX_SEED, MAX_STOP_STRINGS
from agora.engine.tools import call_text
from agora.server.errors import ApiError
from agora.server.formats import Modes, NamedChoice, ResponseFormat, Structure, ToolList, tool_use
from agora.server.strict import StrictRequest, Text, invalid

MAX_CHOICES = 16
COMPLETION_MAX_TOKENS = 16
"""Tokens of a completion that names no number, as in OpenAI's API."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "function_call": (None, "none"),
    "functions": (None, []),
    "modalities": (None, ["text"]),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "response_format": (None, {"type": "text"}),
    "service_tier": (None, "auto", "default"),
    "suffix": (None, ""),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
}
"""Parameters of OpenAI's API that are not here, with the values that ask for nothing."""

NEUTRAL_IN_MESSAGE: dict[str, tuple[Any, ...]] = {
    "annotations": (None, []),
    "audio": (None,),
    "function_call": (None,),
    "refusal": (None,),
}


class TextPart(StrictRequest):
    """One part of a message's content."""

    type: Literal["text"]
    text: Text


class CalledFunction(StrictRequest):
    """A call as a model made it. `arguments` is JSON, or whatever the model wrote instead."""

    name: Text
    arguments: Text


class MadeCall(StrictRequest):
    """One call of an earlier turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class Message(StrictRequest):
    """One turn. `developer` is read as `system`. `tool` is what a call of an earlier turn returned."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[MadeCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, values: Any) -> Any:
        return cls.known(values, NEUTRAL_IN_MESSAGE, " in a message")

    def plain(self) -> dict[str, str]:
        content = joined(self.content)
        if self.tool_calls:
            content = f"{content}\n{call_text(as_made(one.function.name, one.function.arguments) for one in self.tool_calls)}".lstrip()
        return {"role": "system" if self.role == "developer" else self.role, "content": content}


def joined(content: str | list[Any] | None) -> str:
    """Parts of a content, as one text."""
    return content if isinstance(content, str) else "".join(part.text for part in content or ())


def as_made(name: str, arguments: str) -> tuple[str, str]:
    """A call in the form in which models write it: arguments as JSON without blanks, or as they are where they are none."""
    try:
        compact = json.dumps(json.loads(arguments), separators=(",", ":"), ensure_ascii=False)
        compact.encode()  # half a surrogate pair may stand in JSON as an escape
        return name, compact
    except (ValueError, RecursionError):
        return name, arguments


def plain_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The turns for a model. Raises ApiError for results of calls that nobody made, and turns without content."""
    made: set[str] = set()
    for place, message in enumerate(messages):
        where = f"messages.{place}"
        if message.role == "tool" and message.tool_call_id not in made:
            raise invalid(f"{where}.tool_call_id", f"no earlier turn has a call with the id {message.tool_call_id!r}")
        if message.role != "tool" and message.tool_call_id is not None:
            raise invalid(f"{where}.tool_call_id", "only a message of role 'tool' has one")
        if message.tool_calls and message.role != "assistant":
            raise invalid(f"{where}.tool_calls", "only a message of role 'assistant' has calls")
        if message.content is None and not message.tool_calls:
            raise ApiError(400, f"{where}.content: Field required", param=f"{where}.content", code="missing_required_parameter")
        made |= {call.id for call in message.tool_calls or ()}
    return [message.plain() for message in messages]


class StreamOptions(StrictRequest):
    """`include_usage` adds a last chunk with the token counts."""

    include_usage: bool = False
    include_obfuscation: Literal[False] | None = None


class _Sampled(StrictRequest):
    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    stop: Text | list[Text] | None = None
    seed: Annotated[int, Field(ge=-MAX_SEED, le=MAX_SEED)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=1)] | None = None
    min_p: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[FiniteFloat, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[FiniteFloat, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[FiniteFloat, Field(gt=0, le=10)] | None = None
    logit_bias: dict[str, Annotated[FiniteFloat, Field(ge=-100, le=100)]] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, values: Any) -> Any:
        return cls.known(values, NEUTRAL, "")

    @model_validator(mode="after")
    def _stream_options_need_stream(self) -> _Sampled:
        if self.stream_options is not None and not self.stream:
            raise ApiError(400, "stream_options is only allowed with stream=true", param="stream_options", code="invalid_value")
        return self

    @property
    def choices_per_prompt(self) -> int:
        return self.n or 1

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def _sampling(self, *, max_tokens: int | None, logprobs: int | None) -> SamplingConfig:
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stop) > MAX_STOP_STRINGS or not all(stop):
            raise ApiError(400, f"stop takes up to {MAX_STOP_STRINGS} non-empty strings", param="stop", code="invalid_value")
        given = {
            "temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k, "min_p": self.min_p, "seed": self.seed,
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
            "repetition_penalty": self.repetition_penalty, "max_tokens": max_tokens, "logprobs": logprobs,
        }  # fmt: skip
        return SamplingConfig(
            **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
            stop=tuple(stop),
            logit_bias=_bias(self.logit_bias or {}),
        )


class ChatRequest(_Sampled):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: ToolList | None = None
    tool_choice: Modes | NamedChoice | None = None
    parallel_tool_calls: bool | None = None

    def plain_messages(self) -> list[dict[str, str]]:
        """The turns for a model. Raises ApiError."""
        return plain_messages(self.messages)

    def structure(self) -> Structure:
        """The form that the answer must have. Raises ApiError; takes its time for a large schema."""
        given = [(f"tools.{place}.function", one.function) for place, one in enumerate(self.tools or ())]
        choice = self.tool_choice.function if isinstance(self.tool_choice, NamedChoice) else self.tool_choice
        use = tool_use(given, choice, is_parallel=self.parallel_tool_calls is not False)
        return Structure(self.response_format.schema_text() if self.response_format else None, use)

    def sampling(self) -> SamplingConfig:
        """Raises ApiError for parameters that contradict each other."""
        if self.max_tokens is not None and self.max_completion_tokens is not None and self.max_tokens != self.max_completion_tokens:
            raise ApiError(400, "max_tokens and max_completion_tokens differ; give one", param="max_tokens", code="invalid_value")
        if self.top_logprobs is not None and not self.logprobs:
            raise ApiError(400, "top_logprobs is only allowed with logprobs=true", param="top_logprobs", code="invalid_value")
        limit = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return self._sampling(max_tokens=limit, logprobs=(self.top_logprobs or 0) if self.logprobs else None)


class CompletionRequest(_Sampled):
    """POST /v1/completions."""

    prompt: Text | list[Text] | list[int] | list[list[int]]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    def prompts(self) -> list[str | list[int]]:
        """Raises ApiError when there are none, or too many answers are asked for."""
        prompt = self.prompt
        single = isinstance(prompt, str) or (bool(prompt) and isinstance(prompt[0], int))
        prompts: list[Any] = [prompt] if single else list(prompt)
        if not prompts or not all(isinstance(one, str) or one for one in prompts):
            raise ApiError(400, "prompt is empty", param="prompt", code="invalid_value")
        if len(prompts) * self.choices_per_prompt > MAX_CHOICES:
            asked = f"{len(prompts)} prompts x n={self.choices_per_prompt}"
            raise ApiError(400, f"{asked} is more than {MAX_CHOICES} answers in one request", param="prompt", code="invalid_value")
        return prompts

    def sampling(self) -> SamplingConfig:
        """Raises ApiError for parameters that do not go together."""
        if self.echo and self.logprobs is not None:
            raise ApiError(400, "echo with logprobs is not supported", param="echo", code="unsupported_parameter")
        if self.echo and not all(isinstance(prompt, str) for prompt in self.prompts()):
            raise ApiError(400, "echo of a prompt given as tokens is not supported", param="echo", code="unsupported_parameter")
        return self._sampling(max_tokens=self.max_tokens or COMPLETION_MAX_TOKENS, logprobs=self.logprobs)


def _bias(given: dict[str, float]) -> dict[int, float]:
    wrong = next((token for token in given if not (token.isascii() and token.isdigit() and len(token) < 10)), None)
    if wrong is not None:
        raise ApiError(400, f"logit_bias: {wrong!r} is no token number", param="logit_bias", code="invalid_value")
    return {int(token): bias for token, bias in given.items()}
