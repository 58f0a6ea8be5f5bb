"""Conversations for chat tuning. Goes in: JSONL or Parquet files with `messages`, or with instruction, input and output. Comes out:
checked conversations, and their tokens with a mark on those the assistant wrote. Whatever is left out is counted under a reason.

A conversation is a list of {"role", "content"} with the roles of tokenizer/chat.py. In Parquet `messages` may be such a list or its
JSON text.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from agora.corpus.assemble import NEXT_AUTHOR
from agora.corpus.document_files import TRAIN, document_files
from agora.errors import SourceError
from agora.log import Progress, silent
from agora.tokenizer.bpe import IM_END, Tokenizer
from agora.tokenizer.chat import ROLES, ChatTokens, render_chat

logger = logging.getLogger(__name__)

Message = dict[str, str]
_SUFFIXES: Final = (".jsonl", ".ndjson", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True)
class ConversationSet:
    """Conversations that can be trained on, and how many were left out under which reason."""

    conversations: list[list[Message]]
    skipped: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: ConversationSet) -> ConversationSet:
        skipped = dict(Counter(self.skipped) + Counter(other.skipped))
        return ConversationSet(conversations=self.conversations + other.conversations, skipped=skipped)

    def split(self, heldout_share: float) -> tuple[ConversationSet, ConversationSet]:
        """(training, held-out) by a hash of the content: the same conversation always falls on the same side, copies of it too."""
        limit = int(heldout_share * 2**64)
        sides: tuple[list[list[Message]], list[list[Message]]] = ([], [])
        for messages in self.conversations:
            digest = hashlib.sha256(json.dumps(messages, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()
            sides[int.from_bytes(digest[:8], "big") < limit].append(messages)
        return ConversationSet(conversations=sides[0], skipped=self.skipped), ConversationSet(conversations=sides[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedConversations:
    """Conversations as tokens, none longer than the limit they were encoded with. `report` counts what that cost."""

    conversations: list[ChatTokens]
    report: dict[str, int]


def read_conversations(paths: Sequence[Path], *, progress: Progress = silent) -> ConversationSet:
    """Read files, or every .jsonl and .parquet file of a folder. Raises SourceError for a file that is not what its name says."""
    conversations: list[list[Message]] = []
    skipped: Counter[str] = Counter()
    files = [file for path in paths for file in _files(path)]
    with progress.step("read conversations", unit="conversations") as step:
        for file in files:
            for record in _records(file):
                messages, reason = _messages(record)
                if messages is None:
                    skipped[reason] += 1
                else:
                    conversations.append(messages)
                step.advance()
    if skipped:
        total = len(conversations) + sum(skipped.values())
        logger.warning("left out %d of %d conversations: %s", sum(skipped.values()), total, dict(skipped))
    return ConversationSet(conversations=conversations, skipped=dict(skipped))


def thread_conversations(corpus: Path, *, progress: Progress = silent) -> ConversationSet:
    """Threads of a corpus as conversations: the first author asks, the next one answers, and so on in turn. Only training documents
    are read, and they are masked and filtered already. Raises DataError when there is no corpus.
    """
    conversations: list[list[Message]] = []
    skipped: Counter[str] = Counter()
    with progress.step("read threads", unit="documents") as step:
        for path, _ in document_files(corpus):
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(columns=["text", "authors", "split"]):
                    for row in batch.to_pylist():
                        messages, reason = _turns(row["text"], row["authors"]) if row["split"] == TRAIN else (None, "held_out")
                        if messages is None:
                            skipped[reason] += 1
                        else:
                            conversations.append(messages)
                    step.advance(batch.num_rows)
    return ConversationSet(conversations=conversations, skipped=dict(skipped))


def _turns(text: str, authors: Sequence[str]) -> tuple[list[Message] | None, str]:
    """The turns of a document, or None and the reason. A quoted line looks like a turn, so the authors must account for each."""
    num_turns = 1 + sum(one != other for one, other in pairwise(authors))
    if num_turns < 2:
        return None, "one_author"
    turns = text.split(NEXT_AUTHOR)
    if len(turns) != num_turns or not all(turn.strip() for turn in turns):
        return None, "turns_unclear"
    turns = turns[: len(turns) // 2 * 2]
    return [{"role": ("user", "assistant")[place % 2], "content": turn} for place, turn in enumerate(turns)], ""


def encode(
    tokenizer: Tokenizer, conversations: Sequence[Sequence[Message]], *, max_tokens: int, progress: Progress = silent
) -> EncodedConversations:
    """Tokens of each conversation. One longer than `max_tokens` ends after its last whole assistant turn that fits; one whose first
    exchange is already too long is left out. Both are counted in `report`.
    """
    encoded: list[ChatTokens] = []
    report: Counter[str] = Counter({"conversations": 0, "tokens": 0, "truncated": 0, "tokens_cut": 0, "too_long": 0})
    with progress.step("encode conversations", total=len(conversations), unit="conversations") as step:
        for messages in conversations:
            tokens = render_chat(tokenizer, [dict(message) for message in messages])
            shortened = tokens if len(tokens.ids) <= max_tokens else _truncate(tokens, max_tokens, tokenizer.special[IM_END])
            step.advance()
            if shortened is None:
                report["too_long"] += 1
                report["tokens_cut"] += len(tokens.ids)
                continue
            if shortened is not tokens:
                report["truncated"] += 1
                report["tokens_cut"] += len(tokens.ids) - len(shortened.ids)
            report["conversations"] += 1
            report["tokens"] += len(shortened.ids)
            encoded.append(shortened)
    if report["truncated"] or report["too_long"]:
        logger.warning(
            "conversations longer than %d tokens: %d end at an earlier turn, %d left out (%d tokens cut)",
            max_tokens, report["truncated"], report["too_long"], report["tokens_cut"],
        )  # fmt: skip
    return EncodedConversations(conversations=encoded, report=dict(report))


def _truncate(tokens: ChatTokens, max_tokens: int, end_of_turn: int) -> ChatTokens | None:
    """Up to the last <|im_end|> of the assistant within `max_tokens`; text can never contain that token (see tokenizer/chat.py)."""
    for place in range(max_tokens - 1, -1, -1):
        if tokens.ids[place] == end_of_turn and tokens.is_assistant[place]:
            return ChatTokens(ids=tokens.ids[: place + 1], is_assistant=tokens.is_assistant[: place + 1])
    return None


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
        if not found:
            raise SourceError(f"folder {path} holds no conversations ({', '.join(_SUFFIXES)})")
        return found
    if not path.exists():
        raise SourceError(f"conversations {path} do not exist")
    if path.suffix not in _SUFFIXES:
        raise SourceError(f"conversations {path} must be one of {', '.join(_SUFFIXES)} files, or a folder of them")
    return [path]


def _records(path: Path) -> Iterator[Any]:
    if path.suffix == ".parquet":
        try:
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=1024):
                    yield from batch.to_pylist()
        except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
            raise SourceError(f"conversations {path} cannot be read as Parquet: {error}") from error
        return
    with path.open("rb") as lines:
        for line in lines:
            if line.strip():
                try:
                    yield json.loads(line)
                except ValueError:
                    yield None


def _messages(record: Any) -> tuple[list[Message] | None, str]:
    """The messages of a record, or None and the reason."""
    if not isinstance(record, Mapping):
        return None, "not_a_json_object"
    messages = record.get("messages")
    if isinstance(messages, str):
        try:
            messages = json.loads(messages)
        except ValueError:
            return None, "messages_not_json"
    if messages is None and isinstance(record.get("instruction"), str):
        question = "\n\n".join(part for part in (record["instruction"], record.get("input")) if part)
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": record.get("output")}]
    if not isinstance(messages, list):
        return None, "no_messages"
    for message in messages:
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            return None, "unknown_role"
        if not isinstance(message.get("content"), str) or not message["content"].strip():
            return None, "empty_content"
    if not any(message["role"] == "assistant" for message in messages):
        return None, "no_assistant_turn"
    return [{"role": message["role"], "content": message["content"]} for message in messages], ""
