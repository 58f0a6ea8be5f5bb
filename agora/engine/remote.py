"""Any OpenAI-compatible server as a LanguageModel. Goes in: its URL and the model's name there. Comes out: answers.

    model = RemoteModel("http://127.0.0.1:8000/v1", "qwen3-8b")

What is asked leaves this machine for that server. A key is read from the environment variable AGORA_ENDPOINT_KEY, sent to that server
only: redirects are refused. An answer comes whole; its size and the time to wait are bounded. Not covered: tool calls, images, log-probs.
"""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

from agora.engine.interface import Delta, FinishReason, Usage
from agora.engine.sampling import SamplingConfig
from agora.errors import BusyError, ContextLengthError, GenerationError, UsageError

KEY_VARIABLE: Final = "AGORA_ENDPOINT_KEY"
MAX_BYTES: Final = 4 << 20
"""A longer body is refused unread."""
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
        """The server's answer in one Delta. Raises GenerationError."""
        body = self._post("/chat/completions", {"messages": [dict(one) for one in messages], **_fields(sampling)})
        return iter([_delta(body, lambda choice: choice["message"]["content"])])

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """What follows `prompt`, in one Delta. Raises GenerationError."""
        body = self._post("/completions", {"prompt": prompt if isinstance(prompt, str) else list(prompt), **_fields(sampling)})
        return iter([_delta(body, lambda choice: choice["text"])])

    def _post(self, path: str, content: Mapping[str, Any]) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        data = json.dumps({"model": self.name, "stream": False, **content}).encode()
        request = urllib.request.Request(self._url + path, data=data, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                body = response.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read(2_000).decode("utf-8", errors="replace")) from error
        except (OSError, HTTPException) as error:
            raise GenerationError(f"endpoint {self._url} cannot be reached: {error}; is the server running?") from error
        if len(body) > MAX_BYTES:
            raise GenerationError(f"endpoint {self._url} sent more than {MAX_BYTES:,} bytes")
        try:
            return json.loads(body)
        except ValueError as error:
            raise GenerationError(f"endpoint {self._url} sent no JSON: {error}") from error

    def _refused(self, code: int, text: str) -> GenerationError:
        said = " ".join(text.split())[:300]
        if code in _BUSY:
            return BusyError(f"endpoint {self._url} is busy ({code}): {said}")
        if code in (400, 413) and "context" in said.lower():
            return ContextLengthError(f"endpoint {self._url}: {said}")
        return GenerationError(f"endpoint {self._url} refused ({code}): {said}")


def _fields(sampling: SamplingConfig) -> dict[str, Any]:
    """The settings that every such server knows; others only when they are set."""
    fields: dict[str, Any] = {"temperature": sampling.temperature, "top_p": sampling.top_p}
    for name, value, default in (
        ("max_tokens", sampling.max_tokens, None), ("seed", sampling.seed, None), ("stop", list(sampling.stop), []),
        ("presence_penalty", sampling.presence_penalty, 0.0), ("frequency_penalty", sampling.frequency_penalty, 0.0),
    ):  # fmt: skip
        if value != default:
            fields[name] = value
    return fields


def _delta(body: Any, text_of: Any) -> Delta:
    try:
        choice = body["choices"][0]
        text = text_of(choice)
        counts = body.get("usage") or {}
        usage = Usage(prompt_tokens=int(counts.get("prompt_tokens", 0)), completion_tokens=int(counts.get("completion_tokens", 0)))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise GenerationError(f"the endpoint's answer is not in OpenAI's form: {type(error).__name__} {error}") from error
    if not isinstance(text, str):
        raise GenerationError(f"the endpoint's answer is {type(text).__name__}, not text")
    reason: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
    return Delta(text=text, finish_reason=reason, usage=usage)
