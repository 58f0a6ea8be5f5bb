"""Batches for training. Goes in: packed token shards. Comes out: `Batch`es in a seeded order that can go on from any saved position.

Shapes: B rows of a micro-batch, T tokens of a row.

An epoch is every document once, in a drawn order (document_order.py); rows are cut from that stream one after the other, across epochs,
so no token is dropped, repeated or padded. Each document ends with <|endoftext|>. That token closes one document as a target and opens
the next one as an input: with `document_aware` it carries the id of the document it opens, so every token is predicted exactly
once, first words included, and nothing attends across documents. Text is therefore scored, and generation started, after <|endoftext|>.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import torch

from agora.errors import CheckpointError, ConfigError, DataError
from agora.training.document_order import DocumentOrder, DocumentStarts, Piece
from agora.training.packing import PackedRows
from agora.training.step import Batch

IGNORED_TARGET = -100

Tokens = npt.NDArray[np.integer[Any]]
Beginning = Callable[[Sequence[int]], str]  # token ids -> the first characters of their text
BEGINNING_TOKENS: Final = 800  # enough for 200 characters of four bytes where every token is one byte


class TokenShards(Protocol):
    """What batches need of `agora.tokenizer.shards.ShardSet`."""

    @property
    def num_tokens(self) -> int: ...

    @property
    def document_starts(self) -> DocumentStarts: ...

    def tokens(self, start: int, stop: int) -> Tokens: ...


class Batches(Protocol):
    """A source of micro-batches whose whole state is a small JSON value."""

    def next(self) -> Batch:
        """The next micro-batch."""

    def skip(self, num_batches: int) -> None:
        """Leave out micro-batches: other processes take them."""

    def state_dict(self) -> dict[str, Any]:
        """Where the next micro-batch starts."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state. Raises CheckpointError when it belongs to other data."""

    def describe(self, state: Mapping[str, Any], num_batches: int, beginning: Beginning | None = None) -> list[dict[str, Any]]:
        """What the `num_batches` micro-batches after `state` were made of, for a person to look up; `text` is how each begins."""


def share_of_step(batches: Batches, num_micro_batches: int, share: int, num_shares: int) -> list[Batch]:
    """The micro-batches of one step that one of `num_shares` processes takes. All stand at the same place before and after, so where a run
    stands does not depend on how many share it. Raises ConfigError when they do not divide."""
    each, rest = divmod(num_micro_batches, num_shares)
    if rest:
        raise ConfigError(f"{num_micro_batches} micro-batches of a step do not divide over {num_shares} processes")
    batches.skip(share * each)
    mine = [batches.next() for _ in range(each)]
    batches.skip((num_shares - share - 1) * each)
    return mine


class ShardBatches:
    """Rows of `seq_len` tokens from shards, which stay on disk. Memory: that of a DocumentOrder."""

    def __init__(self, shards: TokenShards, *, seq_len: int, micro_batch: int, seed: int, document_aware: bool = True) -> None:
        if shards.num_tokens < 2:
            raise DataError(f"the shards hold {shards.num_tokens} tokens; training needs at least two. Import more posts")
        self._shards = shards
        self._seq_len, self._micro_batch, self._seed, self._document_aware = seq_len, micro_batch, seed, document_aware
        self._order = DocumentOrder(shards.document_starts, int(shards.num_tokens), seed=seed)
        self._position = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of one epoch."""
        return int(self._shards.num_tokens)

    @property
    def position(self) -> int:
        """Tokens handed out since the first epoch began."""
        return self._position

    def next(self) -> Batch:
        """The next micro-batch: tokens_BT, the tokens that follow them, and the document each belongs to."""
        rows, width = self._micro_batch, self._seq_len
        stream, documents = self._read(self._position, rows * width + 1)
        self._position += rows * width
        tokens_BT = torch.from_numpy(stream[:-1].reshape(rows, width))
        targets_BT = torch.from_numpy(stream[1:].reshape(rows, width))
        document_ids_BT = None
        if self._document_aware:
            ids_BT = documents[:-1].reshape(rows, width)
            document_ids_BT = torch.from_numpy((ids_BT - ids_BT[:, :1]).astype(np.int32))
        return Batch(tokens_BT=tokens_BT, targets_BT=targets_BT, document_ids_BT=document_ids_BT)

    def skip(self, num_batches: int) -> None:
        """Leave out micro-batches: other processes take them."""
        self._position += num_batches * self._micro_batch * self._seq_len

    def _read(self, start: int, count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """`count` tokens of the endless stream from `start`, and for each the running number of the document it opens or continues."""
        tokens, documents = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
        filled, number = 0, 0
        for piece in self._order.pieces(start, count):
            begins, stop = piece.begins + piece.first, filled + piece.length
            tokens[filled:stop] = self._shards.tokens(begins, begins + piece.length)
            documents[filled:stop] = number
            filled = stop
            if piece.first + piece.length == piece.size:
                number += 1
                documents[filled - 1] = number  # the closing token opens the next document
        return tokens, documents

    def state_dict(self) -> dict[str, Any]:
        """Position and what it is a position in."""
        return {"position": self._position, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        order = {"order": "windows"} if self._order.is_windowed else {}
        return {"num_tokens": self.num_tokens, "num_documents": len(self._shards.document_starts), "seed": self._seed, **order}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position. Raises CheckpointError when the shards or the seed are not the ones it was saved with."""
        check_same_data(state, self._identity())
        self._position = int(state["position"])

    def describe(self, state: Mapping[str, Any], num_batches: int, beginning: Beginning | None = None) -> list[dict[str, Any]]:
        """Documents of the micro-batches after `state`: index in the shards, first token, number of tokens, beginning of the document."""
        count = num_batches * self._micro_batch * self._seq_len
        return [
            {
                "document": piece.document, "shard_offset_tokens": piece.begins + piece.first, "num_tokens": piece.length,
                **({"text": beginning(self._first_tokens(piece))} if beginning else {}),
            }
            for piece in self._order.pieces(int(state["position"]), count)
        ]  # fmt: skip

    def _first_tokens(self, piece: Piece) -> list[int]:
        return [int(token) for token in self._shards.tokens(piece.begins, piece.begins + min(piece.size, BEGINNING_TOKENS))]


class EncodedConversation(Protocol):
    """What packing needs of `agora.tokenizer.chat.ChatTokens`: token ids, and which of them the assistant wrote."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def is_assistant(self) -> list[bool]: ...


class ChatBatches:
    """Rows of whole conversations; loss on what the assistant wrote. What is left of a row is padding that is never attended to
    by a conversation and has no target. Every conversation comes once in an epoch; none is cut here (see `chat_data.encode`).
    """

    def __init__(
        self, conversations: Sequence[EncodedConversation], *, seq_len: int, micro_batch: int, seed: int, pad_id: int
    ) -> None:  # fmt: skip
        if not conversations:
            raise DataError("there is no conversation to train on")
        longest = max(len(conversation.ids) for conversation in conversations)
        if longest > seq_len:
            raise DataError(f"a conversation of {longest} tokens does not fit in training.seq_len={seq_len}; encode with that limit")
        self._conversations = conversations
        self._seq_len, self._micro_batch, self._seed, self._pad_id = seq_len, micro_batch, seed, pad_id
        self._rows = PackedRows([len(conversation.ids) for conversation in conversations], width=seq_len, seed=seed)

    @property
    def num_rows(self) -> int:
        """Rows of the current epoch."""
        return len(self._rows.rows_of(self._rows.epoch))

    def next(self) -> Batch:
        """The next micro-batch; document_ids_BT keeps conversations of one row apart."""
        return self.batch(self._rows.take(self._micro_batch))

    def skip(self, num_batches: int) -> None:
        """Leave out micro-batches: other processes take them."""
        self._rows.take(num_batches * self._micro_batch)

    def epoch_batches(self) -> list[Batch]:
        """All rows of the first epoch, each once (for a held-out set)."""
        rows = self._rows.rows_of(0)
        return [self.batch(rows[first : first + self._micro_batch]) for first in range(0, len(rows), self._micro_batch)]

    def batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        """The rows, given as conversation numbers, as tensors."""
        shape = (len(rows), self._seq_len)
        tokens_BT, targets_BT = np.full(shape, self._pad_id, dtype=np.int64), np.full(shape, IGNORED_TARGET, dtype=np.int64)
        ids_BT = np.zeros(shape, dtype=np.int32)
        for row, members in enumerate(rows):
            filled = 0
            for number, member in enumerate(members):
                ids = np.asarray(self._conversations[member].ids, dtype=np.int64)
                is_target = np.asarray(self._conversations[member].is_assistant, dtype=bool)[1:]
                stop = filled + len(ids)
                tokens_BT[row, filled:stop] = ids
                targets_BT[row, filled : stop - 1] = np.where(is_target, ids[1:], IGNORED_TARGET)
                ids_BT[row, filled:stop] = number
                filled = stop
            ids_BT[row, filled:] = len(members)
        return Batch(
            tokens_BT=torch.from_numpy(tokens_BT), targets_BT=torch.from_numpy(targets_BT), document_ids_BT=torch.from_numpy(ids_BT)
        )

    def state_dict(self) -> dict[str, Any]:
        """Position and what it is a position in."""
        return {"epoch": self._rows.epoch, "row": self._rows.row, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        num_tokens = sum(len(conversation.ids) for conversation in self._conversations)
        return {"num_tokens": num_tokens, "num_documents": len(self._conversations), "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position. Raises CheckpointError when the conversations or the seed are not the ones it was saved with."""
        check_same_data(state, self._identity())
        self._rows.epoch, self._rows.row = int(state["epoch"]), int(state["row"])

    def describe(self, state: Mapping[str, Any], num_batches: int, beginning: Beginning | None = None) -> list[dict[str, Any]]:
        """Conversations of the micro-batches after `state`: number in the training set, number of tokens, beginning."""
        rows = self._rows.peek(int(state["epoch"]), int(state["row"]), num_batches * self._micro_batch)
        return [
            {
                "conversation": member, "num_tokens": len(self._conversations[member].ids),
                **({"text": beginning(self._conversations[member].ids[:BEGINNING_TOKENS])} if beginning else {}),
            }
            for row in rows for member in row
        ]  # fmt: skip


def heldout_batches(shards: TokenShards, *, seq_len: int, micro_batch: int, max_tokens: int, document_aware: bool) -> list[Batch]:
    """The first `max_tokens` tokens of held-out shards in stored order, each once: the same batches at every evaluation.

    The last batch may be shorter; what does not fill a row of `seq_len` is padded with ignored targets.
    """
    count = min(shards.num_tokens, max_tokens)
    if count < 2:
        return []
    starts = np.asarray(shards.document_starts[:count], dtype=np.int64)  # of more, none begins there
    stream = np.asarray(shards.tokens(0, count)).astype(np.int64)
    ends = starts[(starts > 0) & (starts < count)] - 1
    documents = np.zeros(count, dtype=np.int64)
    documents[ends] = 1
    documents = np.cumsum(documents)
    num_rows = -(-(count - 1) // seq_len)
    inputs, targets = np.zeros(num_rows * seq_len, dtype=np.int64), np.full(num_rows * seq_len, IGNORED_TARGET, dtype=np.int64)
    ids = np.full(num_rows * seq_len, documents[-1] + 1, dtype=np.int64)
    inputs[: count - 1], targets[: count - 1], ids[: count - 1] = stream[:-1], stream[1:], documents[:-1]
    result = []
    for row in range(0, num_rows, micro_batch):
        part = slice(row * seq_len, min(row + micro_batch, num_rows) * seq_len)
        ids_BT = ids[part].reshape(-1, seq_len)
        result.append(
            Batch(
                tokens_BT=torch.from_numpy(inputs[part].reshape(-1, seq_len)),
                targets_BT=torch.from_numpy(targets[part].reshape(-1, seq_len)),
                document_ids_BT=torch.from_numpy((ids_BT - ids_BT[:, :1]).astype(np.int32)) if document_aware else None,
            )
        )
    return result


def check_same_data(state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Raises CheckpointError when `state` was saved with data of another identity."""
    for key, value in identity.items():
        if state.get(key) != value:
            raise CheckpointError(
                f"the checkpoint was made with data of {key}={state.get(key)}, but this run has {value}; "
                "train under another --name, or start again with --fresh"
            )
