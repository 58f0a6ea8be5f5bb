"""Every signal on hand-written posts: which two posts have a key in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agora.integrity.batch import POST_COLUMNS, PostBatch
from agora.integrity.collect import collect
from agora.integrity.shared import shared
from agora.integrity.signals import signals
from agora.posts.schema import KINDS
from tests.integrity.boards import Board

BY_ID = {signal.id: signal for signal in signals()}


def keys_of(signal: str, posts: list[dict[str, Any]]) -> list[set[int]]:
    board = Board()
    for number, one in enumerate(posts):
        board.post(f"a{number}", number, **({"text": ""} | one))
    found = BY_ID[signal].keys(PostBatch(board.batches()[0]))
    result: list[set[int]] = [set() for _ in posts]
    for row, key in zip(found.rows.tolist(), found.keys.tolist(), strict=True):
        assert key not in result[row], "a pair of post and key stands once"
        result[row].add(key)
    return result


def meet(signal: str, one: dict[str, Any], other: dict[str, Any]) -> bool:
    left, right = keys_of(signal, [one, other])
    return bool(left & right)


def test_links_meet_without_tracking_parameters() -> None:
    assert meet("link", {"urls": ["https://www.A.example/x/?utm_source=q&fbclid=1"]}, {"urls": ["http://a.example/x#top"]})
    assert not meet("link", {"urls": ["https://a.example/x?id=1"]}, {"urls": ["https://a.example/x?id=2"]})


def test_shorteners_are_not_resolved() -> None:
    assert not meet("link", {"urls": ["https://bit.ly/abc"]}, {"urls": ["https://a.example/x"]})


def test_a_link_named_twice_counts_once() -> None:
    assert len(keys_of("link", [{"urls": ["https://a.example/x", "https://a.example/x?utm_source=1"]}])[0]) == 1


def test_links_of_reposts_are_not_the_reposters_own() -> None:
    assert keys_of("link", [{"kind": "repost", "ref_id": "z", "urls": ["https://a.example"]}]) == [set()]


def test_texts_meet_whatever_their_case_punctuation_links_and_handles() -> None:
    one = {"text": "Stop the NEW bridge, now! https://a.example/1 @mayor"}
    assert meet("text", one, {"text": "stop the new bridge now"})
    assert not meet("text", one, {"text": "stop the old bridge now"})


def test_short_texts_are_no_artefacts() -> None:
    assert keys_of("text", [{"text": "good morning all"}, {"text": ""}]) == [set(), set()]
    assert keys_of("near_text", [{"text": "good morning to all"}, {"text": ""}]) == [set(), set()]


def test_hashtags_meet_in_order_and_whatever_their_case() -> None:
    assert meet("hashtags", {"hashtags": ["One", "two"]}, {"hashtags": ["one", "TWO"]})
    assert not meet("hashtags", {"hashtags": ["one", "two"]}, {"hashtags": ["two", "one"]})
    assert keys_of("hashtags", [{"hashtags": ["one"]}, {}]) == [set(), set()]


def test_quotes_count_as_reposts_and_replies_do_not() -> None:
    assert meet("repost", {"kind": "repost", "ref_id": "z"}, {"kind": "quote", "ref_id": "z", "text": "look"})
    assert not meet("repost", {"kind": "repost", "ref_id": "z"}, {"kind": "reply", "ref_id": "z", "text": "look"})
    assert meet("reply", {"kind": "reply", "ref_id": "z"}, {"kind": "reply", "ref_id": "z"})


def test_reposts_of_unknown_posts_do_not_meet() -> None:
    assert keys_of("repost", [{"kind": "repost"}, {"kind": "repost"}]) == [set(), set()]


def test_images_meet_by_address() -> None:
    picture = {"kind": "image", "url": "https://cdn.example/1.jpg", "alt": None}
    assert meet("image", {"media": [picture]}, {"media": [picture | {"alt": "a bridge"}]})
    assert keys_of("image", [{"media": [picture | {"url": None}]}]) == [set()]


def joined(texts: list[str], work: Path) -> bool:
    board = Board()
    for number, text in enumerate(texts):
        board.post(f"a{number}", number, text)
    return len(shared(collect(board.batches(), work))["near_text"].post) == len(texts)


def test_templates_filled_anew_are_near_texts(tmp_path: Path) -> None:
    start = "we the people of the harbour district ask the council to stop the new bridge before it ruins our quiet streets says neighbour"
    assert joined([f"{start} ann", f"{start} bob"], tmp_path / "1")
    assert not joined([start, "a totally different sentence about rivers and lamps and stones in winter light"], tmp_path / "2")


@pytest.mark.parametrize("signal", sorted(BY_ID))
def test_nothing_in_nothing_out_for_empty_batches_and_null_texts(signal: str) -> None:
    empty = PostBatch(_one_post().slice(0, 0))
    assert len(BY_ID[signal].keys(empty).rows) == 0
    for kind in KINDS:
        board = Board()
        board.post("ann", 0, None, kind=kind)
        assert len(BY_ID[signal].keys(PostBatch(board.batches()[0])).rows) == 0


def _one_post() -> Any:
    board = Board()
    board.post("ann", 0)
    return board.batches()[0]


@pytest.mark.parametrize("signal", sorted(BY_ID))
def test_a_signal_of_a_slice_is_the_slice_of_the_signal(signal: str) -> None:
    board = Board()
    for number in range(6):
        board.post(
            f"a{number}", number, f"one two three four five six seven {number // 3}", kind=KINDS[number % 4], ref_id="z",
            urls=["https://a.example"] * (number % 2), hashtags=["x", "y"], media=[{"kind": "image", "url": f"u{number}", "alt": None}],
        )  # fmt: skip
    batch = board.batches()[0]
    whole, part = BY_ID[signal].keys(PostBatch(batch)), BY_ID[signal].keys(PostBatch(batch.slice(2, 3)))
    inside = (whole.rows >= 2) & (whole.rows < 5)
    assert (whole.rows[inside] - 2).tolist() == part.rows.tolist()
    assert np.array_equal(whole.keys[inside], part.keys)


@pytest.mark.parametrize("signal", sorted(BY_ID))
def test_a_signal_declares_itself(signal: str) -> None:
    one = BY_ID[signal]
    assert one.why.endswith(".") and one.outputs and one.false_alarms and one.version >= 1
    assert set(one.inputs) <= set(POST_COLUMNS)
    assert all(0 < rate < 1 for rate in one.organic_bursts.values())


@pytest.mark.parametrize("signal", sorted(BY_ID))
def test_a_signal_reads_no_more_than_it_declares(signal: str) -> None:
    board = Board()
    board.post("ann", 0, "one two three four five six", kind="quote", ref_id="z", urls=["https://a.example"], hashtags=["x", "y"])
    batch = board.batches()[0]
    only = batch.select([name for name in batch.schema.names if name in BY_ID[signal].inputs])
    assert np.array_equal(BY_ID[signal].keys(PostBatch(only)).keys, BY_ID[signal].keys(PostBatch(batch)).keys)
