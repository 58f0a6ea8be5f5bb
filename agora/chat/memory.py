"""What of a conversation is remembered. Goes in: its messages and a budget in tokens. Comes out: the latest turns that fit, and how many
messages were left out.

The budget holds for what a model reads. What a question refers back to ("and yesterday?") is read from the turns that are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agora.config import unknown_value
from agora.errors import UsageError

if TYPE_CHECKING:
    from agora.engine import LanguageModel

ROLES: Final = ("user", "assistant")
BYTES_PER_TOKEN: Final = 3
"""Taken for models whose tokenizer is not at hand: fewer bytes per token than byte-level BPEs reach on English (about four)."""
PER_MESSAGE: Final = 8
"""Tokens that a chat format puts around a message."""

Count = Callable[[str], int]
Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Remembered:
    """The turns that are kept, oldest first, without the last message, which is `said`."""

    said: str
    turns: tuple[Message, ...]
    num_forgotten: int


def token_counter(model: LanguageModel | None) -> Count:
    """How long a text is for a model: by its own tokenizer where it has one here."""
    tokenizer = getattr(getattr(model, "generator", None), "tokenizer", None) or getattr(model, "tokenizer", None)
    if tokenizer is not None:
        return lambda text: len(tokenizer.encode(text))
    return lambda text: -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)


def remember(messages: Sequence[Message], budget_tokens: int, count: Count, *, max_chars: int) -> Remembered:
    """The last message and the turns before it that fit beside it. Raises UsageError for roles that nobody may speak in, and for messages
    that do not end with a question."""
    for place, message in enumerate(messages):
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise UsageError(f"messages[{place}]: {unknown_value(str(role), ROLES, 'role')}; instructions are given by a persona")
        if not isinstance(content, str):
            raise UsageError(f"messages[{place}]: content must be text, not {type(content).__name__}")
    if not messages or messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise UsageError("the last message must be the user's, with some text: it is what is answered")
    said: str = messages[-1]["content"]
    if len(said) > max_chars:
        raise UsageError(f"the message has {len(said):,} characters; at most {max_chars:,} are read: ask shorter")
    left = budget_tokens - count(said) - PER_MESSAGE
    kept: list[Message] = []
    for message in reversed(messages[:-1]):
        left -= count(message["content"]) + PER_MESSAGE
        if left < 0:
            break
        kept.append(message)
    return Remembered(said, tuple(reversed(kept)), len(messages) - 1 - len(kept))


__all__ = ["BYTES_PER_TOKEN", "Count", "Message", "Remembered", "remember", "token_counter"]
