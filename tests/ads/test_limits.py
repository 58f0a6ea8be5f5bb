"""Widths of texts as platforms count them."""

from __future__ import annotations

import pytest

from agora.ads.limits import excess, has_emoji, platforms, platforms_named, width_of
from agora.errors import UsageError

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "x", "google"),
    [
        ("abc", 3, 3), ("日本", 4, 4), ("ｶﾀ", 4, 2), ("e\u0301", 1, 1), ("한글", 4, 4), (FAMILY, 2, 8), ("\U0001f1e9\U0001f1ea", 2, 4),
        ("a – b", 5, 5), ("€", 2, 1), ("１", 2, 2),
    ],
)  # fmt: skip
def test_platforms_count_by_their_own_rules(text: str, x: int, google: int) -> None:
    assert (width_of(text, "x"), width_of(text, "google")) == (x, google)


def test_a_link_costs_23_on_x_however_long_it_is() -> None:
    assert width_of("see https://shop.example/" + "a" * 200, "x") == 4 + 23
    assert width_of("see", "x", with_link=True) == 3 + 1 + 23


def test_a_text_has_to_fit_every_chosen_platform() -> None:
    text = "x" * 31
    assert excess(text, "headline", platforms_named(["meta"])) is None
    over = excess(text, "headline", platforms_named(["meta", "google"]))
    assert over is not None and (over.limit.platform, over.width, over.limit.max) == ("google", 31, 30)


def test_emoji_are_refused_where_the_platform_refuses_them() -> None:
    assert has_emoji("now 🎉") and not has_emoji("Osk™ © 1912 #1")
    assert excess("now 🎉", "headline", platforms_named(["google"])) is not None
    assert excess("now 🎉", "headline", platforms_named(["meta"])) is None


def test_every_limit_has_a_source_and_a_date() -> None:
    for platform in platforms().values():
        assert platform.source.startswith("https://") and len(platform.date) == 10 and platform.fields
        assert all(limit.basis for limit in platform.fields)


def test_an_unknown_platform_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="google"):
        platforms_named(["gogle"])
