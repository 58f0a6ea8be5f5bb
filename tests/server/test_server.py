"""The server's own promises: keys, limits, error forms, cancelled work, the page."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from agora.engine import Delta, LocalModel, SamplingConfig, Usage
from agora.errors import BusyError, UsageError
from agora.server.app import create_app
from agora.server.gate import GateConfig

ASK = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3}
RunApp = Callable[..., Any]
JSON = {"content-type": "application/json"}


class SlowModel:
    """Says one letter every 10 ms until it is cancelled; counts what it did."""

    name, created, context_tokens = "slow", 1, 100_000

    def __init__(self, *, error: Exception | None = None, fail_after: int = 0) -> None:
        self.said = 0
        self.ended = threading.Event()
        self.error, self.fail_after = error, fail_after

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        return self._letters(cancelled)

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        return self._letters(cancelled)

    def _letters(self, cancelled: threading.Event | None) -> Iterator[Delta]:
        assert cancelled is not None
        try:
            while not cancelled.wait(0.01):
                if self.error and self.said >= self.fail_after:
                    raise self.error
                self.said += 1
                yield Delta(text="x")
            yield Delta(text="", finish_reason="cancelled", usage=Usage(prompt_tokens=1, completion_tokens=self.said))
        finally:
            self.ended.set()


def check_error(response: httpx.Response, status: int, code: str | None = None) -> dict[str, Any]:
    """Every error has OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["type"]
    assert code is None or error["code"] == code
    return error  # type: ignore[no-any-return]


def test_health(address: str) -> None:
    assert httpx.get(f"{address}/health").json()["status"] == "ok"


def test_page_is_self_contained_and_may_load_nothing_else(address: str) -> None:
    response = httpx.get(address)
    assert response.status_code == 200 and "<title>Agora</title>" in response.text
    assert not re.search(r"(?:src|href|url|import)\s*[=(]\s*[\"']?(?:https?:)?//", response.text)
    assert "innerHTML" not in response.text and "insertAdjacentHTML" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "script-src 'sha256-" in response.headers["content-security-policy"]


def test_description_names_every_parameter(address: str) -> None:
    schema = httpx.get(f"{address}/openapi.json").json()
    properties = schema["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"model", "messages", "stream", "n", "stop", "seed", "temperature", "logprobs", "max_completion_tokens"} <= set(properties)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"), ("", None), ("[]", None), ("null", None), ('"x"', None), ("[" * 50_000, None), ('{"model": NaN}', None),
        (json.dumps(ASK | {"temperature": float("nan")}), "invalid_value"), (json.dumps(ASK | {"seed": 10**30}), "invalid_value"),
        (json.dumps({"model": "tiny"}), "missing_required_parameter"), (json.dumps(ASK | {"messages": "hi"}), "invalid_value"),
        (json.dumps(ASK | {"messages": [{"role": "user", "content": "\ud800"}]}), "invalid_value"),
        (json.dumps(ASK | {"stop": ["\udfff"]}), "invalid_value"), (json.dumps(ASK | {"model": "\ud800"}), None),
        (json.dumps(ASK | {"\ud800": 1}), "unknown_parameter"), (json.dumps(ASK | {"n": True}), "invalid_value"),
        (json.dumps(ASK | {"logit_bias": {"99999": 1}}), None), (json.dumps(ASK | {"logit_bias": {"²": 1}}), "invalid_value"),
    ],
)  # fmt: skip
def test_broken_bodies_are_bad_requests(address: str, body: str, code: str | None) -> None:
    response = httpx.post(f"{address}/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    check_error(response, 404 if '"model": "\\ud800"' in body else 400, code)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": [1, "a"]},
        {"prompt": [999]},
        {"prompt": {"a": 1}},
        {"prompt": ["a"] * 17},
        {"prompt": "a", "suffix": "b"},
        {"prompt": "a", "echo": True, "logprobs": 1},
        {"prompt": [5], "echo": True},
        {"prompt": "a", "best_of": 2},
        {"prompt": "a", "logprobs": True},
    ],
)
def test_broken_completions_are_bad_requests(address: str, body: dict[str, Any]) -> None:
    check_error(httpx.post(f"{address}/v1/completions", json={"model": "tiny", **body}), 400)


def test_unknown_paths_and_methods(address: str) -> None:
    check_error(httpx.get(f"{address}/v1/nothing"), 404, "unknown_url")
    check_error(httpx.get(f"{address}/v1/chat/completions"), 405)


def test_too_large_a_body_is_refused(address: str) -> None:
    large = json.dumps(ASK | {"messages": [{"role": "user", "content": "x" * 200_000}]})
    check_error(httpx.post(f"{address}/v1/chat/completions", content=large, headers={"content-type": "application/json"}), 413)

    def in_pieces() -> Iterator[bytes]:  # sent without content-length
        for start in range(0, len(large), 20_000):
            yield large[start : start + 20_000].encode()

    check_error(httpx.post(f"{address}/v1/chat/completions", content=in_pieces(), headers={"content-type": "application/json"}), 413)


def test_a_body_that_comes_too_slowly_is_refused(tiny_model: LocalModel, run_app: RunApp) -> None:
    with run_app(create_app([tiny_model], gate=GateConfig(is_open=True, max_body_s=0.3))) as address:

        def slowly() -> Iterator[bytes]:
            yield b'{"model": '
            time.sleep(0.6)
            yield b'"tiny"}'

        check_error(httpx.post(f"{address}/v1/chat/completions", content=slowly(), headers=JSON), 408, "request_timeout")
        slow = {**ASK, "stream": True}
        assert httpx.post(f"{address}/v1/chat/completions", json=slow).text.endswith("data: [DONE]\n\n")


class QuickModel(SlowModel):
    """Says `count` letters at once, then waits a little and ends."""

    count, pause_s = 500, 0.2

    def _letters(self, cancelled: threading.Event | None) -> Iterator[Delta]:
        for number in range(self.count):
            yield Delta(text=f"{number} ")
        time.sleep(self.pause_s)
        yield Delta(text="end", finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=self.count + 1))


def test_tokens_that_come_together_are_sent_together_each_as_its_own_event(run_app: RunApp) -> None:
    with run_app(create_app([QuickModel()])) as address:
        reads: list[tuple[float, bytes]] = []
        with httpx.stream("POST", f"{address}/v1/chat/completions", json={**ASK, "model": "slow", "stream": True}) as response:
            reads.extend((time.perf_counter(), piece) for piece in response.iter_raw())
    events = [json.loads(line[6:]) for line in b"".join(piece for _, piece in reads).split(b"\n\n")[:-2]]
    said = [event["choices"][0]["delta"].get("content") for event in events]
    assert said == ["", *[f"{number} " for number in range(QuickModel.count)], "end"]
    assert len(reads) < 60 and reads[-1][0] - reads[0][0] >= QuickModel.pause_s - 0.1


def test_key_is_asked_for_everything_below_v1(tiny_model: LocalModel, run_app: RunApp) -> None:
    with run_app(create_app([tiny_model], gate=GateConfig(api_key="sesame"))) as address:
        for key in ("wrong", "sesam", "sesame2", "schlüssel"):
            response = httpx.get(f"{address}/v1/models", headers={"authorization": f"Bearer {key}".encode()})
            check_error(response, 401, "invalid_api_key")
        check_error(httpx.get(f"{address}/v1/models"), 401, "invalid_api_key")
        check_error(httpx.get(f"{address}/v1/models", headers={"authorization": "Basic sesame"}), 401)
        assert httpx.get(f"{address}/health").status_code == 200 and httpx.get(address).status_code == 200
        with OpenAI(base_url=f"{address}/v1", api_key="wrong", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
        with OpenAI(base_url=f"{address}/v1", api_key="sesame", max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["tiny"]


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_goes_away_ends_the_answer(run_app: RunApp, stream: bool) -> None:
    model = SlowModel()
    with run_app(create_app([model])) as address:
        ask = {**ASK, "model": "slow", "max_tokens": 1000, "stream": stream}
        with pytest.raises(httpx.ReadTimeout), httpx.stream("POST", f"{address}/v1/chat/completions", json=ask, timeout=0.3) as response:
            for number, _ in enumerate(response.iter_raw()):
                if number == 3:
                    raise httpx.ReadTimeout("gone")
        assert model.ended.wait(5)
        said = model.said
        time.sleep(0.1)
        assert model.said == said < 1000


def test_stopping_server_ends_running_answers(run_app: RunApp) -> None:
    model = SlowModel()
    app = create_app([model])
    with run_app(app) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        stream = client.chat.completions.create(model="slow", messages=ASK["messages"], stream=True)  # type: ignore[call-overload]
        next(iter(stream))
        app.state.stopping.stop()
        with pytest.raises(openai.APIError, match="stopping"):
            list(stream)
        with pytest.raises(openai.InternalServerError, match="stopping"):
            client.chat.completions.create(model="slow", messages=ASK["messages"])  # type: ignore[call-overload]


@pytest.mark.parametrize("stream", [False, True])
def test_busy_server_says_so(run_app: RunApp, stream: bool) -> None:
    with (
        run_app(create_app([SlowModel(error=BusyError("64 requests wait already"))])) as address,
        OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(openai.RateLimitError, match="64 requests wait"),
    ):
        client.chat.completions.create(model="slow", messages=ASK["messages"], stream=stream)  # type: ignore[call-overload]


def test_error_in_the_middle_of_a_stream_reaches_the_client_without_internals(run_app: RunApp, caplog: pytest.LogCaptureFixture) -> None:
    model = SlowModel(error=RuntimeError("secret detail"), fail_after=2)
    with run_app(create_app([model])) as address, OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        with pytest.raises(openai.APIError, match="The server failed") as caught:
            list(client.chat.completions.create(model="slow", messages=ASK["messages"], stream=True))  # type: ignore[call-overload]
        assert "secret" not in str(caught.value) and "secret detail" in caplog.text


def test_requests_at_the_same_time_never_mix(address: str) -> None:
    with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:

        def ask(number: int) -> str:
            messages = [{"role": "user", "content": f"question {number}"}]
            return client.chat.completions.create(model="tiny", messages=messages, seed=number, max_tokens=15).choices[0].message.content  # type: ignore[call-overload, no-any-return]

        alone = [ask(number) for number in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(8))) == alone
        assert len(set(alone)) == 8


def test_apps_that_cannot_work_are_refused(tiny_model: LocalModel) -> None:
    with pytest.raises(UsageError, match="at least one"):
        create_app([])
    with pytest.raises(UsageError, match="names of their own"):
        create_app([tiny_model, tiny_model])
    with pytest.raises(UsageError, match="key is empty"):
        create_app([tiny_model], gate=GateConfig(api_key=" "))
