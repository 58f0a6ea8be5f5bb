"""The ledger keeps what people ruled, in SQLite and in PostgreSQL; mistakes are named; too many upheld appeals stop automatic labels."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from agora.errors import DataError, UsageError
from agora.integrity.labels import LabelConfig
from agora.integrity.ledger import METADATA, Ledger
from agora.integrity.records import Campaign

MakeCampaign = Callable[..., Campaign]
RING = [f"ring{number}" for number in range(40)]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """Where a ledger is kept: a file, or the URL of a database."""
    if request.param == "sqlite":
        return tmp_path / "integrity" / "ledger.db"
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
def ledger(place: Path | str) -> Iterator[Ledger]:
    with Ledger.open(place) as opened:
        yield opened


def engine_of(place: Path | str) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{place}" if isinstance(place, Path) else place)


def everything(place: Path | str) -> str:
    """Every value in the database, as text."""
    engine = engine_of(place)
    with engine.connect() as connection:
        rows = [row for table in METADATA.sorted_tables for row in connection.execute(sa.select(table))]
    engine.dispose()
    return "\n".join(repr(tuple(row)) for row in rows)


def test_verdicts_are_kept_with_name_time_and_reason(campaign: MakeCampaign, now: datetime, place: Path | str) -> None:
    one = campaign("c-1", ["a", "b"])
    with Ledger.open(place) as ledger:
        ledger.give_verdict(one, "coordinated", name=" Ada ", reason="looked", now=now)
        given = ledger.give_verdict(one, "explained", explanation="fan", name="Bo", reason="a choir", now=now)
    with Ledger.open(place) as ledger:
        first, second = ledger.rulings().verdicts
        assert second == given and (first.name, first.reason, first.at, first.accounts) == (
            "Ada",
            "looked",
            "2026-03-20T12:00:00Z",
            {"a", "b"},
        )
        assert ledger.rulings().verdict(one) == given


def test_the_migrations_make_the_schema_that_the_code_uses(place: Path | str) -> None:
    Ledger.open(place).close()
    engine = engine_of(place)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_mistakes_in_verdicts_are_named(campaign: MakeCampaign, ledger: Ledger) -> None:
    one = campaign("c-1", ["a", "b"])
    for options, message in (
        ({"state": "coordinated", "name": " "}, "needs a name"),
        ({"state": "coordinated", "reason": ""}, "needs a reason"),
        ({"state": "inauthentc"}, "did you mean 'inauthentic'"),
        ({"state": "explained"}, "an explanation"),
        ({"state": "coordinated", "explanation": "fan"}, "not to 'coordinated'"),
        ({"state": "explained", "explanation": "fans"}, "did you mean 'fan'"),
    ):
        with pytest.raises(UsageError, match=message):
            ledger.give_verdict(one, **{"name": "Ada", "reason": "looked", **options})  # type: ignore[arg-type]
    ledger.give_verdict(one, "coordinated", name="Ada", reason="looked")
    with pytest.raises(UsageError, match="already, by Ada"):
        ledger.give_verdict(one, "coordinated", name="Bo", reason="looked too")
    assert len(ledger.rulings().verdicts) == 1


def test_an_appeal_is_opened_and_decided_once(campaign: MakeCampaign, ledger: Ledger) -> None:
    one = campaign("c-1", ["a", "b", "c"], source="c")
    opened = ledger.appeal(one, "a", name="a", reason="we are a choir")
    with pytest.raises(UsageError, match="is open already"):
        ledger.appeal(one, "a", name="a", reason="again")
    for account in ("c", "stranger"):
        with pytest.raises(UsageError, match="has no label"):
            ledger.appeal(one, account, name="x", reason="y")
    with pytest.raises(UsageError, match="no appeal 9; open: 1"):
        ledger.decide(9, "upheld", name="Bo", reason="so")
    with pytest.raises(UsageError, match="must be 'upheld' or 'rejected'"):
        ledger.decide(opened.number, "open", name="Bo", reason="so")
    with pytest.raises(UsageError, match="needs a reason"):
        ledger.decide(opened.number, "upheld", name="Bo", reason=" ")
    decided = ledger.decide(opened.number, "rejected", name="Bo", reason="no choir")
    assert (decided.state, decided.decided_by, decided.decided_because) == ("rejected", "Bo", "no choir")
    with pytest.raises(UsageError, match="was rejected by Bo"):
        ledger.decide(opened.number, "upheld", name="Bo", reason="so")
    again = ledger.appeal(one, "a", name="a", reason="new proof")
    assert ledger.decide(again.number, "upheld", name="Bo", reason="proof").state == "upheld"
    with pytest.raises(UsageError, match="is upheld already"):
        ledger.appeal(one, "a", name="a", reason="again")


def contest(ledger: Ledger, one: Campaign, accounts: list[str], outcome: str, now: datetime) -> None:
    for account in accounts:
        ledger.decide(ledger.appeal(one, account, name=account, reason="no", now=now).number, outcome, name="Bo", reason="so", now=now)


def test_the_breaker_trips_at_the_share_stays_tripped_and_is_re_armed(campaign: MakeCampaign, ledger: Ledger, now: datetime) -> None:
    one, config = campaign("c-1", RING), LabelConfig(breaker_share=0.05, breaker_appeals=4)
    ledger.record_issued(RING, now=now)
    contest(ledger, one, RING[:2], "rejected", now)
    contest(ledger, one, RING[2:4], "upheld", now)
    state = ledger.breaker(now=now, config=config)
    assert (state.is_tripped, state.num_labels, state.num_decided, state.num_upheld) == (False, 40, 4, 2)  # 5% is allowed
    with pytest.raises(UsageError, match="nothing to reset"):
        ledger.reset_breaker(name="Ada", reason="so")
    contest(ledger, one, RING[4:5], "upheld", now)
    assert ledger.breaker(now=now, config=config).is_tripped and ledger.rulings().is_stopped
    later = ledger.breaker(now=now + timedelta(days=400), config=config)
    assert later.is_tripped and "3 of 40" in later.reason
    with pytest.raises(UsageError, match="needs a name"):
        ledger.reset_breaker(name="", reason="so")
    ledger.reset_breaker(name="Ada", reason="settings corrected", now=now)
    state = ledger.breaker(now=now, config=config)
    assert (state.is_tripped, state.num_decided, ledger.rulings().is_stopped) == (False, 0, False)


def test_few_appeals_or_old_ones_do_not_trip_the_breaker(campaign: MakeCampaign, ledger: Ledger, now: datetime) -> None:
    one = campaign("c-1", RING)
    ledger.record_issued(RING, now=now)
    contest(ledger, one, RING[:19], "upheld", now)
    assert not ledger.breaker(now=now).is_tripped
    assert ledger.breaker(now=now + timedelta(days=91)).num_decided == 0
    contest(ledger, one, RING[19:20], "upheld", now)
    assert ledger.breaker(now=now).is_tripped


def test_appeals_against_a_persons_label_do_not_count(campaign: MakeCampaign, ledger: Ledger, now: datetime) -> None:
    one = campaign("c-1", RING)
    ledger.give_verdict(one, "coordinated", name="Ada", reason="looked", now=now)
    contest(ledger, one, RING[:30], "upheld", now)
    assert not ledger.breaker(now=now).is_tripped and ledger.breaker(now=now).num_decided == 0


def test_forgetting_takes_names_and_words_out_and_keeps_the_counts(
    campaign: MakeCampaign, ledger: Ledger, now: datetime, place: Path | str
) -> None:
    one = campaign("c-1", RING)
    ledger.record_issued(RING, now=now)
    ledger.give_verdict(one, "explained", explanation="fan", name="Ada", reason="led by @ring3, a teacher", now=now)
    ledger.give_verdict(one, "coordinated", name="Ada", reason="looked", now=now - timedelta(days=1))
    contest(ledger, campaign("c-2", ["ring3", "other"]), ["ring3"], "upheld", now)
    before = ledger.breaker(now=now)
    for _ in range(2):
        ledger.forget({"ring3", "unknown"})
    assert ledger.breaker(now=now) == before
    assert ledger.rulings().appeals[0].state == "upheld" and "ring4" in ledger.rulings().verdicts[0].accounts
    ledger.close()
    dump = everything(place)
    assert "'ring3'" not in dump and '"ring3"' not in dump and "@ring3" not in dump and "ring30" in dump


def test_an_account_named_like_a_deleted_one_does_not_stop_a_deletion(campaign: MakeCampaign, ledger: Ledger, now: datetime) -> None:
    ledger.record_issued(["(deleted) 2", "ann", "bo"], now=now)
    contest(ledger, campaign("c-2", ["ann", "other"]), ["ann"], "upheld", now)
    ledger.forget({"ann"})
    ledger.forget({"bo"})
    assert ledger.rulings().appeals[0].account == "(deleted) 1" and ledger.breaker(now=now).num_labels == 3


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.db").write_text("this is no database, and long enough to be looked at as one" * 40)
    with pytest.raises(DataError, match=r"ledger .*l\.db cannot be used"):
        Ledger.open(tmp_path / "l.db")
    with pytest.raises(UsageError, match=r"nosuch://user:\*\*\*@host/db"):
        Ledger.open("nosuch://user:secret@host/db")
    Ledger.open(tmp_path / "new.db").close()
    with sqlite3.connect(tmp_path / "new.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(DataError, match="another version of Agora"):
        Ledger.open(tmp_path / "new.db")
