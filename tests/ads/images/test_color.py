"""Colours: contrast as WCAG defines it, OKLCH there and back, palettes that read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.ads.images.color import SCHEMES, contrast, from_oklch, oklch, palette, rgb
from agora.errors import UsageError

colors = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def test_contrast_of_known_pairs() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@given(colors)
def test_a_colour_goes_through_oklch_and_back(color: str) -> None:
    assert max(abs(a - b) for a, b in zip(rgb(color), rgb(from_oklch(*oklch(color))), strict=True)) <= 3


@given(st.lists(colors, max_size=3), st.sampled_from(SCHEMES))
def test_every_palette_of_every_brand_reads(colours: list[str], scheme: str) -> None:
    made = palette(colours, next(known for known in SCHEMES if known == scheme))
    assert contrast(made.ink, made.ground) >= 4.5
    assert contrast(made.on_accent, made.accent) >= 4.5
    assert contrast(made.muted, made.ground) >= 4.5


def test_the_brand_s_colours_are_used_exactly() -> None:
    made = palette(("#1b2a6b", "#f5b82e"), "bold")
    assert made.ground == "#1b2a6b" and made.accent == "#f5b82e"


def test_a_brand_s_own_dark_and_light_colours_are_the_grounds_of_their_schemes() -> None:
    brand = ("#e4572e", "#17202a", "#f3f0e7")
    assert palette(brand, "dark").ground == "#17202a" and palette(brand, "light").ground == "#f3f0e7"
    assert palette(brand, "dark").carrier == "#e4572e" and palette(brand, "dark").other == "#f3f0e7"
    assert palette(("#e4572e",), "dark").ground not in brand


def test_a_colour_that_is_none_is_named() -> None:
    with pytest.raises(UsageError, match="'blue'"):
        rgb("blue")
