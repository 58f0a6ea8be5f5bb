"""LiteLLM and LangChain's client, unchanged, against a real server: chat, streams, functions, structured answers, embeddings, errors."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest
from pydantic import BaseModel, SecretStr

from agora.engine import LocalModel, SamplingConfig
from agora.engine.tools import call_text
from agora.server.app import create_app
from agora.server.gate import GateConfig

pytestmark = pytest.mark.slow
pytest.importorskip("llguidance", reason="needs the extra 'structured'")
HELLO: list[Any] = [{"role": "user", "content": "hello"}]
SAYS = f"I go. {call_text([('move', json.dumps({'side': 'left'}))])}"


class Move(BaseModel):
    """Go there."""

    side: Literal["left", "right"]


MOVE: Any = {"type": "function", "function": {"name": "move", "description": "Go there.", "parameters": Move.model_json_schema()}}


@pytest.fixture(scope="module")
def base(roomy_model: LocalModel, scripted_model: Any, run_app: Callable[..., Any]) -> Iterator[str]:
    scripted_model.says = SAYS
    with run_app(create_app([roomy_model, scripted_model], gate=GateConfig(api_key="sesame"))) as address:
        yield f"{address}/v1"


@pytest.fixture(scope="module")
def said(roomy_model: LocalModel) -> str:
    """What the engine itself answers to HELLO."""
    return "".join(delta.text for delta in roomy_model.chat(HELLO, SamplingConfig(temperature=0, max_tokens=12)))


@pytest.fixture(scope="module")
def litellm() -> Any:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # or it asks the network for prices when it is imported
        module = pytest.importorskip("litellm", reason="needs LiteLLM: pip install litellm")
        module.suppress_debug_info = True
        yield module
        for loop in [one for one in gc.get_objects() if issubclass(type(one), asyncio.AbstractEventLoop)]:
            if not loop.is_running():  # LiteLLM leaves loops behind, and their sockets
                loop.close()


@pytest.fixture
def ask(litellm: Any, base: str) -> Iterator[Callable[..., Any]]:
    def completion(model: str, **settings: Any) -> Any:
        key = settings.pop("api_key", "sesame")
        return litellm.completion(model=f"openai/{model}", messages=HELLO, api_base=base, api_key=key, max_retries=0, **settings)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own use of pydantic
        yield completion


def test_litellm_chats_and_streams(ask: Callable[..., Any], said: str) -> None:
    whole = ask("roomy", temperature=0, max_tokens=12)
    assert whole.choices[0].message.content == said and whole.usage.total_tokens > whole.usage.completion_tokens > 0
    chunks = list(ask("roomy", temperature=0, max_tokens=12, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said
    assert [chunk.usage.completion_tokens for chunk in chunks if getattr(chunk, "usage", None)] == [whole.usage.completion_tokens]


def test_litellm_calls_functions(ask: Callable[..., Any]) -> None:
    whole = ask("scripted", tools=[MOVE]).choices[0]
    assert whole.finish_reason == "tool_calls" and whole.message.content == "I go. "
    (call,) = whole.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("move", {"side": "left"})
    pieces = [
        piece.function.arguments or "" for chunk in ask("scripted", tools=[MOVE], stream=True)
        for piece in chunk.choices[0].delta.tool_calls or []
    ]  # fmt: skip
    assert json.loads("".join(pieces)) == {"side": "left"}
    (forced,) = ask("roomy", tools=[MOVE], tool_choice="required", parallel_tool_calls=False).choices[0].message.tool_calls
    assert Move.model_validate_json(forced.function.arguments)


def test_litellm_gets_structured_answers_embeddings_and_errors(ask: Callable[..., Any], litellm: Any, base: str) -> None:
    assert Move.model_validate_json(ask("roomy", response_format=Move).choices[0].message.content)
    made = litellm.embedding(model="openai/lexical", input=["a train", "a bus"], api_base=base, api_key="sesame")
    assert len(made.data) == 2 and len(made.data[0]["embedding"]) == len(made.data[1]["embedding"]) > 10
    with pytest.raises(litellm.AuthenticationError):
        ask("roomy", api_key="wrong")
    with pytest.raises(litellm.NotFoundError):
        ask("nobody")
    with pytest.raises(litellm.BadRequestError, match="temperature"):
        ask("roomy", temperature=9)


@pytest.fixture(scope="module")
def langchain() -> Any:
    return pytest.importorskip("langchain_openai", reason="needs LangChain's client: pip install langchain-openai")


@pytest.fixture
def chat(langchain: Any, base: str) -> Callable[..., Any]:
    def make(model: str, **settings: Any) -> Any:
        given = {"api_key": SecretStr("sesame"), "max_retries": 0, **settings}
        return langchain.ChatOpenAI(model=model, base_url=base, **given)

    return make


def test_langchain_chats_and_streams(chat: Callable[..., Any], said: str) -> None:
    model = chat("roomy", temperature=0, max_tokens=12, stream_usage=True)
    whole = model.invoke("hello")
    assert whole.content == said and whole.usage_metadata["output_tokens"] > 0
    chunks = list(model.stream("hello"))
    assert "".join(chunk.content for chunk in chunks) == said
    assert sum(chunk.usage_metadata["output_tokens"] for chunk in chunks if chunk.usage_metadata) == whole.usage_metadata["output_tokens"]


def test_langchain_calls_functions_and_sends_back_what_they_return(chat: Callable[..., Any], scripted_model: Any) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    model = chat("scripted").bind_tools([Move])
    scripted_model.says = SAYS.replace('"move"', '"Move"')
    answer = model.invoke([HumanMessage("go")])
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("Move", {"side": "left"})
    streamed = None
    for chunk in model.stream([HumanMessage("go")]):
        streamed = chunk if streamed is None else streamed + chunk
    assert streamed is not None and streamed.tool_calls[0]["args"] == {"side": "left"}
    scripted_model.says = "There."
    assert model.invoke([HumanMessage("go"), answer, ToolMessage("done", tool_call_id=call["id"])]).content == "There."
    assert [one["role"] for one in scripted_model.messages] == ["system", "user", "assistant", "tool"]
    scripted_model.says = SAYS


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_gets_structured_answers(chat: Callable[..., Any], method: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own serialisation of what it parsed
        assert isinstance(chat("roomy").with_structured_output(Move, method=method).invoke("hello"), Move)


def test_langchain_embeds_and_gets_errors(chat: Callable[..., Any], langchain: Any, base: str) -> None:
    import openai

    # its own tokenizer is of OpenAI's models; without that step the texts are sent
    made = langchain.OpenAIEmbeddings(model="lexical", base_url=base, api_key=SecretStr("sesame"), check_embedding_ctx_length=False)
    vectors = made.embed_documents(["a train", "a bus"])
    assert len(vectors) == 2 and vectors[0] == made.embed_query("a train")
    with pytest.raises(openai.AuthenticationError):
        chat("roomy", api_key=SecretStr("wrong")).invoke("hello")
    with pytest.raises(openai.NotFoundError):
        chat("nobody").invoke("hello")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat("roomy", temperature=9).invoke("hello")
