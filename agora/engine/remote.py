"""Any OpenAI-compatible server as a LanguageModel. Goes in: its URL and the model's name there. Comes out: answers.

    model = RemoteModel("http://127.0.0.1:8000/v1", "qwen3-8b")

vLLM, SGLang, llama.cpp's server, Ollama and Agora itself speak this interface. What is asked leaves this machine for that server. A key is
read from the environment variable AGORA_ENDPOINT_KEY, sent to that server only: redirects are refused. An answer comes piece by piece
(whole from a server that does not stream); its size and the time to wait for each piece are bounded. Closing the iterator or setting
`cancelled` closes the connection, by which such servers know to stop. Not covered: tool calls
(agora/chat/endpoint.py has them), images, log-probabilities.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.parse import urlsplit

from agora.engine.interface import Delta, FinishReason, Usage
from agora.engine.sampling import SamplingConfig
from agora.errors import BusyError, ContextLengthError, GenerationError, UsageError

KEY_VARIABLE: Final = "AGORA_ENDPOINT_KEY"
MAX_BYTES: Final = 4 << 20
"""A longer answer is refused."""
WATCH_S: Final = 0.05
"""How soon a cancelled answer that waits for its server is noticed."""
_BUSY: Final = (429, 503)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **keywords: Any) -> None:
        return None


class RemoteModel:
    """One model of one server. Safe to call from several threads."""

    created: Final = 0

    def __init__(self, url: str, name: str, *, context_tokens: int = 8_192, timeout_s: float = 60.0) -> None:
        """Raises UsageError for what is no web address."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"endpoint {url!r} is no web address; example: http://127.0.0.1:8000/v1")
        self.name, self.context_tokens = name, context_tokens
        self._url, self._timeout_s = url.rstrip("/"), timeout_s
        self._opener = urllib.request.build_opener(_NoRedirects)

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """The server's answer. Raises GenerationError, what is wrong with the request before the first Delta."""
        return self._ask("/chat/completions", {"messages": [dict(one) for one in messages]}, sampling, cancelled)

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """What follows `prompt`. Raises GenerationError, what is wrong with the request before the first Delta."""
        return self._ask("/completions", {"prompt": prompt if isinstance(prompt, str) else list(prompt)}, sampling, cancelled)

    def _ask(self, path: str, content: Mapping[str, Any], sampling: SamplingConfig, cancelled: threading.Event | None) -> Iterator[Delta]:
        asked = {"model": self.name, "stream": True, "stream_options": {"include_usage": True}, **content, **_fields(sampling)}
        response = self._post(path, asked, accept="text/event-stream, application/json")
        if response.headers.get_content_type() == "text/event-stream":
            return self._pieces(response, cancelled or threading.Event())
        with response:
            return iter([self._whole(response)])

    def _post(self, path: str, content: Mapping[str, Any], *, accept: str = "application/json") -> HTTPResponse:
        """The server's response, not yet read. Raises GenerationError."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self._url + path, data=json.dumps(content).encode(), headers=headers, method="POST")
        try:
            return self._opener.open(request, timeout=self._timeout_s)  # type: ignore[no-any-return]
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(2_000).decode("utf-8", errors="replace")) from error
        except (OSError, HTTPException) as error:
            raise GenerationError(f"endpoint {self._url} cannot be reached: {error}; is the server running?") from error

    def _read(self, response: HTTPResponse) -> bytes:
        """The whole body. Raises GenerationError."""
        try:
            body = response.read(MAX_BYTES + 1)
        except (OSError, HTTPException) as error:
            raise GenerationError(f"endpoint {self._url} broke off: {error}") from error
        if len(body) > MAX_BYTES:
            raise GenerationError(f"endpoint {self._url} sent more than {MAX_BYTES:,} bytes")
        return body

    def _whole(self, response: HTTPResponse) -> Delta:
        """The answer of a server that does not stream."""
        event = self._parsed(self._read(response))
        piece = _piece(event)
        if piece is None or piece.text is None:
            raise GenerationError("the endpoint's answer holds no text")
        return Delta(
            text=piece.text, finish_reason=piece.reason or "stop", usage=_usage(event) or Usage(prompt_tokens=0, completion_tokens=0)
        )

    def _pieces(self, response: HTTPResponse, cancelled: threading.Event) -> Iterator[Delta]:
        """The Deltas of an event stream; the last one carries the usage, which servers send after the reason."""
        reason: FinishReason | None = None
        usage = Usage(prompt_tokens=0, completion_tokens=0)
        with response, _closing_when(cancelled, response):
            try:
                for data in self._events(response):
                    event = self._parsed(data)
                    usage = _usage(event) or usage
                    piece = _piece(event)
                    if piece is None:
                        continue
                    reason = piece.reason or reason
                    if piece.text and not cancelled.is_set():
                        yield Delta(text=piece.text)
            except (OSError, HTTPException, ValueError) as error:  # ValueError: read of a closed file
                if not cancelled.is_set():
                    raise GenerationError(f"endpoint {self._url} broke off: {error}") from error
        if reason is None and not cancelled.is_set():
            raise GenerationError(f"endpoint {self._url} broke off before the end of the answer")
        yield Delta(text="", finish_reason="cancelled" if cancelled.is_set() else reason, usage=usage)

    def _events(self, response: HTTPResponse) -> Iterator[bytes]:
        """The data of server-sent events, up to [DONE]."""
        size = 0
        while line := response.readline(MAX_BYTES + 1):
            size += len(line)
            if size > MAX_BYTES:
                raise GenerationError(f"endpoint {self._url} sent more than {MAX_BYTES:,} bytes")
            if line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    return
                yield data

    def _parsed(self, data: bytes) -> Any:
        try:
            event = json.loads(data)
        except ValueError as error:
            raise GenerationError(f"endpoint {self._url} sent no JSON: {error}") from error
        if isinstance(event, dict) and "error" in event and event["error"]:
            raise GenerationError(f"endpoint {self._url}: {json.dumps(event['error'])[:300]}")
        return event

    def _refused(self, code: int, text: str) -> GenerationError:
        said = " ".join(text.split())[:300]
        if code in _BUSY:
            return BusyError(f"endpoint {self._url} is busy ({code}): {said}")
        if code in (400, 413) and "context" in said.lower():
            return ContextLengthError(f"endpoint {self._url}: {said}")
        return GenerationError(f"endpoint {self._url} refused ({code}): {said}")


def _fields(sampling: SamplingConfig) -> dict[str, Any]:
    """The settings that every such server knows; others only when they are set. Raises GenerationError for what has no place there."""
    if sampling.logprobs is not None:
        raise GenerationError("log-probabilities are not read from endpoints; leave logprobs unset", param="logprobs")
    if sampling.grammar is not None:
        raise GenerationError("grammars are not sent to endpoints; give a JSON schema", param="grammar")
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    for name, value, default in (
        ("max_tokens", sampling.max_tokens, None), ("seed", sampling.seed, None), ("stop", list(sampling.stop), []),
        ("presence_penalty", sampling.presence_penalty, 0.0), ("frequency_penalty", sampling.frequency_penalty, 0.0),
        # beyond OpenAI's interface, under the names of vLLM and SGLang
        ("top_k", sampling.top_k, None), ("min_p", sampling.min_p, 0.0), ("repetition_penalty", sampling.repetition_penalty, 1.0),
        ("logit_bias", {str(token): bias for token, bias in sampling.logit_bias.items()}, {}),
    ):  # fmt: skip
        if value != default:
            fields[name] = value
    if sampling.json_schema is not None:
        schema = {"name": "answer", "strict": True, "schema": json.loads(sampling.json_schema)}
        fields["response_format"] = {"type": "json_schema", "json_schema": schema}
    return fields


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str | None
    reason: FinishReason | None


def _piece(event: Any) -> _Piece | None:
    """What one event adds: a chat's delta or message, or a completion's text. None for an event without a choice (usage)."""
    try:
        if not event["choices"]:
            if event.get("usage"):
                return None
            raise KeyError("choices")
        choice = event["choices"][0]
        said = choice.get("delta") or choice.get("message")
        text = choice.get("text") if said is None else said.get("content")
        named = choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise GenerationError(f"the endpoint's answer is not in OpenAI's form: {type(error).__name__} {error}") from error
    if text is not None and not isinstance(text, str):
        raise GenerationError(f"the endpoint's answer is {type(text).__name__}, not text")
    return _Piece(text, None if named is None else "length" if named == "length" else "stop")


def _usage(event: Any) -> Usage | None:
    counts = event.get("usage") if isinstance(event, dict) else None
    if not counts:
        return None
    try:
        return Usage(prompt_tokens=int(counts.get("prompt_tokens", 0)), completion_tokens=int(counts.get("completion_tokens", 0)))
    except (TypeError, AttributeError, ValueError) as error:
        raise GenerationError(f"the endpoint's usage is not in OpenAI's form: {error}") from error


@contextmanager
def _closing_when(cancelled: threading.Event, response: HTTPResponse) -> Iterator[None]:
    """Inside, `cancelled` ends a read that waits: the connection is shut down."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_S):
            if cancelled.is_set():
                with suppress(OSError, ValueError), socket.socket(fileno=os.dup(response.fileno())) as connection:
                    connection.shutdown(socket.SHUT_RDWR)
                return

    watcher = threading.Thread(target=watch, name="endpoint", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
