"""Statistics, export, the commands, and the page that documents them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import ConfigError, StoreError, UsageError
from agora.posts.overview import export_posts, post_statistics
from agora.posts.reference import update_page
from agora.posts.schema import POST_SCHEMA
from agora.posts.simulate import SquareConfig, follow_graph, simulate_into
from agora.posts.store import PostStore

CONFIG = SquareConfig(num_posts=3_000, num_accounts=200, days=2, campaigns=())
WORDS = ["num_posts=3000", "num_accounts=200", "days=2", "campaigns=[]"]


@pytest.fixture
def store(tmp_path: Path) -> PostStore:
    store = PostStore.open(tmp_path / "posts", create=True)
    simulate_into(store, CONFIG)
    store.close()
    return store


def run(*words: str, workspace: Path) -> dict[str, object]:
    result = CliRunner().invoke(app, ["posts", *words, "--workspace", str(workspace), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def test_statistics_count_every_post_once(store: PostStore) -> None:
    found = post_statistics(store)
    assert found.posts == sum(found.kinds.values()) == sum(found.langs.values()) == 3_000
    assert found.sources == {"simulated_square": 3_000}
    assert found.first is not None and found.last is not None and found.first < found.last
    assert 20 < found.accounts <= 200


def test_statistics_of_an_empty_store(tmp_path: Path) -> None:
    found = post_statistics(PostStore.open(tmp_path / "posts", create=True))
    assert (found.posts, found.accounts, found.first) == (0, 0, None)


def test_parquet_export_goes_back_in_unchanged(store: PostStore, tmp_path: Path) -> None:
    assert export_posts(store, tmp_path / "out.parquet") == 3_000
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.equals(POST_SCHEMA)
    assert store.append(table).duplicates == 3_000


def test_json_lines_export_holds_every_field(store: PostStore, tmp_path: Path) -> None:
    export_posts(store, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3_000
    assert set(json.loads(lines[7])) == set(POST_SCHEMA.names)


def test_export_refuses_other_endings_and_leaves_nothing(store: PostStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet or \.jsonl"):
        export_posts(store, tmp_path / "out.csv")
    with pytest.raises(UsageError, match="does not exist"):
        export_posts(store, tmp_path / "none" / "out.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"posts"}


def test_commands_simulate_count_delete_and_compact(tmp_path: Path) -> None:
    workspace, truth = tmp_path / "w", tmp_path / "truth.parquet"
    assert run("simulate", *WORDS, "--truth", str(truth), workspace=workspace)["appended"] == 3_000
    assert run("simulate", *WORDS, workspace=workspace)["duplicates"] == 3_000
    assert pq.read_table(truth).num_rows == 200
    author = pq.read_table(truth)["author"][0].as_py()
    removed = run("delete", "--author", author, "--post", "nothing", workspace=workspace)["removed"]
    assert isinstance(removed, int)
    found = run("stats", workspace=workspace)
    assert (found["posts"], found["deletions"]) == (3_000 - removed, 2)
    assert run("simulate", *WORDS, workspace=workspace)["deleted"] == removed
    assert run("compact", workspace=workspace)["posts"] == 3_000 - removed
    assert run("verify", workspace=workspace)["posts"] == 3_000 - removed
    assert run("export", str(tmp_path / "x.parquet"), workspace=workspace)["posts"] == 3_000 - removed


def test_commands_refuse_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'num_posts'"):
        run("simulate", "num_post=3", workspace=tmp_path / "w")
    with pytest.raises(UsageError, match="nothing to delete"):
        run("delete", workspace=tmp_path / "w")
    with pytest.raises(StoreError, match="no post store"):
        run("stats", workspace=tmp_path / "w")


def test_follow_graph_is_heavy_tailed() -> None:
    counts = sorted(follow_graph(CONFIG)["followed"].value_counts().field("counts").to_pylist())
    assert counts[-1] > 5 * counts[len(counts) // 2]


def test_page_is_up_to_date() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "posts.md"
    text = page.read_text(encoding="utf-8")
    assert update_page(text) == text, "run: python -m agora.posts.reference docs/posts.md"
