"""Bluesky live, against a local Jetstream that disconnects, repeats and mixes up."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from agora.errors import SourceError, UsageError
from agora.posts.follow import BlueskyStream, FollowConfig, follow
from agora.posts.follow.bluesky import REWIND_US
from agora.posts.sources.bluesky_jetstream import event_to_item
from agora.posts.sources.record import Deletion
from agora.posts.store import PostStore
from tests.posts.follow.conftest import QUICK, follow_until, texts
from tests.posts.follow.servers import T0, Jetstream, account_event, at_times, post_event, uri


def test_posts_edits_and_deletions_reach_the_store(store: PostStore) -> None:
    events = [
        post_event(1), post_event(2), post_event(3, did="did:plc:bob"), post_event(1, operation="update", text="edited", rev="9"),
        post_event(2, operation="delete"), account_event("did:plc:bob", 6), post_event(7, text="last"),
    ]  # fmt: skip
    with Jetstream(events).running() as url:
        summary = follow_until(BlueskyStream(url), store, lambda: texts(store) == {uri(1): "edited", uri(7): "last"})
    assert (summary.edits, summary.deletions, summary.connections) == (1, 2, 1)
    assert Counter(store.deletions()["kind"].to_pylist()) == {"post": 1, "author": 1}


def test_disconnects_duplicates_and_disorder_lose_and_repeat_nothing(store: PostStore) -> None:
    events = [post_event(number) for number in range(60)]
    server = Jetstream(events, drop_after=(7, 13, 0, 20, None), shuffle=4, repeat=0.3)
    with server.running() as url:
        summary = follow_until(BlueskyStream(url), store, lambda: store.num_posts == 60)
    assert texts(store) == {uri(number): f"text {number}" for number in range(60)}
    assert summary.lost >= 4 and summary.duplicates > 0


def test_a_new_connection_begins_a_little_before_the_last_event(store: PostStore) -> None:
    server = Jetstream([post_event(number) for number in range(40)], drop_after=(30, None))
    with server.running() as url:
        follow_until(BlueskyStream(url), store, lambda: store.num_posts == 40)
    assert "cursor" not in server.paths[0]
    assert f"cursor={T0 + 29_000_000 - REWIND_US}" in server.paths[1]


def test_the_next_start_goes_on_at_the_saved_cursor(store: PostStore) -> None:
    first, second = Jetstream([post_event(number) for number in range(20)]), Jetstream([post_event(number) for number in range(30)])
    with first.running() as url:
        follow_until(BlueskyStream(url), store, lambda: store.num_posts == 20)
    saved = next((store.folder / "follow").glob("*.json"))
    with second.running() as other:
        text = saved.read_text().replace(url, other)  # the same server, come back under another port
        source = BlueskyStream(other)
        saved.unlink()
        from agora.posts.follow.batch import StreamState

        StreamState.load(store.folder, source).path.write_text(text)
        summary = follow_until(source, store, lambda: store.num_posts == 30)
    assert f"cursor={T0 + 19_000_000 - REWIND_US}" in second.paths[0]
    assert summary.posts == 10


def test_edits_that_come_in_the_wrong_order_end_at_the_latest(store: PostStore) -> None:
    late = [post_event(1, operation="update", text=f"version {rev}", rev=rev) for rev in ("b", "c", "a")]
    with Jetstream([late[0], post_event(1, text="first"), *late[1:], post_event(2)]).running() as url:
        follow_until(BlueskyStream(url), store, lambda: uri(2) in texts(store), config=FollowConfig(batch_posts=1, for_s=20))
    assert texts(store)[uri(1)] == "version c"


def test_a_deletion_before_its_post_keeps_the_post_out(store: PostStore) -> None:
    with Jetstream([post_event(1, operation="delete"), post_event(1), post_event(2)]).running() as url:
        follow_until(BlueskyStream(url), store, lambda: uri(2) in texts(store))
    assert uri(1) not in texts(store)


def test_words_deleted_within_a_batch_never_reach_the_disk(store: PostStore) -> None:
    events = [post_event(1, text="unmistakable-secret"), post_event(1, operation="delete"), post_event(2)]
    with Jetstream(events).running() as url:
        follow_until(BlueskyStream(url), store, lambda: uri(2) in texts(store), config=FollowConfig(batch_s=1.0, for_s=20))
    assert not any(b"unmistakable-secret" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


def test_broken_messages_are_quarantined_and_the_stream_goes_on(store: PostStore, tmp_path: Path) -> None:
    strange = {"did": "did:plc:ann", "time_us": T0, "kind": "commit", "commit": 3}
    with Jetstream(["{cut off", b"\xff\xfe{", strange, "[1]", post_event(1)]).running() as url:
        source = BlueskyStream(url)
        with pytest.raises(SourceError, match="--dictionary"):  # a binary message can only be a frame
            follow(source, store, config=QUICK)
    with Jetstream(["{cut off", strange, "[1]", post_event(1)]).running() as url:
        follow_until(BlueskyStream(url), store, lambda: store.num_posts == 1, quarantine=tmp_path / "quarantine")
    (file,) = (tmp_path / "quarantine").iterdir()
    reasons = [json.loads(line)["reason"] for line in file.read_text().splitlines()]
    assert sorted(reasons) == ["invalid JSON", "not a Jetstream event", "unexpected shape"]


def test_an_event_dated_in_the_future_does_not_move_the_cursor(store: PostStore) -> None:
    future = {**post_event(5), "time_us": int((time.time() + 1e6) * 1e6)}
    server = Jetstream([post_event(1), future, post_event(2)])
    with server.running() as url:
        follow_until(BlueskyStream(url), store, lambda: store.num_posts == 3)
    state = json.loads(next((store.folder / "follow").glob("*.json")).read_text())
    assert state["cursor"] == T0 + 2_000_000


@pytest.fixture(scope="module")
def dictionary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = [json.dumps(post_event(number, text=f"words about {number * 7919} birds")).encode() for number in range(400)]
    path = tmp_path_factory.mktemp("zstd") / "dictionary"
    path.write_bytes(zstandard.train_dictionary(4096, samples).as_bytes())
    return path


def test_compressed_frames_are_read_with_their_dictionary(store: PostStore, dictionary: Path, tmp_path: Path) -> None:
    server = Jetstream([post_event(1), b"\x28\xb5\x2f\xfd broken", post_event(2)], dictionary=dictionary.read_bytes())
    with server.running() as url:
        summary = follow_until(BlueskyStream(url, dictionary=dictionary), store, lambda: store.num_posts == 2)
    assert "compress=true" in server.paths[0] and sum(summary.quarantined.values()) == 1


def test_another_dictionary_or_none_is_an_error_that_says_so(store: PostStore, dictionary: Path, tmp_path: Path) -> None:
    samples = [json.dumps({"other": number * 31}).encode() * 3 for number in range(400)]
    (tmp_path / "other").write_bytes(zstandard.train_dictionary(2048, samples).as_bytes())
    with Jetstream([post_event(1)], dictionary=dictionary.read_bytes()).running() as url:
        with pytest.raises(SourceError, match="compresses with dictionary"):
            follow(BlueskyStream(url, dictionary=tmp_path / "other"), store, config=QUICK)
        (tmp_path / "nonsense").write_bytes(b"no dictionary")
        with pytest.raises(UsageError, match="is no zstd dictionary"):
            follow(BlueskyStream(url, dictionary=tmp_path / "nonsense"), store, config=QUICK)
        with pytest.raises(UsageError, match="cannot be read"):
            follow(BlueskyStream(url, dictionary=tmp_path / "absent"), store, config=QUICK)


def test_a_frame_that_claims_to_be_huge_is_not_unpacked(store: PostStore, dictionary: Path) -> None:
    parsed = zstandard.ZstdCompressionDict(dictionary.read_bytes())
    bomb = zstandard.ZstdCompressor(dict_data=parsed).compress(bytes(64 << 20))
    with Jetstream([bomb, post_event(1)], dictionary=dictionary.read_bytes()).running() as url:
        summary = follow_until(BlueskyStream(url, dictionary=dictionary), store, lambda: store.num_posts == 1)
    assert sum(summary.quarantined.values()) == 1


@pytest.mark.shared
def test_real_events_at_fifty_times_their_speed(shared_data: Path, store: PostStore) -> None:
    lines = (shared_data / "raw" / "bluesky_jetstream" / "expected_v1.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    items = [event_to_item(event) for event in events]
    deleted = {item.key for item in items if isinstance(item, Deletion)}
    expected = {item["id"]: item["text"] for item in items if isinstance(item, dict) and item["id"] not in deleted}
    assert len(expected) == 32
    wait = at_times(time.monotonic(), 50.0, [event["time_us"] for event in events])
    server = Jetstream(events, drop_after=(5, 9, 3, None), shuffle=3, repeat=0.2, wait=wait)
    with server.running() as url:
        summary = follow_until(BlueskyStream(url), store, lambda: texts(store) == expected and store.deletions().num_rows >= len(deleted))
    assert summary.lost >= 3


@pytest.mark.parametrize("url", ["https://h/subscribe", "ws://", "wss://h:x/", "h/subscribe", "wss://user@h/subscribe"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--url"):
        BlueskyStream(url)
