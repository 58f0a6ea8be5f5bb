"""Fast paths of the scan against slow and obvious twins: the same results, exactly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.integrity import shared
from agora.integrity.detect import Actions, _by_group
from agora.integrity.episodes import contains
from agora.integrity.shared import joined_by_bands
from agora.integrity.timing import subsets


def slow_join(bands: np.ndarray) -> list[int]:
    """One number for everything joined, directly or in a chain; partners as buckets show them."""
    texts = np.unique(bands, axis=0)
    group = list(range(len(texts)))
    for band in range(texts.shape[1]):
        order = np.lexsort((texts[:, (band + 1) % texts.shape[1]], texts[:, band])).tolist()
        first = None
        for place, row in enumerate(order):
            if place == 0 or texts[order[place - 1], band] != texts[row, band]:
                first = row
                continue
            for other in (first, order[place - 1]):
                if (texts[other] == texts[row]).sum() >= 2:
                    old, new = group[row], group[other]
                    group = [new if one == old else one for one in group]
    where = {tuple(row): group[number] for number, row in enumerate(texts.tolist())}
    return [where[tuple(row)] for row in bands.tolist()]


@pytest.mark.parametrize("block", [3, 1 << 18])
@given(seed=st.integers(0, 10_000), count=st.integers(1, 40))
def test_texts_are_joined_as_the_slow_twin_joins_them(block: int, seed: int, count: int) -> None:
    bands = np.random.default_rng(seed).integers(1, 5, (count, 6)).astype(np.uint64)
    before, shared._BLOCK = shared._BLOCK, block  # type: ignore[misc]
    try:
        posts, joined = joined_by_bands(np.arange(count), bands)
    finally:
        shared._BLOCK = before  # type: ignore[misc]
    assert posts.tolist() == list(range(count))
    expected = slow_join(bands)
    assert len(set(zip(joined.tolist(), expected, strict=True))) == len(set(joined.tolist())) == len(set(expected))


@given(st.integers(0, 10_000))
def test_actions_are_cut_by_group_as_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group_of = rng.integers(0, 4, 20).astype(np.int32)
    account = rng.integers(0, 20, 60).astype(np.int32)
    actions = Actions(account, np.arange(60), np.arange(60), np.full(60, "text"), rng.integers(0, 9, 60))
    for number, part in enumerate(_by_group(actions, group_of, 4)):
        expected = actions.of(np.flatnonzero(group_of == number).astype(np.int32))
        assert part.post.tolist() == expected.post.tolist()
        assert part.burst.tolist() == expected.burst.tolist()


@given(st.lists(st.integers(0, 50)), st.lists(st.integers(0, 50)))
def test_contains_is_membership(ordered: list[int], values: list[int]) -> None:
    found = contains(np.array(sorted(ordered), np.int64), np.array(values, np.int64))
    assert found.tolist() == [value in ordered for value in values]


@pytest.mark.parametrize(("size", "members"), [(6, 2), (5, 4), (40, 3)])
def test_every_member_is_drawn_equally_often_and_none_twice(size: int, members: int) -> None:
    drawn = subsets(size, members, 20_000, np.random.default_rng(3))
    assert (np.diff(drawn, axis=1) > 0).all()
    share = np.bincount(drawn.ravel(), minlength=size) / 20_000
    assert np.abs(share - members / size).max() < 0.02  # five standard errors of a share
