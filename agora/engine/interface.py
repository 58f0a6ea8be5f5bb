"""What everything that generates looks like: a model of this machine (local.py) or any OpenAI-compatible server (remote.py).

Goes in: messages or a prompt, and a SamplingConfig. Comes out: an iterator of Delta; closing it, or setting `cancelled`, ends the work.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agora.engine.sampling import SamplingConfig

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLogprob:
    """A token as bytes (it may be a part of a character) with its natural-log probability."""

    data: bytes
    logprob: float
    top: tuple[tuple[bytes, float], ...] = ()

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", errors="replace")


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens read and written for one answer."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """One step of an answer. `text` may be empty while a character or a possible stop string is incomplete.

    The last Delta of an answer has `finish_reason` and `usage`.
    """

    text: str
    token: int | None = None
    logprob: TokenLogprob | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class LanguageModel(Protocol):
    """Something that answers. Safe to call from several threads at once; requests never see each other."""

    @property
    def name(self) -> str:
        """The id by which it is asked for."""

    @property
    def created(self) -> int:
        """When the model was made, seconds since 1970 (UTC)."""

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together are at most this long."""

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """The assistant's answer to `messages` (role and content). Raises GenerationError before the first Delta."""

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        """What follows `prompt`, taken as the beginning of a document. Raises GenerationError before the first Delta."""
