"""Pairs of answers as batches. Goes in: preference pairs. Comes out: `Batch`es whose rows come in twos: the chosen answers of some pairs
in one row, the rejected answers of the same pairs, in the same order, in the next.

Each answer stands behind the whole conversation before it, which it alone sees. Only its own tokens and the <|im_end|> behind it are
compared. A conversation too long for a row loses its oldest turns; a pair whose last question and answers do not fit is left out.

Shapes: B rows, R = B / 2, T positions, P pairs of a row at most, N pairs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from agora.errors import ConfigError, DataError
from agora.tokenizer.bpe import Tokenizer
from agora.tokenizer.chat import ASSISTANT, render_chat
from agora.training.data import BEGINNING_TOKENS, IGNORED_TARGET, Beginning, check_same_data
from agora.training.packing import PackedRows
from agora.training.preference_loss import Pairs, PreferenceConfig
from agora.training.preference_pairs import PreferencePair
from agora.training.step import Batch


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """Tokens of the conversation, up to where the assistant speaks, and of the two answers with the <|im_end|> behind them."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    weight: float = 1.0

    @property
    def size(self) -> int:
        """Positions that the longer side takes."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPairs:
    """Pairs as tokens; `report` counts what became of them."""

    pairs: list[EncodedPair]
    report: dict[str, int]


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[PreferencePair], *, max_tokens: int) -> EncodedPairs:
    """Tokens of each pair that fits into `max_tokens`. Raises DataError for an unknown role."""
    encoded, report = [], {"pairs": 0, "tokens": 0, "shortened": 0, "too_long": 0, "same_tokens": 0}
    for pair in pairs:
        chosen, rejected = (_answer(tokenizer, text) for text in (pair.chosen, pair.rejected))
        if chosen == rejected:  # white space that the chat format drops was the only difference
            report["same_tokens"] += 1
            continue
        prompt = _prompt(tokenizer, pair.prompt, max_tokens - max(len(chosen), len(rejected)))
        if prompt is None:
            report["too_long"] += 1
            continue
        report["shortened"] += prompt[1]
        encoded.append(EncodedPair(prompt[0], chosen, rejected, pair.weight))
        report["pairs"] += 1
        report["tokens"] += 2 * len(prompt[0]) + len(chosen) + len(rejected)
    return EncodedPairs(pairs=encoded, report=report)


def _answer(tokenizer: Tokenizer, text: str) -> list[int]:
    said = render_chat(tokenizer, [{"role": ASSISTANT, "content": text}])
    return [token for token, is_answer in zip(said.ids, said.is_assistant, strict=True) if is_answer]


def _prompt(tokenizer: Tokenizer, messages: Sequence[Mapping[str, str]], room: int) -> tuple[list[int], bool] | None:
    """The conversation in at most `room` tokens, and whether its oldest turns are gone; None where its last question does not fit. What a
    system message says stays."""
    first = 1 if messages[0]["role"] == "system" else 0
    for start in range(first, len(messages)):
        if start > first and messages[start]["role"] != "user":
            continue
        ids = render_chat(tokenizer, [*messages[:first], *messages[start:]], add_generation_prompt=True).ids
        if len(ids) <= room:
            return ids, start > first
    return None


class PreferenceBatches:
    """Micro-batches of `micro_batch` rows, of which every second one holds what was rejected. `reference` must be filled in before the
    first one: the log-probabilities of the chosen and the rejected answer of each pair under the model that tuning began from."""

    def __init__(
        self, pairs: Sequence[EncodedPair], config: PreferenceConfig, *, seq_len: int, micro_batch: int, seed: int, pad_id: int
    ) -> None:  # fmt: skip
        if not pairs:
            raise DataError("there is no pair of answers to learn from")
        if micro_batch % 2:
            raise ConfigError(
                f"preferences.micro_batch={micro_batch} must be even: chosen answers stand in one row, the rejected ones in the next"
            )
        longest = max(pair.size for pair in pairs)
        if longest > seq_len:
            raise DataError(f"a pair of {longest} tokens does not fit in preferences.seq_len={seq_len}; encode with that limit")
        self._pairs, self._config = pairs, config
        self._seq_len, self._micro_batch, self._seed, self._pad_id = seq_len, micro_batch, seed, pad_id
        self._rows = PackedRows([pair.size for pair in pairs], width=seq_len, seed=seed)
        self._sha256 = pairs_sha256(pairs)
        self.reference_N2: npt.NDArray[np.float64] = np.full((len(pairs), 2), np.nan)

    def __len__(self) -> int:
        return len(self._pairs)

    def answer_lengths(self) -> npt.NDArray[np.int64]:
        """(pairs, 2): tokens of the chosen and of the rejected answers."""
        return np.array([(len(pair.chosen), len(pair.rejected)) for pair in self._pairs])

    @property
    def num_rows(self) -> int:
        """Rows of the first epoch, those of rejected answers included."""
        return 2 * len(self._rows.rows_of(0))

    def next(self) -> Batch:
        """The next micro-batch."""
        return self.batch(self._rows.take(self._micro_batch // 2))

    def skip(self, num_batches: int) -> None:
        """Leave out micro-batches: other processes take them."""
        self._rows.take(num_batches * (self._micro_batch // 2))

    def epoch(self) -> list[list[list[int]]]:
        """The numbers of the pairs in each micro-batch of the first epoch, by rows."""
        rows, each = self._rows.rows_of(0), self._micro_batch // 2
        return [rows[first : first + each] for first in range(0, len(rows), each)]

    def batch(self, rows: Sequence[Sequence[int]]) -> Batch:
        """Rows of pairs, given by their numbers, as tensors: twice as many rows."""
        shape = (2 * len(rows), self._seq_len)
        tokens_BT, targets_BT = np.full(shape, self._pad_id, dtype=np.int64), np.full(shape, IGNORED_TARGET, dtype=np.int64)
        ids_BT = np.zeros(shape, dtype=np.int32)
        width = max(len(members) for members in rows)
        reference_RP, weight_RP = np.zeros((len(rows), width)), np.zeros((len(rows), width))
        for row, members in enumerate(rows):
            for side in (0, 1):
                filled = 0
                for number, member in enumerate(members):
                    pair = self._pairs[member]
                    answer = pair.rejected if side else pair.chosen
                    ids = [*pair.prompt, *answer]
                    stop = filled + len(ids)
                    tokens_BT[2 * row + side, filled:stop] = ids
                    targets_BT[2 * row + side, stop - len(answer) - 1 : stop - 1] = answer
                    ids_BT[2 * row + side, filled:stop] = number
                    filled = stop
                ids_BT[2 * row + side, filled:] = len(members)
            reference_RP[row, : len(members)] = self.reference_N2[members, 0] - self.reference_N2[members, 1]
            weight_RP[row, : len(members)] = [self._pairs[member].weight for member in members]
        documents_BT = torch.from_numpy(ids_BT)
        pairs = Pairs(documents_BT.long(), torch.from_numpy(reference_RP).float(), torch.from_numpy(weight_RP).float(), self._config)
        return Batch(torch.from_numpy(tokens_BT), torch.from_numpy(targets_BT), documents_BT, pairs)

    def state_dict(self) -> dict[str, Any]:
        """Position and what it is a position in."""
        return {"epoch": self._rows.epoch, "row": self._rows.row, **self._identity()}

    def _identity(self) -> dict[str, Any]:
        return {"num_pairs": len(self._pairs), "pairs_sha256": self._sha256, "seed": self._seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on at a saved position. Raises CheckpointError when the pairs or the seed are not the ones it was saved with."""
        check_same_data(state, self._identity())
        self._rows.epoch, self._rows.row = int(state["epoch"]), int(state["row"])

    def describe(self, state: Mapping[str, Any], num_batches: int, beginning: Beginning | None = None) -> list[dict[str, Any]]:
        """Pairs of the micro-batches after `state`: number in the training set, number of tokens, beginning of the chosen answer."""
        rows = self._rows.peek(int(state["epoch"]), int(state["row"]), num_batches * (self._micro_batch // 2))
        return [
            {
                "pair": member, "num_tokens": 2 * len(pair.prompt) + len(pair.chosen) + len(pair.rejected),
                **({"text": beginning(pair.chosen[:BEGINNING_TOKENS])} if beginning else {}),
            }
            for row in rows for member in row for pair in [self._pairs[member]]
        ]  # fmt: skip


class EpochOf(Sequence[Batch]):
    """The first epoch of `batches`, each micro-batch made when it is asked for: with the reference as it is then."""

    def __init__(self, batches: PreferenceBatches) -> None:
        self._batches, self._rows = batches, batches.epoch()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return (
            self._batches.batch(self._rows[index]) if isinstance(index, int) else [self._batches.batch(rows) for rows in self._rows[index]]
        )


def pairs_sha256(pairs: Sequence[EncodedPair]) -> str:
    """Equal for the same pairs in the same order, with the same weights."""
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(json.dumps([pair.prompt, pair.chosen, pair.rejected, pair.weight]).encode())
    return digest.hexdigest()
