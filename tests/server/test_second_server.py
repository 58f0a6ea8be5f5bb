"""One Agora asks another: its model as an endpoint, with functions, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jsonschema
import pytest

from agora.chat import Assistant
from agora.chat.endpoint import ToolEndpoint
from agora.chat.tool_calls import MAX_TOKENS
from agora.engine import Delta, LocalModel, RemoteModel, SamplingConfig
from agora.engine.tools import Tool, ToolUse, call_text, grammar, with_tools
from agora.errors import ContextLengthError, GenerationError
from agora.server.app import create_app
from agora.server.gate import GateConfig
from tests.chat.square import reply, talk
from tests.search.answers.made_up import NOW, trains

pytest.importorskip("llguidance", reason="needs the extra 'structured'")
HELLO = [{"role": "user", "content": "hello"}]
SAID = "Night trains to Lindau run again since this morning, says the stationmaster."


def joined(deltas: Iterator[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


@pytest.fixture(scope="module")
def url(roomy_model: LocalModel, scripted_model: Any, run_app: Callable[..., Any]) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, run_app(create_app([roomy_model, scripted_model], gate=GateConfig(api_key="k"))) as address:
        patch.setenv("AGORA_ENDPOINT_KEY", "k")
        yield f"{address}/v1"


def test_a_model_of_another_server_says_what_it_says_there(url: str, roomy_model: LocalModel) -> None:
    remote = RemoteModel(url, "roomy")
    for sampling in (SamplingConfig(temperature=0, max_tokens=20), SamplingConfig(seed=3, max_tokens=20, top_k=9, min_p=0.01)):
        deltas = list(remote.chat(HELLO, sampling))
        assert joined(iter(deltas)) == joined(roomy_model.chat(HELLO, sampling))
        assert deltas[-1].usage is not None and 0 < deltas[-1].usage.completion_tokens <= 20
    assert joined(remote.complete("Rain", SamplingConfig(seed=1, max_tokens=9))) == joined(
        roomy_model.complete("Rain", SamplingConfig(seed=1, max_tokens=9))
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9}}, "required": ["n"]}
    closed = {**schema, "additionalProperties": False}
    jsonschema.validate(json.loads(joined(remote.chat(HELLO, SamplingConfig(json_schema=json.dumps(closed), seed=2)))), closed)


def test_errors_of_another_server_are_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContextLengthError):
        list(RemoteModel(url, "roomy").chat([{"role": "user", "content": "x z" * 3_000}], SamplingConfig()))
    with pytest.raises(GenerationError, match="404"):
        list(RemoteModel(url, "nobody").chat(HELLO, SamplingConfig()))
    monkeypatch.setenv("AGORA_ENDPOINT_KEY", "wrong")
    with pytest.raises(GenerationError, match="401"):
        list(RemoteModel(url, "roomy").chat(HELLO, SamplingConfig()))


def test_a_network_that_is_told_of_functions_over_there_writes_what_it_writes_here(url: str, roomy_model: LocalModel) -> None:
    parameters = {"type": "object", "properties": {"query": {"type": "string", "maxLength": 9}}, "required": ["query"]}
    tool = {"type": "function", "function": {"name": "search", "description": "Find.", "parameters": parameters}}
    turn = ToolEndpoint(url, "roomy").turn(HELLO, [tool])
    use = ToolUse(tools=(Tool(name="search", description="Find.", parameters=json.dumps(parameters)),))
    sampling = SamplingConfig(temperature=0, max_tokens=MAX_TOKENS, grammar=grammar(use))
    assert turn.text == joined(roomy_model.chat(with_tools(HELLO, use), sampling)) and turn.calls == ()


def test_the_assistant_answers_with_a_model_of_another_server_that_calls_its_functions(
    url: str, scripted_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[dict[str, str]]] = []

    def says(
        messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        seen.append([dict(message) for message in messages])
        if len(seen) == 1:
            scripted_model.says = call_text([("search", '{"query": "night trains Lindau"}'), ("calculator", '{"expression": "6*7"}')])
        else:
            (number,) = [one["number"] for one in json.loads(seen[1][3]["content"])["posts"] if "stationmaster" in one["text"]]
            scripted_model.says = f"{SAID} [{number}]\nThe trains were sold. [{number}]"
        return type(scripted_model).chat(scripted_model, messages, sampling)  # type: ignore[no-any-return]

    monkeypatch.setattr(scripted_model, "chat", says)
    answer = reply(list(Assistant(trains(), ToolEndpoint(url, "scripted")).answer(talk("What about night trains to Lindau?"), now=NOW)))
    assert answer.kind == "tools" and answer.text.startswith("6*7 = 42") and SAID[:30] in answer.text and "sold" not in answer.text
    assert [one["role"] for one in seen[1]] == ["system", "user", "assistant", "tool", "tool"]
    assert '"name": "search"' in seen[0][0]["content"] and "Lindau" in seen[1][3]["content"] and "42" in seen[1][4]["content"]
