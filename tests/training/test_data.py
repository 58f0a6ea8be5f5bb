"""Batches: every token once in an epoch, any position resumable, documents and conversations kept apart."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import CheckpointError, DataError
from agora.training import document_order
from agora.training.data import IGNORED_TARGET, ChatBatches, ShardBatches, heldout_batches, share_of_step
from tests.training.doubles import END, FileShards, some_shards


def stream(batches: ShardBatches, num_tokens: int) -> tuple[list[int], list[int]]:
    """The first `num_tokens` inputs and the targets that belong to them."""
    inputs: list[int] = []
    targets: list[int] = []
    while len(inputs) < num_tokens:
        batch = batches.next()
        inputs += batch.tokens_BT.flatten().tolist()
        targets += batch.targets_BT.flatten().tolist()
    return inputs[:num_tokens], targets[:num_tokens]


def documents_of(tokens: list[int]) -> list[tuple[int, ...]]:
    """Cut after each END."""
    found, document = [], []
    for token in tokens:
        document.append(token)
        if token == END:
            found.append(tuple(document))
            document = []
    return found


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=20).filter(lambda x: sum(x) >= 2),
    seq_len=st.integers(2, 9), micro_batch=st.integers(1, 3), seed=st.integers(0, 5),
)  # fmt: skip
def test_every_epoch_holds_every_document_once_and_whole(lengths: list[int], seq_len: int, micro_batch: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shards = FileShards(Path(folder) / "t", lengths, seed=seed)
        inputs, _ = stream(ShardBatches(shards, seq_len=seq_len, micro_batch=micro_batch, seed=seed), 2 * shards.num_tokens)
        stored = sorted(documents_of(shards.tokens(0, shards.num_tokens).tolist()))
        for epoch in (inputs[: shards.num_tokens], inputs[shards.num_tokens :]):
            assert sorted(documents_of(epoch)) == stored


@pytest.mark.parametrize("seed", [0, 3])
def test_of_a_large_corpus_only_windows_are_in_memory_and_every_document_comes_once_an_epoch(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document_order, "WINDOW", 24)
    monkeypatch.setattr(document_order, "RUN", 8)
    lengths = (np.random.default_rng(seed).integers(1, 12, size=101)).tolist()
    shards = FileShards(tmp_path / "t", lengths)
    order = document_order.DocumentOrder(shards.document_starts, shards.num_tokens, seed=seed)
    epochs, at_once = [], []
    for epoch in range(2):
        found = []
        for piece in order.pieces(epoch * shards.num_tokens, shards.num_tokens):
            found.append((piece.document, piece.begins, piece.size, piece.first, piece.length))
            at_once.append(len(order._order))
        epochs.append([document for document, *_ in found])
        whole = [(number, int(shards.document_starts[number]), length, 0, length) for number, length in enumerate(lengths)]
        assert sorted(found) == whole
    assert epochs[0] != epochs[1] and max(at_once) <= 24
    assert len({document // 8 for document in epochs[0][:24]}) >= 3  # of places that lie apart, one by one
    assert sum(abs(one - other) == 1 for one, other in pairwise(epochs[0])) < 20
    whole_rows = ShardBatches(shards, seq_len=7, micro_batch=3, seed=seed)
    state = whole_rows.state_dict()
    for _ in range(40):
        again = ShardBatches(shards, seq_len=7, micro_batch=3, seed=seed)
        again.load_state_dict(state)
        assert again.next().tokens_BT.equal(whole_rows.next().tokens_BT)
        state = whole_rows.state_dict()
    monkeypatch.setattr(document_order, "WINDOW", 1000)
    with pytest.raises(CheckpointError, match="order"):
        whole_rows.load_state_dict(ShardBatches(shards, seq_len=7, micro_batch=3, seed=seed).state_dict())


@settings(max_examples=40)
@given(st.lists(st.integers(1, 12), min_size=2, max_size=20), st.integers(0, 12), st.integers(2, 9))
def test_resuming_anywhere_skips_and_repeats_nothing(lengths: list[int], num_before: int, seq_len: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shards = FileShards(Path(folder) / "t", lengths)
        whole = ShardBatches(shards, seq_len=seq_len, micro_batch=2, seed=3)
        for _ in range(num_before):
            whole.next()
        resumed = ShardBatches(shards, seq_len=seq_len, micro_batch=2, seed=3)
        resumed.load_state_dict(whole.state_dict())
        for _ in range(4):
            one, other = whole.next(), resumed.next()
            assert one.tokens_BT.equal(other.tokens_BT) and one.targets_BT.equal(other.targets_BT)
            assert one.document_ids_BT is not None and other.document_ids_BT is not None
            assert one.document_ids_BT.equal(other.document_ids_BT)


def test_targets_are_the_next_inputs(tmp_path: Path) -> None:
    inputs, targets = stream(ShardBatches(some_shards(tmp_path), seq_len=8, micro_batch=2, seed=0), 320)
    assert targets[:-1] == inputs[1:]


def test_end_of_text_opens_the_next_document(tmp_path: Path) -> None:
    batches = ShardBatches(some_shards(tmp_path), seq_len=16, micro_batch=4, seed=0)
    for _ in range(5):
        batch = batches.next()
        assert batch.document_ids_BT is not None
        tokens_BT, ids_BT = batch.tokens_BT.numpy(), batch.document_ids_BT.numpy()
        changes_BT = np.diff(ids_BT, axis=1) == 1
        assert (changes_BT == (tokens_BT[:, 1:] == END)).all()


def test_seeds_and_epochs_give_different_orders(tmp_path: Path) -> None:
    shards = some_shards(tmp_path)
    first, _ = stream(ShardBatches(shards, seq_len=8, micro_batch=2, seed=0), 2 * shards.num_tokens)
    second, _ = stream(ShardBatches(shards, seq_len=8, micro_batch=2, seed=1), shards.num_tokens)
    assert first[: shards.num_tokens] != second
    assert first[: shards.num_tokens] != first[shards.num_tokens :]


def test_state_of_other_data_is_refused(tmp_path: Path) -> None:
    state = ShardBatches(some_shards(tmp_path), seq_len=8, micro_batch=2, seed=0).state_dict()
    with pytest.raises(CheckpointError, match=r"seed=0.*has 1"):
        ShardBatches(some_shards(tmp_path), seq_len=8, micro_batch=2, seed=1).load_state_dict(state)
    with pytest.raises(CheckpointError, match="num_tokens"):
        ShardBatches(some_shards(tmp_path, seed=2), seq_len=8, micro_batch=2, seed=0).load_state_dict(state)


def test_description_of_a_batch_names_its_documents(tmp_path: Path) -> None:
    shards = some_shards(tmp_path)
    batches = ShardBatches(shards, seq_len=8, micro_batch=2, seed=0)
    batches.next()
    state = batches.state_dict()
    pieces = batches.describe(state, 1)
    tokens = [t for p in pieces for t in shards.tokens(p["shard_offset_tokens"], p["shard_offset_tokens"] + p["num_tokens"]).tolist()]
    assert tokens == batches.next().tokens_BT.flatten().tolist()


def test_held_out_batches_hold_each_token_once_as_a_target(tmp_path: Path) -> None:
    shards = some_shards(tmp_path)
    batches = heldout_batches(shards, seq_len=16, micro_batch=3, max_tokens=10_000, document_aware=True)
    targets = np.concatenate([batch.targets_BT.numpy().ravel() for batch in batches])
    assert targets[targets != IGNORED_TARGET].tolist() == shards.tokens(1, shards.num_tokens).tolist()


def test_too_few_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least two"):
        ShardBatches(FileShards(tmp_path / "t", [1]), seq_len=8, micro_batch=2, seed=0)


@dataclass
class Said:
    ids: list[int]
    is_assistant: list[bool]


def conversations(lengths: list[int]) -> list[Said]:
    """Conversation n is made of token n + 1; its second half is the assistant's."""
    return [Said([number + 1] * n, [place >= n // 2 for place in range(n)]) for number, n in enumerate(lengths)]


@settings(max_examples=40)
@given(st.lists(st.integers(2, 16), min_size=1, max_size=40), st.integers(0, 4))
def test_every_conversation_comes_whole_and_once_in_an_epoch(lengths: list[int], seed: int) -> None:
    batches = ChatBatches(conversations(lengths), seq_len=16, micro_batch=2, seed=seed, pad_id=0)
    counted = [0] * (len(lengths) + 1)
    num_targets = 0
    for batch in batches.epoch_batches():
        for row_T in batch.tokens_BT.tolist():
            for token in row_T:
                counted[token] += 1
        num_targets += int((batch.targets_BT != IGNORED_TARGET).sum())
    assert counted[1:] == lengths
    assert num_targets == sum(n - max(n // 2, 1) for n in lengths)


@settings(max_examples=30)
@given(st.lists(st.integers(2, 16), min_size=1, max_size=30), st.integers(0, 9))
def test_chat_batches_resume_anywhere(lengths: list[int], num_before: int) -> None:
    whole, resumed = (ChatBatches(conversations(lengths), seq_len=16, micro_batch=2, seed=1, pad_id=0) for _ in range(2))
    for _ in range(num_before):
        whole.next()
    resumed.load_state_dict(whole.state_dict())
    for _ in range(3):
        assert whole.next().tokens_BT.equal(resumed.next().tokens_BT)


def test_loss_falls_on_what_the_assistant_says_only() -> None:
    said = Said([5, 6, 7, 8, 9], [False, False, True, True, False])
    batch = ChatBatches([said], seq_len=6, micro_batch=1, seed=0, pad_id=0).next()
    assert batch.targets_BT.tolist() == [[-100, 7, 8, -100, -100, -100]]
    assert batch.document_ids_BT is not None and batch.document_ids_BT.tolist() == [[0, 0, 0, 0, 0, 1]]


def test_a_conversation_longer_than_a_row_is_refused() -> None:
    with pytest.raises(DataError, match="17 tokens does not fit"):
        ChatBatches(conversations([17]), seq_len=16, micro_batch=1, seed=0, pad_id=0)


WORLDS = st.lists(st.tuples(st.sampled_from([1, 2, 4, 8]), st.integers(1, 3)), min_size=2, max_size=8)
BATCHES_OF_A_STEP = 8


def rows_read(make: Callable[[], ShardBatches | ChatBatches], worlds: list[tuple[int, int]]) -> list[list[int]]:
    """What all processes read together when each world of (processes, steps) goes on from the checkpoint of the one before."""
    rows: list[list[int]] = []
    state = make().state_dict()
    for size, num_steps in worlds:
        sources = [make() for _ in range(size)]
        for source in sources:
            source.load_state_dict(state)
        for _ in range(num_steps):
            for share, source in enumerate(sources):
                for batch in share_of_step(source, BATCHES_OF_A_STEP, share, size):
                    rows += batch.tokens_BT.tolist()
        assert all(source.state_dict() == sources[0].state_dict() for source in sources)
        state = json.loads(json.dumps(sources[0].state_dict()))
    return rows


@settings(max_examples=25, deadline=None)
@given(WORLDS)
def test_runs_on_changing_numbers_of_processes_read_every_token_once_in_an_epoch(worlds: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shards = some_shards(Path(folder), num_documents=30)

        def make() -> ShardBatches:
            return ShardBatches(shards, seq_len=4, micro_batch=1, seed=3)

        rows = rows_read(make, worlds)
        tokens = [token for row in rows for token in row]
        assert tokens == stream(make(), len(tokens))[0]
        whole = [tuple(shards.tokens(first, last).tolist()) for first, last in pairwise([*shards.document_starts, shards.num_tokens])]
        for epoch in range(len(tokens) // shards.num_tokens):
            here = tokens[epoch * shards.num_tokens : (epoch + 1) * shards.num_tokens]
            assert sorted(documents_of(here)) == sorted(whole)


@settings(max_examples=25, deadline=None)
@given(WORLDS)
def test_runs_on_changing_numbers_of_processes_read_every_row_of_conversations_once_in_an_epoch(worlds: list[tuple[int, int]]) -> None:
    lengths = [2 + number % 13 for number in range(25)]

    def make() -> ChatBatches:
        return ChatBatches(conversations(lengths), seq_len=16, micro_batch=1, seed=2, pad_id=0)

    rows, source, first = rows_read(make, worlds), make(), 0
    while first + source.num_rows <= len(rows):
        here = rows[first : first + source.num_rows]
        assert [sum(row.count(number + 1) for row in here) for number in range(len(lengths))] == lengths
        first += source.num_rows
        source.skip(source.num_rows)
