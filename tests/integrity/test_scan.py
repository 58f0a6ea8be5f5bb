"""The whole search: deterministic, resumable, no trouble with odd squares, and every campaign adds up."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from agora.errors import DataError
from agora.integrity.config import IntegrityConfig
from agora.integrity.scan import ScanResult
from agora.posts.simulate import SquareConfig, follow_graph, ground_truth, simulate
from tests.integrity.boards import Board, campaign_of, copy_paste, labelled, ordinary, run_scan

MEMBERS = {f"m{number}" for number in range(12)}


@pytest.fixture(scope="module")
def square() -> Board:
    """Ordinary life and one campaign: twelve accounts paste a text within 40 seconds, on 16 occasions in two weeks."""
    board = Board()
    rng = np.random.default_rng(7)
    ordinary(board, rng)
    copy_paste(board, rng, sorted(MEMBERS), waves=16, jitter_s=40)
    return board


@pytest.fixture(scope="module")
def result(square: Board, tmp_path_factory: pytest.TempPathFactory) -> ScanResult:
    return run_scan(square, tmp_path_factory.mktemp("scan"))


def test_a_copy_paste_campaign_is_found_with_its_members_and_nobody_else(result: ScanResult) -> None:
    assert labelled(result) == MEMBERS
    found = campaign_of(result, MEMBERS)
    assert found is not None and found.state == "duplicated"
    assert {member.account for member in found.members} == MEMBERS


def test_every_action_is_a_post_of_that_account_at_that_time(result: ScanResult, square: Board) -> None:
    posts = {row["id"]: (row["author"], row["created_at"].isoformat()) for row in square.rows}
    for campaign in result.campaigns:
        members = {member.account for member in campaign.members}
        for artefact in campaign.artefacts:
            for action in artefact.actions:
                assert posts[action.post] == (action.account, action.at)
                assert action.is_member == (action.account in members)


def test_counts_of_members_and_outsiders_add_up(result: ScanResult, square: Board) -> None:
    found = campaign_of(result, MEMBERS)
    assert found is not None and found.artefacts
    num_posts = {name: sum(row["author"] == name for row in square.rows) for name in MEMBERS}
    for member in found.members:
        assert member.num_posts == num_posts[member.account]
        assert 3 <= member.num_actions <= member.num_posts
    for artefact in found.artefacts:
        assert artefact.num_members == len({action.account for action in artefact.actions if action.is_member})
        assert artefact.num_outsiders == len({action.account for action in artefact.actions if not action.is_member})
        times = [action.at for action in artefact.actions]
        assert times == sorted(times)


def test_evidence_passes_the_settings_it_was_tested_with(result: ScanResult) -> None:
    for campaign in result.campaigns:
        if campaign.state != "shared_interest":
            assert all(test.q_value <= result.config.q_groups and test.observed <= 1e9 for test in campaign.evidence)
            assert all(member.q_value <= result.config.q_members for member in campaign.members)


def test_outsiders_who_use_the_campaigns_words_later_are_counted_and_not_labelled(tmp_path: Path) -> None:
    board = Board()
    rng = np.random.default_rng(7)
    ordinary(board, rng)
    texts = copy_paste(board, rng, sorted(MEMBERS), waves=16, jitter_s=40)
    for number, (at, text) in enumerate(texts):
        board.post(f"o{number}", at + 9000, text)
    result = run_scan(board, tmp_path)
    assert labelled(result) == MEMBERS
    found = campaign_of(result, MEMBERS)
    assert found is not None
    assert {artefact.num_outsiders for artefact in found.artefacts} == {1}


def test_same_posts_and_seed_same_result_whatever_the_batches(square: Board, result: ScanResult, tmp_path: Path) -> None:
    assert run_scan(square, tmp_path / "a", size=333) == result
    other = Board()
    other.rows = random.Random(1).sample(square.rows, len(square.rows))
    assert run_scan(other, tmp_path / "b", size=501) == result


def test_killed_and_resumed_is_the_same(square: Board, result: ScanResult, tmp_path: Path) -> None:
    batches = square.batches(400)

    def killed() -> Any:
        yield from batches[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scan(killed(), tmp_path)
    assert run_scan(batches, tmp_path) == result


def test_an_account_whose_posts_are_copied_is_a_source_and_not_labelled(tmp_path: Path) -> None:
    board = Board()
    rng = np.random.default_rng(8)
    ordinary(board, rng)
    for wave in range(18):
        at, text = 60_000 * wave + 5000, f"framed words number {wave} about the {' '.join(str(rng.integers(10**6)) for _ in range(6))}"
        board.post("victim", at, text)
        for name in sorted(MEMBERS):
            if rng.random() < 0.8:
                board.post(name, at + 5 + rng.uniform(0, 30), text)
    result = run_scan(board, tmp_path)
    assert labelled(result) == MEMBERS
    found = campaign_of(result, MEMBERS)
    assert found is not None
    assert {m.account for m in found.members if m.is_source} <= {"victim"}


def one_post() -> Board:
    board = Board()
    board.post("ann", 0, "hello to all of you here")
    return board


def one_author() -> Board:
    board = Board()
    for number in range(300):
        board.post("ann", number * 60, "hello to all of you here")
    return board


def two_accounts() -> Board:
    board = Board()
    for number in range(200):
        for name in ("ann", "bob"):
            board.post(name, number * 7200, f"hello to all of you here for the time {number}", urls=["https://a.example"])
    return board


def one_spammer() -> Board:
    board = Board()
    ordinary(board, np.random.default_rng(2), accounts=30, per_account=3, stories=10)
    for number in range(10_000):
        board.post("spammer", number, "buy my lovely new book today please")
    return board


@pytest.mark.parametrize("make", [Board, one_post, one_author, two_accounts, one_spammer])
def test_odd_squares_have_no_campaign(make: Any, tmp_path: Path) -> None:
    board = make()
    result = run_scan(board, tmp_path)
    assert result.num_posts == len(board.rows)
    assert labelled(result) == set()
    assert (result.first_at == "") == (not board.rows)


def test_null_and_empty_texts_and_times_before_1970_are_read(tmp_path: Path) -> None:
    board = Board()
    for wave in range(12):
        for number in range(8):
            at = -3_000_000_000 + wave * 90_000 + number
            board.repost(f"m{number}", at, f"ref{wave}", "star", text=None if number % 2 else "")
    ordinary(board, np.random.default_rng(2), accounts=60, per_account=3, stories=10)
    result = run_scan(board, tmp_path)
    assert result.first_at.startswith("18") or result.first_at.startswith("19")
    assert any(campaign.artefacts for campaign in result.campaigns)


def test_times_of_one_minute_resolution_do_not_make_ordinary_accounts_coordinated(tmp_path: Path) -> None:
    board = Board()
    ordinary(board, np.random.default_rng(11))
    for row in board.rows:
        row["created_at"] = row["created_at"].replace(second=0)
    assert labelled(run_scan(board, tmp_path)) == set()


def test_a_follow_graph_without_its_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="follower"):
        run_scan(one_post(), tmp_path, follows=pa.table({"a": ["x"]}))


def test_declared_organisations_explain_a_group(square: Board, tmp_path: Path) -> None:
    result = run_scan(square, tmp_path, declared=dict.fromkeys(MEMBERS, "Harbour Press") | {"nobody": "X"})
    found = campaign_of(result, MEMBERS)
    assert found is not None and found.state == "explained" and labelled(result) == set()
    assert [check.name for check in found.explanations if check.holds] == ["one declared organisation"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20, 21])
def test_campaigns_of_the_simulated_square_are_found_and_hardly_anybody_else(seed: int, tmp_path: Path) -> None:
    config = SquareConfig(num_posts=200_000, seed=seed)
    truth = {row["author"]: row for row in ground_truth(config).to_pylist()}
    batches = [batch for table in simulate(config) for batch in table.to_batches()]
    found = labelled(run_scan(batches, tmp_path, follows=follow_graph(config)))
    for group in ("amplifiers", "link_farm", "copy_paste"):
        members = {name for name, row in truth.items() if row["group"] == group}
        assert len(found & members) >= 0.9 * len(members), group
    assert sum(truth[name]["is_coordinated"] for name in found) >= 0.95 * len(found)


def test_stricter_settings_find_no_more(square: Board, result: ScanResult, tmp_path: Path) -> None:
    strict = replace(IntegrityConfig(), q_groups=1e-9, q_members=1e-6, min_actions=6)
    assert labelled(run_scan(square, tmp_path, config=strict)) <= labelled(result)
