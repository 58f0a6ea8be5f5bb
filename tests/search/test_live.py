"""The index of a workspace is kept up: soon found, soon gone, also in stored answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.alerts import open_saved
from agora.search.answers.workspace import ask_workspace, stored_answers
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.near import packed
from agora.search.live import forget_deleted, keep_up
from agora.search.workspace import index_posts, open_searcher
from agora.settings import Workspace
from agora.text.embeddings import LexicalEmbeddings
from tests.search.conftest import NOW, post

ROWS = [
    post("p1", "berta", "The night trains to Lindau were cancelled again, 300 passengers waited."),
    post("p2", "emil", "Bread at the harvest festival was excellent"),
]
QUESTION = "What about night trains to Lindau?"


@pytest.fixture
def place(tmp_path: Path) -> Workspace:
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(ROWS))
    return Workspace(tmp_path)


@pytest.fixture
def following(place: Workspace) -> Iterator[Workspace]:
    """An index that a thread keeps up."""
    index_posts(place, embeddings="lexical")
    stop = threading.Event()
    thread = threading.Thread(target=keep_up, args=(place,), kwargs={"stop": stop})
    thread.start()
    yield place
    stop.set()
    thread.join()


def found(place: Workspace, text: str) -> list[str]:
    with open_searcher(place) as searcher:
        return [hit.post["id"] for hit in searcher.find(text, now=NOW, mode="latest", match="all").hits]


def wait_until(holds: Callable[[], bool]) -> None:
    """Within a minute, which a loaded machine may need; benchmarks/search_freshness.py measures how soon."""
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def answers_on_disk(place: Workspace) -> bytes:
    found = bytearray()
    for file in (place.folder("search") / "answers").glob("*"):
        with suppress(FileNotFoundError):  # removed meanwhile
            found += file.read_bytes()
    return bytes(found)


def test_what_arrives_is_found_and_what_is_deleted_is_gone(following: Workspace) -> None:
    with PostStore.open(following.folder("posts")) as store:
        store.append(posts_table([post("p3", "ada", "an avalanche near the pass")]))
        wait_until(lambda: found(following, "avalanche") == ["p3"])
        store.replace(posts_table([post("p3", "ada", "a landslide near the pass")]))
        wait_until(lambda: found(following, "landslide") == ["p3"])
        assert found(following, "avalanche") == []
        store.delete_posts(["p3"])
        wait_until(lambda: found(following, "landslide") == [])


def test_stored_answers_go_with_the_index(following: Workspace) -> None:
    assert ask_workspace(following, QUESTION, now=NOW).sentences
    assert b"Lindau" in answers_on_disk(following)
    with PostStore.open(following.folder("posts")) as store:
        store.delete_posts(["p1"])
    wait_until(lambda: b"Lindau" not in answers_on_disk(following))


@pytest.mark.parametrize("is_edit", [False, True])
def test_stored_answers_go_when_posts_are_indexed(place: Workspace, is_edit: bool) -> None:
    index_posts(place, embeddings="none")
    assert ask_workspace(place, QUESTION, now=NOW).sentences
    with PostStore.open(place.folder("posts")) as store:
        if is_edit:
            store.replace(posts_table([{**ROWS[0], "text": "nothing"}]))
        else:
            store.delete_posts(["p1"])
    index_posts(place)
    assert len(stored_answers(place)) == 0 and b"Lindau" not in answers_on_disk(place)


def test_a_deletion_reaches_an_index_that_is_behind(place: Workspace) -> None:
    index_posts(place, embeddings="none")
    with PostStore.open(place.folder("posts")) as store:
        store.append(posts_table([post("p3", "ada", "an avalanche near the pass")]))
        store.delete_authors(["berta"])
        assert forget_deleted(place, store)
        assert found(place, "trains") == [] and found(place, "avalanche") == []
        index_posts(place)
        assert found(place, "trains") == [] and found(place, "avalanche") == ["p3"]


def test_an_index_in_use_says_so(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    index_posts(place, embeddings="none")
    monkeypatch.setattr("agora.search.workspace.BUSY_S", 0.2)
    with PostStore.open(place.folder("posts")) as store, EmbeddedIndex.open(place.folder("index")) as writer:
        writer.catch_up(store)
        store.delete_posts(["p1"])
        assert not forget_deleted(place, store)
        writer.catch_up(store)
    assert found(place, "trains") == []


def test_a_full_disk_does_not_end_keeping_up(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    index_posts(place, embeddings="none")
    stop, looks = threading.Event(), []

    def full(*_: object) -> None:
        looks.append(stop.is_set())
        if len(looks) == 1:
            raise OSError(28, "No space left on device")
        stop.set()

    monkeypatch.setattr("agora.search.live._forget_beside", full)
    monkeypatch.setattr("agora.search.live._AGAIN_S", 0.01)
    keep_up(place, stop=stop, poll_s=0.01)
    assert looks == [False, False]


def test_deletions_need_no_database_where_no_search_is_saved(place: Workspace) -> None:
    script = (
        "import sys, pathlib\n"
        "sys.modules |= dict.fromkeys(('sqlalchemy', 'alembic', 'faiss', 'transformers'))\n"
        "from agora.posts.store import PostStore\n"
        "from agora.search.live import forget_deleted\n"
        "from agora.settings import Workspace\n"
        f"place = Workspace(pathlib.Path({str(place.root)!r}))\n"
        "with PostStore.open(place.folder('posts')) as store:\n"
        "    store.delete_posts(['p1'])\n"
        "    assert forget_deleted(place, store)\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_indexing_waits_for_a_process_that_keeps_the_index_up(place: Workspace) -> None:
    index_posts(place, embeddings="none")
    with PostStore.open(place.folder("posts")) as store:
        writer = EmbeddedIndex.open(place.folder("index"))
        writer.catch_up(store)
        timer = threading.Timer(0.5, writer.close)
        timer.start()
        assert index_posts(place).num_posts == len(ROWS)
        timer.join()


def test_posts_without_an_index_are_deleted_as_before(place: Workspace) -> None:
    with PostStore.open(place.folder("posts")) as store:
        store.delete_posts(["p1"])
        assert forget_deleted(place, store)
    assert not place.folder("index").exists()


def bytes_on_disk(place: Workspace) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(place.root.rglob("*")) if file.is_file())


def test_compacting_posts_takes_what_was_deleted_off_the_disk_everywhere(place: Workspace) -> None:
    words, made = "zugunglueck unvergesslich", LexicalEmbeddings()
    with PostStore.open(place.folder("posts")) as store:
        with open_saved(place.root) as saved:
            saved.save("trains", "trains", position=store.appended)
        doomed = post("gonepost77", "goneauthor77", f"night trains to Lindau {words}", mentions=["gonefriend77"])
        replies = [post(f"r{n}", f"fan{n}", "so true", kind="reply", ref_id="gonepost77", ref_author="goneauthor77") for n in range(4)]
        store.append(posts_table([doomed, *replies]))
        index_posts(place, embeddings="lexical")
        with open_saved(place.root) as saved:
            assert [alert.post["id"] for alert in saved.catch_up(store)] == ["gonepost77"]
    assert "gonepost77" in str(ask_workspace(place, QUESTION, now=NOW).evidence)
    vector = packed(made.vectors(pa.array([doomed["text"]], pa.large_string()))).tobytes()
    secrets = [b"zugunglueck", b"gonepost77", b"goneauthor77", vector]
    assert all(secret in bytes_on_disk(place) for secret in secrets)
    kept = packed(made.vectors(pa.array([ROWS[0]["text"]], pa.large_string()))).tobytes()
    with PostStore.open(place.folder("posts")) as store:
        store.delete_posts(["gonepost77"])
        store.delete_authors(["goneauthor77"])

    result = CliRunner().invoke(app, ["posts", "compact", "--workspace", str(place.root), "--json"])

    assert result.exit_code == 0 and json.loads(result.stdout)["posts_in_index"] == 6
    tombstones = b"".join(file.read_bytes() for file in place.folder("posts").rglob("*deletions*/**/*") if file.is_file())
    left = bytes_on_disk(place)
    assert secrets[0] not in left and vector not in left and kept in left
    assert secrets[1] in tombstones and secrets[2] in tombstones  # what must not come back; and replies name what they replied to
    assert all(name not in file.read_bytes() for name in secrets[1:3] for file in place.folder("index").rglob("ids.txt"))
    assert not [
        (name, file) for name in secrets[1:3] for file in place.folder("search").rglob("*") if file.is_file() and name in file.read_bytes()
    ]
    assert [folder.name for folder in place.folder("index").glob("g*")] == ["g1"]
    assert found(place, "trains") == ["p1"]
