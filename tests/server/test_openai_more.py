"""Responses, embeddings and counted tokens, with clients unchanged."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from agora.engine import LocalModel, SamplingConfig
from agora.server.accounts import Accounts
from agora.server.app import create_app
from agora.server.records import UsageLog
from agora.server.tables import open_database


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_a_response_says_what_the_engine_says(client: OpenAI, tiny_model: LocalModel) -> None:
    expected = "".join(
        delta.text
        for delta in tiny_model.chat(
            [{"role": "system", "content": "short"}, {"role": "user", "content": "hello"}], SamplingConfig(temperature=0, max_tokens=12)
        )
    )
    made = client.responses.create(model="tiny", instructions="short", input="hello", temperature=0, max_output_tokens=12)
    assert made.output_text == expected and made.status in ("completed", "incomplete")
    assert made.usage is not None and made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens > 0


def test_the_events_of_a_response_add_up_to_it(client: OpenAI) -> None:
    events = list(client.responses.create(model="tiny", input="hello", temperature=0, max_output_tokens=12, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type in ("response.completed", "response.incomplete")
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == events[-1].response.output_text  # type: ignore[union-attr]


def test_what_responses_do_not_have_is_refused_by_name(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="tiny", input="hello", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none", input="hello")


@pytest.mark.parametrize("seed", [-7, -1, 0, 2**63 - 2, 2**63 - 1, 1 - 2**63])
def test_answers_of_one_request_differ_whatever_its_seed(client: OpenAI, seed: int) -> None:
    made = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "hi"}], n=3, seed=seed, max_tokens=12, temperature=1
    )
    assert len({choice.message.content for choice in made.choices}) == 3


def test_hints_and_values_that_ask_for_nothing_are_taken(client: OpenAI) -> None:
    client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=1, prompt_cache_key="k")
    client.responses.create(model="tiny", input="hi", max_output_tokens=1, prompt_cache_key="k", reasoning={"effort": "none"})
    with pytest.raises(openai.BadRequestError, match="reasoning"):
        client.responses.create(model="tiny", input="hi", reasoning={"effort": "high"})


def test_embeddings_are_of_length_one_and_alike_texts_are_close(client: OpenAI) -> None:
    texts = ["the night train is late again", "the night train is late", "sourdough needs salt"]
    made = client.embeddings.create(model="lexical", input=texts)
    vectors = [one.embedding for one in made.data]
    assert all(math.isclose(sum(x * x for x in vector), 1, abs_tol=1e-3) for vector in vectors)

    def alike(one: int, other: int) -> float:
        return sum(x * y for x, y in zip(vectors[one], vectors[other], strict=True))

    assert alike(0, 1) > alike(0, 2)
    with pytest.raises(openai.NotFoundError, match="lexical"):
        client.embeddings.create(model="ada", input="x")
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="lexical", input="")


def test_tokens_are_counted_for_the_key_that_used_them(tiny_model: LocalModel, tmp_path: Path, run_app: Callable[..., Any]) -> None:
    database = open_database(tmp_path / "server.db")
    accounts = Accounts(database)
    accounts.add("ada", scopes=["member"])
    key = accounts.new_key("ada", name="key").secret
    with run_app(create_app([tiny_model], database=database)) as address, OpenAI(base_url=f"{address}/v1", api_key=key) as client:
        whole = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=5)
        stream = client.chat.completions.create(
            model="tiny", messages=[{"role": "user", "content": "hi"}], max_tokens=5, stream=True, stream_options={"include_usage": True}
        )
        streamed = [chunk.usage for chunk in stream if chunk.usage][-1]
    assert whole.usage is not None and streamed is not None
    rows = {row["route"]: row for row in UsageLog(database).read(who="ada")}
    counted = rows["/v1/chat/completions"]
    assert counted["prompt_tokens"] == whole.usage.prompt_tokens + streamed.prompt_tokens
    assert counted["completion_tokens"] == whole.usage.completion_tokens + streamed.completion_tokens
    assert counted["requests"] == 2
    database.close()
