"""One definition of a word, for the index and for queries."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.text.words import MAX_WORD, account_key, fold, link_words, links, marks, plain_words, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Vote early, VOTE often!", ["vote", "early", "vote", "often"]),
        ("caffè naïve STRAẞE ﬁn Łódź Ёлка", ["caffe", "naive", "strasse", "fin", "lodz", "елка"]),
        ("мой Й и\u0306 її", ["мой", "й", "й", "її"]),
        ("𝓯𝓵𝓸𝓸𝓭 ｆｌｏｏｄ fl\u200bood", ["flood", "flood", "flood"]),
        ("東京都", ["東京", "京都", "東", "京", "都"]),
        ("雨 rain雨", ["雨", "rain", "雨"]),
        ("서울에서", ["서울", "울에", "에서", "서", "울", "에", "서"]),
        ("हिन्दी दिवस", ["हिन्दी", "दिवस"]),
        ("مَرْحَبًا", ["مرحبا"]),
        ("go 👍🏽🔥!", ["go", "👍", "🔥"]),
        ("#Brexit's @Ada_L $BTC.", ["brexit", "s", "ada", "l", "btc", "#brexit", "@ada_l", "$btc"]),
        ("see https://www.Example.org/A?utm_source=x.", ["see", "example", "org", "a", "utm", "source", "x", "https://example.org/A"]),
        ("mail ada@example.org &#39; $100 # @ $", ["mail", "ada", "example", "org", "39", "100"]),
        ("", []),
        ("\u0301 _ --- \u200b", []),
    ],
)
def test_words_of_a_text(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@given(st.text())
def test_folding_twice_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text)


@given(st.text(), st.sampled_from(["NFC", "NFD"]))
def test_normal_forms_of_unicode_play_no_role(text: str, form: str) -> None:
    assert plain_words(unicodedata.normalize(form, text)) == plain_words(text)  # type: ignore[arg-type]


@given(st.text())
def test_words_have_no_blanks_are_not_empty_and_not_long(text: str) -> None:
    assert all(word and not any(map(str.isspace, word)) for word in words(text))
    assert all(len(word) <= MAX_WORD for word in plain_words(text))


@given(st.text(), st.text())
def test_words_of_a_part_stand_in_a_row_in_the_whole(left: str, right: str) -> None:
    row, whole = plain_words(left), plain_words(f"{left} . {right}")
    assert whole[: len(row)] == row


def test_links_end_before_the_punctuation_of_their_sentence() -> None:
    assert links("(see https://a.example/b_(c)), www.d.example! ftp://e") == ["https://a.example/b_(c)", "www.d.example"]
    assert links("no link") == []


def test_words_of_a_link() -> None:
    assert link_words("HTTPS://m.example.org/caf%C3%A9/2?utm_source=x&q=Rain#top") == ["example", "org", "cafe", "2", "q", "rain"]
    assert link_words("---") == []


def test_names_of_accounts_keep_their_accents_and_no_case() -> None:
    assert account_key("@Ada") == account_key("ａｄａ") == "ada"
    assert account_key("José") != account_key("Jose")


def test_marks_stand_behind_the_words() -> None:
    assert marks("#a b #c") == ["#a", "#c"]
    assert words("#a b #c") == ["a", "b", "c", "#a", "#c"]
