"""Made-up campaigns, and a stand-in for the scan that gives them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from agora.integrity.config import IntegrityConfig
from agora.integrity.records import Action, Artefact, Campaign, Evidence, Explanation, Member, ScanResult, State
from agora.posts.schema import posts_table
from agora.posts.store import PostStore

NOW = datetime(2026, 3, 20, 12, tzinfo=timezone.utc)


def make_campaign(
    name: str, accounts: list[str], *, state: State = "synchronised", source: str | None = None, manual: tuple[str, ...] = ()
) -> Campaign:
    """A campaign whose members each posted twice, with one outsider. Posts are named ACCOUNT-0 and ACCOUNT-1."""
    members = tuple(
        Member(account=one, q_value=0.001, num_actions=2, num_posts=9, is_automatic=one not in manual, is_source=one == source)
        for one in accounts
    )
    artefacts = tuple(
        Artefact(
            signal="text", key=f"{number:016x}", text=f"=vote for {name} & <now> {number}", num_members=len(accounts), num_outsiders=1,
            gap_s=30, actions=(*(_action(one, number, True) for one in accounts), _action("outsider", number, False)),
        )
        for number in range(2)
    )  # fmt: skip
    evidence = Evidence(
        test="timing", signal="text", window_s=60, num_occasions=12, observed=30.0, expected=1.5, p_value=1e-9, q_value=1e-7
    )
    return Campaign(
        id=name, state=state, members=members, evidence=(evidence,), artefacts=artefacts,
        explanations=(Explanation(name="one account", holds=False, text="3 of 12 follow @leader."),),
        first_at="2026-03-02T00:00:00Z", last_at="2026-03-16T00:00:00Z",
        sentences=(f"{len(accounts)} accounts posted the same text within 30 s.", "Chance explains 2 of 30."),
    )  # fmt: skip


def _action(account: str, number: int, is_member: bool) -> Action:
    return Action(post=f"{account}-{number}", account=account, at=f"2026-03-0{number + 2}T00:00:00Z", is_member=is_member)


def make_result(*campaigns: Campaign) -> ScanResult:
    return ScanResult(
        config=IntegrityConfig(), num_posts=40, num_accounts=20, num_groups=3, num_tests=24, first_at="2026-03-02T00:00:00Z",
        last_at="2026-03-16T00:00:00Z", campaigns=campaigns,
    )  # fmt: skip


@pytest.fixture(scope="session")
def campaign() -> Callable[..., Campaign]:
    return make_campaign


@pytest.fixture(scope="session")
def result() -> Callable[..., ScanResult]:
    return make_result


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture
def fake_scan(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands in for the detection: two campaigns out of the accounts it reads. Gives the calls it got."""
    calls: list[dict[str, Any]] = []

    def scan(batches: Any, work: Path, **options: Any) -> ScanResult:
        work.mkdir(parents=True, exist_ok=True)
        calls.append({"work": work, "left": sorted(path.name for path in work.iterdir()), **options})
        accounts = sorted({author for batch in batches for author in batch.column("author").to_pylist()} - {"outsider"})
        (work / "keys-000000.arrow").write_bytes(b"keys")
        if options["config"].seed == 13:
            raise KeyboardInterrupt
        ring, fans = [one for one in accounts if one.startswith("ring")], [one for one in accounts if one.startswith("fan")]
        return make_result(make_campaign("c-ring", ring), make_campaign("c-fans", fans, state="explained"))

    module = types.ModuleType("agora.integrity.scan")
    module.scan = scan  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "agora.integrity.scan", module)
    return calls


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace whose store holds the posts that the made-up campaigns have as evidence."""
    accounts = [f"ring{number}" for number in range(6)] + [f"fan{number}" for number in range(4)] + ["outsider"]
    rows = [
        {"id": f"{one}-{number}", "author": one, "created_at": NOW, "text": "hello", "kind": "post", "source": "test"}
        for one in accounts
        for number in range(2)
    ]
    with PostStore.open(tmp_path / "w" / "posts", create=True) as store:
        store.append(posts_table(rows))
    return tmp_path / "w"
