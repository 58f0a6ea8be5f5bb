"""Mastodon live, against a local server that speaks server-sent events and WebSocket, and repeats nothing."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

import pytest

from agora.errors import SourceError, UsageError
from agora.posts.follow import FollowConfig, MastodonStream, follow
from agora.posts.follow.live import Event, LocalDeletion
from agora.posts.follow.numbers import StatusNumbers
from agora.posts.schema import posts_table
from agora.posts.sources.record import Deletion, Skipped
from agora.posts.store import PostStore
from tests.posts.follow.conftest import QUICK, follow_until, texts
from tests.posts.follow.servers import Mastodon, status, status_number

TRANSPORTS = ["server_events", "websocket"]


def uri(number: int, host: str = "m.example") -> str:
    return f"https://{host}/users/ann/statuses/{number}"


def served(server: Mastodon, transport: str) -> AbstractContextManager[str]:
    return server.server_events() if transport == "server_events" else server.websocket()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_statuses_edits_and_deletions_reach_the_store(store: PostStore, transport: str) -> None:
    messages: list[tuple[str, Any]] = [
        ("update", status(1)), ("update", status(2, "to be deleted")), ("update", status(3, visibility="private")),
        ("filters_changed", ""), ("status.update", status(1, "edited", edited_at="2024-03-05T10:00:00Z")),
        ("delete", str(status_number(2))), ("update", "{cut"), ("update", status(4, "from elsewhere", host="other.example")),
    ]  # fmt: skip
    with served(Mastodon(messages), transport) as url:
        wanted = {uri(1): "edited", uri(4, "other.example"): "from elsewhere"}
        summary = follow_until(MastodonStream(url), store, lambda: texts(store) == wanted)
    assert (summary.edits, summary.deletions) == (1, 1)
    assert summary.skipped == {"not public (direct or followers only)": 1, "filters_changed event": 1}
    assert summary.quarantined == {"invalid JSON": 1}
    likes = [row["num_likes"] for batch in store.scan() for row in batch.to_pylist()]
    assert likes == [2, 2]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_was_posted_during_an_interruption_is_fetched_from_the_timeline(store: PostStore, transport: str) -> None:
    everything = [status(number) for number in range(130)]
    live: list[tuple[str, Any]] = [("update", one) for one in [*everything[:10], *everything[120:]]]
    server = Mastodon(live, cuts=[10], timeline=everything)
    with served(server, transport) as url:
        follow_until(MastodonStream(url), store, lambda: store.num_posts == 130)
    assert texts(store) == {uri(number): f"text {number}" for number in range(130)}
    pages = [path for path in server.paths if path.startswith("/api/v1/timelines/public?")]
    assert len(pages) >= 4, "40 statuses are the most that one page holds"


def test_a_deletion_after_a_restart_finds_its_post(store: PostStore) -> None:
    first, second = (
        Mastodon([("update", status(1, host="other.example"))]),
        Mastodon([("delete", str(status_number(1))), ("update", status(2))]),
    )
    with first.server_events() as url:
        follow_until(MastodonStream(url), store, lambda: store.num_posts == 1)
    saved = {path.name.partition(".")[2]: path for path in (store.folder / "follow").iterdir()}
    with second.server_events() as url:
        from agora.posts.follow.batch import StreamState

        target = StreamState.load(store.folder, MastodonStream(url)).path
        for ending, path in saved.items():  # the same server, come back under another port
            path.rename(target.with_name(f"{target.stem}.{ending}"))
        follow_until(MastodonStream(url), store, lambda: uri(2) in texts(store) and uri(1, "other.example") not in texts(store))


def test_a_deletion_finds_a_post_of_the_server_that_was_imported(store: PostStore) -> None:
    server = Mastodon([("delete", "777"), ("delete", "888"), ("update", status(2))])
    with server.server_events() as url:
        own = f"{url}/users/ann/statuses/777"
        fields = {"author": "ann", "created_at": 1_700_000_000_000_000, "text": "t", "kind": "post", "source": "mastodon"}
        with store:
            store.append(posts_table([{"id": own, **fields}, {"id": uri(777), **fields}]))
        summary = follow_until(MastodonStream(url), store, lambda: uri(2) in texts(store))
    assert own not in texts(store) and uri(777) in texts(store)
    assert summary.skipped == {"deletion of a post that the store does not hold": 1}


def test_the_store_is_read_for_deletions_once_and_then_only_what_came_in(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"author": "ann", "created_at": 1_700_000_000_000_000, "text": "t", "kind": "post", "source": "mastodon"}
    with store:
        store.append(posts_table([{"id": uri(number), **fields} for number in range(3)]))
    read: list[int | None] = []
    scan = PostStore.scan
    monkeypatch.setattr(PostStore, "scan", lambda *a, after, **k: (read.append(after), scan(*a, after=after, **k))[1])

    def deleted(number: int) -> object:
        with StatusNumbers(store.folder / "follow" / "numbers.db") as numbers:
            return numbers.resolve([Event(LocalDeletion(str(number)))], store, "https://m.example")[0].item

    assert deleted(1) == Deletion("post", uri(1)) and deleted(2) == Deletion("post", uri(2)) and read == [None]
    with store:
        store.append(posts_table([{"id": uri(7), **fields}, {"id": uri(8, "other.example"), **fields}]))
    assert deleted(7) == Deletion("post", uri(7)) and isinstance(deleted(8), Skipped) and read == [None, 3]


@pytest.mark.parametrize(
    ("stream", "path"),
    [
        ("public", "/api/v1/streaming/public"), ("public:local", "/api/v1/streaming/public/local"),
        ("hashtag:cats & dogs", "/api/v1/streaming/hashtag?tag=cats+%26+dogs"),
    ],
)  # fmt: skip
def test_every_stream_has_its_address(store: PostStore, stream: str, path: str) -> None:
    server = Mastodon([("update", status(1))])
    with server.server_events() as url:
        follow_until(MastodonStream(url, stream=stream), store, lambda: store.num_posts == 1)
    assert server.paths == [path]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_token_is_sent_and_kept_nowhere(store: PostStore, transport: str) -> None:
    with served(Mastodon([("update", status(1))], token="s3cret-token"), transport) as url:
        with pytest.raises(SourceError, match=r"401.*token"):
            follow(MastodonStream(url), store, config=QUICK)
        source = MastodonStream(url, token="s3cret-token")
        follow_until(source, store, lambda: store.num_posts == 1)
    assert "s3cret" not in repr(source) + json.dumps(dict(source.identity)) + source.place
    assert not any(b"s3cret" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("location", ["https://streaming.m.example/x", "wss://streaming.m.example/x"])
def test_a_redirect_is_named_and_not_followed(store: PostStore, transport: str, location: str) -> None:
    with (
        served(Mastodon([], redirect=location), transport) as url,
        pytest.raises(SourceError, match=r"streaming\.m\.example"),
    ):
        follow(MastodonStream(url), store, config=QUICK)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("https://h/api", {}, "server only"), ("ftp://h", {}, "not an address"), ("https://h", {"stream": "user"}, "--stream"),
        ("https://h", {"stream": "hashtag:"}, "--stream"), ("http://h.example", {"token": "t"}, "not encrypted"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused(url: str, options: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        MastodonStream(url, **options)


def test_a_post_is_stored_soon_after_it_came(store: PostStore) -> None:
    with Mastodon([("update", status(1))]).server_events() as url:
        summary = follow_until(MastodonStream(url), store, lambda: store.num_posts == 1, config=FollowConfig(for_s=20))
    assert summary.seconds < 2.5, "half a second of waiting for others, and the store"
