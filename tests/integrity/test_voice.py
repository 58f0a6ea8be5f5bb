"""Who speaks as one: however many accounts a campaign has, it is one voice."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import DataError
from agora.integrity.labels import LABEL_SCHEMA, LABELS_FILE, write_labels
from agora.integrity.voice import Voices, count_voices, read_voices, voice_weights, voices

NOW = datetime(2026, 5, 1, tzinfo=timezone.utc)
LATER, EARLIER = "2026-06-01T00:00:00Z", "2026-04-01T00:00:00Z"
names = st.sampled_from([f"a{number}" for number in range(30)])
speakers = st.dictionaries(names, st.sampled_from(["c1", "c2", "a1"])).map(Voices)  # an account may be called like a campaign


def labels(*rows: tuple[str, str, str, str]) -> pa.Table:
    """Labels of which only kind, id, campaign and expires_at matter."""
    fixed = {"state": "synchronised", "is_automatic": True, "reason": "", "evidence": "", "confidence": 0.99, "appeal": "none"}
    named = [dict(zip(("kind", "id", "campaign", "expires_at"), row, strict=True)) for row in rows]
    return pa.Table.from_pylist([{**fixed, "account": row["id"], **row} for row in named], schema=LABEL_SCHEMA)


@given(st.lists(names), speakers)
def test_weights_add_up_to_the_number_of_voices(accounts: list[str], who: Voices) -> None:
    assert sum(voice_weights(accounts, who).values()) == pytest.approx(count_voices(accounts, who))


@given(st.lists(names), st.lists(names), speakers)
def test_more_accounts_never_raise_the_weight_of_a_campaign(accounts: list[str], more: list[str], who: Voices) -> None:
    def total(chosen: list[str]) -> float:
        return sum(weight for account, weight in voice_weights(chosen, who).items() if who.accounts.get(account) == "c1")

    added = [account for account in more if who.accounts.get(account) == "c1"]
    if total(accounts):
        assert total(accounts + added) == pytest.approx(total(accounts)) == pytest.approx(1)
        assert count_voices(accounts + added, who) == count_voices(accounts, who)


@given(st.lists(names), speakers, st.randoms())
def test_order_does_not_matter(accounts: list[str], who: Voices, random: object) -> None:
    shuffled = sorted(accounts, key=lambda _: random.random())  # type: ignore[attr-defined]
    assert voice_weights(shuffled, who) == voice_weights(accounts, who)
    assert count_voices(shuffled, who) == count_voices(accounts, who)


@given(st.lists(names), speakers)
def test_an_account_in_no_campaign_weighs_one(accounts: list[str], who: Voices) -> None:
    assert all(weight == 1 for account, weight in voice_weights(accounts, who).items() if account not in who.accounts)


@given(st.lists(st.tuples(st.just("account"), names, st.sampled_from(["c1", "c2", "c3"]), st.sampled_from([LATER, EARLIER]))), st.randoms())
def test_the_order_of_labels_does_not_matter_and_expired_ones_have_no_effect(rows: list[tuple[str, ...]], random: object) -> None:
    found = voices(labels(*rows, ("post", "p", "c1", LATER)), at=NOW)  # type: ignore[arg-type]
    shuffled = sorted(rows, key=lambda _: random.random())  # type: ignore[attr-defined]
    again = voices(labels(("post", "p", "c1", LATER), *shuffled), at=NOW)  # type: ignore[arg-type]
    assert found == again
    assert found.sha256 == again.sha256
    assert set(found.accounts) == {row[1] for row in rows if row[3] == LATER}
    assert found.posts == {"p"}


def test_an_account_in_two_campaigns_speaks_with_the_larger() -> None:
    rows = [("account", account, campaign, LATER) for campaign, members in (("z", "abc"), ("b", "cd"), ("a", "cd")) for account in members]
    assert voices(labels(*rows), at=NOW).accounts == {"a": "z", "b": "z", "c": "z", "d": "a"}


def test_a_workspace_without_labels_has_none_and_damaged_labels_are_an_error(tmp_path: Path) -> None:
    assert read_voices(tmp_path) is None
    write_labels(labels(("account", "a", "c", LATER), ("account", "b", "c", LATER), ("account", "z", "c", EARLIER)), tmp_path / "integrity")
    assert read_voices(tmp_path, at=NOW) == Voices({"a": "c", "b": "c"})
    deletions = pa.table({"kind": ["author"], "key": ["b"]})
    assert read_voices(tmp_path, at=NOW, deletions=deletions) == Voices({"a": "c"})
    (tmp_path / "integrity" / LABELS_FILE).write_bytes(b"no labels")
    with pytest.raises(DataError, match="agora integrity scan"):
        read_voices(tmp_path)
    with pytest.raises(DataError, match="campaign"):
        voices(labels(("account", "a", "c", LATER)).drop_columns("campaign"))
