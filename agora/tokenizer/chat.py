"""Conversations as tokens. Goes in: messages with role and content. Comes out: ids, and which of them the assistant says.

    <|im_start|>role\\ncontent<|im_end|>\\n

Roles are framed by special ids that text cannot produce, so no content can open or close a turn. Training takes its loss
from the positions marked `is_assistant`: the assistant's content and its <|im_end|>.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agora.errors import DataError
from agora.tokenizer.bpe import IM_END, IM_START, Tokenizer
from agora.tokenizer.chat_template import break_names

ROLES: Final = ("system", "user", "assistant", "tool")
ASSISTANT: Final = "assistant"


@dataclass(frozen=True, slots=True)
class ChatTokens:
    """`ids[i]` is said by the assistant where `is_assistant[i]`."""

    ids: list[int]
    is_assistant: list[bool]


def render_chat(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = False) -> ChatTokens:
    """Tokens of a conversation, those of the chat template: white space around a content is dropped, and the names of special
    tokens in it are broken up by a blank.

    With `add_generation_prompt` the assistant's next turn is opened. Raises DataError for an unknown role or a content
    that is not text.
    """
    start, end = tokenizer.special[IM_START], tokenizer.special[IM_END]
    line_break = tokenizer.encode("\n")
    ids: list[int] = []
    is_assistant: list[bool] = []
    for index, message in enumerate(messages):
        role, content = _checked(message, index)
        head = [start, *tokenizer.encode(f"{role}\n")]
        said = [*tokenizer.encode(break_names(content.strip())), end]
        ids += head + said + line_break
        is_assistant += [False] * len(head) + [role == ASSISTANT] * len(said) + [False] * len(line_break)
    if add_generation_prompt:
        head = [start, *tokenizer.encode(f"{ASSISTANT}\n")]
        ids += head
        is_assistant += [False] * len(head)
    return ChatTokens(ids, is_assistant)


def _checked(message: Mapping[str, str], index: int) -> tuple[str, str]:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise DataError(f"messages[{index}].role={role!r} is not one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise DataError(f"messages[{index}].content is {type(content).__name__}, but must be text")
    return role, content
