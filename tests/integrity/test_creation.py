"""Accounts that were made together are shown as such, and nobody is labelled for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agora.errors import DataError
from agora.integrity.creation import MIN_DATED, made_together
from agora.integrity.inputs import read_created
from tests.integrity.boards import Board, copy_paste, labelled, ordinary, run_scan

DAY = 86_400


def test_accounts_of_one_week_stand_out_and_those_of_many_years_do_not() -> None:
    rng = np.random.default_rng(1)
    created = dict(enumerate((rng.uniform(0, 3_000, 500) * DAY).astype(int).tolist()))
    created |= {account: 2_000 * DAY + account * 3_600 for account in range(12)}
    together, apart = made_together([np.arange(12), np.arange(100, 112)], created, np.full(500, 20), seed=0)
    assert together is not None and apart is not None
    assert together.observed == 66 and together.expected < 2 and together.q_value < 0.01
    assert apart.p_value > 0.01


def test_newcomers_are_compared_with_accounts_that_post_as_much() -> None:
    """Newcomers post little; among accounts that post as little, one week is nothing special."""
    rng = np.random.default_rng(2)
    created = {account: int(rng.uniform(2_990, 3_000) * DAY) for account in range(80)}
    created |= {account: int(rng.uniform(0, 3_000) * DAY) for account in range(80, 500)}
    num_posts = np.where(np.arange(500) < 80, 4, 400)
    (test,) = made_together([np.arange(15)], created, num_posts, seed=0)
    assert test is not None and test.p_value > 0.05


def test_chance_alone_gives_even_p_values() -> None:
    rng = np.random.default_rng(3)
    created = dict(enumerate((rng.uniform(0, 300, 400) * DAY).astype(int).tolist()))
    groups = [rng.choice(400, 25, replace=False) for _ in range(60)]
    p = [test.p_value for test in made_together(groups, created, rng.integers(1, 500, 400), seed=0) if test is not None]
    assert len(p) == 60
    assert np.mean(np.array(p) <= 0.1) <= 0.25 and np.mean(p) == pytest.approx(0.5, abs=0.15)


def test_too_few_known_days_say_nothing() -> None:
    assert made_together([np.arange(9)], {}, np.ones(9), seed=0) == [None]
    assert made_together([np.arange(9)], dict.fromkeys(range(MIN_DATED - 1), 0), np.ones(9), seed=0) == [None]


def test_a_campaign_shows_it_after_the_evidence_that_counts(tmp_path: Path) -> None:
    board, rng = Board(), np.random.default_rng(4)
    ordinary(board, rng)
    members = [f"m{number}" for number in range(10)]
    copy_paste(board, rng, members, waves=16, jitter_s=60)
    created = dict.fromkeys(members, 100 * DAY) | {f"o{number}": number * 9 * DAY for number in range(120)}
    plain, dated = (run_scan(board, tmp_path / str(bool(known)), created=known) for known in ({}, created))
    assert labelled(plain) == labelled(dated) == set(members)
    one = next(campaign for campaign in dated.campaigns if campaign.labelled)
    assert one.evidence[-1].test == "creation" and one.evidence[-1].observed == 45 and one.evidence[-1].q_value < 0.01
    assert one.evidence[:-1] == next(campaign for campaign in plain.campaigns if campaign.labelled).evidence


def test_the_file_of_days_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    file = tmp_path / "created.csv"
    file.write_text("account,created_at\nann,1970-01-02\nbob,1970-01-01T01:00:00+01:00\n")
    assert read_created(file) == {"ann": DAY, "bob": 0}
    file.write_text("account,created_at\nann,last May\n")
    with pytest.raises(DataError, match=r"line 2: created_at='last May' is no time"):
        read_created(file)
    file.write_text("account,created_at\nann,2020-01-01\nann,2021-01-01\n")
    with pytest.raises(DataError, match=r"line 3: 'ann' has created_at '2020-01-01' and '2021-01-01'; keep one"):
        read_created(file)
    file.write_text("account,made\n")
    with pytest.raises(DataError, match="no column 'created_at'"):
        read_created(file)
