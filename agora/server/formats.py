"""The form that an answer must have. Goes in: OpenAI's `response_format`, `tools` and `tool_choice`. Comes out: a JSON schema or a ToolUse.

What a schema asks for and no answer can be held to is refused with its place (`response_format.json_schema.schema.properties.tags`).
Functions without `strict` are held to their parameters as far as a grammar can express them, as OpenAI promises no more for these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from agora.engine import SamplingConfig
from agora.engine.constraint import schema_problem
from agora.engine.tools import Tool, ToolUse, grammar, guided, with_tools
from agora.server.strict import StrictRequest, Text, invalid

MAX_TOOLS: Final = 128
MAX_SCHEMA_DEPTH: Final = 64
MAX_SCHEMA_CHARS: Final = 40_000
ANY_OBJECT: Final = '{"type": "object"}'
GUIDANCE: Final = "x-guidance"
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependentRequired")
_VALUES: Final = ("const", "enum", "default", "examples", "example")
_Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Schema = dict[str, Any]


class SchemaFormat(StrictRequest):
    """`strict` changes nothing here: the answer always follows the schema, and one that cannot be followed is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, validate_by_name=False, validate_by_alias=True)

    name: _Name
    description: Text | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(StrictRequest):
    """`text`, `json_object`, or `json_schema` with `json_schema`."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None

    def schema_text(self) -> str | None:
        """The JSON schema, None for text. Raises ApiError."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise invalid("response_format.json_schema", "must be given with type 'json_schema', and only then")
        if self.json_schema is not None:
            return checked_schema(self.json_schema.schema_, "response_format.json_schema.schema")
        return ANY_OBJECT if self.type == "json_object" else None


class FlatFormat(StrictRequest):
    """The same in the form of /v1/responses: `text.format`."""

    model_config = SchemaFormat.model_config

    type: Literal["text", "json_object", "json_schema"]
    name: _Name | None = None
    description: Text | None = None
    schema_: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None

    def schema_text(self) -> str | None:
        """The JSON schema, None for text. Raises ApiError."""
        if (self.type == "json_schema") != (self.schema_ is not None) or (self.type == "json_schema" and self.name is None):
            raise invalid("text.format.schema", "must be given with type 'json_schema' and a name, and only then")
        if self.schema_ is not None:
            return checked_schema(self.schema_, "text.format.schema")
        return ANY_OBJECT if self.type == "json_object" else None


class FunctionDefinition(StrictRequest):
    """A function that may be called."""

    name: _Name
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class FunctionTool(StrictRequest):
    """One entry of `tools`."""

    type: Literal["function"]
    function: FunctionDefinition


class FlatFunctionTool(FunctionDefinition):
    """One entry of `tools` in the form of /v1/responses."""

    type: Literal["function"]


class FunctionName(StrictRequest):
    """Which function."""

    name: str


class NamedChoice(StrictRequest):
    """`tool_choice` that names the function to call."""

    type: Literal["function"]
    function: FunctionName


class FlatNamedChoice(FunctionName):
    """The same in the form of /v1/responses."""

    type: Literal["function"]


Modes = Literal["none", "auto", "required"]
ToolList = Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)]
FlatToolList = Annotated[list[FlatFunctionTool], Field(max_length=MAX_TOOLS)]


@dataclass(frozen=True, slots=True)
class Structure:
    """What is asked of the form of an answer. Without either it is free text."""

    json_schema: str | None = None
    tools: ToolUse | None = None

    def sampling(self, sampling: SamplingConfig) -> SamplingConfig:
        """`sampling` that holds answers to this form."""
        if self.tools is not None:
            return replace(sampling, grammar=grammar(self.tools, json_schema=self.json_schema))
        return replace(sampling, json_schema=self.json_schema)

    def messages(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """`messages`, with what the model must know about its functions."""
        return [dict(one) for one in messages] if self.tools is None else with_tools(messages, self.tools)


def tool_use(tools: Sequence[tuple[str, FunctionDefinition]], choice: str | FunctionName | None, *, is_parallel: bool) -> ToolUse | None:
    """The functions (each with its place in the request) that an answer may or must call. Raises ApiError."""
    named = choice.name if isinstance(choice, FunctionName) else None
    if named is not None and named not in [one.name for _, one in tools]:
        raise invalid("tool_choice", f"there is no function {named!r} in tools")
    if choice == "required" and not tools:
        raise invalid("tool_choice", "'required' needs tools")
    names = [one.name for _, one in tools]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise invalid("tools", f"two functions are called {twice!r}")
    if not tools or choice == "none":
        return None
    made = tuple(_tool(place, one) for place, one in tools)
    # one that asks to call a function called "auto" still gets it: the others cannot be called then
    kept = tuple(tool for tool in made if tool.name == named) if named in ("auto", "required") else made
    picked = "required" if named in ("auto", "required") else named or str(choice or "auto")
    return ToolUse(tools=kept, choice=picked, is_parallel=is_parallel and named is None)


def _tool(place: str, function: FunctionDefinition) -> Tool:
    tool = Tool(name=function.name, description=function.description or "", is_strict=bool(function.strict))
    if function.parameters is not None:
        tool = replace(tool, parameters=checked_text(function.parameters, f"{place}.parameters"))
    raise_if_impossible(guided(tool), f"{place}.parameters")
    return tool


def checked_schema(schema: Schema | None, place: str) -> str:
    """A schema as text (any object for none). Raises ApiError that names the place of what cannot be followed."""
    if schema is None:
        return ANY_OBJECT
    text = checked_text(schema, place)
    raise_if_impossible(schema, place)
    return text


def checked_text(schema: Schema, place: str) -> str:
    """`schema` as text. Raises ApiError for one that is too deep or too long, or would change the rules by which schemas are followed."""
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one) if isinstance(inner, (dict, list))]
    if level:
        raise invalid(place, f"the schema is nested more than {MAX_SCHEMA_DEPTH} deep")
    if (inner := _guidance(schema)) is not None:
        raise invalid(f"{place}.{inner}", f"the schema cannot be followed: {GUIDANCE!r} is no keyword of JSON Schema")
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_CHARS:
        raise invalid(place, f"the schema has {len(text):,} characters; at most {MAX_SCHEMA_CHARS:,} are read")
    return text


def _guidance(schema: Any, *, are_names: bool = False) -> str | None:
    """Where a schema holds the grammar's own settings. `are_names`: its keys are names that its author chose, no keywords."""
    if isinstance(schema, list):
        items: Iterable[tuple[Any, Any]] = enumerate(schema)
    elif isinstance(schema, dict):
        if GUIDANCE in schema and not are_names:
            return GUIDANCE
        items = schema.items()
    else:
        return None
    for key, part in items:
        is_keyword = isinstance(schema, dict) and not are_names
        if is_keyword and key in _VALUES:
            continue
        if (inner := _guidance(part, are_names=is_keyword and key in _NAMED)) is not None:
            return f"{key}.{inner}"
    return None


def raise_if_impossible(schema: Schema, place: str) -> None:
    """Raises ApiError that names the place of what cannot be followed."""
    problem = schema_problem(schema)
    if problem is not None:
        inner, reason = problem
        raise invalid(f"{place}.{inner}" if inner else place, f"the schema cannot be followed: {reason}")
