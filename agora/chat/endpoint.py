"""A model behind an OpenAI-compatible server that calls functions. Goes in: its URL and its name there. Comes out: one round at a time.

assistant = open_assistant(place, ToolEndpoint("http://127.0.0.1:8000/v1", "qwen3-8b"))
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from typing import Any

from agora.chat.tool_calls import MAX_TOKENS, Turn, parsed_turn
from agora.engine.remote import KEY_VARIABLE, MAX_BYTES, RemoteModel
from agora.errors import BusyError, GenerationError


class ToolEndpoint(RemoteModel):
    """An OpenAI-compatible server whose model calls functions. What the tools return leaves this machine for that server."""

    def turn(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Turn:
        """One round, whole. Raises GenerationError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        content = {
            "model": self.name, "stream": False, "temperature": 0.0, "max_tokens": MAX_TOKENS, "messages": list(messages),
            **({"tools": list(tools)} if tools else {}),
        }  # fmt: skip
        request = urllib.request.Request(f"{self._url}/chat/completions", data=json.dumps(content).encode(), headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                body = response.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                said = " ".join(error.read(2_000).decode("utf-8", errors="replace").split())[:300]
                kind = BusyError if error.code in (429, 503) else GenerationError
                raise kind(f"endpoint {self._url} refused ({error.code}): {said}") from error
        except (OSError, HTTPException) as error:
            raise GenerationError(f"endpoint {self._url} cannot be reached: {error}; is the server running?") from error
        if len(body) > MAX_BYTES:
            raise GenerationError(f"endpoint {self._url} sent more than {MAX_BYTES:,} bytes")
        return parsed_turn(body)


__all__ = ["ToolEndpoint"]
