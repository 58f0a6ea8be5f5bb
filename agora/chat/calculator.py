"""Arithmetic. Goes in: an expression as people write it. Comes out: its value as text.

    calculate("3 * (17 + 4) / 2")       '31.5'
    calculate("15% of 80")              '12'

A grammar of its own, read by descent; nothing is handed to Python's evaluation. Decimal numbers of 30 digits, so 0.1 + 0.2 is 0.3. Length,
depth and size of numbers are bounded, so no expression takes long.

    sum = product (("+" | "-") product)*          product = power (("*" | "/" | "//" | "mod" | "of") power)*
    power = sign ("^" power)?                     sign = ("-" | "+") sign | value "%"?
    value = number | constant | function "(" sum ("," sum)* ")" | "(" sum ")"
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Context, Decimal, DecimalException, localcontext
from typing import Final

from agora.errors import UsageError

MAX_CHARS: Final = 300
MAX_DEPTH: Final = 40
DIGITS: Final = 30
SHOWN_DIGITS: Final = 15
MAX_EXPONENT: Final = 10_000
"""Results beyond 10 to this power are refused."""
_EXPONENT: Final = r"(?:e[+-]?\d{1,4}(?![a-z\d]))?"
_TOKEN: Final = re.compile(
    rf"\s*(?:(?P<number>(?:\d{{1,3}}(?:,\d{{3}})+(?!\d)|\d+)(?:\.\d+)?{_EXPONENT}|\.\d+)|(?P<name>[a-z]+)|(?P<sign>\*\*|//|[-+*/^%(),=×÷·−]))"
)
_ARGUMENT: Final = re.compile(rf"\s*(?P<number>\d+(?:\.\d+)?{_EXPONENT}|\.\d+)")
"""Between the parentheses of a function a comma parts arguments, not thousands."""
_SAME: Final = {"**": "^", "×": "*", "·": "*", "÷": "/", "−": "-", "plus": "+", "minus": "-", "times": "*", "x": "*", "over": "/"}
_TWO_WORDS: Final = (
    (re.compile(r"\b(?:divided|multiplied)\s+by\b"), {"d": "/", "m": "*"}), (re.compile(r"\bto\s+the\s+power\s+of\b"), {"t": "^"}),
    (re.compile(r"\bpercent\b"), {"p": "%"}), (re.compile(r"\bsquared\b"), {"s": "^2"}), (re.compile(r"\bcubed\b"), {"c": "^3"}),
)  # fmt: skip
_CONSTANTS: Final = {"pi": Decimal("3.14159265358979323846264338328"), "e": Decimal("2.71828182845904523536028747135")}


def _of_float(function: Callable[[float], float]) -> Callable[..., Decimal]:
    return lambda value: Decimal(repr(function(float(value))))


_FUNCTIONS: Final[dict[str, tuple[int, int, Callable[..., Decimal]]]] = {
    "sqrt": (1, 1, Decimal.sqrt), "abs": (1, 1, abs), "ln": (1, 1, Decimal.ln), "log": (1, 1, Decimal.log10), "exp": (1, 1, Decimal.exp),
    "floor": (1, 1, lambda value: Decimal(math.floor(value))), "ceil": (1, 1, lambda value: Decimal(math.ceil(value))),
    "round": (1, 2, lambda value, places=Decimal(0): round(value, int(places))),
    "min": (1, 20, min), "max": (1, 20, max), "sin": (1, 1, _of_float(math.sin)), "cos": (1, 1, _of_float(math.cos)),
    "tan": (1, 1, _of_float(math.tan)),
}  # fmt: skip
"""Name -> fewest and most arguments, and what it does."""


def calculate(expression: str) -> str:
    """The value, rounded to `SHOWN_DIGITS`. Raises UsageError that says what is wrong with the expression."""
    try:
        with localcontext(Context(prec=DIGITS, Emax=MAX_EXPONENT, Emin=-MAX_EXPONENT)) as context:
            value = _Reader(_tokens(expression), expression).read()
            context.prec = SHOWN_DIGITS
            return _shown(+value)
    except (DecimalException, OverflowError, ValueError, RecursionError) as error:
        raise UsageError(f"{expression[:60]!r} has no value: {_said(error)}") from error


def is_expression(text: str) -> bool:
    """Whether a text is arithmetic: it can be read, and something is to be done in it."""
    try:
        tokens = _tokens(text)
        _Reader(tokens, text).check()
    except UsageError:
        return False
    return any(kind != "number" and word not in ("(", ")", ",", *_CONSTANTS) for kind, word in tokens)


def _said(error: Exception) -> str:
    names = {"DivisionByZero": "it divides by zero", "Overflow": "it is too large", "DivisionUndefined": "it divides zero by zero"}
    return names.get(type(error).__name__, "it is not defined there")


def _shown(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError("not finite")
    if value == 0:
        return "0"
    plain = value.normalize()
    exponent = plain.adjusted()
    return f"{plain:f}" if -10 <= exponent <= 20 else f"{plain:E}".replace("E+", "e").replace("E", "e")


def _tokens(expression: str) -> list[tuple[str, str]]:
    if len(expression) > MAX_CHARS:
        raise UsageError(f"the expression has {len(expression)} characters; at most {MAX_CHARS} are read")
    text = expression.lower().strip().rstrip("=?. ")
    for pattern, signs in _TWO_WORDS:
        text = pattern.sub(lambda match, signs=signs: f" {signs[match.group()[0]]} ", text)  # type: ignore[misc]
    found: list[tuple[str, str]] = []
    opened: list[bool] = []
    place, text = 0, text.strip()
    while place < len(text):
        match = (_ARGUMENT.match(text, place) if any(is_call for is_call in opened) else None) or _TOKEN.match(text, place)
        if match is None or match.end() == place:
            raise UsageError(f"{expression[:60]!r} is no arithmetic: {text[place:].strip()[:10]!r} cannot be read")
        place = match.end()
        kind = match.lastgroup or "sign"
        word = _SAME.get(match.group(kind), match.group(kind))
        if word == "(":
            opened.append(bool(found) and found[-1][0] == "name" and found[-1][1] in _FUNCTIONS)
        elif word == ")" and opened:
            opened.pop()
        found.append(("sign" if kind == "name" and word in "+-*/^" else kind, word))
    if not found:
        raise UsageError("the expression is empty; example: 3 * (17 + 4)")
    return found


class _Reader:
    """Reads tokens from left to right. With `is_check` nothing is computed."""

    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self._tokens, self._text, self._place, self._depth, self._is_check = tokens, text, 0, 0, False

    def read(self) -> Decimal:
        value = self._sum()
        if self._place < len(self._tokens):
            raise self._error(f"{self._tokens[self._place][1]!r} stands where the end was expected")
        return value

    def check(self) -> None:
        self._is_check = True
        self.read()

    def _error(self, what: str) -> UsageError:
        return UsageError(f"{self._text[:60]!r} is no arithmetic: {what}")

    def _take(self, *words: str) -> str | None:
        if self._place < len(self._tokens) and self._tokens[self._place][1] in words and self._tokens[self._place][0] != "number":
            self._place += 1
            return self._tokens[self._place - 1][1]
        return None

    def _sum(self) -> Decimal:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"it is nested more than {MAX_DEPTH} deep")
        value = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            value = self._both(value, other, sign)
        self._depth -= 1
        return value

    def _product(self) -> Decimal:
        value = self._power()
        while sign := self._take("*", "/", "//", "mod", "of"):
            other = self._power()
            value = self._both(value, other, sign)
        return value

    def _power(self) -> Decimal:
        value = self._sign()
        if self._take("^"):
            self._depth += 1
            if self._depth > MAX_DEPTH:
                raise self._error(f"it is nested more than {MAX_DEPTH} deep")
            other = self._power()
            self._depth -= 1
            return self._done(lambda: value**other)
        return value

    def _sign(self) -> Decimal:
        is_negative = False
        while sign := self._take("-", "+"):
            is_negative ^= sign == "-"
        value = self._value()
        if is_negative and self._take("^"):  # -2^2 is -(2^2)
            other = self._power()
            return self._done(lambda: -(value**other))
        while self._take("%"):
            value = self._both(value, Decimal(100), "/")
        return -value if is_negative else value

    def _value(self) -> Decimal:
        if self._place >= len(self._tokens):
            raise self._error("a number is missing at its end")
        kind, word = self._tokens[self._place]
        self._place += 1
        if kind == "number":
            return Decimal(word.replace(",", ""))
        if word == "(":
            value = self._sum()
            self._close()
            return value
        if kind == "name" and word in _CONSTANTS:
            return _CONSTANTS[word]
        if kind == "name" and word in _FUNCTIONS:
            return self._call(word)
        raise self._error(f"{word!r} is no number; functions are {', '.join(_FUNCTIONS)}")

    def _call(self, name: str) -> Decimal:
        if not self._take("("):
            raise self._error(f"{name} needs its arguments in parentheses")
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._close()
        fewest, most, function = _FUNCTIONS[name]
        if not fewest <= len(arguments) <= most:
            raise self._error(f"{name} takes {fewest} to {most} arguments, not {len(arguments)}")
        return self._done(lambda: Decimal(function(*arguments)))

    def _close(self) -> None:
        if not self._take(")"):
            raise self._error("a ) is missing")

    def _both(self, left: Decimal, right: Decimal, sign: str) -> Decimal:
        return self._done(lambda: _joined(left, right, sign))

    def _done(self, compute: Callable[[], Decimal]) -> Decimal:
        return Decimal(1) if self._is_check else compute()


def _joined(left: Decimal, right: Decimal, sign: str) -> Decimal:
    if sign in ("+", "-"):
        return left + right if sign == "+" else left - right
    if sign in ("*", "of"):
        return left * right
    if sign == "/":
        return left / right
    return left // right if sign == "//" else left % right


__all__ = ["calculate", "is_expression"]
