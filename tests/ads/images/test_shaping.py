"""Shaping: clusters stay whole, letters of other scripts come from other fonts, right-to-left text is put in the order of the eye."""

from __future__ import annotations

import logging

import pytest

from agora.ads.images import fonts
from agora.ads.images.fonts import FAMILIES, Chain, face, families_for, font_file
from agora.ads.images.shaping import clusters, direction_of, pieces_of, shape, visual_order
from agora.ads.images.typeset import Setter, Voice
from agora.errors import MissingExtraError, UsageError

VOICE = Voice(family="Manrope", weight=700)


def test_every_family_is_installed_with_its_licence_beside_it() -> None:
    for family in FAMILIES.values():
        file = font_file(family)
        assert file is not None, family.package
        folder = file.parent.parent
        licences = [*folder.glob("LICENSE*"), *folder.glob("files/OFL*"), *folder.glob("files/LICENSE*")]
        assert any("SIL OPEN FONT LICENSE" in path.read_text(encoding="utf-8").upper() for path in licences), family.name


def test_an_emoji_with_modifiers_and_a_flag_are_one_cluster_each() -> None:
    assert clusters("a👩🏽‍🚀🇩🇪é") == ["a", "👩🏽‍🚀", "🇩🇪", "é"]


def test_letters_of_other_scripts_come_from_fonts_that_have_them() -> None:
    chain = Chain(face("Archivo", 700), 700)
    for letter in "珈매слعö":
        found = chain.face_for(letter)
        assert found is not None and found.has(letter)


def test_kerning_is_applied() -> None:
    chain = Chain(face("Hanken Grotesk", 700), 700)
    together = shape("AV", chain).width
    assert together < shape("A", chain).width + shape("V", chain).width


def test_arabic_letters_are_joined() -> None:
    chain = Chain(face("Manrope", 700), 700)
    joined = [glyph.index for glyph in shape("قهوة", chain, language="ar", direction="rtl").glyphs]
    alone = [shape(letter, chain, language="ar", direction="rtl").glyphs[0].index for letter in "قهوة"]
    assert set(joined) != set(alone)


def test_words_of_a_right_to_left_line_stand_from_right_to_left_and_latin_within_it_does_not() -> None:
    base = direction_of("قهوة Agora Pro طازجة 15 %")
    assert base == "rtl"
    runs = [("قهوة", "rtl"), ("Agora", "ltr"), ("Pro", "ltr"), ("طازجة", "rtl")]
    assert visual_order(runs, "rtl") == ["طازجة", "Agora", "Pro", "قهوة"]  # type: ignore[arg-type]
    assert visual_order(runs, "ltr") == ["قهوة", "Agora", "Pro", "طازجة"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "base", "pieces"),
    [
        ("Agora!", "ltr", [("Agora!", "ltr")]),
        ("Agora!", "rtl", [("Agora", "ltr"), ("!", "rtl")]),
        ("15%", "rtl", [("15%", "ltr")]),
        ("قهوة،", "ltr", [("قهوة", "rtl"), ("،", "ltr")]),
        ("(قهوة)", "rtl", [("(قهوة)", "rtl")]),
    ],
)
def test_marks_at_the_end_of_a_word_follow_the_line(word: str, base: str, pieces: list[tuple[str, str]]) -> None:
    assert pieces_of(word, "rtl" if base == "rtl" else "ltr") == pieces


def test_a_right_to_left_line_has_its_first_word_at_the_right() -> None:
    setter = Setter("قهوة طازجة", VOICE, language="ar")
    block = setter.block(1000, 40, max_lines=1)
    assert block is not None
    first = {glyph.index for glyph in setter.line(block.lines[0]).glyphs[-1:]}
    assert first <= {glyph.index for glyph in shape("قهوة", setter.chain, language="ar", direction="rtl").glyphs}


def test_a_letter_that_no_font_has_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "font_file", lambda family: None)
    monkeypatch.setattr(fonts, "_system_face", lambda cluster, bold: None)
    fonts._fallback.cache_clear()
    fonts._stand_in.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match="ads-cjk"):
            fonts._fallback("珈", 700)
        with pytest.raises(UsageError, match="fonts-noto"):
            fonts._fallback("ก", 700)
    finally:
        fonts._fallback.cache_clear()
        fonts._stand_in.cache_clear()


def test_a_pictogram_that_no_font_has_is_left_out_with_a_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(fonts, "_system_face", lambda cluster, bold: None)
    fonts._fallback.cache_clear()
    with caplog.at_level(logging.WARNING):
        setter = Setter("Go 🚀", VOICE, language="en")
        assert setter.block(500, 30, max_lines=1) is not None
    assert setter.left_out == {"🚀"} and "left out" in caplog.text
    fonts._fallback.cache_clear()


def test_families_that_have_the_letters_come_first() -> None:
    assert families_for(["Свежий кофе"])[0].name == "Manrope"
