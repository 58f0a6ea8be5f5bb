"""Several answers of one request are made side by side, and what nobody waits for any more is counted all the same."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from agora.engine import Delta, LocalModel, SamplingConfig, Usage
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.tables import open_database

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}


class MeetingModel:
    """Each answer says a word, then waits until all of its request have, then says another: one after the other none would end."""

    name, created, context_tokens = "meeting", 1, 1_000

    def __init__(self, num_answers: int) -> None:
        self._all_here = threading.Barrier(num_answers, timeout=20)

    def chat(self, messages: Any, sampling: SamplingConfig, *, cancelled: threading.Event | None = None) -> Iterator[Delta]:
        yield Delta(text="here ")
        self._all_here.wait()
        yield Delta(text="and there", finish_reason="stop", usage=Usage(prompt_tokens=5, completion_tokens=2))

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        return self.chat([], sampling)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "more"), [("chat/completions", {**CHAT, "n": 3}), ("completions", {"prompt": ["a", "b", "c"]})])
def test_answers_of_one_request_are_made_side_by_side(
    path: str, more: Mapping[str, Any], stream: bool, run_app: Callable[..., Any]
) -> None:
    with run_app(create_app([MeetingModel(3)])) as address:
        answer = httpx.post(f"{address}/v1/{path}", json={"model": "meeting", "stream": stream, **more}, timeout=30)
    assert answer.status_code == 200, answer.text
    said = ["", "", ""]
    bodies = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")] if stream else [answer.json()]
    for choice in (choice for body in bodies for choice in body["choices"]):
        part = choice.get("delta") or choice.get("message") or choice
        said[choice["index"]] += part.get("content") or part.get("text") or ""
    assert said == ["here and there"] * 3
    if not stream:
        assert bodies[0]["usage"]["completion_tokens"] == 6


def leave(url: str, asked: Mapping[str, Any]) -> None:
    """Ask, wait until the answer has begun, and hang up."""
    stopped = httpx.Timeout(20.0, read=0.3)
    with httpx.Client(timeout=stopped) as client, pytest.raises(httpx.ReadTimeout), client.stream("POST", url, json=asked) as response:
        time.sleep(0.3)
        response.raise_for_status()
        next(response.iter_raw())
        raise httpx.ReadTimeout("enough was read")


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_what_an_abandoned_answer_used_is_counted(
    path: str, stream: bool, roomy_model: LocalModel, tmp_path: Path, run_app: Callable[..., Any]
) -> None:
    database = open_database(tmp_path / "server.db")
    more = {"input": "hello", "max_output_tokens": 3_900} if path == "responses" else {**CHAT, "max_tokens": 3_900, "n": 2}
    with run_app(create_app([roomy_model], gate=GateConfig(is_open=True), database=database)) as address:
        asked = {"model": "roomy", "stream": stream, "temperature": 0, **more}
        leave(f"{address}/v1/{path}", asked)
        until = time.monotonic() + 30
        while not (rows := [row for row in httpx.get(f"{address}/api/v1/usage").json() if row["completion_tokens"]]):
            assert time.monotonic() < until, "nothing was counted"
            time.sleep(0.05)
    database.close()
    assert 0 < rows[0]["completion_tokens"] < 7_000 and rows[0]["prompt_tokens"] > 0
