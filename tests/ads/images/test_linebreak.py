"""Line breaks: even, with numbers beside their units, and right for languages without spaces."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.ads.images.linebreak import Atom, atoms_of, break_lines, hyphenated


def lines_of(text: str, width: float, *, max_lines: int = 9) -> list[str] | None:
    """Lines in a font whose letters are all one wide."""
    lines = break_lines(atoms_of(text), len, 1.0, width, max_lines=max_lines, hyphen=1.0)
    return None if lines is None else [line.text for line in lines]


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("Now only 20 % off everything", "20 %"),
        ("Delivered within 2 days or free", "2 days"),
        ("Ab 9,90 € im Monat dabei sein", "9,90 €"),
        ("Yours for € 49 and not more", "€ 49"),
        ("Only 9.8 kg to carry up the stairs", "9.8 kg"),
        ("Garantie für 5 Jahre auf alles", "5 Jahre"),
        ("Take it home for $1,299 today , really", "today ,"),
    ],
)
def test_a_number_stays_with_its_unit_at_every_width(text: str, together: str) -> None:
    for width in range(max(len(atom.text) for atom in atoms_of(text)), len(text) + 1):
        lines = lines_of(text, width)
        assert lines is not None and any(together in line for line in lines), (width, lines)


def test_lines_are_balanced_rather_than_filled() -> None:
    assert lines_of("Your pension in plain words", 22) == ["Your pension", "in plain words"]


def test_a_small_word_does_not_end_a_line_where_another_break_is_as_even() -> None:
    assert lines_of("coffee roasted for the patient people", 22) == ["coffee roasted", "for the patient people"]


def test_chinese_and_japanese_break_between_characters_but_not_before_closing_marks() -> None:
    text = "毎朝の一杯を、もっと「静か」に。新鮮な豆を2日でお届けします。"
    for width in range(6, len(text)):
        lines = lines_of(text, width)
        assert lines is not None and "".join(lines) == text
        assert not any(line[0] in "、。」" or line[-1] == "「" for line in lines), (width, lines)
        assert any("2日" in line for line in lines), (width, lines)


def test_korean_breaks_at_spaces() -> None:
    text = "매일 아침 신선한 커피를 집으로"
    for line in lines_of(text, 9) or []:
        assert set(line.split()) <= set(text.split())


def test_long_german_words_are_divided_at_syllables_with_a_hyphen() -> None:
    parts = hyphenated(Atom("Krankenversicherungsvergleich", True), "de")
    assert "".join(part.text for part in parts) == "Krankenversicherungsvergleich"
    assert len(parts) > 4 and all(part.hyphen for part in parts[1:])
    lines = break_lines(parts, len, 1.0, 18.0, max_lines=4, hyphen=1.0)
    assert lines is not None and lines[0].text.endswith("-") and not lines[-1].text.endswith("-")


words = st.lists(st.text("abcdefgh", min_size=1, max_size=9), min_size=1, max_size=9)


@given(words, st.integers(9, 40))
def test_every_word_comes_once_in_order_and_no_line_is_too_wide(listed: list[str], width: int) -> None:
    lines = lines_of(" ".join(listed), width)
    assert lines is not None and " ".join(lines).split() == listed
    assert all(len(line) <= width for line in lines)


@given(words.filter(lambda listed: len(listed) >= 2), st.integers(9, 24))
def test_breaks_are_the_best_of_all_with_that_many_lines(listed: list[str], width: int) -> None:
    """The slow twin: all ways to cut, none of them with a smaller sum of costs."""
    from agora.ads.images import linebreak

    atoms = atoms_of(" ".join(listed))
    ruler = linebreak._Ruler(atoms, [float(len(atom.text)) for atom in atoms], 1.0, 1.0)
    lines = break_lines(atoms, len, 1.0, width, max_lines=9, hyphen=1.0)
    assert lines is not None
    target = min(width, ruler.width(0, len(atoms)) / len(lines) * 1.04)

    def cost(cuts: tuple[int, ...]) -> float:
        edges = [0, *cuts, len(atoms)]
        pairs = list(pairwise(edges))
        if any(ruler.width(start, end) > width for start, end in pairs):
            return float("inf")
        return sum(linebreak._cost(atoms, ruler.width(start, end), start, end, target) for start, end in pairs)

    chosen, at = [], 0
    for line in lines[:-1]:
        at += len(line.atoms)
        chosen.append(at)
    best = min(cost(cuts) for cuts in combinations(range(1, len(atoms)), len(lines) - 1))
    assert cost(tuple(chosen)) == pytest.approx(best)


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("新鮮なお茶を2日でお届けします", 9, ["新鮮なお茶を2日で", "お届けします"]),
        ("毎朝の一杯を、もっと静かに。", 7, ["毎朝の一杯を、", "もっと静かに。"]),
        ("静岡の小さな農園から", 6, ["静岡の小さな", "農園から"]),
        ("新潟県燕市で手作り", 6, ["新潟県燕市で", "手作り"]),
        ("送料無料お届け", 4, ["送料無料", "お届け"]),
    ],
)
def test_japanese_breaks_between_phrases(text: str, width: float, lines: list[str]) -> None:
    assert lines_of(text, width) == lines


def test_a_break_within_a_japanese_phrase_is_told() -> None:
    found = break_lines(atoms_of("お届けします"), len, 1.0, 3, max_lines=2)
    assert found is not None and [line.is_torn for line in found] == [False, True]


def test_a_word_in_katakana_stays_whole_where_it_fits_a_line() -> None:
    for text, words in (
        ("静かなキッチンのためのコーヒーメーカー", ("キッチン", "コーヒーメーカー")),
        ("レインジャケットで雨の日もハイキング", ("レインジャケット", "ハイキング")),
        ("軽いワイヤレスイヤホン・スピーカー", ("ワイヤレスイヤホン", "スピーカー")),
    ):
        for width in range(max(map(len, words)) + 1, len(text)):
            lines = lines_of(text, width)
            assert lines is not None and "".join(lines) == text
            assert all(any(word in line for line in lines) for word in words), (width, lines)


def test_a_word_in_katakana_wider_than_the_line_is_divided_without_a_hyphen_and_before_no_small_kana() -> None:
    parts = hyphenated(Atom("プロフェッショナルチョコレート", True), "ja")
    assert "".join(part.text for part in parts) == "プロフェッショナルチョコレート"
    assert not any(part.hyphen or part.text[0] in "ェッョー" for part in parts)
    lines = break_lines(parts, len, 1.0, 6, max_lines=4)
    assert lines is not None and all(len(line.text) <= 6 for line in lines) and all(line.is_torn for line in lines[1:])


def test_japanese_compounds_are_divided_between_pairs_and_before_no_ending() -> None:
    costs = [atom.penalty for atom in atoms_of("新潟県燕市で")]
    assert costs[1] == costs[2] == costs[4] > 0.5 > costs[3]  # 新潟県 | 燕市で
    assert [atom.penalty for atom in atoms_of("送料無料で")][2] < [atom.penalty for atom in atoms_of("送料無料で")][1]
    assert max(atom.penalty for atom in atoms_of("新鲜面包每天送到家")) < 0.5  # Chinese


def test_a_short_compound_keeps_its_hyphen_inside_a_line_unless_it_is_wider() -> None:
    assert all("pour-over" in " ".join(lines_of("Brume pour-over kettle", width) or []) for width in range(9, 22))
    assert [atom.text for atom in atoms_of("mother-of-pearl buttons")] == ["mother-", "of-", "pearl", "buttons"]
    assert [(part.text, part.hyphen) for part in hyphenated(Atom("pour-over", True), "en")] == [("pour-", False), ("over", False)]
