"""The post store: idempotent, durable deletions, whole after kill -9, readable while written, damage named."""

from __future__ import annotations

import errno
import gc
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agora.errors import StoreError, UsageError
from agora.posts import incoming, lance_tables, migrations, sealing
from agora.posts import store as store_module
from agora.posts.schema import POST_SCHEMA, posts_table
from agora.posts.store import PostStore


def table(*names: str, author: str = "ann", **fields: Any) -> pa.Table:
    """Posts whose ids are `names` (an id as `id@author` names its author)."""
    rows = []
    for name in names:
        key, _, who = name.partition("@")
        rows.append(
            {
                "id": key, "author": who or author, "created_at": 1_700_000_000_000_000, "text": f"text of {key}", "kind": "post",
                "source": "test", **fields,
            }
        )  # fmt: skip
    return posts_table(rows)


def ids(store: PostStore) -> list[str]:
    return [key for batch in store.scan(columns=["id"]) for key in batch.column(0).to_pylist()]


@pytest.fixture
def store(tmp_path: Path) -> PostStore:
    return PostStore.open(tmp_path / "posts", create=True)


def test_posts_come_back_as_they_went_in(store: PostStore) -> None:
    media = [{"kind": "image", "url": "v", "alt": None}]
    lists = {"urls": ["u"], "hashtags": ["h", "g"], "mentions": ["b"], "media": media}
    full = table("1", text="x\x00 \U0001f600 'quoted'", kind="reply", ref_id="0", lang="de", **lists)
    posts = pa.concat_tables([full, table("it's", text="")])
    store.append(posts)
    assert pa.Table.from_batches(store.scan()).equals(posts)
    assert next(store.scan()).schema.equals(POST_SCHEMA, check_metadata=True)


def test_scan_reads_only_the_columns_asked_for(store: PostStore) -> None:
    store.append(table("1", "2", "3"))
    batches = list(store.scan(columns=["text", "id"], batch_rows=2))
    assert [batch.schema.names for batch in batches] == [["text", "id"]] * 2
    assert [batch.num_rows for batch in batches] == [2, 1]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.text("abc'%", min_size=1, max_size=2), max_size=8), max_size=5))
def test_appending_again_changes_nothing(tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]]) -> None:
    store = PostStore.open(tmp_path_factory.mktemp("store") / "posts", create=True)
    seen: list[str] = []
    for batch in [*batches, *batches]:
        fresh = [key for key in dict.fromkeys(batch) if key not in seen]
        result = store.append(posts_table([{**row, "id": key} for key in batch for row in table("x").to_pylist()]))
        assert (result.appended, result.duplicates) == (len(fresh), len(batch) - len(fresh))
        seen += fresh
    assert ids(store) == seen
    assert store.num_posts == len(seen)


def test_version_moves_only_when_something_changed(store: PostStore) -> None:
    versions = [store.version]
    for change in (lambda: store.append(table("1")), lambda: store.delete_posts(["9"]), lambda: store.delete_authors(["ann"])):
        change()
        versions.append(store.version)
        change()
        assert store.version == versions[-1]
    assert versions == sorted(set(versions))


def test_deleted_posts_and_authors_do_not_come_back(store: PostStore) -> None:
    posts = table("1@ann", "2@bob", "3@bob", "4@eve")
    store.append(posts)
    assert store.delete_posts(["4", "9"]) == 1
    assert store.delete_authors(["bob", "zoe"]) == 2
    result = store.append(pa.concat_tables([posts, table("5@bob", "9", "6@zoe", "7")]))
    assert (result.appended, result.duplicates, result.deleted) == (1, 1, 6)
    assert ids(store) == ["1", "7"]
    assert [(row["kind"], row["key"]) for row in store.deletions().to_pylist()] == [
        ("post", "4"), ("post", "9"), ("author", "bob"), ("author", "zoe"),
    ]  # fmt: skip


def test_reposts_of_deleted_words_go_too(store: PostStore) -> None:
    repost = table("2@bob", kind="repost", ref_id="1", ref_author="ann")
    reply = table("3@bob", kind="reply", ref_id="1", ref_author="ann")
    store.append(pa.concat_tables([table("1@ann"), repost, reply]))
    assert store.delete_authors(["ann"]) == 2
    assert store.append(repost).deleted == 1
    assert ids(store) == ["3"]


def test_deletion_reaches_the_dataframe(store: PostStore) -> None:
    store.append(table("1@ann", "2@bob"))
    frame = store.to_daft()
    store.delete_authors(["ann"])
    assert frame.where(frame["author"] != "eve").select("id").to_pydict() == {"id": ["2"]}
    assert frame.count_rows() == 1
    assert frame.schema().column_names() == POST_SCHEMA.names


def test_empty_store_scans_as_empty(store: PostStore) -> None:
    assert list(store.scan()) == []
    assert store.to_daft().count_rows() == 0
    store.compact()
    assert store.num_posts == 0


def test_compaction_removes_deleted_words_from_the_disk(store: PostStore) -> None:
    words = {"1": b"verysecretword", "2": b"publicword"}
    rows = [{**table(key).to_pylist()[0], "text": word.decode()} for key, word in words.items()]
    store.append(posts_table(rows))
    store.append(table(*(f"n{i}" for i in range(300))))
    store.delete_posts(["1"])
    version = store.version
    store.compact()
    on_disk = b"".join(path.read_bytes() for path in store.folder.rglob("*") if path.is_file())
    assert words["2"] in on_disk  # so that the next line means something
    assert words["1"] not in on_disk
    assert (store.version, store.num_posts) == (version, 301)
    store.close()
    again = PostStore.open(store.folder)
    assert again.append(table("1", "n5", "new")).appended == 1
    assert again.verify() > 0


def test_compaction_waits_for_no_reader(store: PostStore) -> None:
    store.append(table("1", "2"))
    reader = PostStore.open(store.folder).scan(batch_rows=1)
    next(reader)
    with pytest.raises(StoreError, match="is being read"):
        store.compact()
    reader.close()
    store.compact()


def test_reader_sees_one_state_while_a_writer_appends_and_maintains(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.posts.store._MAINTENANCE_COMMITS", 3)
    store.append(table(*(f"a{i}" for i in range(50))))
    reader = PostStore.open(store.folder).scan(columns=["id"], batch_rows=10)
    seen = next(reader).column(0).to_pylist()
    for step in range(7):
        store.append(table(f"b{step}"))
    store.delete_posts(["a49"])
    for batch in reader:
        seen += batch.column(0).to_pylist()
    assert seen == [f"a{i}" for i in range(50)]
    assert store.num_posts == 56
    for step in range(4):  # no reader left: maintenance now also removes old files
        store.append(table(f"c{step}"))
    assert len(ids(PostStore.open(store.folder))) == 60
    assert store.append(table("b3", "c1")).duplicates == 2


def test_second_writer_is_refused_until_the_first_closes(store: PostStore) -> None:
    store.append(table("1"))
    second = PostStore.open(store.folder)
    with pytest.raises(StoreError, match=r"is being written by process \d+"):
        second.append(table("2"))
    assert second.num_posts == 1
    store.close()
    assert second.append(table("2")).appended == 1


def test_failed_append_leaves_nothing(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(table("1"))
    monkeypatch.setattr("agora.posts.store._MERGE_ROWS", 2)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch, pytest.raises(StoreError, match="disk full"):
        patch.setattr(sealing, "write_head", fail)
        store.append(table("2", "3", "4"))
    assert ids(store) == ["1"]
    assert store.append(table("4", "5")).appended == 2
    assert ids(store) == ["1", "4", "5"]


@pytest.mark.parametrize("column", ["media", "text"])
def test_table_without_a_column_is_refused(store: PostStore, column: str) -> None:
    with pytest.raises(StoreError, match=f"lack the columns {column}"):
        store.append(table("1").drop_columns([column]))


def test_null_in_a_required_field_is_refused(store: PostStore) -> None:
    schema = pa.schema([field.with_nullable(True) for field in POST_SCHEMA])
    with pytest.raises(StoreError, match="'text'"):
        store.append(pa.Table.from_pylist([{**table("1").to_pylist()[0], "text": None}], schema=schema))


def test_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no post store at"):
        PostStore.open(tmp_path / "none")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("mine")
    with pytest.raises(StoreError, match="is not a post store"):
        PostStore.open(tmp_path / "other", create=True)
    assert (tmp_path / "other" / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("pattern", ["head.json", "*/data/*.lance", "posts_2*/_versions/*.manifest", "*/_indices/*/*"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "flip", "gone"])
def test_damaged_file_is_named(store: PostStore, pattern: str, damage: str) -> None:
    store.append(table(*(f"{i}" for i in range(100))))
    store.compact()
    victim = sorted(store.folder.glob(pattern))[0]
    raw = bytearray(victim.read_bytes())
    store.close()
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(raw[: len(raw) // 2])
    elif damage == "zeros":
        victim.write_bytes(bytes(len(raw)))
    else:
        raw[len(raw) // 2 if pattern != "head.json" else 0] ^= 0xFF
        victim.write_bytes(raw)
    with pytest.raises(StoreError, match=victim.name):
        again = PostStore.open(store.folder)
        list(again.scan())
        again.verify()


def test_a_store_of_a_newer_schema_is_refused(store: PostStore) -> None:
    store.append(table("1"))
    store.close()
    head = store.folder / sealing.HEAD_FILE
    newer = sealing.SCHEMA_VERSION + 1
    head.write_text(head.read_text().replace(f'"schema_version":{sealing.SCHEMA_VERSION}', f'"schema_version":{newer}'))
    with pytest.raises(StoreError, match="update Agora"):
        PostStore.open(store.folder)


@pytest.fixture
def old_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store as it was made before posts had likes: posts 1 to 3, of which 2 was deleted."""
    schema = pa.schema([field for field in POST_SCHEMA if field.name != "num_likes"])
    with monkeypatch.context() as past:
        past.setattr(incoming, "POST_SCHEMA", schema)
        past.setattr(lance_tables, "TABLE_SCHEMA", schema)
        past.setattr(store_module, "_with_arrivals", lambda posts, first: posts)
        with PostStore.open(tmp_path / "old", create=True) as store:
            store.append(table("1", "2", "3"))
            store.delete_posts(["2"])
    sealing.write_head(tmp_path / "old", replace(sealing.read_head(tmp_path / "old"), schema_version=1))
    return tmp_path / "old"


def test_a_store_made_before_likes_gets_the_column_and_keeps_its_posts(old_store: Path) -> None:
    store = PostStore.open(old_store)
    assert (ids(store), store.num_posts, store.version) == (["1", "3"], 2, 2)
    assert next(store.scan()).column("num_likes").null_count == 2
    with PostStore.open(old_store) as writer:
        assert writer.append(table("2", "3")).appended == 0
        assert writer.append(posts_table([{**table("4").to_pylist()[0], "num_likes": 7}])).appended == 1
        writer.compact()
        likes = pa.Table.from_batches(writer.scan(columns=["id", "num_likes"])).to_pydict()
        assert likes == {
            "id": ["1", "3", "4"],
            "num_likes": [None, None, 7],
        }
        assert writer.verify() > 0


def test_a_migration_adds_files_and_changes_none(old_store: Path) -> None:
    before = {path: path.read_bytes() for path in old_store.rglob("*.lance/**/*") if path.is_file()}
    PostStore.open(old_store)
    assert all(path.read_bytes() == data for path, data in before.items() if path.name != "latest_version_hint.json")


def test_a_migration_killed_before_its_seal_is_done_again(old_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(migrations, "write_atomically", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            PostStore.open(old_store)
    gc.collect()  # the lock of the killed process ends with it
    with PostStore.open(old_store) as store:
        assert ids(store) == ["1", "3"]
        assert store.append(table("4")).appended == 1


def arrived(store: PostStore, after: int) -> list[str]:
    return [key for batch in store.scan(columns=["id"], after=after, batch_rows=3) for key in batch.column(0).to_pylist()]


def test_positions_of_an_old_store_still_count(old_store: Path) -> None:
    with PostStore.open(old_store) as store:
        assert (store.appended, arrived(store, 0), arrived(store, 2), arrived(store, 3)) == (3, ["1", "3"], ["3"], [])
        store.append(table("4", "5"))
        assert (arrived(store, 3), arrived(store, 4), arrived(store, 0)) == (["4", "5"], ["5"], ["1", "3", "4", "5"])


def test_arrival_order_survives_deletions_and_maintenance(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(table(*"abcdef"))
    position = store.appended
    monkeypatch.setattr(store_module, "_MAINTENANCE_COMMITS", 1)
    store.delete_posts(["b"])
    store.append(table("g", "h", "a"))
    store.delete_posts(["h"])
    assert arrived(store, position) == ["g"]
    assert arrived(store, 0) == [*"acdef", "g"]
    store.compact()
    assert arrived(store, position) == ["g"]


def test_an_edit_takes_the_place_of_the_post_and_arrives_anew(store: PostStore) -> None:
    store.append(table("1", "2", "3"))
    position = store.appended
    edit = pa.concat_tables([table("2", text="draft"), table("4"), table("2", text="final"), table("3")])
    result = store.replace(edit)
    assert (result.edited, result.added, result.unchanged, result.deleted) == (1, 1, 2, 0)
    texts = {row["id"]: row["text"] for batch in store.scan() for row in batch.to_pylist()}
    assert texts == {"1": "text of 1", "2": "final", "3": "text of 3", "4": "text of 4"}
    assert sorted(arrived(store, position)) == ["2", "4"]
    assert store.num_posts == 4


def test_the_same_edit_again_changes_nothing(store: PostStore) -> None:
    store.append(table("1", media=[{"kind": "image", "url": "u", "alt": None}], urls=["u"], num_likes=3))
    store.replace(table("1", text="new"))
    version = store.version
    assert store.replace(table("1", text="new")).unchanged == 1
    assert store.version == version


def test_an_edit_brings_no_deleted_post_back(store: PostStore) -> None:
    store.append(table("1", "2@bob"))
    store.delete_posts(["1"])
    store.delete_authors(["bob"])
    result = store.replace(table("1", "2@bob", text="back"))
    assert (result.deleted, ids(store)) == (2, [])


def test_reposts_carry_the_edited_words(store: PostStore) -> None:
    store.append(pa.concat_tables([table("1"), table("2", kind="repost", ref_id="1"), table("3", kind="repost", ref_id="1", text="")]))
    store.replace(table("1", text="corrected", urls=["u"]))
    rows = {row["id"]: (row["text"], row["urls"], row["author"]) for batch in store.scan() for row in batch.to_pylist()}
    assert rows == {"1": ("corrected", ["u"], "ann"), "2": ("corrected", ["u"], "ann"), "3": ("", [], "ann")}


def test_the_bytes_of_the_words_before_an_edit_leave_with_compaction(store: PostStore) -> None:
    store.append(table("1", text="unmistakable-secret"))
    store.replace(table("1", text="nothing"))
    store.compact()
    assert not any(b"unmistakable-secret" in path.read_bytes() for path in store.folder.rglob("*") if path.is_file())


def test_opening_an_old_store_to_read_lets_a_writer_in(old_store: Path) -> None:
    reader = PostStore.open(old_store)
    with PostStore.open(old_store) as writer:
        writer.append(table("4"))
    assert ids(reader) == ["1", "3", "4"]


def test_a_damaged_old_store_is_not_migrated(old_store: Path) -> None:
    manifest = max((old_store / "posts_1.lance" / "_versions").glob("*.manifest"), key=lambda path: path.stat().st_mtime_ns)
    manifest.write_bytes(bytes(manifest.stat().st_size))
    with pytest.raises(StoreError, match="damaged"):
        PostStore.open(old_store)
    assert '"schema_version":1' in (old_store / sealing.HEAD_FILE).read_text()


WRITER = """
import sys
from pathlib import Path
import lancedb  # now, so that the time until the kill goes into writing
from agora.posts import store as module
from agora.posts.schema import posts_table
module._MAINTENANCE_COMMITS = 5
fields = {"author": "ann", "created_at": 1, "text": "words", "kind": "post", "source": "test"}
store = module.PostStore.open(Path(sys.argv[1]), create=True)
start = int(sys.argv[2])
print("ready", flush=True)
for step in range(start, start + 1000):
    store.append(posts_table([{"id": f"{step}-{i}", **fields} for i in range(40)]))
    print("appended", step, flush=True)
    if step % 7 == 3:
        store.delete_posts([f"{step}-0", f"{step - 1}-1"])
        print("deleted", step, flush=True)
    if step % 11 == 5:
        store.compact()
"""


@pytest.mark.slow
def test_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    folder, appended, deleted = tmp_path / "posts", set[int](), set[int]()
    chance, rounds_with_work = random.Random(5), 0
    for round_ in range(6):
        start = 1000 * round_
        command = [sys.executable, "-c", WRITER, str(folder), str(start)]
        root = str(Path(__file__).resolve().parents[2])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": root, "PATH": ""})
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.05, 1.0))
        process.kill()
        lines = process.stdout.read().splitlines()
        process.stdout.close()
        process.wait()
        appended |= {int(line.split()[1]) for line in lines if line.startswith("appended")}
        deleted |= {int(line.split()[1]) for line in lines if line.startswith("deleted")}
        store = PostStore.open(folder)
        store.verify()
        found = ids(store)
        assert len(found) == len(set(found)) == store.num_posts
        steps: dict[int, set[int]] = {}
        for step, number in (map(int, key.split("-")) for key in found):
            steps.setdefault(step, set()).add(number)
        tombstones = {tuple(map(int, key.split("-"))) for key in store.deletions()["key"].to_pylist()}
        assert appended <= steps.keys()
        assert {(step, 0) for step in deleted} <= tombstones
        for step, numbers in steps.items():
            assert numbers == {number for number in range(40) if (step, number) not in tombstones}, "half an append"
        assert len(steps.keys() - appended) <= round_ + 1  # one append per round may be done but not yet announced
        if steps:
            assert store.append(table(f"{min(steps)}-0")).appended == 0
        store.close()
        rounds_with_work += any(line.startswith("appended") for line in lines)
    assert rounds_with_work >= 3
    assert len(appended) > 10


def test_append_of_a_string_that_is_not_utf8_is_refused_and_writes_nothing(store: PostStore) -> None:
    data = pa.array([b"\xff\xfe"])
    text = pa.StringArray.from_buffers(1, data.buffers()[1], data.buffers()[2])
    bad = table("1").set_column(POST_SCHEMA.get_field_index("text"), POST_SCHEMA.field("text"), text)
    with pytest.raises(StoreError, match="UTF8"):
        store.append(bad)
    assert store.append(table("1")).appended == 1


@pytest.mark.parametrize("key", ["", " ", "\n"])
def test_a_blank_key_deletes_nothing(store: PostStore, key: str) -> None:
    store.append(table("1", "2"))
    for delete in (store.delete_posts, store.delete_authors):
        with pytest.raises(UsageError, match="is blank"):
            delete(["1", key])
    assert (ids(store), store.deletions().num_rows) == (["1", "2"], 0)


def test_an_empty_tombstone_of_an_older_version_is_not_heeded(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.posts.store.refuse_blank_keys", lambda kind, keys: None)
    store.delete_posts([""])
    store.delete_authors([""])
    assert store.deletions().num_rows == 0
    assert store.append(table("1", kind="repost", ref_id="", ref_author="")).appended == 1


def test_whoever_may_only_read_the_folder_reads_the_posts(store: PostStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.append(table("1"))
    plain = Path.open

    def refusing(path: Path, mode: str = "r", *words: Any, **more: Any) -> Any:
        if mode == "a+b":
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return plain(path, mode, *words, **more)

    monkeypatch.setattr(Path, "open", refusing)
    assert ids(PostStore.open(store.folder)) == ["1"]
    (store.folder / sealing.READERS_LOCK).unlink()
    with pytest.raises(OSError, match="Read-only"):
        PostStore.open(store.folder)
