"""Any OpenAI-compatible server by URL: what is sent, what is believed, what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from agora.engine import SamplingConfig
from agora.engine.remote import MAX_BYTES, RemoteModel
from agora.errors import BusyError, ContextLengthError, GenerationError, UsageError

Reply = Callable[[str, dict[str, Any], dict[str, str]], tuple[int, bytes]]


class _Server:
    """One answer for all requests; remembers them."""

    def __init__(self, reply: Reply) -> None:
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.seen.append((self.path, body, dict(self.headers)))
                status, data = reply(self.path, body, dict(self.headers))
                self.send_response(status)
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
    assert body == {"model": "m", "stream": False, "messages": messages, "temperature": 0, "top_p": 1.0, "max_tokens": 5, "seed": 3}


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
