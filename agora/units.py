"""Numbers for people: bytes, counts, FLOPs, seconds, joules. Goes in: a number in its base unit. Comes out: short text.

`parse_seconds` goes the other way, for times that people write.
"""

from __future__ import annotations

import re

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", "k", "M", "G", "T", "P", "E")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def format_bytes(num_bytes: float) -> str:
    """`1536` -> `1.5 KiB` (powers of 1024)."""
    value = float(num_bytes)
    for unit in _BINARY:
        if abs(value) < 1024 or unit == _BINARY[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def format_si(value: float, unit: str = "") -> str:
    """`12_300_000, 'FLOP/s'` -> `12.3 MFLOP/s` (powers of 1000)."""
    value = float(value)
    for prefix in _DECIMAL:
        if abs(value) < 1000 or prefix == _DECIMAL[-1]:
            digits = 0 if prefix == "" and value == int(value) else 1
            return f"{value:.{digits}f} {prefix}{unit}".rstrip()
        value /= 1000
    raise AssertionError("unreachable")


def format_seconds(seconds: float) -> str:
    """`3725` -> `1 h 02 min`, `60` -> `1 min`; below a minute two significant parts of a second."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min" + (f" {rest:02d} s" if rest else "")
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h" + (f" {minutes:02d} min" if minutes else "")


def format_span(seconds: float) -> str:
    """`86400` -> `1 day`, `5400` -> `90 minutes`: in the largest unit that it is a whole number of."""
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:,.0f} {unit}{'' if seconds == size else 's'}"
    return f"{seconds:g} seconds"


def format_joules(joules: float) -> str:
    """`7200` -> `2.0 Wh` (above 3.6 kJ) or `900 J`."""
    return f"{joules:.0f} J" if joules < 3600 else format_si(joules / 3600, "Wh")


def parse_seconds(text: str) -> float:
    """`10m` -> `600.0`; also `90s`, `1h30m`, `1.5d`. Raises ValueError for anything else, and for zero."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a time like 90s, 10m, 1h30m or 2d")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds > 0:
        raise ValueError(f"{text!r} is no time at all; give one like 90s or 10m")
    return seconds
