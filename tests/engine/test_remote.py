"""Any OpenAI-compatible server by URL: what is sent, what is believed, what is refused."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agora.engine import Delta, SamplingConfig, Usage
from agora.engine.remote import MAX_BYTES, RemoteModel
from agora.errors import BusyError, ContextLengthError, GenerationError, UsageError

Reply = Callable[[str, dict[str, Any], dict[str, str]], tuple[int, bytes | Iterator[bytes]]]


class _Server:
    """One answer for all requests; remembers them."""

    def __init__(self, reply: Reply) -> None:
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.left = threading.Event()
        """A client went away in the middle."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, body, dict(self.headers)))
                status, data = reply(self.path, body, dict(self.headers))
                self.send_response(status)
                if not isinstance(data, bytes):
                    self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                    self.end_headers()
                    try:
                        for event in data:
                            self.wfile.write(event)
                            self.wfile.flush()
                    except OSError:
                        outer.left.set()
                    return
                if status == 302:
                    self.send_header("Location", "http://127.0.0.1:9/elsewhere")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *arguments: Any) -> None:
                return None

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], _Server]]:
    servers: list[_Server] = []

    def start(reply: Reply) -> _Server:
        servers.append(_Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def answer(text: object, **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "text": text, **more}], "usage": None}).encode()


def test_chat_sends_messages_and_settings_and_gives_the_text(serve: Callable[[Reply], _Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGORA_ENDPOINT_KEY", "secret")
    server = serve(lambda path, body, headers: (200, answer("hello", finish_reason="length")))
    messages = [{"role": "user", "content": "hi"}]
    (delta,) = RemoteModel(server.url, "m").chat(messages, SamplingConfig(temperature=0, max_tokens=5, seed=3))
    assert (delta.text, delta.finish_reason) == ("hello", "length")
    path, body, headers = server.seen[0]
    assert path == "/v1/chat/completions" and headers["Authorization"] == "Bearer secret"
    assert body == {
        "model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": messages, "temperature": 0, "top_p": 1.0,
        "max_tokens": 5, "seed": 3,
    }  # fmt: skip


def test_complete_goes_on_with_a_prompt(serve: Callable[[Reply], _Server]) -> None:
    server = serve(lambda path, body, headers: (200, answer("world")))
    assert [delta.text for delta in RemoteModel(server.url, "m").complete("hello ", SamplingConfig())] == ["world"]
    assert server.seen[0][0] == "/v1/completions" and server.seen[0][1]["prompt"] == "hello "


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, b"broken", GenerationError),
        (429, b"slow down", BusyError),
        (400, b"maximum context length is 10", ContextLengthError),
        (302, b"", GenerationError),
        (200, b"no json", GenerationError),
        (200, b"[]", GenerationError),
        (200, answer(None), GenerationError),
        (200, answer({"a": 1}), GenerationError),
        (200, b'{"choices": []}', GenerationError),
        (200, b" " * (MAX_BYTES + 1), GenerationError),
    ],
)
def test_what_is_no_answer_is_an_error(serve: Callable[[Reply], _Server], status: int, body: bytes, error: type[Exception]) -> None:
    server = serve(lambda *request: (status, body))
    with pytest.raises(error):
        RemoteModel(server.url, "m").chat([{"role": "user", "content": "hi"}], SamplingConfig())
    assert len(server.seen) == 1


def test_server_that_is_not_there_is_named() -> None:
    with pytest.raises(GenerationError, match=r"127\.0\.0\.1:9"):
        RemoteModel("http://127.0.0.1:9/v1", "m", timeout_s=2).chat([], SamplingConfig())


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8000", "ftp://x/v1", ""])
def test_only_web_addresses_are_endpoints(url: str) -> None:
    with pytest.raises(UsageError, match="no web address"):
        RemoteModel(url, "m")


def event(content: object) -> bytes:
    return b"data: " + (content if isinstance(content, bytes) else json.dumps(content).encode()) + b"\n\n"


def piece(text: str | None = None, reason: str | None = None) -> bytes:
    return event({"choices": [{"delta": {} if text is None else {"content": text}, "finish_reason": reason}]})


USAGE = event({"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}})
DONE = event(b"[DONE]")
HELLO = [{"role": "user", "content": "hi"}]


def streamed(serve: Callable[[Reply], _Server], *events: bytes) -> Iterator[Delta]:
    server = serve(lambda *request: (200, iter(events)))
    return RemoteModel(server.url, "m").chat(HELLO, SamplingConfig())


def test_answer_comes_piece_by_piece_and_ends_with_its_usage(serve: Callable[[Reply], _Server]) -> None:
    opening = event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
    deltas = list(streamed(serve, b": a comment\n\n", opening, piece("hel"), piece("lo"), piece(None, "stop"), USAGE, DONE))
    assert [delta.text for delta in deltas] == ["hel", "lo", ""]
    assert deltas[-1].finish_reason == "stop" and deltas[-1].usage == Usage(prompt_tokens=4, completion_tokens=2)


def test_first_piece_is_there_before_the_last_is_written(serve: Callable[[Reply], _Server]) -> None:
    may_go_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield piece("a")
        assert may_go_on.wait(10)
        yield piece("b", "length") + DONE

    server = serve(lambda *request: (200, slowly()))
    stream = RemoteModel(server.url, "m").chat(HELLO, SamplingConfig())
    assert next(stream).text == "a"
    may_go_on.set()
    assert [(delta.text, delta.finish_reason) for delta in stream] == [("b", None), ("", "length")]


@pytest.mark.parametrize("leave", ["cancel", "close"])
def test_leaving_ends_a_server_that_is_silent_and_one_that_writes(serve: Callable[[Reply], _Server], leave: str) -> None:
    over, cancelled = threading.Event(), threading.Event()

    def endless() -> Iterator[bytes]:
        yield piece("a")
        if leave == "cancel":
            over.wait(10)  # nothing comes: the read is waiting
        while not over.is_set():
            yield piece("b" * 10_000)

    server = serve(lambda *request: (200, endless()))
    stream = RemoteModel(server.url, "m").chat(HELLO, SamplingConfig(), cancelled=cancelled)
    assert next(stream).text == "a"
    begun = time.monotonic()
    if leave == "cancel":
        cancelled.set()
        assert [delta.finish_reason for delta in stream] == ["cancelled"]
        over.set()
    else:
        stream.close()  # type: ignore[attr-defined]
        assert server.left.wait(5)
        over.set()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "events",
    [
        [piece("a")],  # no reason: it broke off
        [piece("a"), event({"error": {"message": "out of memory"}})],
        [piece("a"), event(b"{"), DONE],
        [piece("a"), event({"choices": [{"delta": {"content": 5}}]})],
        [b"data: " + b" " * MAX_BYTES + b"\n"],
    ],
)
def test_stream_that_breaks_is_an_error_after_what_came(serve: Callable[[Reply], _Server], events: list[bytes]) -> None:
    with pytest.raises(GenerationError):
        list(streamed(serve, *events))


def test_schema_and_settings_beyond_openai_are_sent(serve: Callable[[Reply], _Server]) -> None:
    server = serve(lambda *request: (200, answer("{}")))
    settings = SamplingConfig(json_schema='{"type": "object"}', top_k=5, min_p=0.1, repetition_penalty=1.2, logit_bias={3: 2.0})
    list(RemoteModel(server.url, "m").chat(HELLO, settings))
    body = server.seen[0][1]
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["logit_bias"]) == (5, 0.1, 1.2, {"3": 2.0})


def test_logprobs_are_refused_and_not_forgotten() -> None:
    with pytest.raises(GenerationError, match="logprobs"):
        RemoteModel("http://127.0.0.1:9/v1", "m").chat(HELLO, SamplingConfig(logprobs=1))
