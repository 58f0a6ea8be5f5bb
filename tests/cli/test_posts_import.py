"""`agora posts import` and `agora posts sources`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.cli.output import emit
from agora.errors import RecordError, UsageError
from agora.posts.store import PostStore

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "posts"


def run(*words: str | Path) -> tuple[int, str, BaseException | None]:
    result = CliRunner().invoke(app, ["posts", *map(str, words)])
    return result.exit_code, result.stdout, result.exception


def test_import_prints_the_summary_as_json(tmp_path: Path) -> None:
    code, out, _ = run("import", FIXTURES / "x_api_v2", "--workspace", tmp_path / "w", "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["source"], summary["posts"], summary["posts_in_store"]) == ("x_api_v2", 6, 6)
    assert summary["quarantined"] == {"no time": 1, "invalid JSON": 1}
    assert Path(summary["quarantine_file"]).parent == tmp_path / "w" / "quarantine"


def test_import_prints_a_list_for_people(tmp_path: Path) -> None:
    code, out, _ = run("import", FIXTURES / "reddit", "--workspace", tmp_path / "w")
    assert code == 0 and "quarantined:" in out and "deleted by its author or removed" in out


def test_import_with_a_mapping(tmp_path: Path) -> None:
    words = ["--map", "number=id", "--map", "who=author", "--map", "when=created_at", "--map", "words=text"]
    code, out, _ = run("import", FIXTURES / "tables" / "renamed.tsv", *words, "--workspace", tmp_path / "w", "--json")
    assert code == 0 and json.loads(out)["posts"] == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    code, _, error = run("import", FIXTURES / "reddit", "--map", "nonsense", "--workspace", tmp_path / "w")
    assert code == 1 and isinstance(error, UsageError) and "COLUMN=FIELD" in str(error)
    code, _, error = run("import", FIXTURES / "x_api_v2", "--strict", "--workspace", tmp_path / "w")
    assert isinstance(error, RecordError) and "page.jsonl, line 1, data item 3" in str(error)
    assert run("import", tmp_path / "absent")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--map", "tweet=txt"], "no field of a post; did you mean 'text'"),
        (["--map", "a=text", "--map", "b=text"], "a field is read from one column"),
        (["--map", "a=text", "--map", "a=id"], "mapped to 'text' already"),
        (["--source", "x_api_v2", "--map", "a=text"], "has fixed fields"),
        (["--source", "myspace"], "myspace"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_made(tmp_path: Path, words: list[str], message: str) -> None:
    code, _, error = run("import", FIXTURES / "tables" / "renamed.tsv", *words, "--workspace", tmp_path / "w")
    assert code == 1 and isinstance(error, UsageError) and message in str(error)
    assert not (tmp_path / "w").exists()


def test_names_of_sources_are_shown_as_they_are_typed() -> None:
    code, out, _ = run("sources")
    assert code == 0 and "x_api_v2 " in out and "bluesky_jetstream" in out


def test_reasons_are_shown_as_they_are_and_fields_with_blanks(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"posts_in": 3, "dropped": {"too_short": 2}}, as_json=False)
    assert capsys.readouterr().out.splitlines() == ["posts in  3", "dropped:", "  too_short  2"]


@pytest.mark.parametrize("option", ["--post", "--author"])
@pytest.mark.parametrize("key", ["", "  "])
def test_blank_keys_cannot_be_deleted(tmp_path: Path, option: str, key: str) -> None:
    PostStore.open(tmp_path / "w" / "posts", create=True)
    code, _, error = run("delete", "--post", "1", option, key, "--workspace", tmp_path / "w")
    assert code == 1 and isinstance(error, UsageError) and "is blank" in str(error)
    assert PostStore.open(tmp_path / "w" / "posts").deletions().num_rows == 0


def test_a_deletion_says_what_still_holds_the_words(tmp_path: Path) -> None:
    PostStore.open(tmp_path / "w" / "posts", create=True)
    result = CliRunner().invoke(app, ["posts", "delete", "--post", "1", "--workspace", str(tmp_path / "w")])
    assert "documents, shards and models that were made before still hold" in " ".join(result.stderr.split())
    assert result.stderr.splitlines()[-1] == f"next: agora corpus build --workspace {tmp_path / 'w'}"


def test_sources_are_listed() -> None:
    code, out, _ = run("sources", "--json")
    assert code == 0 and "x_archive" in json.loads(out) and "table" in json.loads(out)
