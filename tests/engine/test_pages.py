"""Pages: none is lost, a known beginning is found again, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.engine.pages import PAGE_TOKENS, ROOT, PagePool, num_pages_for

PART = tuple(range(PAGE_TOKENS))
OTHER = (*PART[:-1], 99)


def take(pool: PagePool) -> int:
    page = pool.take()
    assert page is not None
    return page


def test_pages_needed_are_rounded_up() -> None:
    assert [num_pages_for(n) for n in (0, 1, PAGE_TOKENS, PAGE_TOKENS + 1)] == [0, 1, 1, 2]


def test_known_beginning_is_found_and_another_is_not() -> None:
    pool = PagePool(4)
    page = take(pool)
    node = pool.publish(page, ROOT, PART)
    assert pool.find(ROOT, PART) == (page, node)
    assert pool.find(ROOT, OTHER) is None and pool.find(node, PART) is None
    pool.check([[page], [page]])


def test_released_page_stays_known_until_room_is_needed() -> None:
    pool = PagePool(2)
    page = take(pool)
    pool.publish(page, ROOT, PART)
    pool.release([page])
    assert pool.num_free == 2 and pool.find(ROOT, PART) is not None
    pool.release([page])
    others = [take(pool), take(pool)]
    assert sorted(others) == [0, 1] and pool.take() is None
    assert pool.find(ROOT, PART) is None
    pool.check([others])


def test_page_given_to_another_text_is_not_found_through_its_old_neighbours() -> None:
    pool = PagePool(2)
    first = take(pool)
    node = pool.publish(first, ROOT, PART)
    second = take(pool)
    pool.publish(second, node, OTHER)
    pool.release([first])
    again = take(pool)  # `first`, with another text
    assert again == first
    new_node = pool.publish(again, ROOT, OTHER)
    assert new_node != node and pool.find(new_node, OTHER) is None


def test_second_page_of_the_same_text_is_not_published() -> None:
    pool = PagePool(2)
    pages = [take(pool), take(pool)]
    assert pool.publish(pages[0], ROOT, PART) == pool.publish(pages[1], ROOT, PART)
    pool.release(pages)
    pool.check()
    assert pool.find(ROOT, PART) is not None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60))
def test_free_idle_and_used_pages_are_always_all(actions: list[tuple[int, int]]) -> None:
    pool, held = PagePool(5), []
    for kind, which in actions:
        if kind == 0 and (page := pool.take()) is not None:
            held.append(page)
        elif kind == 1 and held and (page := held[which % len(held)]) not in pool._key_of:
            pool.publish(page, which % 2, (which,) * PAGE_TOKENS)
        elif kind == 2 and (found := pool.find(which % 2, (which,) * PAGE_TOKENS)) is not None:
            held.append(found[0])
        elif kind == 3 and held:
            pool.release([held.pop(which % len(held))])
        pool.check([[page] for page in held])
        assert pool.num_free + pool.num_used == pool.total
    pool.release(held)
    pool.forget()
    pool.check()
    assert pool.num_free == 5


def test_lost_page_is_noticed() -> None:
    pool = PagePool(3)
    page = take(pool)
    with pytest.raises(AssertionError, match="differ from what"):
        pool.check([])
    pool.check([[page]])
