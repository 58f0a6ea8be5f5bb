"""Whole pictures: sound in every size, the same bytes for the same seed, and an SVG that looks like the PNG."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from agora.ads.images import Picture, render
from agora.ads.images.background import KINDS
from agora.ads.images.checks import Checks, outside, overlaps, text_contrast
from agora.ads.images.contact_sheet import contact_sheet, write_contact_sheet
from agora.ads.images.encode import encoded
from agora.ads.images.product import Product, read_product
from agora.ads.images.scene import Box, Fill, Group, Scene, Solid, draw, rectangle
from agora.ads.placements import placements
from agora.errors import DataError, UsageError

PLACES = list(placements())


@dataclass(frozen=True)
class Kit:
    name: str = "Nordkaffee"
    colours: tuple[str, ...] = ("#0f4c3a", "#ff7a45")
    fonts: tuple[str, ...] = ()
    logo: Path | None = None


@pytest.fixture(scope="module")
def product() -> Product:
    image = Image.new("RGB", (300, 420), (252, 252, 252))
    ImageDraw.Draw(image).rounded_rectangle((60, 40, 240, 400), 30, fill=(180, 60, 40))
    file = io.BytesIO()
    image.save(file, "PNG")
    return read_product(file.getvalue())


def make(**changes: Any) -> Picture:
    asked: dict[str, Any] = {
        "headline": "Slow-roasted coffee, at your door in 2 days",
        "description": "Single-origin beans from small farms.",
        "call_to_action": "Order now",
        "brand": Kit(),
        "placement": "medium-rectangle",
        "seed": 7,
    }
    return render(**asked | changes)


@pytest.mark.parametrize("place", PLACES)
def test_every_size_is_sound_and_holds_the_disclosure(place: str, product: Product) -> None:
    picture = make(placement=place, product_picture=product)
    assert picture.checks.passed, picture.checks.problems
    assert {"headline", "call_to_action", "disclosure", "button"} <= set(picture.layout.boxes)
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.size == (placements()[place].width, placements()[place].height)
    assert "2 days" in " / ".join(picture.layout.lines["headline"])


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_background_gives_a_sound_picture_and_the_same_bytes_again(kind: str) -> None:
    first, again, other = (make(background=kind, seed=seed, scheme="bold") for seed in (3, 3, 4))
    assert first.checks.passed, first.checks.problems
    assert first.png == again.png and first.svg == again.svg
    assert first.png != other.png


@pytest.mark.parametrize(
    ("headline", "language"),
    [
        ("Donaudampfschifffahrtsgesellschaft Krankenversicherungsvergleich jetzt in 15 Minuten", "de"),
        ("毎朝の一杯を、もっと静かに。新鮮な豆を2日でお届けします", "ja"),
        ("매일 아침 신선한 커피를 집으로", "ko"),
        ("قهوة طازجة كل صباح مع Agora Pro وخصم 15 %", "ar"),
        ("Свежий кофе каждое утро", "ru"),
        ("Good mornings ☀️ start here 😀", "en"),
        ("A" * 60, "en"),
        ("!", "en"),
    ],
)
@pytest.mark.parametrize("place", ["mobile-banner", "skyscraper", "landscape"])
def test_hard_headlines_are_set_soundly(headline: str, language: str, place: str) -> None:
    picture = make(headline=headline, language=language, placement=place)
    assert picture.checks.passed, picture.checks.problems
    written = "".join(picture.layout.lines["headline"]).replace("-", "").replace(" ", "")
    assert written == headline.replace(" ", ""), "letters were lost"


def test_right_to_left_text_stands_at_the_right() -> None:
    boxes = make(headline="قهوة طازجة كل صباح", description="", language="ar", placement="landscape").layout.boxes
    assert boxes["headline"].right > 0.9 * 1200 and boxes["button"].right > 0.9 * 1200


def svg_pixels(svg: str) -> np.ndarray:
    resvg_py = pytest.importorskip("resvg_py")
    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)))) as image:
        return np.array(image.convert("RGB")).astype(int)


@pytest.mark.parametrize(
    ("place", "kind", "has_product"),
    [("x-card", "aurora", True), ("x-card", "waves", False), ("half-page", "halftone", True), ("half-page", "tiles", False)],
)
def test_the_svg_looks_like_the_png(place: str, kind: str, has_product: bool, product: Product) -> None:
    picture = make(placement=place, background=kind, product_picture=product if has_product else None)
    with Image.open(io.BytesIO(picture.png)) as image:
        drawn = np.array(image.convert("RGB")).astype(int)
    away = np.abs(drawn - svg_pixels(picture.svg)).max(axis=2)
    # two renderers smooth edges a little differently; whole areas must agree
    assert away.mean() < 2.5 and (away > 48).mean() < 0.004


@pytest.mark.parametrize("scheme", ["bold", "light"])
@pytest.mark.parametrize("place", ["story", "billboard"])
def test_without_a_product_a_field_of_the_brand_s_own_colours_fills_what_is_left(place: str, scheme: str) -> None:
    picture = make(headline="Quiet mornings", placement=place, scheme=scheme, background="tiles")
    with Image.open(io.BytesIO(picture.png)) as image:
        pixels = np.array(image.convert("RGB")).reshape(-1, 3)
    share = {color: float((pixels == [int(color[at : at + 2], 16) for at in (1, 3, 5)]).all(axis=1).mean()) for color in Kit().colours}
    assert picture.checks.passed and min(share.values()) > 0.02, share  # exactly these, not nearly
    assert sum(share.values()) > (0.55 if scheme == "bold" else 0.1)


def test_a_file_of_few_colours_keeps_those_of_the_brand() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    noise[:40], noise[40:60] = (15, 76, 58), (255, 122, 69)
    png, kept = encoded(noise, 60_000, keep=("#0f4c3a", "#ff7a45", "#123456"))
    assert len(png) <= 60_000 and (kept[:40] == (15, 76, 58)).all() and (kept[40:60] == (255, 122, 69)).all()


@pytest.mark.parametrize(("place", "least"), [("story", 36), ("square", 28), ("landscape", 22), ("medium-rectangle", 14)])
def test_the_disclosure_can_be_read_where_a_picture_is_shown_small_and_the_headline_rules(
    place: str, least: float, product: Product
) -> None:
    for thing in (product, None):
        sizes = make(placement=place, product_picture=thing).layout.text_px
        assert sizes["disclosure"] >= least
        assert sizes["headline"] > 1.6 * max(size for name, size in sizes.items() if name != "headline") or place == "medium-rectangle"


def test_the_svg_needs_no_font_and_no_other_file_and_names_its_layers() -> None:
    svg = make().svg
    assert "<text" not in svg and not re.search(r'href="(?!data:|#)', svg)
    assert all(f'<g id="{name}"' in svg for name in ("background", "headline", "button", "call_to_action", "disclosure"))
    assert "<title>Slow-roasted coffee" in svg


def test_small_placements_stay_under_their_limit_with_a_noisy_photograph() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 4)).astype(np.uint8)
    noise[..., 3] = 255
    picture = make(placement="billboard", product_picture=Product(noise, "photograph"))
    assert len(picture.png) <= 150_000 and picture.checks.passed, picture.checks.problems


def test_a_logo_takes_the_place_of_the_wordmark_and_gets_a_ground_where_it_would_vanish(tmp_path: Path) -> None:
    logo = np.zeros((60, 200, 4), np.uint8)
    logo[10:50, 10:190] = (15, 76, 58, 255)
    Image.fromarray(logo).save(tmp_path / "logo.png")
    picture = make(brand=Kit(logo=tmp_path / "logo.png"), placement="square", scheme="bold", background="blocks")
    box = picture.layout.boxes["logo"]
    with Image.open(io.BytesIO(picture.png)) as image:
        corner = image.convert("RGB").getpixel((int(box.left) + 2, int(box.top) + 2))
    assert picture.checks.passed and "wordmark" not in picture.layout.boxes and corner == (255, 255, 255)


def test_the_brand_s_font_is_used_where_it_is_one_of_ours_and_others_are_no_error() -> None:
    assert make(brand=Kit(fonts=("Helvetica Neue", "fraunces"))).layout.family == "Fraunces"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"headline": "  "}, "headline is empty"),
        ({"disclosure": ""}, "disclosure is empty"),
        ({"placement": "300x251"}, "did you mean '300x250'"),
        ({"background": "cats"}, "background 'cats'"),
        ({"scheme": "pink"}, "scheme 'pink'"),
        ({"font": "Comic Sans"}, "font 'Comic Sans'"),
        ({"headline": "word " * 200, "placement": "mobile-banner"}, "give a shorter headline"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_reason(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make(**changes)
    with pytest.raises(DataError):
        make(product_picture=b"no picture")


def test_the_contact_sheet_holds_every_picture_and_says_which_fail(tmp_path: Path) -> None:
    picture = make(headline="Tea & <b>toast</b>")
    page = contact_sheet([("Night owls", picture), ("Night owls", picture)], title="Spring <1>")
    assert page.count("<img ") == 2 and page.count("<h2>") == 1 and "all pass every check" in page
    assert "<b>toast" not in page and "Spring &lt;1&gt;" in page and not re.search(r'(src|href)="http', page)
    write_contact_sheet(tmp_path / "sheet.html", [("A", picture)], title="Spring")
    assert (tmp_path / "sheet.html").read_text(encoding="utf-8").startswith("<!doctype html>")


# the checks themselves find what is wrong


def text_scene(color: str, ground: str) -> tuple[Scene, Group, Box]:
    box = Box(20, 20, 60, 30)
    group = Group("headline", (Fill(rectangle(box), Solid(color)),))
    return Scene(100, 60, [Group("background", (Fill(rectangle(Box(0, 0, 100, 60)), Solid(ground)),)), group]), group, box


@pytest.mark.parametrize(
    ("color", "ground", "ratio"), [("#777777", "#ffffff", 4.48), ("#000000", "#ffffff", 21.0), ("#808080", "#808080", 1.0)]
)
def test_contrast_is_measured_on_pixels(color: str, ground: str, ratio: float) -> None:
    scene, group, box = text_scene(color, ground)
    assert text_contrast(draw(scene), scene, group, box) == pytest.approx(ratio, abs=0.02)


def test_contrast_counts_the_worst_part_of_the_ground() -> None:
    scene, group, box = text_scene("#000000", "#ffffff")
    scene.groups.insert(1, Group("stripe", (Fill(rectangle(Box(50, 0, 70, 60)), Solid("#333333")),)))
    assert text_contrast(draw(scene), scene, group, box) < 2


def test_overlaps_and_what_leaves_the_safe_area_are_named() -> None:
    boxes = {
        "headline": Box(0, 0, 50, 50),
        "button": Box(40, 40, 80, 60),
        "call_to_action": Box(45, 45, 70, 55),
        "product": Box(90, 0, 120, 20),
    }
    assert overlaps(boxes) == ("headline and button",)
    assert outside(boxes, Box(0, 0, 70, 70), Box(0, 0, 100, 100)) == ("button", "product")


def test_a_picture_that_fails_says_what() -> None:
    failing = Checks(
        contrast={"headline": 3.0},
        smallest_text_px=9,
        min_text_px=14,
        size_kb=200,
        max_kb=150,
        overlaps=("a and b",),
        outside=("c",),
        warnings=(),
    )
    assert not failing.passed and len(failing.problems) == 5


def test_a_painter_gives_the_background() -> None:
    def painter(place: Any, colors: Any, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(0, 256, (place.height, place.width, 3)).astype(np.uint8)

    asked: Callable[..., np.ndarray] = painter
    picture = make(painter=asked, placement="landscape")
    assert picture.checks.passed, picture.checks.problems


@pytest.mark.parametrize(("language", "mark"), [("de", "Anzeige · KI-generiert"), ("pl", "Reklama"), ("sv", "Ad · AI-generated")])
def test_the_mark_is_in_the_language_of_the_ad_also_on_the_smallest_picture(language: str, mark: str) -> None:
    picture = render(headline="Lynx 2", call_to_action="Shop", brand=Kit(), placement="mobile-banner", seed=1, language=language)
    assert " ".join(picture.layout.lines["disclosure"]).startswith(mark) and picture.checks.passed
