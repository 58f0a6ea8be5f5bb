"""Functions and structured answers over HTTP, with the official client of OpenAI unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Literal

import httpx
import jsonschema
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from agora.engine import LocalModel
from agora.engine.tools import call_text
from agora.server.app import create_app
from agora.server.errors import ApiError
from agora.server.formats import checked_schema

pytest.importorskip("llguidance", reason="needs the extra 'structured'")
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
POINT = {
    "type": "object", "properties": {"x": {"type": "integer", "minimum": 0, "maximum": 9}, "side": {"enum": ["left", "right"]}},
    "required": ["x", "side"], "additionalProperties": False,
}  # fmt: skip
MOVE: Any = {"type": "function", "function": {"name": "move", "description": "Go there.", "parameters": POINT, "strict": True}}
STOP: Any = {"type": "function", "function": {"name": "stop"}}
FLAT_MOVE: Any = {"type": "function", **MOVE["function"]}
SAYS = f"I go. {call_text([('move', json.dumps({'x': 1, 'side': 'left'})), ('stop', '{}')])}"
BAD = {"type": "object", "properties": {"tags": {"type": "array", "uniqueItems": True}}}


class Point(BaseModel):
    """For the client's own parsing."""

    x: Literal[1, 2, 3]
    side: Literal["left", "right"]


class Scripted:
    """The client, and the model behind it that says what a test wrote."""

    def __init__(self, client: OpenAI, model: Any) -> None:
        self.client, self.model = client, model


@pytest.fixture(scope="module")
def both(roomy_model: LocalModel, scripted_model: Any, run_app: Callable[..., Any]) -> Iterator[Scripted]:
    with (
        run_app(create_app([roomy_model, scripted_model])) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
    ):
        yield Scripted(client, scripted_model)


@pytest.fixture
def client(both: Scripted) -> OpenAI:
    return both.client


@pytest.mark.parametrize("seed", [1, 2])
def test_answer_follows_the_schema_whatever_the_network_would_say(client: OpenAI, seed: int) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT, "strict": True}}
    answer = client.chat.completions.create(model="roomy", messages=HELLO, response_format=wanted, seed=seed)
    jsonschema.validate(json.loads(answer.choices[0].message.content or ""), POINT)
    assert answer.choices[0].finish_reason == "stop"
    loose = client.chat.completions.create(model="roomy", messages=HELLO, response_format={"type": "json_object"}, max_tokens=4, seed=seed)
    assert (loose.choices[0].message.content or "").startswith("{")


def test_the_clients_own_parsing_gets_its_type(client: OpenAI) -> None:
    parsed = client.chat.completions.parse(model="roomy", messages=HELLO, response_format=Point, seed=5).choices[0].message.parsed
    assert isinstance(parsed, Point)
    response = client.responses.parse(model="roomy", input="hello", text_format=Point)
    assert isinstance(response.output_parsed, Point)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "move"}}])
def test_a_call_that_is_required_is_made_and_fits_its_parameters(client: OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(
        model="roomy", messages=HELLO, tools=[MOVE], tool_choice=choice, parallel_tool_calls=False, seed=2, n=2
    )
    for one in answer.choices:
        assert one.finish_reason == "tool_calls" and one.message.content is None and one.message.tool_calls
        (call,) = one.message.tool_calls
        assert call.type == "function" and call.function.name == "move" and call.id.startswith("call_")
        jsonschema.validate(json.loads(call.function.arguments), POINT)
    assert answer.usage is not None and answer.usage.completion_tokens > 20


def test_streamed_calls_join_to_the_whole_ones(both: Scripted) -> None:
    both.model.says = SAYS
    asked: Any = {"model": "scripted", "messages": HELLO, "tools": [MOVE, STOP]}
    whole = both.client.chat.completions.create(**asked).choices[0]
    assert whole.message.content == "I go. " and whole.finish_reason == "tool_calls"
    calls = [(one.function.name, one.function.arguments) for one in whole.message.tool_calls or []]  # type: ignore[union-attr]
    assert calls == [("move", '{"x": 1, "side": "left"}'), ("stop", "{}")]
    chunks = list(both.client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    joined: dict[int, list[str]] = {}
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
            if piece.id:
                assert piece.type == "function" and piece.function and piece.function.name
                joined[piece.index] = [piece.function.name, ""]
            assert piece.function is not None
            joined[piece.index][1] += piece.function.arguments or ""
    assert [tuple(one) for _, one in sorted(joined.items())] == calls
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "I go. "
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "tool_calls"
    assert chunks[-1].usage is not None and chunks[-1].usage.prompt_tokens == 7


def test_the_model_is_told_of_functions_and_of_what_they_returned(both: Scripted) -> None:
    both.model.says = SAYS
    first = both.client.chat.completions.create(model="scripted", messages=HELLO, tools=[MOVE, STOP]).choices[0].message
    both.model.says = "There."
    results: list[Any] = [{"role": "tool", "tool_call_id": one.id, "content": f"done {one.id}"} for one in first.tool_calls or []]
    last = both.client.chat.completions.create(model="scripted", messages=[*HELLO, first, *results], tools=[MOVE, STOP]).choices[0]
    assert last.message.content == "There." and last.finish_reason == "stop" and last.message.tool_calls is None
    seen = both.model.messages
    assert [one["role"] for one in seen] == ["system", "user", "assistant", "tool", "tool"]
    assert '"name": "move"' in seen[0]["content"] and seen[2]["content"].startswith("I go. \n<tool_call>\n{")
    assert seen[3]["content"] == results[0]["content"]
    assert both.model.sampling.grammar is not None and both.model.sampling.json_schema is None


@pytest.mark.parametrize("most", [1, 3, 6, 9, 14, 25])
def test_a_call_that_is_cut_off_leaves_nothing_of_its_markup(client: OpenAI, most: int) -> None:
    asked: Any = {"model": "roomy", "messages": HELLO, "tools": [MOVE], "tool_choice": "required", "max_tokens": most, "seed": 3}
    whole = client.chat.completions.create(**asked).choices[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    made = client.responses.create(model="roomy", input="hello", tools=[FLAT_MOVE], tool_choice="required", max_output_tokens=most)
    assert whole.finish_reason == chunks[-1].finish_reason == "length" and made.status == "incomplete"
    assert not whole.message.content and not made.output_text and not any(chunk.delta.content for chunk in chunks)
    calls = [one.function for one in whole.message.tool_calls or []]  # type: ignore[union-attr]
    assert len(calls) <= 1 and all(one.name == "move" and "tool_call" not in one.arguments for one in calls)


def test_words_that_only_begin_like_a_call_stay_where_the_answer_ends_by_itself(both: Scripted) -> None:
    both.model.says = "if a <tool"
    asked: Any = {"model": "scripted", "messages": HELLO, "tools": [MOVE]}
    assert both.client.chat.completions.create(**asked).choices[0].message.content == "if a <tool"
    chunks = both.client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "if a <tool"


def test_functions_that_must_not_be_called_are_not_told(both: Scripted) -> None:
    both.model.says = SAYS
    answer = both.client.chat.completions.create(model="scripted", messages=HELLO, tools=[MOVE], tool_choice="none").choices[0].message
    assert answer.content == SAYS and answer.tool_calls is None and both.model.messages == HELLO
    assert both.model.sampling.grammar is None


def test_responses_call_functions_and_take_their_results(both: Scripted) -> None:
    both.model.says = SAYS
    made = both.client.responses.create(model="scripted", input="hello", tools=[FLAT_MOVE])
    assert [one.type for one in made.output] == ["message", "function_call", "function_call"] and made.output_text == "I go. "
    events = list(both.client.responses.create(model="scripted", input="hello", tools=[FLAT_MOVE], stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    told = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    assert "".join(told) == "".join(one.arguments for one in last.response.output[1:])
    assert [one.name for one in last.response.output[1:]] == ["move", "stop"]
    done = [event.item.status for event in events if event.type == "response.output_item.done"]
    assert done == ["completed"] * 3
    both.model.says = "There."
    results: list[Any] = [{"type": "function_call_output", "call_id": one.call_id, "output": "ok"} for one in last.response.output[1:]]
    items = [one.model_dump(exclude_none=True) for one in last.response.output]
    again = both.client.responses.create(model="scripted", input=[*HELLO, *items, *results], tools=[FLAT_MOVE])
    assert again.output_text == "There." and again.output[0].status == "completed"
    assert [one["role"] for one in both.model.messages] == ["system", "user", "assistant", "tool", "tool"]


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": BAD}}},
            "response_format.json_schema.schema.properties.tags",
        ),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": BAD, "strict": True}}]},
            "tools.0.function.parameters.properties.tags",
        ),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}]}, "tools.0.function.parameters"),
        ({"tools": [{"type": "function", "function": {"name": "no blank"}}]}, "tools.0.function.name"),
        ({"tools": [MOVE, MOVE]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [MOVE], "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
        ({"messages": [*HELLO, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]}, "messages.1.tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_call_id": "call_1"}]}, "messages.0.tool_call_id"),
        ({"messages": [{"role": "assistant"}]}, "messages.0.content"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_refused_with_its_place(client: OpenAI, settings: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "roomy", "messages": HELLO, "max_tokens": 1, **settings})
    assert caught.value.param == param and param in caught.value.message and caught.value.type == "invalid_request_error"


def test_deep_schemas_and_those_of_responses_are_refused_with_their_place(client: OpenAI) -> None:
    deep: dict[str, Any] = {}
    for _ in range(80):
        deep = {"items": deep}
    for schema, param in ((deep, "text.format.schema"), (BAD, "text.format.schema.properties.tags")):
        wanted: Any = {"format": {"type": "json_schema", "name": "a", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="roomy", input="hello", text=wanted)
        assert caught.value.param == param
    with pytest.raises(openai.BadRequestError, match="call_id"):
        client.responses.create(model="roomy", input=[{"type": "function_call_output", "call_id": "a", "output": "x"}])


@pytest.mark.parametrize("place", ["response_format", "tools", "messages"])
def test_half_characters_are_refused_or_kept_as_they_are_written(client: OpenAI, place: str) -> None:
    half = {"type": "object", "description": "\ud800", "properties": {}}
    made = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": "\\ud800"}'}}
    body: dict[str, Any] = {
        "response_format": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": half}}},
        "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": half}}]},
        "messages": {"messages": [{"role": "assistant", "tool_calls": [made]}]},
    }[place]
    sent = json.dumps({"model": "roomy", "messages": HELLO, "max_tokens": 1, **body})
    answer = httpx.post(f"{client.base_url}chat/completions", content=sent, headers={"content-type": "application/json"})
    assert answer.status_code == (200 if place == "messages" else 400), answer.text
    assert place == "messages" or answer.json()["error"]["param"].startswith(place)


@pytest.mark.parametrize("rules", ["lenient", None, [1], {"lenient": True}])
@pytest.mark.parametrize(
    ("around", "place"),
    [
        (lambda inner: inner, ""),
        (lambda inner: {"type": "object", "properties": {"a": inner}}, "properties.a."),
        (lambda inner: {"properties": {"properties": inner}}, "properties.properties."),
        (lambda inner: {"anyOf": [{"type": "null"}, inner]}, "anyOf.1."),
    ],
)
def test_a_schema_does_not_change_the_rules_of_the_grammar(rules: Any, around: Any, place: str) -> None:
    with pytest.raises(ApiError) as caught:
        checked_schema(around({"type": "string", "x-guidance": rules}), "schema")
    assert caught.value.status_code == 400 and caught.value.body["error"]["param"] == f"schema.{place}x-guidance"


def test_a_property_may_have_any_name() -> None:
    schema = {"type": "object", "properties": {"x-guidance": {"type": "string", "enum": ["x-guidance"]}}}
    assert "x-guidance" in checked_schema(schema, "schema")
