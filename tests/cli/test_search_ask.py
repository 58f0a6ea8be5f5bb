"""`agora search ask`: answers with posts, deletions at once, stored answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import AgoraError, UsageError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

NOW = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)
TEXTS = {
    "t1": ("berta", "The night trains to Lindau were cancelled again, 300 passengers waited."),
    "t2": ("dora", "Night trains to Lindau run again since this morning \x1b[31m!"),
    "t3": ("emil", "Bread at the harvest festival was excellent"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rows = [
        {"id": id, "author": author, "created_at": NOW - timedelta(hours=n), "text": text, "kind": "post", "source": "t"}
        for n, (id, (author, text)) in enumerate(TEXTS.items(), start=1)
    ]
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows))
    run(tmp_path, "search", "index", "--embeddings", "none")
    return tmp_path


def run(place: Path, *words: str) -> Any:
    result = CliRunner().invoke(app, [*words, "--workspace", str(place), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def ask(place: Path, question: str = "What about night trains to Lindau?", *words: str) -> Any:
    return run(place, "search", "ask", question, "--now", NOW.isoformat(), *words)


def test_answer_names_the_posts_of_each_sentence(place: Path) -> None:
    answer = ask(place)
    assert {id for sentence in answer["sentences"] for id in sentence["post_ids"]} == {"t1", "t2"}
    assert {post["id"] for post in answer["posts"]} == {"t1", "t2"} and answer["abstained"] is None
    assert ask(place, "What about the chess match?")["abstained"].endswith("would support an answer.")


def test_for_people_control_characters_of_posts_are_shown_as_replaced(place: Path) -> None:
    words = ["search", "ask", "What about night trains?", "--now", NOW.isoformat(), "--workspace", str(place)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "\x1b" not in result.stdout and "berta wrote on 2026-03-15" in result.stdout and "[1] t" in result.stdout


def test_stored_answer_is_used_until_something_changes(place: Path) -> None:
    folder = place / "search" / "answers"
    first = ask(place)
    (file,) = folder.glob("*.json")
    file.write_text(file.read_text().replace("300 passengers", "999 passengers"))
    assert "999 passengers" in json.dumps(ask(place)) and ask(place, "What about night trains to Lindau?", "--fresh") == first


def test_deletion_holds_before_the_index_knows_of_it(place: Path) -> None:
    ask(place)
    run(place, "posts", "delete", "--post", "t2")
    assert b"this morning" not in b"".join(file.read_bytes() for file in (place / "search" / "answers").iterdir())
    assert [sentence["post_ids"] for sentence in ask(place)["sentences"]] == [["t1"]]


def test_mistakes_are_named(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for words in (["--now", "soon"], ["--model", "m", "--endpoint", "http://x/v1"], ["--endpoint", "nowhere"]):
        with pytest.raises(UsageError):
            run(place, "search", "ask", "What about trains?", *words)
    with pytest.raises(AgoraError):
        run(tmp_path_factory.mktemp("empty"), "search", "ask", "What about trains?")


@pytest.mark.parametrize(("question", "said"), [("trains \udcff\udcfe", "UTF-8 at character 8"), ("trains " * 15_000, "at most 2,000")])
def test_question_that_is_no_text_or_too_long_is_refused(place: Path, question: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ask(place, question)


def test_endpoint_that_is_down_is_a_warning(place: Path) -> None:
    answer = ask(place, "What about night trains?", "--endpoint", "http://127.0.0.1:9/v1")
    assert answer["sentences"] and any("cannot be reached" in warning for warning in answer["warnings"])


@contextmanager
def endpoint(said: str) -> Iterator[str]:
    """An OpenAI-compatible server that always says the same; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def test_what_an_endpoint_says_is_the_answer(place: Path) -> None:
    with endpoint("The night trains to Lindau were cancelled again, 300 passengers waited. [1][2]") as url:
        answer = ask(place, "What about night trains?", "--endpoint", url)
    assert [(one["text"], one["post_ids"]) for one in answer["sentences"]] == [
        ("The night trains to Lindau were cancelled again, 300 passengers waited.", ["t1"])
    ]
    assert answer["writer"] == "model default" and answer["warnings"] == []
