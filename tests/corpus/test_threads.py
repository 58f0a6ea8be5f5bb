"""Replies become chains: every post once, parents before replies, held-out authors apart."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agora.corpus.threads import document_order, find_chains, find_parents, heldout_authors


def chains(parent: list[int], authors: list[int]) -> list[list[int]]:
    """Documents as lists of posts, by first post. Rank is the index."""
    size = len(parent)
    found = find_chains(np.array(parent, dtype=np.int64), np.array(authors, dtype=np.uint64), np.arange(size))
    order = np.lexsort((found.place, found.head))
    documents: dict[int, list[int]] = {}
    for index in order:
        documents.setdefault(int(found.head[index]), []).append(int(index))
    return list(documents.values())


def slow_chains(parent: list[int], authors: list[int]) -> list[list[int]]:
    """The obvious twin: recursion over children."""
    children: dict[int, list[int]] = {}
    for index, above in enumerate(parent):
        children.setdefault(above, []).append(index)

    def height(node: int) -> int:
        return max((height(child) + 1 for child in children.get(node, [])), default=0)

    documents, heads = [], list(children.get(-1, []))
    while heads:
        document = [heads.pop()]
        while below := children.get(document[-1]):
            chosen = min(below, key=lambda child: (authors[child] != authors[document[-1]], -height(child), child))
            heads += [child for child in below if child != chosen]
            document.append(chosen)
        documents.append(document)
    return sorted(documents)


def test_a_chain_goes_on_with_the_same_author_then_the_longest_then_the_earliest() -> None:
    assert chains([-1, 0, 0], [1, 2, 1]) == [[0, 2], [1]]
    assert chains([-1, 0, 0, 2], [1, 2, 3, 2]) == [[0, 2, 3], [1]]
    assert chains([-1, 0, 0], [1, 2, 3]) == [[0, 1], [2]]


FORESTS = st.integers(1, 25).flatmap(
    lambda size: st.tuples(
        st.tuples(*(st.integers(-1, index - 1) for index in range(size))), st.lists(st.integers(0, 3), min_size=size, max_size=size)
    )
)


@given(FORESTS)
def test_chains_agree_with_recursion_and_use_each_post_once(forest: tuple[tuple[int, ...], list[int]]) -> None:
    parent, authors = list(forest[0]), forest[1]
    found = chains(parent, authors)
    assert found == slow_chains(parent, authors)
    assert sorted(index for document in found for index in document) == list(range(len(parent)))


def test_a_chain_of_many_replies_is_one_document() -> None:
    size = 5000
    assert chains([-1, *range(size - 1)], [0] * size) == [list(range(size))]


def parents(refs: list[int], times: list[int], heldout: list[bool]) -> list[int]:
    size = len(refs)
    ids = np.arange(100, 100 + size, dtype=np.uint64)
    target = np.array([ids[ref] if ref >= 0 else 7 for ref in refs], dtype=np.uint64)
    is_reply = np.array([ref != -1 for ref in refs])
    return find_parents(ids, target, is_reply, np.array(times), np.array(heldout)).tolist()


def test_replies_find_their_posts_and_damaged_links_are_cut() -> None:
    assert parents([-1, 0, 1], [0, 1, 2], [False] * 3) == [-1, 0, 1]
    assert parents([-1, -2], [0, 1], [False] * 2) == [-1, -1], "a post that is not there"
    assert parents([1, -1], [0, 5], [False] * 2) == [-1, -1], "answered before it was written"
    assert parents([1, 0], [3, 3], [False] * 2) == [-1, -1], "a circle"
    assert parents([0], [3], [False]) == [-1], "itself"


@given(st.lists(st.tuples(st.integers(-1, 14), st.integers(0, 2), st.booleans()), min_size=15, max_size=15))
def test_links_never_cross_the_held_out_border_nor_go_round(posts: list[tuple[int, int, bool]]) -> None:
    heldout = [post[2] for post in posts]
    found = parents([post[0] for post in posts], [post[1] for post in posts], heldout)
    for child in range(len(found)):
        seen = {child}
        while found[child] >= 0:
            assert heldout[child] == heldout[found[child]]
            child = found[child]
            assert child not in seen
            seen.add(child)


def test_held_out_authors_depend_on_nothing_else_and_grow_with_the_share() -> None:
    authors = np.random.default_rng(1).integers(0, 2**63, size=20_000).astype(np.uint64)
    small, large = heldout_authors(authors, 0.01, 0), heldout_authors(authors, 0.05, 0)
    assert abs(small.mean() - 0.01) < 0.003
    assert not (small & ~large).any()
    assert (heldout_authors(authors[::-1], 0.05, 0) == large[::-1]).all()
    assert (heldout_authors(authors, 0.05, 1) != large).any()
    assert not heldout_authors(authors, 0.0, 0).any()
    assert heldout_authors(authors, 1.0, 0).all()


def test_documents_stay_together_in_their_order() -> None:
    order, key = document_order(np.array([0, 1, 0, 3]), np.array([0, 0, 1, 0]), np.array([9, 8, 7, 6], dtype=np.uint64), 0)
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert order.tolist().index(2) == order.tolist().index(0) + 1
    assert key[0] == key[2]
