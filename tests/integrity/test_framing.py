"""Attackers who want others labelled: they copy innocents within seconds, with decoys, or join a community and copy what it does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.integrity.boards import Board, copy_paste, labelled, ordinary, run_scan, sentence

DAY = 86_400.0
ATTACKERS = [f"attacker{number}" for number in range(8)]
DECOYS = [f"decoy{number}" for number in range(4)]


def busy_square(seed: int) -> tuple[Board, np.random.Generator]:
    board, rng = Board(), np.random.default_rng(seed)
    ordinary(board, rng)
    return board, rng


def own_words(board: Board, rng: np.random.Generator, who: list[str]) -> None:
    for name in who:
        for at in rng.uniform(0, 14 * DAY, 40):
            board.post(name, at, sentence(rng))


def shared_by(board: Board, name: str, at: float, kind: str, what: str) -> None:
    if kind == "repost":
        board.repost(name, at, what, f"outlet{what[-1]}")
    else:
        board.post(name, at, f"{name} {at:.0f} says {what[-6:]}", urls=[what])


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["repost", "link"])
@pytest.mark.parametrize("decoys_before_s", [30, 600, 3600])
def test_a_decoy_that_is_first_takes_no_protection_away(tmp_path: Path, seed: int, kind: str, decoys_before_s: int) -> None:
    """Decoys pass on everything of an outlet before the victim does; the attackers follow the victim within seconds."""
    board, rng = busy_square(seed)
    own_words(board, rng, [*DECOYS, *ATTACKERS, "victim"])
    for at in rng.uniform(0, 13.5 * DAY, 60):
        what = board.post(f"outlet{len(board.rows) % 10}", at, sentence(rng)) if kind == "repost" else f"https://news.example/{at:.0f}"
        shared = at + 3700 + rng.exponential(1200)
        for name in DECOYS:
            shared_by(board, name, shared - rng.uniform(0.5, 1) * decoys_before_s, kind, what)
        shared_by(board, "victim", shared, kind, what)
        for name in rng.choice(ATTACKERS, 5, replace=False):
            shared_by(board, str(name), shared + rng.uniform(2, 20), kind, what)
    assert labelled(run_scan(board, tmp_path)) <= {*ATTACKERS, *DECOYS}


def fan_club(board: Board, rng: np.random.Generator, who: list[str]) -> tuple[list[tuple[str, float, str]], pa.Table]:
    """Fans whom an alert tells of every post of their idol; what they passed on, and the follow graph."""
    acts = []
    for at in rng.uniform(0, 13.5 * DAY, 50):
        ref = board.post("idol", at, sentence(rng))
        for name in who:
            if rng.random() < 0.6:
                acts.append((name, at + 15 + rng.exponential(90), ref))
    for name, when, ref in acts:
        board.repost(name, when, ref, "idol")
    return acts, pa.table({"follower": who, "followed": ["idol"] * len(who)})


def colleagues(board: Board, rng: np.random.Generator, who: list[str]) -> tuple[list[tuple[str, float, str]], None]:
    """Colleagues who pass on the posts of three bosses in the break, every day."""
    acts = []
    for day in range(14):
        for boss in range(3):
            ref = board.post(f"boss{boss}", day * DAY + 9 * 3600 + rng.uniform(0, 3600), sentence(rng))
            acts += [(name, day * DAY + 10 * 3600 + rng.uniform(0, 1200), ref) for name in who if rng.random() < 0.7]
    for name, when, ref in acts:
        board.repost(name, when, ref)
    return acts, None


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("community", [fan_club, colleagues], ids=lambda make: make.__name__)
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_attackers_who_join_an_explained_community_do_not_get_it_labelled(
    tmp_path: Path, community: Callable[..., tuple[list[tuple[str, float, str]], pa.Table | None]], seed: int, share: float
) -> None:
    """They copy what the community does, at once, and run a campaign of their own besides."""
    board, rng = busy_square(seed)
    who = [f"member{number}" for number in range(14)]
    own_words(board, rng, who)
    acts, follows = community(board, rng, who)
    for _, when, ref in acts:
        for name in rng.choice(ATTACKERS, rng.binomial(len(ATTACKERS), share), replace=False):
            board.repost(str(name), when + rng.uniform(2, 40), ref)
    copy_paste(board, rng, ATTACKERS, waves=16, jitter_s=60)
    result = labelled(run_scan(board, tmp_path, follows=follows))
    assert result <= set(ATTACKERS)
    assert len(result) >= 6


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("extra", [2, 4])
def test_a_few_copied_posts_take_no_explanation_away(tmp_path: Path, seed: int, extra: int) -> None:
    """Attackers take part in the habit of colleagues, and copy within seconds what each of them passes on at other times."""
    board, rng = busy_square(seed)
    who = [f"clerk{number}" for number in range(14)]
    own_words(board, rng, [*who, *ATTACKERS])
    for day in range(14):
        for boss in range(3):
            ref = board.post(f"boss{boss}", day * DAY + 9 * 3600 + rng.uniform(0, 3600), sentence(rng))
            for name in [*who, *ATTACKERS]:
                if rng.random() < 0.6:
                    board.repost(name, day * DAY + 10 * 3600 + rng.uniform(0, 1200), ref, f"boss{boss}")
    for name in who:
        for at in rng.uniform(0, 13.5 * DAY, extra):
            outlet = f"outlet{len(board.rows) % 10}"
            ref = board.post(outlet, at, sentence(rng))
            shared = at + 60 + rng.exponential(1200)
            board.repost(name, shared, ref, outlet)
            for attacker in rng.choice(ATTACKERS, 5, replace=False):
                board.repost(str(attacker), shared + rng.uniform(2, 20), ref, outlet)
    assert labelled(run_scan(board, tmp_path)) <= set(ATTACKERS)
