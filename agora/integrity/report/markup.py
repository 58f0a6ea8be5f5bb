"""HTML that cannot be broken by what it shows. Goes in: text of strangers. Comes out: Markup, the only thing that reaches the page.

`tag` escapes every `str` child and attribute; only a `Markup` passes as it is. Texts of posts may hold markup, control characters,
characters that turn the direction of a line, and halves of surrogate pairs.
"""

from __future__ import annotations

import html
import re
from datetime import datetime, timezone
from typing import Final

_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_TURNING: Final = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_VOID: Final = frozenset({"br", "circle", "col", "input", "line", "meta", "path", "rect"})
_UNITS: Final = ((86_400, "day"), (3600, "h"), (60, "min"))


class Markup(str):
    """HTML that is well formed and safe."""

    __slots__ = ()


def escaped(text: str) -> Markup:
    """Text as HTML that shows it. What cannot be printed becomes a replacement character; direction marks go."""
    if text.isascii() and text.isprintable():
        return Markup(html.escape(text))
    return Markup(html.escape(_TURNING.sub("", _UNPRINTABLE.sub("\ufffd", text))))


def joined(*parts: str) -> Markup:
    """Parts one after another; each `str` is escaped, each `Markup` kept."""
    return Markup("".join(part if isinstance(part, Markup) else escaped(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | int | float | bool | None) -> Markup:
    """One element. `class_` and `for_` lose their underscore, others turn it into `-`; None and False leave an attribute out."""
    written = "".join(
        _attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value not in (None, False)
    )
    if name in _VOID:
        return Markup(f"<{name}{written}/>")
    return Markup(f"<{name}{written}>{joined(*children)}</{name}>")


def _attribute(name: str, value: str | int | float | bool | None) -> str:
    return f" {name}" if value is True else f' {name}="{escaped(str(value))}"'


def shortened(text: str, most: int) -> str:
    """The first `most` characters, with an ellipsis when there were more."""
    text = text.strip()
    return text if len(text) <= most else text[:most].rstrip() + "…"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1, "post"` -> `1 post`; `1200, "post"` -> `1,200 posts`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def span(seconds: float) -> str:
    """`90` -> `1.5 min`, `86400` -> `1 day`: one short number."""
    for size, unit in _UNITS:
        if seconds >= size:
            value = f"{seconds / size:.1f}".removesuffix(".0")
            return f"{value} {unit}" + ("s" if unit == "day" and value != "1" else "")
    return f"{seconds:.0f} s"


def chance(value: float) -> str:
    """A probability: three decimals, or a power of ten where it is smaller."""
    if value >= 0.001:
        return f"{value:.3f}"
    return "0" if value <= 0 else f"{value:.0e}".replace("e-0", "e-")


def percent(share: float) -> str:
    """`0.01` -> `1%`, `0.0011` -> `0.11%`."""
    return f"{share * 100:.2f}".rstrip("0").rstrip(".") + "%"


def amount(value: float) -> str:
    """A count that may be an expectation: `12`, `0.04`, `1,234`."""
    if value == int(value) or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2g}"


def seconds_of(at: str) -> float:
    """Seconds since 1970 of an ISO time; one without an offset is taken as UTC."""
    moment = datetime.fromisoformat(at)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def moment(at: str, *, with_time: bool = True) -> Markup:
    """An ISO time as a `time` element in UTC: `2 Mar 2026, 14:03:09`."""
    when = datetime.fromtimestamp(seconds_of(at), timezone.utc)
    shown = f"{when.day} {when:%b %Y}" + (f", {when:%H:%M:%S}" if with_time else "")
    return tag("time", shown, datetime=at)
