"""What is shown acts on nothing, and keeps its length."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.chat.shown import one_line, safe_text
from benchmarks.injection import looks_cited

ACTIVE = re.compile(
    r"!\[|\]\(|\]\[|\]:|<[a-z/!?]|[a-z]://|javascript:|mailto:|www\.|`|&#?\w+;|\w@\w+\.\w|[\[［【〔]\s*\d[\d\u20e3]*\s*[\]］】〕]",
    re.IGNORECASE,
)
HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\u034f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\u3164\ufe00-\ufe0d\ufeff\U000e0000-\U000e01ef]|[\ufe0e\ufe0f]{2}"
)
PIECES = [
    "![x](",
    "](",
    "<img src=",
    "<!--",
    "https://",
    "javascript:",
    "www.",
    "`",
    "&lt;",
    "a@b.c",
    "[1]",
    "[",
    "]",
    "\u202e",
    "\u200b",
    "\U000e0041",
    "\U000e0121",
    "\ufe0f",
    "\u3164",
    "［1］",
    "❲①❳",
    "【1\u20e3】",
    "x",
    " ",
    "\n",
    "!",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12).map("".join))
def test_nothing_acts_and_no_length_changes(text: str) -> None:
    shown = safe_text(text)
    assert len(shown) == len(text) and not ACTIVE.search(shown) and not HIDDEN.search(shown)


@pytest.mark.parametrize(
    "text",
    [
        "Night trains (to Lindau) run; 3 < 4 & 5 > 2!",
        "100% [really] *great* 🎉 👨\u200d👩\u200d👧",
        "a: b, c/d",
        "नमस्ते क\u094d\u200dष",
        "@anna #trains $ABC",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert safe_text(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("❲1❳ [①] [Ⅳ] [1/2] ［1］ 【1】", "(1) (①) (Ⅳ) (1/2) (1) (1)"),
        ("[ 1, 2 ] [^1] [^note] [l] [一] [see 5]", "( 1, 2 ) (^1) (^note) (l) (一) (see 5)"),
        ("⁅1⁆ ⌈1⌉ ⎡1⎤ {1} 「1」 ﹇1﹈", "(1) (1) (1) (1) (1) (1)"),
        ("[1 and ❲so❳ 2] [9", "(1 and ❲so❳ 2) (9"),
        ("![1](https://x.example)", "!(1)(https：//x.example)"),
        ('"posts": [{"number": 1}]', '"posts": (("number": 1))'),
        ("[" * 20 + "1" + "]" * 20, "(" * 20 + "1" + ")" * 20),
        ("(1) [really] 「2026年に」 【万博】 in 2015 [sic]", "(1) [really] 「2026年に」 【万博】 in 2015 [sic]"),
    ],
)
def test_only_numbers_of_the_answer_stand_in_brackets(text: str, shown: str) -> None:
    assert safe_text(text) == shown


@given(st.text(st.characters(categories=["Ps", "Pe", "Nd", "Nl", "No", "Zs"]), max_size=8))
def test_no_number_stands_between_brackets_of_any_script(text: str) -> None:
    assert not looks_cited(f"Trains {safe_text(text)} leave")


def test_one_line_is_one_line() -> None:
    assert one_line("a\n b\t c" * 100, 50).count("\n") == 0 and len(one_line("word " * 100, 50)) == 50


def test_emoji_are_drawn_as_they_were() -> None:
    for text in ("\u2764\ufe0f", "1\ufe0f\u20e3", "\u00a9\ufe0f", "\U0001f468\u200d\U0001f469\u200d\U0001f467"):
        assert safe_text(text) == text
