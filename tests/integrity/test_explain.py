"""Each explanation, holding and not holding."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agora.integrity.collect import collect
from agora.integrity.detect import Actions
from agora.integrity.explain import Square, explanations, feeds
from agora.integrity.records import Explanation
from tests.integrity.boards import Board

DAY = 86_400
NAMES = ["ann", "bob", "cid", "dan", "eve"]


def explained(
    board: Board, work: Path, *, signal: str = "text", follows: list[tuple[str, str]] | None = None, declared: dict[str, str] | None = None,
    members: list[str] = NAMES, num_links: int = 0,
) -> dict[str, Explanation]:  # fmt: skip
    """All checks of a group all of whose posts are evidence."""
    posts = collect(board.batches(), work)
    code = {name: number for number, name in enumerate(posts.names.to_pylist())}
    accounts = np.array([code[name] for name in members], np.int32)
    mine = np.flatnonzero(np.isin(posts.account, accounts))
    actions = Actions(posts.account[mine], mine, posts.time_s[mine] // 3600, np.full(len(mine), signal), np.zeros(len(mine), np.int64))
    edges = None if follows is None else np.sort(np.array([code[a] * len(code) + code[b] for a, b in follows], np.int64))
    has_link = np.array([bool(row.get("urls")) for row in board.rows])
    is_reply = np.array([row["kind"] == "reply" for row in board.rows])
    square = Square(edges, {code[name]: owner for name, owner in (declared or {}).items()}, {}, has_link, feeds(posts, has_link, is_reply))
    artefacts: list[Any] = [SimpleNamespace(signal="link", key=number) for number in range(num_links)]
    artefacts.append(SimpleNamespace(signal="text", key=1))
    return {one.name: one for one in explanations(accounts, actions, artefacts, posts, square)}


def waves(board: Board, times: list[float], jitter_s: float, **more: Any) -> Board:
    for wave, at in enumerate(times):
        for number, name in enumerate(NAMES):
            board.post(name, at + number * jitter_s / len(NAMES), f"words of wave {wave}", **more)
    return board


RANDOM_TIMES = [0.1 * DAY, 1.7 * DAY, 3.4 * DAY, 5.95 * DAY, 8.2 * DAY, 9.55 * DAY]
DAILY_TIMES = [day * DAY + 9 * 3600 for day in range(6)]


def fans(jitter_s: float, idols: list[str]) -> Board:
    board = Board()
    for name in idols:
        board.post(name, 0, "hello")
    for wave, at in enumerate(RANDOM_TIMES):
        for number, name in enumerate(NAMES):
            board.repost(name, at + 7 + number * jitter_s / len(NAMES), f"p{wave}", idols[wave % len(idols)])
    return board


@pytest.mark.parametrize(
    ("board", "follows", "holds"),
    [
        (fans(60, ["star"]), None, True),
        (fans(60, ["star"]), [(name, "star") for name in NAMES[:3]], True),
        (fans(60, ["star"]), [(name, "star") for name in NAMES[:2]], False),
        (fans(4, ["star"]), None, False),
        (fans(60, ["star", "moon"]), None, False),
    ],
    ids=["graph unknown", "most follow", "few follow", "faster than people", "two idols"],
)
def test_all_follow_one_account(board: Board, follows: Any, holds: bool, tmp_path: Path) -> None:
    assert explained(board, tmp_path, signal="repost", follows=follows)["all follow one account"].holds is holds


@pytest.mark.parametrize(("declared", "holds"), [(4, True), (3, False), (0, False)])
def test_one_declared_organisation(declared: int, holds: bool, tmp_path: Path) -> None:
    found = explained(waves(Board(), RANDOM_TIMES, 60), tmp_path, declared=dict.fromkeys(NAMES[:declared], "Harbour Press"))
    assert found["one declared organisation"].holds is holds


def test_a_syndication_client_posts_little_but_links_to_ever_new_pages(tmp_path: Path) -> None:
    outlets = waves(Board(), RANDOM_TIMES, 60, urls=["https://a.example"])
    assert explained(outlets, tmp_path / "1", num_links=6)["a syndication client"].holds
    assert not explained(waves(Board(), RANDOM_TIMES, 60), tmp_path / "2", num_links=6)["a syndication client"].holds
    for name in NAMES:
        for at in range(10):
            outlets.post(name, at * 5000, "words of my own")
    assert not explained(outlets, tmp_path / "3", num_links=6)["a syndication client"].holds


@pytest.mark.parametrize(("members", "holds"), [(NAMES[:3], True), (NAMES[:4], False)])
def test_one_author_with_a_few_accounts(members: list[str], holds: bool, tmp_path: Path) -> None:
    assert explained(waves(Board(), RANDOM_TIMES, 60), tmp_path, members=members)["one author"].holds is holds


@pytest.mark.parametrize(("times", "holds"), [([0, 2 * 3600, 20 * 3600], True), ([0, 2 * 3600, 30 * 3600], False)])
def test_one_event(times: list[float], holds: bool, tmp_path: Path) -> None:
    assert explained(waves(Board(), times, 60), tmp_path)["one event"].holds is holds


@pytest.mark.parametrize(
    ("times", "urls", "holds"),
    [
        (DAILY_TIMES, ["https://www.game.example/r/1"], True),
        (RANDOM_TIMES, ["https://www.game.example/r/1"], False),
        (DAILY_TIMES, [], False),
        (DAILY_TIMES[:3], ["https://www.game.example/r/1"], False),
    ],
    ids=["daily with its link", "at any time", "without a link", "too few days"],
)
def test_an_app_writes_for_its_users(times: list[float], urls: list[str], holds: bool, tmp_path: Path) -> None:
    assert explained(waves(Board(), times, 30, urls=urls), tmp_path)["an app writes for its users"].holds is holds


@pytest.mark.parametrize(("times", "jitter_s", "holds"), [(DAILY_TIMES, 600, True), (DAILY_TIMES, 60, False), (RANDOM_TIMES, 600, False)])
def test_a_daily_routine_has_its_hour_and_the_pace_of_people(times: list[float], jitter_s: float, holds: bool, tmp_path: Path) -> None:
    assert explained(waves(Board(), times, jitter_s), tmp_path)["a daily routine"].holds is holds


def test_a_campaign_at_any_time_without_links_is_not_explained(tmp_path: Path) -> None:
    found = explained(waves(Board(), RANDOM_TIMES, 60), tmp_path)
    assert not any(one.holds for one in found.values())
    assert all(one.text.endswith(".") for one in found.values())
