"""Importing: every record accounted for, nothing half-written, a killed import goes on where it was."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agora.errors import RecordError, SourceError, StoreError, UsageError
from agora.posts import importing
from agora.posts.importing import ImportSummary, import_posts
from agora.posts.sources import tables
from agora.posts.store import PostStore

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "posts"
REPOSITORY = FIXTURES.parent.parent.parent


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with PostStore.open(tmp_path / "store", create=True) as opened:
        yield opened


def ids(store: PostStore) -> list[str]:
    return sorted(value for batch in store.scan(columns=["id"]) for value in batch.column(0).to_pylist())


def lines_of(path: Path | None) -> list[dict[str, Any]]:
    assert path is not None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, numbers: range, *, at: str = "2020-01-01T00:00:00Z") -> Path:
    rows = [{"id": str(n), "author": f"a{n % 7}", "created_at": at, "text": f"post number {n}"} for n in numbers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(path: Path, store: PostStore, tmp_path: Path, **options: Any) -> ImportSummary:
    summary = import_posts(path, store, quarantine=tmp_path / "quarantine", **options)
    assert summary.accounted == summary.records, summary
    return summary


def test_all_fixtures_import_with_every_record_accounted_for(store: PostStore, tmp_path: Path) -> None:
    summary = run(FIXTURES, store, tmp_path)
    assert summary.posts > 40 and summary.deletions == 4
    assert summary.skipped["file not recognised"] == 1, "renamed.tsv needs a mapping"
    assert summary.duplicates == 2 + 3, "two tweets in both archives, the Reddit thread as listing and as cassette"
    entries = lines_of(summary.quarantine_file)
    assert len(entries) == sum(summary.quarantined.values()) > 0
    assert set(entries[0]) >= {"file", "place", "reason", "detail", "sha256", "size_bytes"}


def test_second_import_adds_nothing(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(50))
    assert run(path, store, tmp_path).posts == 50
    again = run(path, store, tmp_path)
    assert (again.posts, again.duplicates, store.num_posts) == (0, 50, 50)


def test_duplicates_inside_one_import_are_counted(store: PostStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", range(10))
    write_lines(folder / "b.jsonl", range(5, 15))
    summary = run(folder, store, tmp_path)
    assert (summary.posts, summary.duplicates, summary.files) == (15, 5, 2)


def test_broken_records_go_to_the_quarantine_file_and_the_rest_is_stored(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(3))
    latin = '{"id": "9", "author": "a", "created_at": "2020-01-01", "text": "café"}'.encode("latin-1")
    with path.open("ab") as file:
        file.write(b'{"id": "8", "author": "a", "created_at": "1970-01-01", "text": "epoch"}\n')
        file.write(
            b'{"id": "8", "author": "a", "created_at": "2970-01-01", "text": "far"}\n' + latin + b"\nnot json\n" + b"\0" * 64 + b"\n"
        )
        file.write(b'{"id": "7", "author": "a", "created_at": "2020-01-01", "text": "half \\ud83d and \\u0000"}\n')
    summary = run(path, store, tmp_path)
    assert summary.posts == 4
    assert summary.quarantined == {"time out of range": 2, "not UTF-8": 1, "invalid JSON": 1, "NUL bytes": 1}
    entries = lines_of(summary.quarantine_file)
    assert [entry["place"] for entry in entries] == ["line 4", "line 5", "line 6", "line 7", "line 8"]
    assert base64.b64decode(entries[2]["excerpt_base64"]) == latin
    assert entries[2]["sha256"] == hashlib.sha256(latin).hexdigest() and entries[3]["excerpt"] == "not json"
    texts = [text for batch in store.scan(columns=["text"]) for text in batch.column(0).to_pylist()]
    assert "half \ufffd and " in texts


def test_excerpt_is_cut_and_the_hash_is_of_the_whole(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(1))
    raw = b"x" * 100_000
    path.write_bytes(path.read_bytes() + raw + b"\n")
    (entry,) = lines_of(run(path, store, tmp_path).quarantine_file)
    assert len(entry["excerpt"]) == 2000 and entry["size_bytes"] == 100_000 and entry["sha256"] == hashlib.sha256(raw).hexdigest()


def test_strict_stops_at_the_first_and_names_file_and_place(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(3))
    path.write_text(path.read_text() + "oops\n")
    with pytest.raises(RecordError, match=r"a\.jsonl, line 4: invalid JSON"):
        run(path, store, tmp_path, strict=True)
    assert not list((tmp_path / "quarantine").glob("*.jsonl"))


def test_quarantine_file_of_an_earlier_import_disappears_when_the_file_is_repaired(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(3))
    good = path.read_text()
    path.write_text(good + "oops\n")
    first = run(path, store, tmp_path)
    path.write_text(good)
    assert run(path, store, tmp_path).quarantine_file is None
    assert first.quarantine_file is not None and not first.quarantine_file.exists()


def test_folder_without_anything_recognisable_says_what_was_tried(store: PostStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0 no posts")
    (folder / "notes.txt").write_text("Dear diary\n")
    with pytest.raises(SourceError, match=r"files seen: notes.txt, photo.jpg; tried: x_archive, .*table.*--source NAME.*--map") as caught:
        run(folder, store, tmp_path)
    assert "mastodon" in str(caught.value) and store.num_posts == 0


@pytest.mark.parametrize("content", [b"Dear diary", b"\xff\xfe\x00", b"[]", b"{}", b"\0" * 100, b"\x89PNG\r\n\x1a\n"])
def test_file_that_is_no_source_is_refused(store: PostStore, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(SourceError):
        run(tmp_path / "a", store, tmp_path)
    assert store.num_posts == 0


def test_empty_folder_and_empty_file_are_refused(store: PostStore, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for name, message in (("folder", "files seen: none"), ("file", "is empty")):
        with pytest.raises(SourceError, match=message):
            run(tmp_path / name, store, tmp_path)


def test_truncated_gzip_keeps_its_beginning_and_names_its_end(store: PostStore, tmp_path: Path) -> None:
    data = gzip.compress(write_lines(tmp_path / "a.jsonl", range(20_000)).read_bytes(), 1)
    (tmp_path / "b.jsonl.gz").write_bytes(data[: len(data) // 2])
    summary = run(tmp_path / "b.jsonl.gz", store, tmp_path)
    assert 1000 < summary.posts < 20_000
    assert summary.quarantined["truncated or damaged"] == 1
    assert lines_of(summary.quarantine_file)[-1]["place"] == f"after record {summary.records - 1}"


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b: 2.jsonl.gz"])
def test_a_file_of_which_nothing_can_be_read_is_an_error(store: PostStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(gzip.compress(b'{"id": "1"}')[:10] + b"\xff" * 40)
    with pytest.raises(SourceError):
        run(tmp_path / "in", store, tmp_path)


def test_archive_that_means_harm_stores_nothing(store: PostStore, tmp_path: Path) -> None:
    good = write_lines(tmp_path / "a.jsonl", range(5)).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", good)
        archive.writestr("../../evil.jsonl", good)
    with pytest.raises(SourceError, match="climbs out"):
        run(tmp_path / "a.zip", store, tmp_path)
    assert store.num_posts == 0


def test_one_bad_file_of_a_folder_does_not_stop_the_others(store: PostStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", range(5))
    (folder / "b.zip").write_bytes(b"PK\x03\x04 broken")
    (folder / "c.parquet").write_bytes(b"PAR1 broken")
    (folder / "d.jsonl").write_bytes(b"")
    (folder / "link.jsonl").symlink_to(folder / "a.jsonl")
    summary = run(folder, store, tmp_path)
    assert summary.posts == 5 and summary.skipped == {"empty file": 1}
    assert summary.quarantined == {"symbolic link": 1, "archive refused": 1, "damaged": 1}
    with pytest.raises(SourceError, match=r"link\.jsonl: symbolic link"):
        run(folder, store, tmp_path, strict=True)


def test_deletions_reach_the_store_and_hold(store: PostStore, tmp_path: Path) -> None:
    summary = run(FIXTURES / "bluesky_jetstream", store, tmp_path)
    assert (summary.posts, summary.deletions) == (4, 2)
    assert "at://did:plc:aaa/app.bsky.feed.post/p1" not in ids(store)
    assert {row["key"] for row in store.deletions().to_pylist()} == {"at://did:plc:aaa/app.bsky.feed.post/p1", "did:plc:gone"}
    again = run(FIXTURES / "bluesky_jetstream", store, tmp_path)
    assert (again.posts, again.deleted, again.duplicates) == (0, 1, 3)


def test_source_can_be_forced_and_unknown_ones_are_refused(store: PostStore, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(2))
    assert run(path, store, tmp_path, source="table").posts == 2
    with pytest.raises(UsageError, match=r"unknown source 'tabel'; did you mean 'table'"):
        run(path, store, tmp_path, source="tabel")
    assert run(path, store, tmp_path, source="x_archive").quarantined == {"invalid JSON": 1}


def test_mapping_belongs_to_tables(store: PostStore, tmp_path: Path) -> None:
    path = FIXTURES / "tables" / "renamed.tsv"
    mapping = {"number": "id", "who": "author", "when": "created_at", "words": "text"}
    assert run(path, store, tmp_path, mapping=mapping).posts == 1
    with pytest.raises(UsageError, match="--map is for tables"):
        run(path, store, tmp_path, mapping=mapping, source="reddit")


def test_parquet_with_the_schema_is_stored_as_it_is(store: PostStore, tmp_path: Path) -> None:
    run(FIXTURES / "mastodon", store, tmp_path)
    before = pa.Table.from_batches(list(store.scan())).sort_by("id")
    pq.write_table(before, tmp_path / "posts.parquet")
    with PostStore.open(tmp_path / "other", create=True) as other:
        run(tmp_path / "posts.parquet", other, tmp_path)
        after = pa.Table.from_batches(list(other.scan())).sort_by("id")
    assert after.drop_columns("source").equals(before.drop_columns("source"))


class Kill(BaseException):
    """Stands for the end of the process."""


def test_killed_import_goes_on_after_the_finished_files(store: PostStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(6):
        path = write_lines(folder / f"{number}.jsonl", range(number * 100, number * 100 + 100))
        path.write_text(path.read_text() + f"broken {number}\n")
    monkeypatch.setattr(importing, "BATCH_ROWS", 150)
    real, calls = store.append, 0

    def append(table: pa.Table) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Kill
        return real(table)

    monkeypatch.setattr(store, "append", append)
    with pytest.raises(Kill):
        run(folder, store, tmp_path)
    assert not list((tmp_path / "quarantine").glob("*.jsonl")), "the quarantine file appears when it is complete"
    monkeypatch.setattr(store, "append", real)
    summary = run(folder, store, tmp_path)
    assert summary.resumed_files == 3
    assert summary.records == 606 and summary.quarantined == {"invalid JSON": 6}
    assert [entry["excerpt"] for entry in lines_of(summary.quarantine_file)] == [f"broken {n}" for n in range(6)]
    assert len(ids(store)) == 600
    assert not (store.folder / "imports").exists()


def test_changed_file_is_read_again_after_a_kill(store: PostStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", range(10))
    write_lines(folder / "b.jsonl", range(10, 20))
    monkeypatch.setattr(importing, "BATCH_ROWS", 10)
    real, calls = store.append, 0

    def append(table: pa.Table) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise Kill
        return real(table)

    monkeypatch.setattr(store, "append", append)
    with pytest.raises(Kill):
        run(folder, store, tmp_path)
    monkeypatch.setattr(store, "append", real)
    write_lines(folder / "a.jsonl", range(5, 12))
    summary = import_posts(folder, store, quarantine=tmp_path / "quarantine")
    assert summary.resumed_files == 0 and len(ids(store)) == 20


def test_two_imports_of_one_path_at_once_are_refused(store: PostStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_lines(tmp_path / "a.jsonl", range(5))
    real = store.append

    def append(table: pa.Table) -> Any:
        with pytest.raises(StoreError, match="another import of the same path"):
            import_posts(path, store, quarantine=tmp_path / "quarantine")
        return real(table)

    monkeypatch.setattr(store, "append", append)
    assert run(path, store, tmp_path).posts == 5


@pytest.mark.slow
def test_kill_9_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        path = write_lines(folder / f"{number}.jsonl", range(number * 5000, number * 5000 + 5000))
        path.write_text(path.read_text() + f"broken {number}\n")
    code = (
        "import sys; from pathlib import Path; from agora.posts import importing; from agora.posts.store import PostStore\n"
        "importing.BATCH_ROWS = 2000; root = Path(sys.argv[1])\n"
        "with PostStore.open(root / 'store', create=True) as store:\n"
        "    print('start', flush=True); importing.import_posts(root / 'in', store, quarantine=root / 'quarantine')\n"
    )
    kills = 0
    for delay in (0.02, 0.1, 0.25, 0.5, 60.0):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        process.stdout.close()
        with PostStore.open(tmp_path / "store") as opened:
            assert opened.num_posts == len(set(ids(opened)))
        time.sleep(0.01)
    assert kills >= 2 and process.returncode == 0
    with PostStore.open(tmp_path / "store") as opened:
        assert ids(opened) == sorted(str(n) for n in range(20_000))
    (quarantined,) = (tmp_path / "quarantine").glob("*")
    assert [entry["excerpt"] for entry in lines_of(quarantined)] == [f"broken {n}" for n in range(4)]


def test_owner_that_cannot_be_found_is_a_warning(store: PostStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tweet = {"tweet": {"id_str": "1", "created_at": "Tue Mar 05 09:30:00 +0000 2024", "full_text": "alone", "entities": {}}}
    (tmp_path / "tweets.js").write_text("window.YTD.tweets.part0 = " + json.dumps([tweet]))
    with caplog.at_level(logging.WARNING, "agora"):
        run(tmp_path / "tweets.js", store, tmp_path)
    assert "does not say whose archive it is" in caplog.text


def test_reader_that_meets_an_unforeseen_shape_costs_one_file(store: PostStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        write_lines(folder / f"{name}.jsonl", range(3))
    real = importing.recognise

    def surprised(file: Any) -> Any:
        items = iter(tables.read(file))
        yield next(items)
        if file.name == "a.jsonl":
            raise TypeError("surprise")
        yield from items

    monkeypatch.setattr(importing, "recognise", lambda head: real(head) and replace(tables.SOURCE, read=surprised))
    summary = run(folder, store, tmp_path)
    assert (summary.posts, summary.duplicates, summary.quarantined) == (3, 1, {"unexpected shape": 1})
    (entry,) = lines_of(summary.quarantine_file)
    assert (entry["file"], entry["place"]) == ("a.jsonl", "after record 1") and "TypeError surprise" in entry["detail"]


@pytest.mark.parametrize("text", ['{"kind": "Listing", "data": {"children": 5}}', '{"kind": "Listing", "data": {}, "children": []}'])
def test_reddit_listing_without_children_is_quarantined(store: PostStore, tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    assert run(tmp_path / "r.json", store, tmp_path, source="reddit").quarantined == {"unexpected shape": 1}


def test_reddit_link_with_half_a_surrogate_is_stored(store: PostStore, tmp_path: Path) -> None:
    thing = {"name": "t3_1", "subreddit": "s", "author": "a", "created_utc": 1_600_000_000, "title": "t", "url": "https://a.example/\ud83d"}
    (tmp_path / "r.jsonl").write_text(json.dumps(thing) + "\n")
    assert run(tmp_path / "r.jsonl", store, tmp_path).posts == 1


def archive_of(path: Path, *members: tuple[str, int]) -> Path:
    tweet = {"created_at": "Tue Mar 05 09:30:00 +0000 2024", "full_text": "t", "entities": {}}
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, start in members:
            tweets = [{"tweet": {**tweet, "id_str": str(number)}} for number in range(start, start + 3)]
            archive.writestr(name, "window.YTD.tweets.part0 = " + json.dumps(tweets))
    return path


def test_two_members_of_one_name_are_both_imported(store: PostStore, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.zip", ("data/tweets.js", 0), ("data/tweets.js", 10))
    assert (run(path, store, tmp_path).posts, len(ids(store))) == (6, 6)


def test_damaged_account_file_is_a_warning(store: PostStore, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = archive_of(tmp_path / "a.zip", ("data/tweets.js", 0), ("data/account.js", 0))
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("data/account.js").header_offset
    data = bytearray(path.read_bytes())
    data[offset + 30 + len("data/account.js") + 5] ^= 0xFF
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "agora"):
        assert run(path, store, tmp_path).posts == 3
    assert "account.js beside it cannot be read" in caplog.text


def test_named_pipe_in_a_folder_is_named_and_never_opened(store: PostStore, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_lines(folder / "a.jsonl", range(2))
    os.mkfifo(folder / "pipe.jsonl")
    os.mkfifo(folder / "pipe.zip")
    summary = run(folder, store, tmp_path)
    assert (summary.posts, summary.quarantined) == (2, {"not a file": 2})
