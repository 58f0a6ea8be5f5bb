"""Posts -> keys on disk: whole or absent, used again only where they fit, the same whatever the batches."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agora.integrity import collect as module
from agora.integrity.collect import collect, key_schema, key_table
from tests.integrity.boards import Board, ordinary


@pytest.fixture
def some() -> Board:
    board = Board()
    ordinary(board, np.random.default_rng(1), accounts=20, days=2, per_account=3, stories=5)
    return board


def counting(calls: list[int]) -> Any:
    def make(posts: pa.RecordBatch) -> pa.RecordBatch:
        calls.append(posts.num_rows)
        return key_table(posts)

    return make


def test_times_before_1970_and_fractions_are_floored(tmp_path: Path) -> None:
    board = Board()
    board.post("ann", 0, created_at=datetime(1969, 12, 31, 23, 59, 58, 500_000, tzinfo=timezone.utc))
    board.post("ann", 0, created_at=datetime(1970, 1, 1, 0, 0, 1, 999_999, tzinfo=timezone.utc))
    assert collect(board.batches(), tmp_path).time_s.tolist() == [-2, 1]


def test_accounts_are_numbered_by_name_and_unknown_ones_are_minus_one(tmp_path: Path) -> None:
    board = Board()
    board.repost("cid", 0, "x", "ann")
    board.repost("ann", 1, "x", "nobody")
    board.repost("bob", 2, "x", None)
    found = collect(board.batches(2), tmp_path)
    assert found.names.to_pylist() == ["ann", "bob", "cid"]
    assert found.account.tolist() == [2, 0, 1]
    assert found.ref_author.tolist() == [0, -1, -1]


def test_what_a_killed_scan_left_is_used_again(some: Board, tmp_path: Path) -> None:
    batches = some.batches(50)

    def killed() -> Any:
        yield from batches[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(killed(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys-000000.arrow", "keys-000001.arrow"]
    calls: list[int] = []
    found = collect(batches, tmp_path, make=counting(calls))
    assert len(calls) == len(batches) - 2
    assert found.values("id", np.arange(found.num_posts)) == [row["id"] for row in some.rows]


def test_a_failing_batch_leaves_no_file(some: Board, tmp_path: Path) -> None:
    def make(posts: pa.RecordBatch) -> pa.RecordBatch:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        collect(some.batches(), tmp_path, make=make)
    assert list(tmp_path.iterdir()) == []


def test_keys_of_another_version_of_a_signal_are_made_anew(some: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collect(some.batches(50), tmp_path)
    calls: list[int] = []
    collect(some.batches(50), tmp_path, make=counting(calls))
    assert calls == []
    raised = key_schema().with_metadata({"signals": "text:99"})
    monkeypatch.setattr(module, "key_schema", lambda: raised)
    collect(some.batches(50), tmp_path, make=counting(calls))
    assert sum(calls) == len(some.rows)


@pytest.mark.parametrize("content", [b"", b"no arrow file at all", b"ARROW1\0\0" + b"x" * 100])
def test_a_file_that_is_no_key_file_is_made_anew(some: Board, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys-000000.arrow").write_bytes(content)
    assert collect(some.batches(), tmp_path).num_posts == len(some.rows)


def test_keys_of_other_posts_are_not_taken_for_these(some: Board, tmp_path: Path) -> None:
    collect(some.batches(50), tmp_path)
    found = collect(some.batches(70), tmp_path)
    assert found.values("id", np.arange(found.num_posts)) == [row["id"] for row in some.rows]
    other = Board()
    other.rows = some.rows[7:90]
    assert collect(other.batches(50), tmp_path).num_posts == 83


def test_tables_made_elsewhere_give_the_same(some: Board, tmp_path: Path) -> None:
    here = collect(some.batches(50), tmp_path / "here")
    there = collect((key_table(batch) for batch in some.batches(50)), tmp_path / "there", make=lambda table: table)
    assert [path.read_bytes() for path in here.files] == [path.read_bytes() for path in there.files]


def test_no_batches_and_empty_batches_are_no_posts(some: Board, tmp_path: Path) -> None:
    assert collect([], tmp_path / "none").num_posts == 0
    batch = some.batches()[0]
    found = collect([batch.slice(0, 0), batch, batch.slice(0, 0)], tmp_path / "some")
    assert found.num_posts == len(some.rows)
    assert found.values("text", np.array([3])) == [some.rows[3]["text"]]
