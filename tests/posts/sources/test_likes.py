"""Likes: as the source states them, null where it does not, and no post is lost for a count that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.posts.schema import posts_table
from agora.posts.sources import recognise
from agora.posts.sources.files import SourceFile, open_files
from agora.posts.sources.mastodon import status_to_item
from agora.posts.sources.record import whole_number
from agora.posts.sources.x_tweet import tweet_to_post

DID = "did:plc:aaaa"
RECORD = {"$type": "app.bsky.feed.post", "text": "words", "createdAt": "2024-03-05T09:30:00Z"}
TWEET = {"id_str": "1", "user": {"id_str": "2", "screen_name": "ann"}, "created_at": "Tue Mar 05 09:30:00 +0000 2024", "text": "words"}
TWEET_V2 = {"id": "1", "author_id": "2", "created_at": "2024-03-05T09:30:00Z", "text": "words"}
STATUS = {
    "id": "1", "uri": "https://m.example/users/ann/statuses/1", "visibility": "public", "spoiler_text": "", "content": "<p>words</p>",
    "created_at": "2024-03-05T09:30:00Z", "account": {"id": "2", "uri": "https://m.example/users/ann"},
}  # fmt: skip
COMMENT = {"name": "t1_a", "author": "ann", "subreddit": "x", "created_utc": 1_700_000_000, "body": "words", "parent_id": "t3_b"}
TABLE = {"id": "1", "author": "ann", "created_at": "2024-03-05T09:30:00Z", "text": "words"}
FORUM = {
    "id": 1,
    "username": "ann",
    "cooked": "<p>words</p>",
    "post_number": 2,
    "topic_id": 3,
    "topic_slug": "s",
    "created_at": "2024-03-05",
}
NOTE = {
    "@context": "https://www.w3.org/ns/activitystreams", "type": "Note", "id": "https://m.example/1", "content": "words",
    "attributedTo": "https://m.example/users/ann", "published": "2024-03-05T09:30:00Z",
}  # fmt: skip


def rows_of(path: Path) -> list[dict[str, Any]]:
    with open_files(path) as files:
        (file,) = files
        assert isinstance(file, SourceFile)
        source = recognise(file.head())
        assert source is not None
        items = list(source.read(file))
    rows = [row for item in items if isinstance(item, pa.Table) for row in item.to_pylist()]
    return rows + [item for item in items if isinstance(item, dict)]


@pytest.mark.parametrize(
    ("value", "likes"),
    [
        ({**TWEET, "favorite_count": "12"}, 12),
        (TWEET, None),
        (
            {
                "data": [
                    {"id": "1", "author_id": "2", "created_at": "2024-03-05T09:30:00Z", "text": "w", "public_metrics": {"like_count": 3}}
                ]
            },
            3,
        ),
        ({**STATUS, "favourites_count": 4}, 4),
        (STATUS, None),
        ({**COMMENT, "score": -5}, -5),
        ({**COMMENT, "score": 1, "score_hidden": True}, None),
        ({**FORUM, "actions_summary": [{"id": 3, "count": 9}, {"id": 2, "count": 6}]}, 6),
        ({**FORUM, "actions_summary": []}, 0),
        (FORUM, None),
        ({"posts": [{"uri": f"at://{DID}/app.bsky.feed.post/1", "author": {"did": DID}, "record": RECORD, "likeCount": 8}]}, 8),
        ({**RECORD, "uri": f"at://{DID}/app.bsky.feed.post/1", "did": DID}, None),
        ({**NOTE, "likes": {"type": "Collection", "totalItems": 2}}, 2),
        ({**NOTE, "likes": "https://m.example/1/likes"}, None),
        ({**TABLE, "likes": 11}, 11),
        ({**TABLE, "favorite_count": "11.0"}, 11),
        ({**TABLE, "likes": "many"}, None),
        ({**TABLE, "likes": 5, "kind": "repost"}, None),
    ],
)
def test_likes_are_what_the_source_states(tmp_path: Path, value: dict[str, Any], likes: int | None) -> None:
    path = tmp_path / "posts.json"
    path.write_text(json.dumps(value))
    (row,) = rows_of(path)
    assert row["num_likes"] == likes
    assert posts_table([row])["num_likes"].to_pylist() == [likes]


def test_a_repost_has_no_likes_of_its_own() -> None:
    original = {**TWEET, "id_str": "0", "favorite_count": 90}
    assert tweet_to_post({**TWEET, "retweeted_status": original, "favorite_count": 90}, source="x")["num_likes"] is None
    boost = status_to_item({**STATUS, "favourites_count": 90, "reblog": {**STATUS, "uri": "https://m.example/2"}})
    assert isinstance(boost, dict) and boost["num_likes"] is None


COLUMNS = [
    pa.array([1, None, -3, 7], pa.int32()), pa.array([1.0, float("nan"), 2.5, 7.0]), pa.array(["12", None, "x", "7"]),
    pa.array([1, 2, 3, 2**63], pa.uint64()), pa.nulls(4),
]  # fmt: skip


@pytest.mark.parametrize("likes", COLUMNS, ids=lambda array: str(array.type))
def test_likes_of_a_parquet_column_are_those_of_its_values_one_by_one(tmp_path: Path, likes: pa.Array) -> None:
    base = {name: [value] * 4 for name, value in TABLE.items()} | {"id": list("abcd"), "kind": ["post", "reply", "post", "repost"]}
    pq.write_table(pa.table(base).append_column("like_count", likes), tmp_path / "posts.parquet")
    rows = {row["id"]: row["num_likes"] for row in rows_of(tmp_path / "posts.parquet")}
    values = dict(zip("abcd", map(whole_number, likes.to_pylist()), strict=True))
    assert rows == {**values, "d": None}


def test_a_count_beyond_64_bits_or_of_another_kind_is_none() -> None:
    assert [whole_number(value) for value in (2**63, True, 1.5, "1e3", [], "9" * 20, float("inf"))] == [None] * 7
    assert [whole_number(value) for value in (0, 3.0, "4", "-2", 2**63 - 1)] == [0, 3, 4, -2, 2**63 - 1]
