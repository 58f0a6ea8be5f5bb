"""Who is labelled: conservation, verdicts, appeals, expiry, deletions; and what reading labels costs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.errors import ConfigError, DataError
from agora.integrity.labels import LABEL_SCHEMA, Label, LabelConfig, labels, read_labels, write_labels
from agora.integrity.records import Campaign, Member, ScanResult
from agora.integrity.results import utc
from agora.integrity.rulings import Appeal, Rulings, Verdict, VerdictState
from agora.posts.schema import DELETIONS_SCHEMA

RING = ["ring0", "ring1", "ring2", "ring3"]
MakeCampaign = Callable[..., Campaign]
MakeResult = Callable[..., ScanResult]


def verdict(state: VerdictState, accounts: list[str], campaign: str = "c-ring", number: int = 1) -> Verdict:
    return Verdict(
        number=number, campaign=campaign, state=state, explanation="fan" if state == "explained" else None, name="Ada", reason="looked",
        at="2026-03-19T00:00:00Z", accounts=frozenset(accounts),
    )  # fmt: skip


def appeal(account: str, state: str, accounts: list[str], number: int = 1) -> Appeal:
    return Appeal(
        number=number, campaign="c-ring", account=account, state=state, name=account, reason="no", at="2026-03-19T00:00:00Z",  # type: ignore[arg-type]
        accounts=frozenset(accounts), is_automatic=True,
    )  # fmt: skip


def labelled(table: pa.Table, kind: str = "account") -> list[str]:
    return [row["id"] for row in table.to_pylist() if row["kind"] == kind]


def test_members_and_their_evidence_are_labelled_and_nobody_else(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    scan = result(campaign("c-ring", RING, source="ring1", manual=("ring2",)), campaign("c-fans", ["fan0", "fan1"], state="explained"))
    table = labels(scan, Rulings(), now)
    assert table.schema.equals(LABEL_SCHEMA, check_metadata=True)
    assert labelled(table) == ["ring0", "ring3"]
    assert labelled(table, "post") == ["ring0-0", "ring0-1", "ring3-0", "ring3-1"]
    row = Label(**table.to_pylist()[0])
    assert (row.state, row.is_automatic, row.appeal, row.campaign) == ("synchronised", True, "none", "c-ring")
    assert row.confidence == pytest.approx(0.999) and row.evidence == "agora integrity show c-ring"
    assert "one of 4 accounts" in row.reason and "not intent" in row.reason and "inauthentic" not in row.reason
    assert row.expires_at == utc(now + timedelta(days=90))


def test_every_field_is_explained() -> None:
    assert all(field.metadata[b"doc"] for field in LABEL_SCHEMA)
    assert LABEL_SCHEMA.names == list(Label.__dataclass_fields__)


MEMBER = st.builds(
    Member, account=st.sampled_from(RING), q_value=st.floats(0, 0.01), num_actions=st.integers(0, 9), num_posts=st.integers(9, 99)
)


@settings(max_examples=60)
@given(
    st.lists(MEMBER, unique_by=lambda member: member.account),
    st.sampled_from(["synchronised", "duplicated", "explained", "shared_interest"]),
    st.lists(st.tuples(st.sampled_from(RING), st.sampled_from(["open", "upheld", "rejected"])), max_size=6),
    st.sampled_from([None, "inauthentic", "coordinated", "explained", "not_coordinated"]),
    st.booleans(),
)
def test_labels_are_conserved(campaign, result, now, members, state, appeals, ruled, is_stopped) -> None:  # type: ignore[no-untyped-def]
    """Labelled = found automatically (unless stopped) or confirmed by a person, never a source, minus upheld appeals, minus cleared."""
    seen = RING[:2]
    one = dataclasses.replace(campaign("c-ring", RING), members=tuple(members), state=state)
    rulings = Rulings(
        (verdict(ruled, seen),) if ruled else (),
        tuple(appeal(account, how, RING, number) for number, (account, how) in enumerate(appeals, 1)),
        is_stopped,
    )
    upheld = {account for account, how in dict(appeals).items() if how == "upheld"}
    names = {member.account for member in members}
    is_covered = 2 * len(names & set(seen)) > len(names)
    found = set() if is_stopped else {member.account for member in one.labelled}
    is_confirmed = is_covered and ruled in ("inauthentic", "coordinated") and one.state != "shared_interest"
    confirmed = {member.account for member in members if not member.is_source} & set(seen) if is_confirmed else set()
    cleared = names if is_covered and ruled in ("explained", "not_coordinated") else set()
    assert set(labelled(labels(result(one), rulings, now))) == (found | confirmed) - upheld - cleared


def test_only_a_person_says_inauthentic(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    scan = result(campaign("c-ring", RING, state="explained"))
    assert labels(scan, Rulings(), now).num_rows == 0
    rows = labels(scan, Rulings((verdict("inauthentic", RING),)), now).to_pylist()
    assert {row["state"] for row in rows} == {"inauthentic"} and not any(row["is_automatic"] for row in rows)
    assert "looked" in rows[0]["reason"] and "2026-03-19" in rows[0]["reason"]


def test_rulings_outlive_a_change_of_one_member(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    later = result(campaign("c-other", [*RING, "ring4"]))
    assert labels(later, Rulings((verdict("explained", RING),)), now).num_rows == 0
    assert labelled(labels(later, Rulings((), (appeal("ring0", "upheld", RING),)), now)) == ["ring1", "ring2", "ring3", "ring4"]
    unlike = result(campaign("c-other", ["ring0", "x", "y", "z", "w"]))
    assert len(labelled(labels(unlike, Rulings((verdict("explained", RING),)), now))) == 5


def test_a_confirmed_campaign_does_not_hand_the_verdict_to_new_members(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    scan = result(campaign("c-other", [*RING, "new"]))
    rows = {row["id"]: row for row in labels(scan, Rulings((verdict("inauthentic", RING),)), now).to_pylist() if row["kind"] == "account"}
    assert (rows["ring0"]["state"], rows["new"]["state"]) == ("inauthentic", "synchronised")
    assert (rows["ring0"]["is_automatic"], rows["new"]["is_automatic"]) == (False, True)


def test_an_id_alone_does_not_carry_a_ruling(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    """A cleared account that joins another group must not clear that group."""
    scan = result(campaign("c-ring", ["ring0", "x", "y", "z"]))
    assert len(labelled(labels(scan, Rulings((verdict("explained", RING),)), now))) == 4
    assert len(labelled(labels(scan, Rulings((), (appeal("ring0", "upheld", RING),)), now))) == 4


def test_shared_interest_is_never_labelled_whatever_is_ruled(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    fans = campaign("c-ring", RING, state="shared_interest")
    assert labels(result(fans), Rulings((verdict("inauthentic", RING),)), now).num_rows == 0


def test_the_latest_verdict_rules(campaign: MakeCampaign, result: MakeResult, now: datetime) -> None:
    both = Rulings((verdict("explained", RING), verdict("coordinated", RING, number=2)))
    assert len(labelled(labels(result(campaign("c-ring", RING)), both, now))) == 4


def test_a_stopped_breaker_leaves_only_labels_of_persons_and_says_so(
    campaign: MakeCampaign, result: MakeResult, now: datetime, caplog: pytest.LogCaptureFixture
) -> None:
    scan = result(campaign("c-ring", RING), campaign("c-two", ["x", "y"]))
    rows = labels(scan, Rulings((verdict("coordinated", RING),), (), True), now).to_pylist()
    assert {row["campaign"] for row in rows} == {"c-ring"}
    assert "automatic labels are stopped" in caplog.text


def test_labels_expire(campaign: MakeCampaign, result: MakeResult, now: datetime, tmp_path: Path) -> None:
    scan, config = result(campaign("c-ring", RING)), LabelConfig(days=2)
    table = labels(scan, Rulings(), now, config=config)
    write_labels(table, tmp_path / "integrity")
    assert read_labels(tmp_path, now=now + timedelta(days=1, hours=23)).equals(table)
    assert read_labels(tmp_path, now=now + timedelta(days=2)).num_rows == 0
    assert labels(scan, Rulings(), now, config=config, scanned_at=utc(now - timedelta(days=3))).num_rows == 0


def test_reading_takes_one_kind_and_leaves_out_what_was_deleted(
    campaign: MakeCampaign, result: MakeResult, now: datetime, tmp_path: Path
) -> None:
    assert read_labels(tmp_path).num_rows == 0
    write_labels(labels(result(campaign("c-ring", RING)), Rulings(), now), tmp_path / "integrity")
    assert labelled(read_labels(tmp_path, kind="account", now=now)) == RING
    deletions = pa.table([["author", "post"], ["ring0", "ring1-0"], [now, now]], schema=DELETIONS_SCHEMA)
    left = read_labels(tmp_path, now=now, deletions=deletions)
    assert labelled(left) == RING[1:] and labelled(left, "post") == ["ring1-1", "ring2-0", "ring2-1", "ring3-0", "ring3-1"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "integrity").mkdir()
    (tmp_path / "integrity" / "labels.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"labels\.parquet cannot be read"):
        read_labels(tmp_path)


def test_settings_that_cannot_work_are_refused() -> None:
    for options in ({"days": 0}, {"days": float("nan")}, {"breaker_share": 1.0}, {"breaker_appeals": 0}, {"evidence": "https://x"}):
        with pytest.raises(ConfigError):
            LabelConfig(**options)  # type: ignore[arg-type]


def test_reading_labels_loads_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from agora.integrity.labels import read_labels\n"
        f"assert read_labels(pathlib.Path({str(tmp_path)!r})).num_rows == 0\n"
        "print(sorted({'igraph', 'scipy', 'sqlalchemy', 'alembic', 'lancedb', 'daft', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip() == "[]"
