"""Arithmetic is exact, bounded, and never Python's."""

from __future__ import annotations

import time
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.chat.calculator import calculate, is_expression
from agora.errors import UsageError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("3 * (17 + 4) / 2", "31.5"), ("15% of 80", "12"), ("0.1 + 0.2", "0.3"), ("2^10", "1024"), ("-2^2", "-4"), ("(-2)^2", "4"),
        ("2^-1", "0.5"),
        ("2 ^ 3 ^ 2", "512"), ("sqrt(16) + abs(-3)", "7"), ("1,234,567 + 1", "1234568"), ("max(100,200)", "200"), ("5 squared", "25"),
        ("100 divided by 8", "12.5"), ("7 mod 3", "1"), ("7 // 2", "3"), ("1e3*2", "2000"), ("round(2.567, 1)", "2.6"),
        ("17 × 3 =", "51"), ("1/3", "0.333333333333333"),
        ("10^400", "1e400"), ("log(100)", "2"), ("2 - -2", "4"), ("50%", "0.5"),
    ],
)  # fmt: skip
def test_value(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "", "x", "1/0", "9^9^9^9", "sqrt(-1)", "((((1", "1)", "import os", "__import__('os')", "().__class__", "2 2", "factorial(5)",
        "sqrt 4",
        "min()", "(" * 60 + "1" + ")" * 60, "1" * 400, "^" * 50, "10^9999*10^9999", "exp(99999)", "1 + ", "eval(1)",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused_at_once(expression: str) -> None:
    start = time.process_time()
    with pytest.raises(UsageError):
        calculate(expression)
    assert time.process_time() - start < 1


SUMS = st.recursive(
    st.integers(0, 999).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda t: f"({t[0]}{t[1]}{t[2]})"),
    max_leaves=6,
)


@given(SUMS)
def test_agrees_with_fractions(expression: str) -> None:
    try:
        exact = _exact(expression)
    except ZeroDivisionError:
        with pytest.raises(UsageError):
            calculate(expression)
        return
    assert abs(Fraction(calculate(expression)) - exact) <= abs(exact) * Fraction(1, 10**13)


def _exact(expression: str) -> Fraction:
    """The slow twin: by its own reading of fully parenthesised sums."""
    if not expression.startswith("("):
        return Fraction(int(expression))
    depth, inner = 0, expression[1:-1]
    for place, character in enumerate(inner):
        depth += (character == "(") - (character == ")")
        if depth == 0 and character in "+-*/" and place:
            left, right = _exact(inner[:place]), _exact(inner[place + 1 :])
            return {"+": left + right, "-": left - right, "*": left * right}[character] if character != "/" else left / right
    raise AssertionError(expression)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(UsageError):
        assert calculate(text)


def test_a_number_alone_is_nothing_to_calculate() -> None:
    assert not is_expression("42") and not is_expression("pi") and is_expression("42 + 1") and not is_expression("night trains")
