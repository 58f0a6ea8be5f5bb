"""POST /v1/responses, what may be asked. Goes in: OpenAI's newer request. Comes out: messages, settings, the form of the answer.

Nothing is kept, so `previous_response_id` is refused and `store` has no effect. Of the tools there are functions; others are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, FiniteFloat, Tag, model_validator

from agora.engine import SamplingConfig
from agora.engine.tools import call_text
from agora.server.formats import FlatFormat, FlatNamedChoice, FlatToolList, Modes, Structure, tool_use
from agora.server.requests import TextPart, as_made, joined
from agora.server.strict import StrictRequest, Text, invalid

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "background": (None, False),
    "conversation": (None,),
    "include": (None, []),
    "max_tool_calls": (None,),
    "previous_response_id": (None,),
    "prompt": (None,),
    "reasoning": (None, {}, {"effort": None}, {"effort": "none"}),
    "service_tier": (None, "auto", "default"),
    "stream_options": (None, {}, {"include_obfuscation": False}),
    "top_logprobs": (None, 0),
    "truncation": (None, "disabled"),
}
"""Parameters of OpenAI's API that are not here, with the values that ask for nothing."""


class InputText(StrictRequest):
    """One part of a turn."""

    type: Literal["input_text", "output_text"]
    text: Text
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class InputMessage(StrictRequest):
    """One turn; what an earlier answer gave as an item is taken as it is."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[InputText | TextPart]
    id: str | None = None
    status: str | None = None


class InputCall(StrictRequest):
    """A call that an earlier answer asked for."""

    type: Literal["function_call"]
    call_id: str
    name: Text
    arguments: Text
    id: str | None = None
    status: str | None = None


class CallOutput(StrictRequest):
    """What a call returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: Text | list[InputText]
    id: str | None = None
    status: str | None = None


# In brackets, as an error's place leaves such names out (errors.py).
_MESSAGE, _CALL, _OUTPUT = "[message]", "[call]", "[output]"


def _kind(value: Any) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", "message")
    return {"function_call": _CALL, "function_call_output": _OUTPUT}.get(kind, _MESSAGE) if isinstance(kind, str) else _MESSAGE


Item = Annotated[
    Annotated[InputMessage, Tag(_MESSAGE)] | Annotated[InputCall, Tag(_CALL)] | Annotated[CallOutput, Tag(_OUTPUT)], Discriminator(_kind)
]


class TextForm(StrictRequest):
    """`text`: the form of the words."""

    format: FlatFormat | None = None
    verbosity: Literal["medium"] | None = None


class ResponsesRequest(StrictRequest):
    """POST /v1/responses."""

    model: str
    input: Text | Annotated[list[Item], Field(min_length=1)]
    instructions: Text | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[FiniteFloat, Field(ge=0, le=2)] | None = None
    top_p: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    text: TextForm | None = None
    tools: FlatToolList | None = None
    tool_choice: Modes | FlatNamedChoice | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    store: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    metadata: dict[str, str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, values: Any) -> Any:
        return cls.known(values, NEUTRAL, "")

    def messages(self) -> list[dict[str, str]]:
        """The turns for a model. Raises ApiError for results of calls that nobody made."""
        before = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return before + ([{"role": "user", "content": self.input}] if isinstance(self.input, str) else _turns(self.input))

    def structure(self) -> Structure:
        """The form that the answer must have. Raises ApiError; takes its time for a large schema."""
        choice = self.tool_choice
        given = [(f"tools.{place}", one) for place, one in enumerate(self.tools or ())]
        use = tool_use(given, choice, is_parallel=self.parallel_tool_calls is not False)
        wanted = self.text.format if self.text else None
        return Structure(wanted.schema_text() if wanted else None, use)

    def sampling(self) -> SamplingConfig:
        """The settings of the draw."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_output_tokens}
        return SamplingConfig(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _turns(items: Sequence[InputMessage | InputCall | CallOutput]) -> list[dict[str, str]]:
    made: set[str] = set()
    turns: list[dict[str, str]] = []
    for place, item in enumerate(items):
        if isinstance(item, InputMessage):
            turns.append({"role": "system" if item.role == "developer" else item.role, "content": joined(item.content)})
        elif isinstance(item, InputCall):
            made.add(item.call_id)
            said = call_text([as_made(item.name, item.arguments)])
            if turns and turns[-1]["role"] == "assistant":  # words and calls of one turn stand together
                turns[-1]["content"] = f"{turns[-1]['content']}\n{said}".lstrip()
            else:
                turns.append({"role": "assistant", "content": said})
        elif item.call_id not in made:
            raise invalid(f"input.{place}.call_id", f"no earlier item is a call with the id {item.call_id!r}")
        else:
            turns.append({"role": "tool", "content": joined(item.output)})
    return turns


__all__ = ["ResponsesRequest"]
