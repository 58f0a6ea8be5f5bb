"""Normal forms: what changes, what stays, and that a second pass changes nothing."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agora.text.normalise import _unicode_form, comparison_key, normalise

TEXTS = st.lists(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40) | st.text("ab \t\r\n\u00a0\u200b\u0301é", max_size=20)
)


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, type=pa.large_string())


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("a\tb", "a b"), ("a  b ", "a b"), ("a\r\nb\rc", "a\nb\nc"), ("a \n b", "a\nb"), ("a\n\n\n\nb", "a\n\nb"), ("\x00a\x07b\x7f", "ab"),
        ("e\u0301", "é"), ("a\u00a0\u2003b", "a b"), ("a\u200bb\ufeffc\u00add", "abcd"), ("a\u202eb", "ab"), ("a\u2028b", "a\nb"),
        ("½ ① ﬁ Ｆ", "½ ① ﬁ Ｆ"), ("👩\u200d👩", "👩\u200d👩"), ("می\u200cخواهم", "می\u200cخواهم"), ("x\U000e0041y", "xy"),
    ],
)  # fmt: skip
def test_normalise_examples(typed: str, read: str) -> None:
    assert normalise(column([typed])).to_pylist() == [read]


@given(TEXTS)
def test_normalising_twice_changes_nothing_more_and_gives_nfc(texts: list[str]) -> None:
    once = normalise(column(texts))
    assert normalise(once).equals(once)
    assert all(unicodedata.is_normalized("NFC", text) for text in once.to_pylist())


@given(TEXTS)
def test_a_column_has_the_unicode_forms_of_its_rows(texts: list[str]) -> None:
    texts = [text.replace("\x00", "") for text in texts]
    for form in ("NFC", "NFKC"):
        assert _unicode_form(column(texts), form).to_pylist() == [unicodedata.normalize(form, text) for text in texts]


@settings(max_examples=40)
@given(TEXTS)
def test_a_column_is_normalised_like_its_rows(texts: list[str]) -> None:
    assert normalise(column(texts)).to_pylist() == [normalise(column([text]))[0].as_py() for text in texts]
    assert comparison_key(column(texts)).to_pylist() == [comparison_key(column([text]))[0].as_py() for text in texts]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Free tickets HERE!!! https://t.co/abc", "free tickets here"), ("@mira free tickets, here", "Free tickets — here 🎉"),
        ("𝓕𝓻𝓮𝓮 tickets here", "free tickets here"), ("ＦＲＥＥ tickets here", "free tickets here"), ("Größe: 5", "größe 5"),
    ],
)  # fmt: skip
def test_texts_that_say_the_same_have_equal_keys(left: str, right: str) -> None:
    first, second = comparison_key(column([left, right])).to_pylist()
    assert first == second != ""


def test_texts_that_differ_in_a_number_have_different_keys() -> None:
    first, second = comparison_key(column(["it ended 2:1 tonight", "it ended 3:1 tonight"])).to_pylist()
    assert first != second


def test_scripts_without_blanks_are_parted_by_character() -> None:
    assert comparison_key(column(["今日は、いい天気!"])).to_pylist() == ["今 日 は い い 天 気"]


def test_sliced_and_empty_columns_have_the_keys_of_their_rows() -> None:
    texts = column(["zero", "One, two", "", "drei"])
    assert comparison_key(texts.slice(1, 2)).to_pylist() == ["one two", ""]
    assert len(comparison_key(column([]))) == 0
    assert len(normalise(column([]))) == 0
