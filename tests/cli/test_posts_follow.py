"""`agora posts follow` on the command line: bounded runs, options that belong together, a summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import UsageError
from agora.posts.store import PostStore
from agora.units import parse_seconds
from tests.posts.follow.servers import Jetstream, Mastodon, account_event, post_event, status


def run(*words: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["posts", "follow", *map(str, words)])
    return result.exit_code, result.stdout, f"{result.stderr} {result.exception or ''}"


def test_a_bounded_run_prints_what_became_of_every_event(tmp_path: Path) -> None:
    with Jetstream([post_event(1), post_event(2), post_event(3)]).running() as url:
        code, out, error = run("bluesky", "--url", url, "--max-posts", 2, "--workspace", tmp_path / "w", "--json")
    summary = json.loads(out)
    assert code == 0 and (summary["posts"], summary["posts_in_store"]) == (2, 2), error
    assert "next: agora posts stats" in error


def test_a_run_ends_after_its_time(tmp_path: Path) -> None:
    with Mastodon([("update", status(1))]).server_events() as url:
        code, out, _ = run("mastodon", "--url", url, "--for", "1.5s", "--workspace", tmp_path / "w", "--json")
    assert code == 0 and json.loads(out)["posts"] == 1 and json.loads(out)["seconds"] < 10


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = [post_event(1), post_event(2, did="did:plc:bob"), account_event("did:plc:bob", 3)]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    code, out, _ = run(path, "--for", "1s", "--workspace", tmp_path / "w")
    assert code == 0 and "posts in store  1" in out
    assert PostStore.open(tmp_path / "w" / "posts").num_posts == 1


def test_what_is_followed_is_found_and_what_is_deleted_is_not(tmp_path: Path) -> None:
    def found() -> int:
        told = search("find", "text")
        return int(json.loads(told.stdout)["total"])

    def search(*words: str) -> Any:
        result = CliRunner().invoke(app, ["search", *words, "--workspace", str(tmp_path / "w"), "--json"], catch_exceptions=False)
        assert result.exit_code == 0
        return result

    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(post_event(at, did=f"did:plc:u{at}")) + "\n" for at in (1, 2)))
    run(path, "--for", "1s", "--workspace", tmp_path / "w")
    search("index", "--embeddings", "none")
    assert found() == 2
    with path.open("a") as file:
        file.write(json.dumps(post_event(3, did="did:plc:u3")) + "\n" + json.dumps(account_event("did:plc:u1", 4)) + "\n")
    code, _, error = run(path, "--for", "1s", "--workspace", tmp_path / "w")
    assert code == 0 and found() == 2, error
    done = CliRunner().invoke(app, ["posts", "delete", "--author", "did:plc:u2", "--workspace", str(tmp_path / "w")])
    assert done.exit_code == 0 and found() == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mastodon"], "name one"), (["bluesky", "--stream", "public:local"], "--stream does not belong"),
        (["mastodon", "--url", "https://h", "--dictionary", "x"], "--dictionary does not belong"), (["blusky"], "neither bluesky"),
        (["bluesky", "--for", "soon"], "--for 'soon'"), (["bluesky", "--url", "https://h"], "--url"),
    ],
)  # fmt: skip
def test_words_that_do_not_fit_are_refused(words: list[str], said: str, tmp_path: Path) -> None:
    code, _, error = run(*words, "--workspace", tmp_path / "w")
    assert code != 0 and said in error
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5d", 129_600)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "10 m", "-5s", "0s", "1h 5m", "5sx"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="like"):
        parse_seconds(text)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "websockets.sync.client", None)
    result = CliRunner().invoke(app, ["posts", "follow", "bluesky", "--url", "ws://127.0.0.1:1/", "--workspace", str(tmp_path / "w")])
    assert isinstance(result.exception, UsageError) and "agora[follow]" in str(result.exception)


def test_a_server_that_was_never_reached_is_an_error(tmp_path: Path) -> None:
    code, _, error = run("bluesky", "--url", "ws://127.0.0.1:1", "--for", "1s", "--workspace", tmp_path / "w")
    assert code != 0 and "was never reached" in error
