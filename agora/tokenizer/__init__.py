"""Text to tokens: byte-level BPE, chat format, packed shards."""

from agora.tokenizer.bpe import END_OF_TEXT, IM_END, IM_START, PAD, SPECIAL_TOKENS, Tokenizer
from agora.tokenizer.chat import ROLES, ChatTokens, render_chat
from agora.tokenizer.chat_template import CHAT_TEMPLATE
from agora.tokenizer.encoding import TokenTable
from agora.tokenizer.shards import Manifest, ShardSet, pack_shards

__all__ = [
    "CHAT_TEMPLATE", "END_OF_TEXT", "IM_END", "IM_START", "PAD", "ROLES", "SPECIAL_TOKENS", "ChatTokens",
    "Manifest", "ShardSet", "TokenTable", "Tokenizer", "pack_shards", "render_chat",
]  # fmt: skip
