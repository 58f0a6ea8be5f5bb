"""`agora integrity`, from the scan to the export, over a made-up scan."""

from __future__ import annotations

import json
import sys
import types
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agora.cli import app
from agora.errors import ConfigError, DataError, MissingExtraError, StoreError, UsageError
from agora.integrity.config import IntegrityConfig
from agora.integrity.labels import read_labels
from agora.integrity.records import Action, Artefact, Campaign, Evidence, Explanation, Member, ScanResult
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

ACCOUNTS = ["ann", "ben", "cid", "dan", "eve", "fay", "gus", "hal"]
EVIDENCE = Evidence(
    test="timing", signal="text", window_s=60, num_occasions=9, observed=30, expected=2, p_value=1e-9, q_value=1e-7
)  # fmt: skip
PERSON = ("--name", "Ada", "--reason", "looked")


def made_up(batches: Any, work: Path, **options: Any) -> ScanResult:
    accounts = sorted({author for batch in batches for author in batch.column("author").to_pylist()})
    OPTIONS.update(options)
    members = tuple(
        Member(account=one, q_value=0.002, num_actions=1, num_posts=1, is_automatic=True, is_source=one == "hal") for one in accounts
    )
    actions = tuple(Action(post=f"p-{one}", account=one, at="2026-03-01T00:00:00Z", is_member=True) for one in accounts)
    campaign = Campaign(
        id="c-1234", state="synchronised", members=members,
        evidence=(EVIDENCE,),
        explanations=(Explanation(name="all follow one account", holds=False, text="1 of 8."),),
        artefacts=(Artefact(signal="text", key="00", text="vote\nnow", num_members=8, num_outsiders=0, gap_s=9, actions=actions),),
        first_at="2026-03-01T00:00:00Z", last_at="2026-03-02T00:00:00Z", sentences=("8 accounts.", "9 occasions."),
    )  # fmt: skip
    return ScanResult(
        config=options["config"], num_posts=8, num_accounts=8, num_groups=1, num_tests=4, first_at="2026-03-01T00:00:00Z",
        last_at="2026-03-02T00:00:00Z", campaigns=(campaign,),
    )  # fmt: skip


OPTIONS: dict[str, Any] = {}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    module = types.ModuleType("agora.integrity.scan")
    module.scan = made_up  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agora.integrity.scan", module)
    moment = datetime(2026, 3, 1, tzinfo=timezone.utc)
    row = {"created_at": moment, "text": "vote now", "kind": "post", "source": "test"}
    with PostStore.open(tmp_path / "posts", create=True) as store:
        store.append(posts_table([{**row, "id": f"p-{one}", "author": one} for one in ACCOUNTS]))
    return tmp_path


def run(workspace: Path, *words: str, area: str = "integrity") -> Any:
    result = CliRunner().invoke(app, [area, *words, "--workspace", str(workspace), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def shown(workspace: Path, *words: str) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["integrity", *words, "--workspace", str(workspace)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout, result.stderr


def accounts(workspace: Path) -> list[str]:
    labels: list[str] = read_labels(workspace, kind="account")["id"].to_pylist()
    return labels


def test_scan_prints_a_label_per_account_and_keeps_them(workspace: Path) -> None:
    found = run(workspace, "scan", "q_members=0.005", "seed=3")
    assert OPTIONS["config"] == IntegrityConfig(q_members=0.005, seed=3)
    assert (found["posts"], found["num_campaigns"], found["labelled_accounts"], found["labelled_posts"]) == (8, 1, 7, 7)
    assert [row["account"] for row in found["labels"]] == ACCOUNTS[:-1] == accounts(workspace)
    assert set(found["labels"][0]) == {"account", "campaign", "state", "confidence", "reason", "automatic"}
    assert not list((workspace / "integrity").glob("work-*"))


def test_settings_come_from_the_workspace_too(workspace: Path) -> None:
    (workspace / "agora.toml").write_text('[integrity]\nseed = 4\n[labels]\ndays = 1e4\nevidence = "https://square.example/{campaign}"\n')
    run(workspace, "scan")
    assert OPTIONS["config"].seed == 4
    assert read_labels(workspace)["evidence"][0].as_py() == "https://square.example/c-1234"
    (workspace / "agora.toml").write_text("[labels]\ndayz = 3\n")
    with pytest.raises(ConfigError, match="did you mean 'days'"):
        run(workspace, "campaigns")


def test_follows_and_declared_reach_the_scan(workspace: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"follower": [1], "followed": [2], "more": [3]}), workspace / "follows.parquet")
    (workspace / "declared.csv").write_text("account,organisation\nann,Choir\nben, Choir \n")
    run(workspace, "scan", "--follows", str(workspace / "follows.parquet"), "--declared", str(workspace / "declared.csv"))
    assert OPTIONS["declared"] == {"ann": "Choir", "ben": "Choir"}
    assert OPTIONS["follows"].to_pydict() == {"follower": ["1"], "followed": ["2"]}
    for text, message in (
        ("account,group\n", "no column 'organisation'"),
        ("account,organisation\nann,\n", "line 2: account and organisation are needed"),
        ("account,organisation\nann,A\nann,B\n", "'A' and 'B'; keep one"),
    ):
        (workspace / "declared.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            run(workspace, "scan", "--declared", str(workspace / "declared.csv"))
    pq.write_table(pa.table({"follower": ["a"]}), workspace / "follows.parquet")
    with pytest.raises(DataError, match="no column 'followed'"):
        run(workspace, "scan", "--follows", str(workspace / "follows.parquet"))
    (workspace / "follows.parquet").write_text("no table")
    with pytest.raises(DataError, match="cannot be read as a Parquet table"):
        run(workspace, "scan", "--follows", str(workspace / "follows.parquet"))


def test_campaigns_and_show_print_what_was_found(workspace: Path) -> None:
    run(workspace, "scan")
    assert run(workspace, "campaigns")["campaigns"][0]["labelled"] == 7
    assert "c-1234  synchronised  8 members, 7 labelled" in shown(workspace, "campaigns")[0]
    whole = run(workspace, "show", "c-1234")
    assert whole["labelled"]["ann"] is True and whole["verdict"] is None and len(whole["members"]) == 8
    text = shown(workspace, "show", "c-1234")[0]
    for part in (
        "8 accounts.",
        "q=0.002",
        "often first: perhaps copied",
        "30 seen, 2 expected",
        "no   all follow one account",
        "vote now",
        "p-ann",
    ):
        assert part in text


def test_a_verdict_takes_labels_away_and_gives_them_back(workspace: Path) -> None:
    run(workspace, "scan")
    given = run(workspace, "verdict", "c-1234", "explained", "--explanation", "fan", *PERSON)
    assert (given["state"], given["labelled_accounts"]) == ("explained", 0) and accounts(workspace) == []
    assert "verdict: explained (fan), by Ada" in shown(workspace, "show", "c-1234")[0]
    assert run(workspace, "verdict", "c-1234", "inauthentic", *PERSON)["labelled_accounts"] == 7
    assert set(read_labels(workspace)["state"].to_pylist()) == {"inauthentic"}
    assert run(workspace, "campaigns")["campaigns"][0]["verdict"] == "inauthentic"
    with pytest.raises(UsageError, match="already, by Ada"):
        run(workspace, "verdict", "c-1234", "inauthentic", *PERSON)
    with pytest.raises(UsageError, match="did you mean 'c-1234'"):
        run(workspace, "verdict", "c-1233", "coordinated", *PERSON)


def test_rulings_hold_in_the_next_scan(workspace: Path) -> None:
    run(workspace, "scan")
    run(workspace, "verdict", "c-1234", "not_coordinated", *PERSON)
    assert run(workspace, "scan")["labels"] == []


def test_appeals_change_labels_and_stop_automatic_ones(workspace: Path) -> None:
    (workspace / "agora.toml").write_text("[labels]\nbreaker_share = 0.2\nbreaker_appeals = 2\n")
    run(workspace, "scan")
    opened = run(workspace, "appeal", "c-1234", "--account", "ann", *PERSON)
    assert opened["state"] == "open"
    labels = {row["id"]: row["appeal"] for row in read_labels(workspace).to_pylist()}
    assert (labels["ann"], labels["p-ann"], labels["ben"]) == ("open", "open", "none")
    assert run(workspace, "appeal", "1", "--uphold", *PERSON)["state"] == "upheld"
    assert accounts(workspace) == ACCOUNTS[1:-1]
    run(workspace, "appeal", "c-1234", "--account", "ben", *PERSON)
    assert run(workspace, "appeal", "2", "--uphold", *PERSON)["automatic_labels_stopped"]
    assert accounts(workspace) == [] and run(workspace, "scan")["labels"] == []
    assert "STOPPED" in shown(workspace, "campaigns")[1]
    assert run(workspace, "breaker")["is_tripped"]
    with pytest.raises(UsageError, match="needs a name"):
        run(workspace, "breaker", "--reset", "--reason", "settings corrected")
    assert not run(workspace, "breaker", "--reset", *PERSON)["is_tripped"]
    assert accounts(workspace) == ACCOUNTS[2:-1]


def test_mistakes_in_appeals_are_named(workspace: Path) -> None:
    run(workspace, "scan")
    for words, message in (
        (("c-1234",), "exactly one of"),
        (("c-1234", "--account", "ann", "--uphold"), "exactly one of"),
        (("c-1234", "--uphold"), "not the number of an appeal"),
        (("7", "--reject"), "no appeal 7; open: none"),
        (("c-1234", "--account", "hal"), "has no label"),
    ):
        with pytest.raises(UsageError, match=message):
            run(workspace, "appeal", *words, *PERSON)
    with pytest.raises(UsageError, match="belong to --reset"):
        run(workspace, "breaker", *PERSON)


def test_a_deletion_from_the_store_reaches_the_labels_at_once(workspace: Path) -> None:
    run(workspace, "scan")
    run(workspace, "delete", "--author", "ann", "--post", "p-ben", area="posts")
    assert accounts(workspace) == ACCOUNTS[1:-1]
    ids = read_labels(workspace)["id"].to_pylist()
    assert "p-ann" not in ids and "p-ben" not in ids and "p-cid" in ids
    assert "p-ben" not in json.dumps(run(workspace, "show", "c-1234"))


@pytest.mark.parametrize("ending", [".json", ".csv", ".graphml", ".stix.json"])
def test_export_writes_the_format_of_the_ending(workspace: Path, ending: str) -> None:
    run(workspace, "scan")
    found = run(workspace, "export", str(workspace / f"out{ending}"))
    assert found["files"][0].endswith(ending) and all(Path(path).stat().st_size for path in found["files"])


def test_report_writes_a_page_with_the_rulings(workspace: Path) -> None:
    run(workspace, "scan")
    run(workspace, "verdict", "c-1234", "coordinated", *PERSON)
    page = workspace / "page.html"
    assert run(workspace, "report", str(page))["file"] == str(page)
    assert "verdict: coordinated" in page.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match=r"must end in \.html"):
        run(workspace, "report", str(workspace / "page.txt"))


def test_signals_are_listed_with_their_false_alarms() -> None:
    result = CliRunner().invoke(app, ["integrity", "signals", "--json"])
    table = json.loads(result.stdout)
    assert {"text", "repost", "link"} <= set(table) and all(one["why"] and one["innocent_when"] for one in table.values())


def test_what_is_missing_is_named(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"no scan at .*run: agora integrity scan"):
        run(workspace, "campaigns")
    with pytest.raises(UsageError, match="no scan in"):
        run(workspace / "nowhere", "breaker")
    with pytest.raises(StoreError, match="no post store"):
        run(workspace / "nowhere", "scan")
    assert not (workspace / "nowhere").exists()
    monkeypatch.setitem(sys.modules, "agora.integrity.scan", None)
    with pytest.raises(MissingExtraError, match=r"agora\[integrity\]"):
        run(workspace, "scan")
