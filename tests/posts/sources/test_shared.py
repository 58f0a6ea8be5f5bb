"""Everything of the development data, counted independently of the readers. Skipped, saying so, where that data is absent."""

from __future__ import annotations

import gzip
import html
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from agora.posts.importing import import_posts
from agora.posts.sources import recognise
from agora.posts.sources.files import SourceFile, open_files
from agora.posts.sources.record import Broken, Skipped
from agora.posts.store import PostStore

pytestmark = pytest.mark.shared


def items_of(path: Path) -> list[Any]:
    found = []
    with open_files(path) as files:
        for file in files:
            assert isinstance(file, SourceFile)
            source = recognise(file.head())
            found += list(source.read(file)) if source else []
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [item for item in items_of(path) if isinstance(item, dict)]


def text_of(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def array_of(path: Path) -> list[Any]:
    text = text_of(path)
    found: list[Any] = json.loads(text[text.index("[") :])
    return found


def test_raw_folder_is_accounted_for_record_by_record(shared_data: Path, tmp_path: Path) -> None:
    with PostStore.open(tmp_path / "store", create=True) as store:
        summary = import_posts(shared_data / "raw", store, quarantine=tmp_path / "quarantine")
        assert summary.accounted == summary.records
        assert summary.files == sum(1 for path in (shared_data / "raw").rglob("*") if path.is_file())
        assert summary.posts > 3900 and summary.skipped["file not recognised"] == 4
        assert set(summary.quarantined) == {"no time", "no author", "no id", "invalid JSON"}


@pytest.mark.parametrize("name", ["2013_05", "2015_05", "2016_11"])
def test_monthly_archive_fields(shared_data: Path, name: str) -> None:
    path = shared_data / "raw" / "x_archive_grailbird" / f"{name}.js"
    tweets, rows = array_of(path), rows_of(path)
    assert [row["id"] for row in rows] == [tweet["id_str"] for tweet in tweets]
    assert {row["author"] for row in rows} == {"8812362"}
    for tweet, row in zip(tweets, rows, strict=True):
        assert (row["kind"] == "repost") == tweet["text"].startswith("RT @")
        if "retweeted_status" in tweet:
            assert row["ref_id"] == tweet["retweeted_status"]["id_str"]
        assert row["mentions"] == [mention["screen_name"] for mention in tweet["entities"]["user_mentions"]]
        assert "&amp;" not in row["text"]


@pytest.mark.parametrize("name", ["tweets.js", "tweets_1758.js.gz"])
def test_archive_since_2019_fields(shared_data: Path, name: str) -> None:
    path = shared_data / "raw" / "x_archive_2022" / name
    tweets, rows = [entry["tweet"] for entry in array_of(path)], rows_of(path)
    assert [row["id"] for row in rows] == [tweet["id_str"] for tweet in tweets]
    for tweet, row in zip(tweets, rows, strict=True):
        short = {link["url"] for link in tweet["entities"]["urls"]} | {item["url"] for item in tweet["entities"].get("media", [])}
        assert not any(link in row["text"] for link in short), "every short link is expanded or removed"
        plain = html.unescape(re.sub(r"https://t\.co/\w+", "", tweet["full_text"]))
        if row["kind"] != "repost" and not short:
            assert row["text"] == plain.strip()
        assert len(row["media"]) == len(tweet.get("extended_entities", {}).get("media", []))


def test_owner_of_the_archive_is_the_one_its_answers_name(shared_data: Path) -> None:
    assert {row["author"] for row in rows_of(shared_data / "raw" / "x_archive_2022" / "tweets_1758.js.gz")} == {"5838832"}


@pytest.mark.parametrize("name", ["brexit.jsonl.gz", "noflat.jsonl.gz", "cashtags.jsonl", "mentions_tweet.jsonl"])
def test_api_v2_pages(shared_data: Path, name: str) -> None:
    path = shared_data / "raw" / "x_api_v2" / name
    pages = [json.loads(line) for line in text_of(path).splitlines()]
    tweets = [tweet for page in pages for tweet in page["data"]]
    authors = {tweet["id"]: tweet["author_id"] for page in pages for tweet in page.get("includes", {}).get("tweets", [])}
    rows = rows_of(path)
    assert [row["id"] for row in rows] == [tweet["id"] for tweet in tweets]
    for tweet, row in zip(tweets, rows, strict=True):
        references = {ref["type"]: ref["id"] for ref in tweet.get("referenced_tweets", [])}
        assert (row["kind"] == "repost") == ("retweeted" in references)
        assert row["ref_author"] == authors[row["ref_id"]] if row["ref_id"] in authors else True
        assert "t.co/" not in row["text"] or row["text"].endswith("…")


def test_api_v2_stream_and_counts(shared_data: Path) -> None:
    folder = shared_data / "raw" / "x_api_v2"
    lines = text_of(folder / "streaming_output_with_error.jsonl").splitlines()
    found = items_of(folder / "streaming_output_with_error.jsonl")
    assert len(found) == len(lines) and sum(isinstance(item, dict) for item in found) == 7
    assert [item.place for item in found if isinstance(item, Broken)] == ["line 8"]
    counts = json.loads(text_of(folder / "counts.jsonl"))["data"]
    assert items_of(folder / "counts.jsonl") == [Skipped("count of posts, not a post")] * len(counts)


def test_api_v11_thread(shared_data: Path) -> None:
    folder = shared_data / "raw" / "x_api_v11_thread"
    tweets = {path.stem: json.loads(path.read_text()) for path in folder.rglob("*.json") if path.name != "structure.json"}
    rows = {row["id"]: row for row in rows_of(folder)}
    assert set(rows) == set(tweets)
    assert {row["ref_id"] for row in rows.values()} == {tweet["in_reply_to_status_id_str"] for tweet in tweets.values()}


def test_jetstream_events(shared_data: Path) -> None:
    path = shared_data / "raw" / "bluesky_jetstream" / "expected_v1.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    created = Counter(e["commit"]["collection"] for e in events if e["kind"] == "commit" and e["commit"]["operation"] == "create")
    rows = rows_of(path)
    assert len(items_of(path)) == len(events) == 152
    assert sum(row["kind"] == "repost" for row in rows) == created["app.bsky.feed.repost"] == 15
    assert sum(row["kind"] != "repost" for row in rows) == created["app.bsky.feed.post"] == 17


def test_mastodon_outbox(shared_data: Path) -> None:
    path = shared_data / "raw" / "mastodon_export" / "outbox.json.gz"
    entries = json.loads(text_of(path))["orderedItems"]
    public = [e for e in entries if "https://www.w3.org/ns/activitystreams#Public" in [*e["to"], *e["cc"]]]
    rows = rows_of(path)
    assert len(entries) == 1586 and len(items_of(path)) == 1586
    assert [row["id"] for row in rows] == [e["id"] if e["type"] == "Announce" else e["object"]["id"] for e in public]
    replies = [e for e in public if e["type"] == "Create" and e["object"]["inReplyTo"]]
    assert sum(row["kind"] == "reply" for row in rows) == len(replies)
    assert not any(re.search(r"</?(p|br|a|span)\b|&(amp|lt|quot|#39);", row["text"]) for row in rows)
    assert sum(len(row["media"]) for row in rows) == sum(len(e["object"]["attachment"]) for e in public if e["type"] == "Create")


def test_reddit_answers(shared_data: Path) -> None:
    folder = shared_data / "raw" / "reddit_api"
    for path in sorted(folder.iterdir()):
        answers = [entry["response"]["body"]["string"] for entry in json.loads(path.read_text())["interactions"]]
        names = [name for answer in answers for name in re.findall(r'"name": "(t[13]_\w+)"', answer)]
        assert sorted(row["id"] for row in rows_of(path)) == sorted(names), path.name


def test_discourse_topic(shared_data: Path) -> None:
    path = shared_data / "raw" / "discourse" / "topic.json"
    posts = json.loads(path.read_text())["post_stream"]["posts"]
    rows = rows_of(path)
    assert [row["author"] for row in rows] == [post["username"] for post in posts if post["post_type"] == 1]
    assert all((row["text"] or row["media"]) and "<" not in row["text"] for row in rows)


def test_tables_import_unchanged(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "posts" / "gop_debate_2015.parquet"
    with PostStore.open(tmp_path / "store", create=True) as store:
        summary = import_posts(path, store, quarantine=tmp_path / "quarantine")
        assert summary.posts == summary.records == pq.read_metadata(path).num_rows
        columns = ["id", "author", "created_at", "text", "lang", "kind", "ref_id", "ref_author", "urls", "hashtags"]
        stored = sorted((row for batch in store.scan(columns=columns) for row in batch.to_pylist()), key=lambda row: str(row["id"]))
    expected = sorted(pq.read_table(path, columns=columns).to_pylist(), key=lambda row: str(row["id"]))
    assert stored == expected
