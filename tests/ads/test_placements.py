"""Placements: the eleven sizes, their limits and names."""

from __future__ import annotations

import pytest

from agora.ads.placements import placement_named, placements
from agora.errors import UsageError

SIZES = ["1200x628", "1080x1080", "1080x1350", "1080x1920", "800x418", "300x250", "728x90", "160x600", "300x600", "320x50", "970x250"]


def test_the_eleven_sizes_are_there_each_with_a_source_and_a_date() -> None:
    assert sorted(place.size for place in placements().values()) == sorted(SIZES)
    for place in placements().values():
        assert place.source.startswith("https://") and place.date >= "2026" and place.basis


def test_small_text_is_allowed_on_the_mobile_banner_only() -> None:
    assert {place.size for place in placements().values() if place.min_text_px < 14} == {"320x50"}
    assert placements()["mobile-banner"].min_text_px == 10


def test_safe_areas_lie_inside_and_leave_most_of_the_picture() -> None:
    for place in placements().values():
        left, top, right, bottom = place.safe_px
        assert 0 < left < right < place.width and 0 < top < bottom < place.height
        assert (right - left) * (bottom - top) > 0.5 * place.width * place.height


def test_a_placement_is_found_by_name_and_by_size_and_an_unknown_one_gets_a_hint() -> None:
    assert placement_named("1080x1920") is placement_named("story")
    with pytest.raises(UsageError, match="did you mean 'square'"):
        placement_named("sqare")
