"""A model behind an OpenAI-compatible server that calls functions. Goes in: its URL and its name there. Comes out: one round at a time.

assistant = open_assistant(place, ToolEndpoint("http://127.0.0.1:8000/v1", "qwen3-8b"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agora.chat.tool_calls import MAX_TOKENS, Turn, parsed_turn
from agora.engine.remote import RemoteModel


class ToolEndpoint(RemoteModel):
    """An OpenAI-compatible server whose model calls functions. What the tools return leaves this machine for that server."""

    def turn(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]) -> Turn:
        """One round, whole. Raises GenerationError."""
        content = {
            "model": self.name, "stream": False, "temperature": 0.0, "max_tokens": MAX_TOKENS, "messages": list(messages),
            **({"tools": list(tools)} if tools else {}),
        }  # fmt: skip
        with self._post("/chat/completions", content) as response:
            return parsed_turn(self._read(response))


__all__ = ["ToolEndpoint"]
