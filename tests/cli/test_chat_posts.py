"""`agora chat --posts`: answers, talk, reports and explanations in the terminal."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import AgoraError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

NOW = datetime(2026, 3, 15, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("chat")
    rows: list[dict[str, Any]] = [
        {"id": "t1", "author": "berta", "text": "The night trains to Lindau were cancelled again, 300 passengers waited.", "kind": "post"},
        {
            "id": "t2",
            "author": "dora",
            "text": "Night trains to Lindau run again \x1b[31m see https://a.example/x for more",
            "kind": "post",
        },
        {"id": "t3", "author": "emil", "text": "Good!", "kind": "reply", "ref_id": "t1"},
        {"id": "t4", "author": "gone", "text": "Night trains to Lindau are gold plated", "kind": "post"},
    ]
    with PostStore.open(root / "posts", create=True) as store:
        store.append(posts_table({**row, "created_at": NOW - timedelta(hours=at), "source": "t"} for at, row in enumerate(rows, start=1)))
    assert CliRunner().invoke(app, ["search", "index", "--embeddings", "none", "--workspace", str(root)]).exit_code == 0
    with PostStore.open(root / "posts") as store:
        store.delete_posts(["t4"])  # the index has not caught up
    return root


def run(place: Path, *words: str, text: str | None = None) -> Any:
    return CliRunner().invoke(
        app, ["chat", *words, "--workspace", str(place), "--now", NOW.isoformat()], input=text, catch_exceptions=False
    )


def test_one_question_is_answered_with_sources_and_nothing_deleted(place: Path) -> None:
    found = run(place, "--posts", "--prompt", "What about night trains to Lindau?")
    assert found.exit_code == 0 and "[1] t" in found.stdout and "[2] t" in found.stdout and "gold" not in found.stdout
    assert "\x1b" not in found.stdout and "://" not in found.stdout


def test_talk_remembers_and_takes_commands(place: Path) -> None:
    lines = "What about night trains to Lindau?\nand yesterday?\n2*21\n/persona\n/persona fun\nhi\n/explain t1\n/reset\n/nonsense\n"
    lines += "/help\n/quit\n"
    found = run(place, "--posts", text=lines)
    assert found.exit_code == 0 and "2*21 = 42" in found.stdout and "1 account answered it" in found.stdout
    assert "square" in found.stdout and "/research TEXT" in found.stdout


def test_report_explanation_and_json(place: Path) -> None:
    report = run(place, "--research", "What about night trains to Lindau?")
    assert report.exit_code == 0 and "In short" in report.stdout and "[1] t" in report.stdout
    events = [
        json.loads(line)
        for line in run(place, "--posts", "--prompt", "night trains Lindau", "--json").stdout.splitlines()
        if line[:1] == "{"
    ]
    assert events[-1]["type"] == "done" and {"step", "citation", "text"} <= {one["type"] for one in events}
    explained = json.loads(run(place, "--explain", "t1", "--json").stdout.splitlines()[0])
    assert explained["post"]["post_id"] == "t1" and explained["replies"]["voices"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--posts", "--prompt", "x", "--research", "y"), ("--posts", "--json"), ("--posts", "--persona", "fum", "--prompt", "hi"),
        ("--posts", "--system", "x", "--prompt", "y"), ("--explain", "nothing"), ("--prompt", "no posts asked for"),
    ],
)  # fmt: skip
def test_mistakes_are_told(place: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(AgoraError):
        run(place, *words)
