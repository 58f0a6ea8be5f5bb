"""Every reader against small files of its own, written for these tests (tests/fixtures/posts)."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from agora.posts.schema import posts_table
from agora.posts.sources import SOURCES, activitypub, discourse, recognise, tables
from agora.posts.sources.files import SourceFile, open_files
from agora.posts.sources.plain_text import read_html
from agora.posts.sources.record import Broken, Deletion, Edit, Skipped

POST = "app.bsky.feed.post"
FIXTURES = Path(__file__).resolve().parent.parent.parent / "fixtures" / "posts"


def items_of(path: Path) -> list[tuple[str, str, Any]]:
    """(file, source, item) of everything under `path`, whose files must all be recognised."""
    found = []
    with open_files(path) as files:
        for file in files:
            assert isinstance(file, SourceFile), file
            source = recognise(file.head())
            assert source is not None, f"{file.name} is not recognised"
            found += [(file.name, source.name, item) for item in source.read(file)]
    return found


def rows_of(name: str) -> list[dict[str, Any]]:
    return [item for _, _, item in items_of(FIXTURES / name) if isinstance(item, dict)]


def others_of(name: str) -> list[Any]:
    return [item for _, _, item in items_of(FIXTURES / name) if not isinstance(item, dict)]


def when(row: dict[str, Any]) -> str:
    return datetime.fromtimestamp(row["created_at"] / 1e6, timezone.utc).isoformat()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("x_archive", "x_archive"), ("x_archive_with_account", "x_archive"), ("x_archive_old", "x_archive"), ("x_api_v2", "x_api_v2"),
        ("x_api_v11", "x_api_v11"), ("bluesky_jetstream", "bluesky_jetstream"), ("bluesky", "bluesky"), ("mastodon", "mastodon"),
        ("activitypub", "activitypub"), ("reddit", "reddit"), ("discourse", "discourse"), ("community_notes", "community_notes"),
        ("tables/posts.csv", "table"), ("tables/flat.jsonl", "table"),
    ],
)  # fmt: skip
def test_source_is_recognised_by_its_content(name: str, source: str) -> None:
    assert {found for _, found, _ in items_of(FIXTURES / name)} == {source}


def test_recognition_does_not_depend_on_the_file_name(tmp_path: Path) -> None:
    for path in sorted(FIXTURES.rglob("*.*")):
        if path.name in ("structure.json", "renamed.tsv"):
            continue
        copy = tmp_path / "anything"
        copy.write_bytes(path.read_bytes())
        with open_files(copy) as files:
            found = recognise(next(files).head())  # type: ignore[union-attr]
        assert found is not None and found.name in {name for _, name, _ in items_of(path)}, path


def test_every_row_fits_the_schema() -> None:
    rows = [row for folder in FIXTURES.iterdir() if folder.name != "tables" for row in rows_of(folder.name)]
    table = posts_table(rows)
    table.validate(full=True)
    assert table.num_rows == len(rows) > 30


def test_every_source_has_a_fixture() -> None:
    used = {name for folder in FIXTURES.iterdir() if folder.name != "tables" for _, name, _ in items_of(folder)} | {
        tables.SOURCE.name,
        "bluesky_repo",
    }
    assert used == {source.name for source in SOURCES}


def test_x_archive_fields() -> None:
    repost, reply, post, quote = rows_of("x_archive")
    assert post["text"] == "Heron at the weir #birds https://birds.example/heron"
    assert (post["id"], post["kind"], post["lang"], when(post)) == ("1001", "post", "en", "2024-03-05T09:30:00+00:00")
    assert post["urls"] == ["https://birds.example/heron"] and post["hashtags"] == ["birds"]
    assert post["media"] == [{"kind": "image", "url": "https://pbs.example/heron.jpg", "alt": "a grey heron"}]
    assert reply["text"] == "@marsh and two young ones & a nest"
    assert (reply["kind"], reply["ref_id"], reply["ref_author"], reply["mentions"]) == ("reply", "1001", "42", ["marsh"])
    assert (repost["kind"], repost["ref_author"], repost["text"]) == ("repost", "77", "Water is rising at the old mill")
    assert (quote["kind"], quote["ref_id"], quote["ref_author"], quote["lang"]) == ("quote", "900", "riverwatch", None)


def test_owner_of_an_x_archive_is_found_in_answers_to_himself() -> None:
    assert {row["author"] for row in rows_of("x_archive")} == {"42"}


def test_owner_of_an_x_archive_is_read_from_account_js() -> None:
    assert {row["author"] for row in rows_of("x_archive_with_account")} == {"4242"}


def test_deleted_tweets_of_an_x_archive_become_deletions() -> None:
    assert Deletion("post", "1004") in others_of("x_archive_with_account")


def test_monthly_archive_takes_the_full_text_of_a_repost() -> None:
    repost, post = rows_of("x_archive_old")
    assert repost["text"] == "The ferry is back in service, and it is blue: http://harbour.example/ferry"
    assert (repost["kind"], repost["ref_id"], repost["ref_author"], repost["author"]) == ("repost", "300", "55", "42")
    assert when(repost) == "2014-03-02T17:30:00+00:00"
    assert post["text"] == "Fog < 50 m" and post["media"][0]["kind"] == "image"


def test_x_api_v2_pages() -> None:
    rows = {row["id"]: row for row in rows_of("x_api_v2/page.jsonl")}
    assert set(rows) == {"11", "12", "13"}, "tweets of `includes` are context, not posts"
    assert rows["11"]["text"] == "Long walk along the canal and then soup #walks"
    assert (rows["11"]["kind"], rows["11"]["ref_id"], rows["11"]["ref_author"]) == ("repost", "10", "2")
    assert (rows["12"]["kind"], rows["12"]["ref_author"], rows["12"]["text"]) == ("reply", "2", "@lena which bank?")
    assert rows["12"]["media"] == [{"kind": "image", "url": "https://pbs.example/canal.jpg", "alt": "two swans"}]
    assert rows["13"]["text"] == "A text that is longer than the short form > 280 #walks https://canal.example/map?full=1"
    assert rows["13"]["lang"] is None and rows["13"]["hashtags"] == ["walks"]
    broken, empty = others_of("x_api_v2/page.jsonl")
    assert (broken.reason, broken.place) == ("no time", "line 1, data item 3") and empty == Skipped("page without posts")


def test_x_api_v2_stream_goes_on_after_errors_and_broken_lines() -> None:
    assert [row["id"] for row in rows_of("x_api_v2/stream.jsonl")] == ["21", "23"]
    message, broken = others_of("x_api_v2/stream.jsonl")
    assert message == Skipped("API error message")
    assert (broken.reason, broken.place, broken.excerpt) == (
        "invalid JSON",
        "line 3",
        b'{"data": {"id": "22", "author_id": "5", "text": "cut off he',
    )


def test_x_api_v2_flattened_lines_and_counts() -> None:
    (row,) = rows_of("x_api_v2/flat.jsonl")
    assert (row["author"], row["kind"], row["ref_id"], row["ref_author"]) == ("6", "reply", "30", "7")
    assert others_of("x_api_v2/counts.jsonl") == [Skipped("count of posts, not a post")] * 2


def test_x_api_v11_thread_folder() -> None:
    reply, source = rows_of("x_api_v11")
    assert reply["text"] == "@cityroads both lanes? A longer text that the short form cuts"
    assert (reply["kind"], reply["ref_id"], reply["ref_author"], reply["author"]) == ("reply", "500", "8", "9")
    assert (source["kind"], source["author"], when(source)) == ("post", "8", "2018-01-10T11:07:51+00:00")


def test_jetstream_events() -> None:
    post, reply, quote, repost = rows_of("bluesky_jetstream")
    assert post["id"] == "at://did:plc:aaa/app.bsky.feed.post/p1"
    assert post["text"] == "Ähm, see https://example.com/a/very/long/path #sea @bob", "a shortened link is whole again"
    assert (post["hashtags"], post["mentions"], post["lang"]) == (["sea"], ["did:plc:bob"], "en")
    assert post["media"][0]["alt"] == "waves" and "bafyimg" in post["media"][0]["url"]
    assert (reply["kind"], reply["ref_id"], reply["ref_author"]) == ("reply", "at://did:plc:bbb/app.bsky.feed.post/p9", "did:plc:bbb")
    assert when(reply).startswith("2026-07-04"), "a claim later than the event does not count"
    assert (quote["kind"], quote["ref_author"], quote["urls"]) == ("quote", "did:plc:ccc", ["https://news.example/x"])
    assert (repost["kind"], repost["text"], repost["ref_id"]) == ("repost", "", "at://did:plc:bbb/app.bsky.feed.post/p9")


def test_jetstream_deletions_and_other_events() -> None:
    others = others_of("bluesky_jetstream")
    assert Deletion("post", "at://did:plc:aaa/app.bsky.feed.post/p1") in others
    assert [item for item in others if isinstance(item, Deletion) and item.kind == "author"] == [Deletion("author", "did:plc:gone")]
    assert {item.reason for item in others if isinstance(item, Skipped)} == {
        "like (create)", "identity event", "account event (deactivated)",
    }  # fmt: skip
    assert [(item.row["id"], item.row["text"], item.revision) for item in others if isinstance(item, Edit)] == [
        ("at://did:plc:aaa/app.bsky.feed.post/p3", "edited", "x")
    ]
    assert [item.place for item in others if isinstance(item, Broken)] == ["line 11"]


def test_bluesky_feed() -> None:
    post, repost = rows_of("bluesky")
    assert (post["author"], post["text"], post["kind"]) == ("did:plc:a", "first light", "post")
    assert (repost["kind"], repost["author"], repost["ref_author"], repost["text"]) == (
        "repost",
        "did:plc:a",
        "did:plc:b",
        "repeated words",
    )


def test_mastodon_outbox_with_the_list_named_twice() -> None:
    post, reply, repost = rows_of("mastodon/outbox.json")
    assert post["text"] == "food\n\nLine one\nline <two>\n\nhttps://long.example/path/to #tea"
    assert (post["urls"], post["hashtags"], post["lang"]) == (["https://long.example/path/to"], ["tea"], "en")
    assert post["media"] == [{"kind": "image", "url": "/files/1.png", "alt": "a cup"}]
    assert (reply["text"], reply["mentions"], reply["ref_author"]) == ("@zoe yes", ["zoe@far.example"], "https://far.example/users/zoe")
    assert (repost["kind"], repost["ref_author"]) == ("repost", "https://far.example/users/zoe")
    assert others_of("mastodon/outbox.json") == [Skipped("not public (direct or followers only)")]


def test_mastodon_statuses_use_the_same_identities_as_the_outbox() -> None:
    poll, own, answer, repost = rows_of("mastodon/statuses.json")
    assert (poll["id"], poll["author"]) == ("https://town.example/users/mo/statuses/101", "https://town.example/users/mo")
    assert poll["text"] == "Poll & tea\n\n- green\n- black" and poll["hashtags"] == ["tea"]
    assert (own["ref_id"], own["ref_author"]) == (poll["id"], poll["author"])
    assert (answer["ref_id"], answer["ref_author"]) == ("https://town.example/api/v1/statuses/555", "https://far.example/users/zoe")
    assert (repost["kind"], repost["ref_id"], repost["text"]) == ("repost", "https://far.example/users/zoe/statuses/99", "original words")
    assert others_of("mastodon/statuses.json") == [Skipped("not public (direct or followers only)")]


def test_mastodon_cassette() -> None:
    (row,) = rows_of("mastodon/cassette.yaml")
    assert row["text"] == "It's a long body that the recorder folds over several lines"
    assert others_of("mastodon/cassette.yaml") == [Skipped("answer without a status"), Deletion("post", row["id"])]


def test_activitypub_article_and_question() -> None:
    article, question = rows_of("activitypub")
    assert article["text"] == "On moss\n\nSoft & green.\n- one\n- two"
    assert (article["author"], article["kind"], article["ref_author"]) == ("https://blog.example/me", "reply", "https://other.example/you")
    assert when(article) == "2022-02-02T00:02:02+00:00" and article["media"][0]["url"] == "https://blog.example/moss.jpg"
    assert question["text"] == "Tea?\n\n- yes\n- no"


def test_reddit_tree_dump_and_cassette() -> None:
    submission, first, second = rows_of("reddit/thread.json")
    assert submission["text"] == "Which rose?\n\nSee https://roses.example/1 & tell me, u/bert"
    assert (submission["id"], submission["mentions"], submission["urls"]) == ("t3_s1", ["bert"], ["https://roses.example/1"])
    assert (first["kind"], first["ref_id"], first["ref_author"]) == ("reply", "t3_s1", "ann")
    assert (second["ref_id"], second["ref_author"]) == ("t1_c1", "bert")
    assert [item.reason for item in others_of("reddit/thread.json")] == [
        "'more' placeholder (comments not loaded)", "deleted by its author or removed",
    ]  # fmt: skip
    picture, comment = rows_of("reddit/dump.jsonl")
    assert (picture["id"], picture["media"][0]["kind"], comment["id"], comment["ref_id"]) == ("t3_s9", "image", "t1_c9", "t3_s9")
    recorded = rows_of("reddit/cassette.json")
    assert [row["id"] for row in recorded] == [row["id"] for row in (submission, first, second)]
    assert recorded[0]["text"].endswith("&amp; tell me, u/bert"), "raw_json=1 answers are not escaped, so nothing is unescaped"


def test_discourse_topic() -> None:
    first, second, third = rows_of("discourse/topic.json")
    assert first["text"] == "Bees in May\n\nHello :wave:\n\nSee here @lou"
    assert (first["id"], first["urls"], first["mentions"]) == ("t/bees/57/1", ["https://bees.example"], ["lou"])
    assert first["media"] == [{"kind": "image", "url": "//cdn.example/bee.jpg", "alt": None}]
    assert (second["kind"], second["ref_id"], second["ref_author"]) == ("reply", "t/bees/57/1", "kit")
    assert (third["ref_id"], third["ref_author"]) == ("t/bees/57/2", "lou")
    assert others_of("discourse/latest.json") == [Skipped("topic without the text of its posts", 2)]


def test_community_notes_are_counted_and_hold_no_posts() -> None:
    assert others_of("community_notes") == [Skipped("Community Notes enrolment row (holds no post)", 2)]


def test_csv_rows() -> None:
    first, second = rows_of("tables/posts.csv")
    assert (first["text"], first["hashtags"], first["ref_id"]) == ('Hello, "world"', ["greeting"], None)
    assert (second["text"], second["urls"]) == ("two\nlines", ["https://a.example", "https://b.example"])
    assert (second["ref_id"], second["ref_author"], second["lang"]) == ("1", "ann", None)


def test_json_lines_with_usual_names() -> None:
    (row,) = rows_of("tables/flat.jsonl")
    assert (row["id"], row["author"], row["text"], when(row)) == ("5", "dee", "by its usual names", "2020-01-01T00:00:00+00:00")
    assert [item.reason for item in others_of("tables/flat.jsonl")] == ["time not understood"]


def test_mapped_columns() -> None:
    mapping = {"number": "id", "who": "author", "when": "created_at", "words": "text"}
    with open_files(FIXTURES / "tables" / "renamed.tsv") as files:
        file = next(files)
        assert isinstance(file, SourceFile) and recognise(file.head()) is None
        assert tables.source_with(mapping).recognise(file.head())
        (row,) = tables.read(file, mapping)
    assert isinstance(row, dict) and (row["id"], row["text"]) == ("7", "mapped by name")
    assert not isinstance(row, pa.Table)


def test_quoted_words_of_others_are_not_the_authors() -> None:
    inner = '<aside class="quote"><p>deeper</p></aside>'
    quote = f'<aside class="quote no-group" data-username="lou"><div>lou:</div><blockquote>theirs{inner}more</blockquote></aside>'
    cooked = f'<p>before</p>{quote}<p>mine</p><aside class="onebox"><p>card</p></aside>{quote}'
    assert read_html(discourse._without_quotes(cooked)).text == "before\n\nmine\n\ncard"


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("x_api_v11", {"delete": {"status": {"id_str": None}}}),
        ("bluesky_jetstream", {"did": None, "kind": "account", "account": {"active": False, "status": "deleted"}}),
        (
            "bluesky_jetstream",
            {"did": "did:plc:a", "kind": "commit", "commit": {"collection": "app.bsky.feed.post", "operation": "delete", "rkey": None}},
        ),
        ("activitypub", {"type": "Delete", "actor": "https://x.example/a", "object": {"id": 5}}),
    ],
)
def test_deletion_that_names_nothing_is_broken(tmp_path: Path, name: str, event: dict[str, Any]) -> None:
    (tmp_path / "events.jsonl").write_text(json.dumps(event) + "\n")
    source = next(source for source in SOURCES if source.name == name)
    with open_files(tmp_path / "events.jsonl") as files:
        (item,) = (item for file in files if isinstance(file, SourceFile) for item in source.read(file))
    assert isinstance(item, Broken) and item.reason in ("no id", "no author")


def test_tag_without_a_name_is_no_hashtag() -> None:
    tags = [{"type": "Hashtag", "name": None}, {"type": "Hashtag"}, {"type": "Hashtag", "name": "#one"}]
    note = {"type": "Note", "id": "https://x.example/1", "attributedTo": "https://x.example/a", "published": "2024-01-01T00:00:00Z"}
    item = activitypub.activity_to_item({**note, "content": "hi", "tag": tags}, "activitypub")
    assert isinstance(item, dict) and item["hashtags"] == ["one"]
