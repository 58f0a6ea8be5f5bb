"""Times, texts and identities as every reader checks them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import RecordError
from agora.posts.schema import posts_table
from agora.posts.sources.record import clean_text, make_post, parse_time, to_microseconds

GOOD: dict[str, Any] = {"source": "test", "id": "1", "author": "a", "created_at_us": 1_600_000_000_000_000, "text": "t"}


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        ("Tue Jan 25 16:41:04 +0000 2022", "2022-01-25T16:41:04+00:00"), ("Tue Jan 25 16:41:04 +0530 2022", "2022-01-25T11:11:04+00:00"),
        ("2013-05-31 15:38:07 +0000", "2013-05-31T15:38:07+00:00"), ("2014-04-16T14:10:50.950-04:00", "2014-04-16T18:10:50.950000+00:00"),
        ("2026-07-04T14:38:06.240Z", "2026-07-04T14:38:06.240000+00:00"), ("2012-02-22T20:26:41", "2012-02-22T20:26:41+00:00"),
        ("2020-01-01 10:00:00 UTC", "2020-01-01T10:00:00+00:00"), (1700000000, "2023-11-14T22:13:20+00:00"),
        (1700000000123, "2023-11-14T22:13:20.123000+00:00"), (1783175888085434, "2026-07-04T14:38:08.085434+00:00"),
        ("1700000000", "2023-11-14T22:13:20+00:00"), (1410935671.0, "2014-09-17T06:34:31+00:00"),
    ],
)  # fmt: skip
def test_times_of_every_platform(value: Any, iso: str) -> None:
    assert parse_time(value) == to_microseconds(datetime.fromisoformat(iso))


@pytest.mark.parametrize("value", ["yesterday", "Tue Foo 25 16:41:04 +0000 2022", True, 1e300, float("nan"), [], {}, "2022-13-01", 10**40])
def test_time_that_cannot_be_read_is_refused(value: Any) -> None:
    with pytest.raises(RecordError, match="time not understood: "):
        parse_time(value)


@pytest.mark.parametrize("value", [None, ""])
def test_missing_time_is_named(value: Any) -> None:
    with pytest.raises(RecordError, match="no time: "):
        parse_time(value)


@pytest.mark.parametrize("value", [0, "1970-01-01T00:00:00Z", "1989-12-31T23:59:59Z", "2970-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
def test_implausible_time_is_refused(value: Any) -> None:
    with pytest.raises(RecordError, match="time out of range: "):
        make_post(**GOOD | {"created_at_us": parse_time(value)})


def test_a_clock_a_day_ahead_is_plausible_and_a_week_is_not() -> None:
    now = datetime.fromtimestamp(time.time(), timezone.utc)
    make_post(**GOOD | {"created_at_us": to_microseconds(now + timedelta(days=1))})
    with pytest.raises(RecordError, match="time out of range"):
        make_post(**GOOD | {"created_at_us": to_microseconds(now + timedelta(days=7))})


@given(st.datetimes(datetime(1990, 1, 1), datetime(2026, 1, 1), timezones=st.just(timezone.utc)))
def test_iso_times_are_exact_to_the_microsecond(value: datetime) -> None:
    assert parse_time(value.isoformat()) == to_microseconds(value)
    row = make_post(**GOOD | {"created_at_us": parse_time(value.isoformat())})
    assert posts_table([row])["created_at"][0].as_py() == value


@given(st.text(st.characters(exclude_categories=()), max_size=30))
def test_any_text_can_be_stored(text: str) -> None:
    row = make_post(**GOOD | {"text": text, "urls": [text], "lang": text})
    stored = posts_table([row])["text"][0].as_py()
    assert stored == clean_text(text) and "\0" not in stored
    assert clean_text(stored) == stored


def test_half_a_surrogate_pair_becomes_the_replacement_character_and_a_pair_becomes_whole() -> None:
    assert clean_text("cut \ud83d") == "cut \ufffd"
    assert clean_text("\ud83c\udf3f ok") == "\U0001f33f ok"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "no id"), ({"id": " "}, "no id"), ({"author": ""}, "no author"), ({"author": None}, "no author"),
        ({"text": None}, "no text"),
        ({"id": "a\0b"}, "id is not text"), ({"author": "\ud800"}, "author is not text"), ({"kind": "like"}, "unknown kind"),
        ({"id": "x" * 5000}, "id too long"), ({"id": True}, "no id"), ({"ref_id": {"a": 1}}, "no ref_id"), ({"text": 5}, "no text"),
    ],
)  # fmt: skip
def test_record_without_an_identity_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        make_post(**GOOD | change)
    assert str(caught.value).partition(": ")[0] == reason


def test_numbers_are_taken_as_identities() -> None:
    row = make_post(**GOOD | {"id": 804056047770071044, "ref_id": 7})
    assert (row["id"], row["ref_id"]) == ("804056047770071044", "7")


@pytest.mark.parametrize("item", [5, None, "image", {"kind": 5}, {"url": "https://a.example"}])
def test_media_of_another_shape_is_refused(item: Any) -> None:
    with pytest.raises(RecordError, match="media not understood"):
        make_post(**GOOD, media=[item])


def test_media_hold_no_half_surrogates() -> None:
    row = make_post(**GOOD, media=[{"kind": "im\ud83dage", "url": "https://a.example/\ud83d", "alt": None}])
    assert posts_table([row]).num_rows == 1
