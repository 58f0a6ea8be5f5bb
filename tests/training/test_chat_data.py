"""Conversations: every format read, everything left out counted, nothing cut in the middle of a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import SourceError
from agora.tokenizer.bpe import IM_END, Tokenizer
from agora.training.chat_data import encode, read_conversations, thread_conversations

TALK = [{"role": "user", "content": "what is new?"}, {"role": "assistant", "content": "a storm, they say"}]
LONGER = [*TALK, {"role": "user", "content": "where?"}, {"role": "assistant", "content": "in the north"}]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["what is new in the north", "a storm, they say"] * 5, vocab_size=300)


def jsonl(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def test_lines_with_messages_or_instructions_are_read(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {"messages": TALK}, {"instruction": "Say it.", "input": "it", "output": "It."},
        {"instruction": "Say it.", "input": "", "output": "It."},
    )  # fmt: skip
    found = read_conversations([path])
    assert found.conversations[0] == TALK
    assert [talk[0]["content"] for talk in found.conversations[1:]] == ["Say it.\n\nit", "Say it."]
    assert found.skipped == {}


@pytest.mark.parametrize("as_text", [True, False])
def test_parquet_is_read_with_messages_as_text_or_as_a_list(tmp_path: Path, as_text: bool) -> None:
    pq.write_table(pa.table({"messages": [json.dumps(TALK) if as_text else TALK]}), tmp_path / "a.parquet")
    assert read_conversations([tmp_path]).conversations == [TALK]


def test_what_cannot_be_used_is_counted_under_its_reason(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl", {"messages": TALK}, "{not json", "[1]", {"text": "x"}, {"messages": "["}, {"messages": TALK[:1]},
        {"messages": [{"role": "wizard", "content": "x"}]}, {"messages": [{"role": "user", "content": " "}]},
    )  # fmt: skip
    found = read_conversations([path])
    assert len(found.conversations) == 1
    assert found.skipped == {
        "not_a_json_object": 2, "no_messages": 1, "messages_not_json": 1, "no_assistant_turn": 1, "unknown_role": 1, "empty_content": 1,
    }  # fmt: skip


def test_paths_that_hold_no_conversations_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.jsonl", tmp_path):
        with pytest.raises(SourceError, match="conversations"):
            read_conversations([path])
    (tmp_path / "a.parquet").write_bytes(b"not parquet")
    with pytest.raises(SourceError, match=r"a\.parquet cannot be read as Parquet"):
        read_conversations([tmp_path])


def test_split_is_by_content_and_loses_nothing(tmp_path: Path) -> None:
    talks = [[{"role": "user", "content": str(n % 60)}, TALK[1]] for n in range(120)]
    found = read_conversations([jsonl(tmp_path / "a.jsonl", *({"messages": talk} for talk in talks))])
    train, heldout = found.split(0.2)
    assert len(train.conversations) + len(heldout.conversations) == 120 and 4 < len(heldout.conversations) < 50
    assert not any(talk in train.conversations for talk in heldout.conversations)


@settings(max_examples=30, deadline=None)
@given(max_tokens=st.integers(1, 120))
def test_a_long_conversation_ends_at_an_assistant_turn_and_the_cut_is_counted(tokenizer: Tokenizer, max_tokens: int) -> None:
    whole = encode(tokenizer, [LONGER], max_tokens=1000)
    total = whole.report["tokens"]
    encoded = encode(tokenizer, [LONGER], max_tokens=max_tokens)
    assert encoded.report["tokens"] + encoded.report["tokens_cut"] == total
    assert encoded.report["conversations"] + encoded.report["too_long"] == 1
    for tokens in encoded.conversations:
        assert len(tokens.ids) <= max_tokens and tokens.ids == whole.conversations[0].ids[: len(tokens.ids)]
        if len(tokens.ids) < total:
            assert tokens.ids[-1] == tokenizer.special[IM_END] and tokens.is_assistant[-1]


def test_threads_of_a_corpus_become_turns_when_the_authors_account_for_them(tmp_path: Path) -> None:
    rows = [
        ("what is new?\n> a storm\n> where?\n> in the north", ["a", "b", "a", "c"], "train"),
        ("hello\nagain\n> hi\n> bye", ["a", "a", "b", "a"], "train"),
        ("alone", ["a"], "train"),
        ("someone said\n> a quoted line", ["a"], "train"),
        ("look\n> quoted\n> answer", ["a", "b"], "train"),
        ("kept\n> back", ["a", "b"], "heldout"),
    ]
    texts, authors, splits = zip(*rows, strict=True)
    pq.write_table(pa.table({"text": pa.array(texts, pa.large_string()), "authors": authors, "split": splits}), tmp_path / "part-0.parquet")
    found = thread_conversations(tmp_path)
    assert [[m["role"] for m in talk] for talk in found.conversations] == [["user", "assistant"] * 2, ["user", "assistant"]]
    assert found.conversations[1] == [{"role": "user", "content": "hello\nagain"}, {"role": "assistant", "content": "hi"}]
    assert found.skipped == {"one_author": 2, "turns_unclear": 1, "held_out": 1}


@pytest.mark.shared
def test_the_development_conversations_are_all_read(shared_data: Path) -> None:
    found = read_conversations([shared_data / "chat" / "dialogues.parquet", shared_data / "chat" / "instructions_seed.parquet"])
    assert len(found.conversations) + sum(found.skipped.values()) == 11_278 + 175
    assert len(found.conversations) > 11_000
