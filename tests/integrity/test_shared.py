"""Who shared what: halves, the joining of near duplicates, and that the order of posts does not matter."""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.integrity.collect import collect
from agora.integrity.shared import HALF_BLOCK_S, joined_by_bands, shared
from tests.integrity.boards import Board, ordinary

Row = tuple[int, str, str, int]


@pytest.fixture(scope="module")
def busy() -> Board:
    board = Board()
    rng = np.random.default_rng(5)
    ordinary(board, rng, accounts=40, days=4, per_account=5, stories=20)
    for copy in range(40):
        text = ("four plain words here", "a longer text of many more plain words that people copy and paste")[copy % 2]
        kind = ("post", "reply", "quote")[copy % 3]
        ref = None if kind == "post" else f"b{rng.integers(50)}"
        board.post(f"o{copy}", 86_400 * (copy % 4) + int(rng.integers(1000)), f"{text} {copy // 4}", kind=kind, ref_id=ref)
    return board


def facts(board: Board, work: Path, **options: Any) -> dict[str, set[tuple[Any, ...]]]:
    """Per signal: (key, account, time, post id, half) of every share."""
    posts = collect(board.batches(options.pop("size", None)), work)
    result = {}
    for name, one in shared(posts, **options).items():
        ids, names = posts.values("id", one.post), posts.names.take(one.account).to_pylist()
        result[name] = set(zip(one.key[one.artefact].tolist(), names, one.time_s.tolist(), ids, one.half.tolist(), strict=True))
        assert len(result[name]) == len(one.post)
    return result


def test_a_post_is_in_one_half_only(busy: Board, tmp_path: Path) -> None:
    half_of: dict[str, set[int]] = defaultdict(set)
    for rows in facts(busy, tmp_path).values():
        for _, _, _, post, half in rows:
            half_of[post].add(half)
    assert {len(halves) for halves in half_of.values()} == {1}
    assert {half for halves in half_of.values() for half in halves} == {0, 1}


def test_copies_of_a_text_within_half_a_day_are_in_one_half(busy: Board, tmp_path: Path) -> None:
    found = facts(busy, tmp_path)
    for name in ("near_text", "text"):
        halves: dict[tuple[int, int], set[int]] = defaultdict(set)
        for key, _, at, _, half in found[name]:
            halves[key, at // HALF_BLOCK_S].add(half)
        assert len(halves) > 5
        assert {len(both) for both in halves.values()} == {1}, name


def test_reposts_of_a_post_within_half_a_day_are_in_one_half(busy: Board, tmp_path: Path) -> None:
    reposts = {row["id"] for row in busy.rows if row["kind"] == "repost"}
    halves: dict[tuple[int, int], set[int]] = defaultdict(set)
    for key, _, at, post, half in facts(busy, tmp_path)["repost"]:
        if post in reposts:
            halves[key, at // HALF_BLOCK_S].add(half)
    assert {len(both) for both in halves.values()} == {1}


def test_order_and_size_of_batches_do_not_matter(busy: Board, tmp_path: Path) -> None:
    expected = facts(busy, tmp_path / "one")
    assert facts(busy, tmp_path / "two", size=37) == expected
    other = Board()
    other.rows = random.Random(0).sample(busy.rows, len(busy.rows))
    assert facts(other, tmp_path / "three", size=101) == expected


def test_another_seed_gives_other_halves(busy: Board, tmp_path: Path) -> None:
    one, two = (facts(busy, tmp_path / str(seed), seed=seed)["repost"] for seed in (0, 1))
    assert {row[:4] for row in one} == {row[:4] for row in two}
    assert 0.3 < len(one & two) / len(one) < 0.7


def test_a_key_of_one_account_alone_is_no_artefact(tmp_path: Path) -> None:
    board = Board()
    for at in range(5):
        board.post("ann", at, "the same words again and again", urls=["https://a.example"])
    assert all(len(one.post) == 0 for one in shared(collect(board.batches(), tmp_path)).values())


def slow_union(bands: np.ndarray) -> list[int]:
    """Posts that share two bands, directly or in a chain, have one number."""
    number = list(range(len(bands)))
    for i in range(len(bands)):
        for j in range(i):
            if (bands[i] == bands[j]).sum() >= 2:
                number = [number[j] if n == number[i] else n for n in number]
    return number


@given(st.lists(st.lists(st.integers(0, 2), min_size=4, max_size=4), min_size=1, max_size=9))
def test_texts_without_two_bands_in_common_are_never_joined_and_equal_ones_always(rows: list[list[int]]) -> None:
    bands = np.array(rows, np.uint64) * np.uint64(10) + np.arange(4, dtype=np.uint64)  # values of one band never stand in another
    posts, keys = joined_by_bands(np.arange(len(bands)), bands)
    assert posts.tolist() == list(range(len(bands)))
    union = slow_union(bands)
    for i in range(len(bands)):
        for j in range(i):
            if keys[i] == keys[j]:
                assert union[i] == union[j]
            if (bands[i] == bands[j]).all():
                assert keys[i] == keys[j]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=25), st.integers(0, 2**32))
def test_copies_of_templates_are_joined_as_the_slow_union_does(template: list[int], seed: int) -> None:
    """Each text keeps four of its template's six bands, so neighbours in a bucket share two or more."""
    rng = np.random.default_rng(seed)
    bands = np.array([[t * 100 + b for b in range(6)] for t in template], np.uint64)
    for row, number in enumerate(rng.integers(0, 6, len(template))):
        bands[row, number] = 10_000 + row
    _, keys = joined_by_bands(np.arange(len(bands)), bands)
    union = slow_union(bands)
    assert all((keys[i] == keys[j]) == (union[i] == union[j]) for i in range(len(bands)) for j in range(i))


def test_two_groups_that_share_one_band_stay_apart() -> None:
    bands = np.array([[1, 2, 3], [1, 2, 3], [1, 5, 6], [1, 5, 6]], np.uint64)
    _, keys = joined_by_bands(np.arange(4), bands)
    assert keys[0] == keys[1] != keys[2] == keys[3]
