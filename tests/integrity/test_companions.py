"""Companions: who acts with a campaign again and again weighs along with it, and is not labelled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pytest

from agora.integrity.campaigns import SharedArtefact
from agora.integrity.companions import companions
from agora.integrity.labels import labels
from agora.integrity.records import Campaign, ScanResult
from agora.integrity.rulings import Appeal, Rulings, Verdict
from agora.integrity.shared import Shares
from agora.integrity.signals import signals
from agora.integrity.voice import voices
from agora.search.query.matching import MatchContext

HOUR = 3600
MEMBERS = np.arange(20, dtype=np.int32)
NUM_ACCOUNTS = 1_000
TEXT = next(signal for signal in signals() if signal.id == "text")


def found(outsiders: dict[int, list[tuple[int, int]]], *, num_artefacts: int = 6, window_s: int = 60) -> list[int]:
    """Companions of 20 members who post within 40 s, an artefact every ten hours. `outsiders`: artefacts, and seconds after the first."""
    rows = [(number, member, number * 10 * HOUR + 100 + 2 * member) for number in range(num_artefacts) for member in MEMBERS.tolist()]
    rows += [(number, account, number * 10 * HOUR + 100 + after) for account, acts in outsiders.items() for number, after in acts]
    artefact, account, time_s = (np.array(column) for column in zip(*sorted(rows), strict=True))
    post = np.arange(len(rows), dtype=np.int32)
    shares = Shares(
        signal=TEXT, artefact=artefact.astype(np.int32), account=account.astype(np.int32), time_s=time_s.astype(np.int64), post=post,
        half=np.zeros(len(rows), np.uint8), key=np.arange(num_artefacts, dtype=np.uint64),
    )  # fmt: skip
    artefacts = []
    for number in range(num_artefacts):
        everybody = np.flatnonzero(shares.artefact == number)
        mine = everybody[np.isin(shares.account[everybody], MEMBERS)]
        row = slice(int(everybody[0]), int(everybody[-1]) + 1)
        artefacts.append(SharedArtefact("text", number, post[mine], shares.account[mine], shares.time_s[mine], row))
    num_posts = np.full(NUM_ACCOUNTS, 10)
    return companions(artefacts, MEMBERS, {"text": shares}, num_posts, window_s=window_s, q_most=0.01).tolist()


def test_who_joins_twice_weighs_along_and_who_joins_once_does_not() -> None:
    assert found({100: [(0, 15), (3, 20)], 101: [(1, 15)]}) == [100]


def test_who_is_copied_acts_first_and_is_nobodys_companion() -> None:
    assert found({100: [(number, -1) for number in range(6)]}) == []


def test_who_comes_hours_later_is_no_companion() -> None:
    assert found({100: [(number, 2 * HOUR) for number in range(6)]}) == []


def test_what_a_crowd_shares_tells_nothing() -> None:
    crowd = {100 + account: [(number, 10 + account % 30) for number in range(account % 4, account % 4 + 2)] for account in range(400)}
    assert found(crowd) == []


def test_three_people_who_each_pass_on_a_text_or_two_late_and_early_are_not_taken_for_the_campaign() -> None:
    assert found({100: [(0, 15), (1, 4000)], 101: [(2, -30), (3, 20)], 102: [(4, 20), (5, 300)]}) == []


@pytest.fixture
def scan(campaign: Callable[..., Campaign], result: Callable[..., ScanResult]) -> ScanResult:
    import dataclasses

    ring = dataclasses.replace(campaign("c-ring", ["ring0", "ring1", "ring2"]), companions=("beside", "upheld"))
    return result(ring)


def upheld(account: str) -> Appeal:
    return Appeal(
        number=1, campaign="c-ring", account=account, state="upheld", name=account, reason="no", at="2026-03-19T00:00:00Z",
        accounts=frozenset(["ring0", "ring1", "ring2"]), is_automatic=True,
    )  # fmt: skip


def test_companions_weigh_along_without_a_label_until_the_labels_go(scan: ScanResult, now: datetime) -> None:
    table = labels(scan, Rulings(appeals=(upheld("upheld"),)), now)
    assert [row["id"] for row in table.to_pylist() if row["kind"] == "companion"] == ["beside"]
    who = voices(table, at=now)
    assert who.of("beside") == who.of("ring0") == ("campaign", "c-ring") and who.of("upheld") == ("account", "upheld")
    assert "beside" not in who.labelled and "ring0" in who.labelled
    assert MatchContext.of(who).labelled_accounts == who.labelled
    assert "beside" not in who.without_companions().accounts
    assert voices(table, at=now + timedelta(days=400)).accounts == {}


def test_without_the_campaigns_labels_nobody_weighs_along(scan: ScanResult, now: datetime) -> None:
    accounts = frozenset(["ring0", "ring1", "ring2"])
    cleared = Verdict(
        number=1, campaign="c-ring", state="not_coordinated", explanation=None, name="Ada", reason="friends", at="2026-03-19T00:00:00Z",
        accounts=accounts,
    )  # fmt: skip
    assert labels(scan, Rulings(verdicts=(cleared,)), now).num_rows == 0
    assert labels(scan, Rulings(is_stopped=True), now).num_rows == 0
