"""`agora search trends`, `save`, `saved`, `alerts`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from agora.cli.search_watch import register
from agora.errors import QuerySyntaxError, UsageError
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

NOW = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
app = typer.Typer()
register(app)


def run(workspace: Path, *words: str) -> Any:
    """The result of a command that succeeds."""
    result = CliRunner().invoke(app, [*words, "--workspace", str(workspace)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def add(workspace: Path, *posts: tuple[str, datetime, str]) -> None:
    with PostStore.open(workspace / "posts", create=True) as store:
        start = store.appended
        rows = [
            {"id": f"p{start + n}", "author": author, "created_at": at, "text": text, "kind": "post", "source": "test"}
            for n, (author, at, text) in enumerate(posts)
        ]
        store.append(posts_table(rows))


def test_saved_searches_alert_once(tmp_path: Path) -> None:
    add(tmp_path, ("ada", NOW, "flood before"))
    shown = json.loads(run(tmp_path, "save", "river", "flood  AND -hoax", "--json").stdout)
    assert shown == {"name": "river", "query": "flood  AND -hoax", "read_as": "flood -hoax", "after_posts": 1}
    assert run(tmp_path, "alerts").stdout == ""
    add(tmp_path, ("ada", NOW, "a flood\nnow"), ("bob", NOW, "a hoax flood"))
    assert run(tmp_path, "alerts").stdout == "river: 2026-11-22 12:00 ada: a flood now (p1)\n"
    result = run(tmp_path, "alerts")
    assert result.stdout == "" and "0 alerts; 1 saved searches" in result.stderr
    add(tmp_path, ("eve", NOW, "flood"))
    (line,) = run(tmp_path, "alerts", "--json").stdout.splitlines()
    assert json.loads(line)["post"]["author"] == "eve" and json.loads(line)["voice"] == "account:eve"
    assert json.loads(run(tmp_path, "saved", "--json").stdout)["searches"][0]["num_alerts"] == 2
    assert "flood  AND -hoax" in run(tmp_path, "saved").stdout
    assert "no search is saved" in run(tmp_path, "saved", "--remove", "river").stdout


def test_a_campaign_is_shown_by_its_first_post(tmp_path: Path) -> None:
    from agora.integrity.labels import LABEL_SCHEMA, write_labels

    add(tmp_path, ("ada", NOW, "hello"))
    run(tmp_path, "save", "river", "flood")
    row = dict.fromkeys(LABEL_SCHEMA.names, "") | {"campaign": "c1", "kind": "account", "expires_at": "2999-01-01T00:00:00Z"}
    row |= {"confidence": 1.0, "is_automatic": True}
    import pyarrow as pa

    rows = [{**row, "id": f"bot{n}", "account": f"bot{n}"} for n in range(5)]
    write_labels(pa.Table.from_pylist(rows, schema=LABEL_SCHEMA), tmp_path / "integrity")
    add(tmp_path, *[(f"bot{n}", NOW, "flood everywhere") for n in range(5)], ("bob", NOW, "flood here"))
    result = run(tmp_path, "alerts")
    assert [line.split(": ")[1].split(" ", 2)[2] for line in result.stdout.splitlines()] == ["bot0 [labelled as coordinated]", "bob"]
    assert "6 alerts, 4 of them more of a campaign that was shown" in result.stderr


def test_warnings_and_errors_of_a_query_name_the_place(tmp_path: Path) -> None:
    add(tmp_path, ("ada", NOW, "hello"))
    assert "warning: query, character 7: form: is no operator" in run(tmp_path, "save", "x", "flood form:bob").stderr
    with pytest.raises(QuerySyntaxError, match="character 7"):
        run(tmp_path, "save", "y", "flood (")
    for words in (["trends", "--window", "soon"], ["trends", "--at", "soon"], ["trends", "--window", "1h", "--history", "2h"]):
        with pytest.raises(UsageError):
            run(tmp_path, *words)


def test_trends_are_shown_with_their_histogram(tmp_path: Path) -> None:
    quiet = [(f"a{n % 7}", NOW - timedelta(minutes=10 * n), f"word{n % 11} and word{n % 5}") for n in range(72 * 6)]
    add(tmp_path, *quiet, *[(f"a{n}", NOW - timedelta(minutes=5), "landslide on the north road") for n in range(9)])
    words = ["trends", "--at", "2026-11-22T12:00Z", "--history", "3d"]
    report = json.loads(run(tmp_path, *words, "--json").stdout)
    assert "landslide" in [report["trends"][0]["term"], *report["trends"][0]["alike"]]
    assert [bucket["voices"] for bucket in report["trends"][0]["histogram"]] == [0] * 23 + [9]
    result = run(tmp_path, *words)
    assert "9 voices, " in result.stdout and "|" + " " * 23 + "@|" in result.stdout
    assert "warning: no post that matches" in run(tmp_path, "trends", "nothing_like_it").stderr


def test_every_command_has_an_example() -> None:
    for command in app.registered_commands:
        assert "Example: agora search " in (command.callback.__doc__ or "")


def test_what_is_excluded_may_stand_first(tmp_path: Path) -> None:
    add(tmp_path, ("ada", NOW, "flood before"))
    assert json.loads(run(tmp_path, "save", "calm", "-flood", "--json").stdout)["read_as"] == "-flood"
    run(tmp_path, "trends", "-flood", "--window", "1h")


def test_trends_count_what_other_posts_say_of_a_post(tmp_path: Path) -> None:
    def said(name: str, author: str, kind: str = "post", ref: str | None = None) -> dict[str, Any]:
        return {"id": name, "author": author, "created_at": NOW, "text": name, "kind": kind, "source": "test", "ref_id": ref}

    rows = [said("root", "ada"), said("other", "bob"), said("answer", "cem", "reply", "root"), said("below", "dan", "reply", "answer")]
    rows += [said(f"again{n}", f"bot{n}", "repost", "root") for n in range(3)]
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table(rows))
    counted = {
        query: json.loads(run(tmp_path, "trends", query, "--at", "2026-11-22T12:00:00Z", "--json").stdout)["num_posts"]
        for query in ("min_reposts:3", "min_reposts:4", "min_replies:1", "conversation_id:root", "-min_replies:1")
    }
    assert counted == {"min_reposts:3": 1, "min_reposts:4": 0, "min_replies:1": 2, "conversation_id:root": 3, "-min_replies:1": 5}


def test_a_history_too_short_is_named_as_it_is_given(tmp_path: Path) -> None:
    add(tmp_path, ("ada", NOW, "flood"))
    with pytest.raises(UsageError, match="--history 2h be 8 to 10,000 times as long; example: --window 1h --history 7d"):
        run(tmp_path, "trends", "--history", "2h")
