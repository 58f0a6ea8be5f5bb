"""A growing file: whole lines only, on from where it was left, replaced and cut files from their start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agora.errors import SourceError, UsageError
from agora.posts.follow import FollowConfig, GrowingFile, follow
from agora.posts.store import PostStore
from tests.posts.follow.conftest import QUICK, follow_until, texts
from tests.posts.follow.servers import post_event, status, uri


def line(value: Any) -> str:
    return json.dumps(value) + "\n"


def flat(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": f"p{number}", "author": "ann", "created_at": "2024-03-05T09:30:00Z", "text": f"text {number}", **fields}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "posts.jsonl"


def test_lines_that_are_appended_become_posts(path: Path, store: PostStore) -> None:
    path.write_text(line(flat(1)) + line(flat(2))[:-20])

    def grown() -> bool:
        if store.num_posts == 1 and path.stat().st_size < 200:
            with path.open("a") as file:
                file.write(line(flat(2))[-20:] + "broken\n" + line(flat(3)))
        return store.num_posts == 3

    summary = follow_until(GrowingFile(path), store, grown)
    assert (summary.posts, summary.quarantined) == (3, {"invalid JSON": 1})


def test_events_of_jetstream_delete_and_edit(path: Path, store: PostStore) -> None:
    events = [post_event(1), post_event(2), post_event(1, operation="update", text="edited", rev="2"), post_event(2, operation="delete")]
    path.write_text("".join(map(line, events)))
    follow_until(GrowingFile(path), store, lambda: texts(store) == {uri(1): "edited"})


def test_statuses_one_per_line_are_read_as_an_import_reads_them(path: Path, store: PostStore) -> None:
    path.write_text(line(status(1)) + line(status(2)))
    follow_until(GrowingFile(path), store, lambda: store.num_posts == 2)


def test_the_next_start_reads_only_what_is_new(path: Path, store: PostStore) -> None:
    path.write_text("".join(line(flat(number)) for number in range(5)))
    follow_until(GrowingFile(path), store, lambda: store.num_posts == 5)
    with path.open("a") as file:
        file.write(line(flat(5)))
    assert follow_until(GrowingFile(path), store, lambda: store.num_posts == 6).events == 1


def test_a_file_that_was_replaced_is_read_from_its_start(path: Path, store: PostStore) -> None:
    path.write_text("".join(line(flat(number)) for number in range(5)))

    def replaced() -> bool:
        if store.num_posts == 5:
            other = path.with_name("other")
            other.write_text("".join(line(flat(number)) for number in range(10, 20)))
            other.replace(path)
        return store.num_posts == 15

    follow_until(GrowingFile(path), store, replaced)
    path.write_text(line(flat(30)))  # cut, between two runs
    follow_until(GrowingFile(path), store, lambda: store.num_posts == 16)


def test_the_number_of_posts_is_exact_and_nothing_is_left_out_later(path: Path, store: PostStore) -> None:
    path.write_text("".join(line(flat(number)) for number in (*range(6), *range(12))))
    assert follow(GrowingFile(path), store, config=FollowConfig(max_posts=7)).posts == 7
    assert store.num_posts == 7
    follow_until(GrowingFile(path), store, lambda: store.num_posts == 12)


def test_a_record_too_large_costs_itself_only(path: Path, store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.posts.follow.file.MAX_RECORD_BYTES", 4000)
    monkeypatch.setattr("agora.posts.follow.file._BLOCK_BYTES", 1000)
    path.write_text(line(flat(1)) + line(flat(2, text="x" * 9000)) + line(flat(3)))
    summary = follow_until(GrowingFile(path), store, lambda: store.num_posts == 2)
    assert summary.quarantined == {"record too large": 1}


def test_the_longest_record_that_fits_is_read(path: Path, store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.posts.follow.file.MAX_RECORD_BYTES", 4000)
    monkeypatch.setattr("agora.posts.follow.file._BLOCK_BYTES", 1000)
    longest = flat(1, text="")
    longest["text"] = "x" * (4000 - len(json.dumps(longest)))
    path.write_text(line(longest) + line(flat(2)))
    follow_until(GrowingFile(path), store, lambda: store.num_posts == 2)


def test_files_that_cannot_be_followed_are_refused(tmp_path: Path, store: PostStore) -> None:
    with pytest.raises(UsageError, match="neither bluesky"):
        GrowingFile(tmp_path / "absent")
    packed = tmp_path / "posts.jsonl.gz"
    packed.write_bytes(b"")
    with pytest.raises(UsageError, match="posts import"):
        GrowingFile(packed)
    for content in ("id,author,created_at,text\n1,a,2024-03-05,t\n", '{\n"data": []}\n', '{"unknown": 1}\n'):
        (tmp_path / "table.csv").write_text(content)
        with pytest.raises(SourceError, match="per line"):
            follow(GrowingFile(tmp_path / "table.csv"), store, config=QUICK)
