"""Dates in words. Goes in: text such as `yesterday`, `last monday`, `3 days ago`, `2026-11-22`. Comes out: a moment in UTC.

Blanks may be written `_`: `since:3_days_ago`. Days are UTC days and begin at midnight; weeks begin on Monday. A weekday alone is the
latest one, today included; `last monday` lies before today. `since:` counts from the beginning of what is named, `until:` ends there.
Not covered: other languages than English, time zones by name.
"""

from __future__ import annotations

import difflib
import re
from datetime import datetime, timedelta
from typing import Final

from agora.search.query.syntax import MAX_SECONDS, utc

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
MONTHS: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
)  # fmt: skip
NUMBERS: Final = {
    "a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "eleven": 11, "twelve": 12,
}  # fmt: skip
UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
"""Seconds of the units of a length of time."""
UNIT_NAMES: Final = {
    "second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d", "week": "w",
}  # fmt: skip
DATE_EXAMPLES: Final = '2026-11-22, 2026-11-22T18:00Z, yesterday, "last monday", 3_days_ago, this_month'
LENGTH_EXAMPLES: Final = "90s, 15m, 2h, 3d, 1w, 1h30m"

_PARTS: Final = re.compile(r"(\d{1,10})([smhdw])")
_COUNTED: Final = re.compile(r"(\d{1,10}|[a-z]+) ([a-z]+?)s?")
_ISO_MONTH: Final = re.compile(r"(\d{4})(?:-(\d{1,2}))?")
_KNOWN: Final = ("now", "today", "yesterday", "tomorrow", "last week", "last month", "last year", "this week", "this month", "this year")
_MAX_LENGTH: Final = 64


class DateError(ValueError):
    """A text that is no date or no length of time; the message says what would be."""


def parse_date(text: str, now: datetime) -> datetime:
    """The moment that `text` names at `now`. Raises DateError."""
    plain = " ".join(text.replace("_", " ").split()).lower()
    if len(plain) > _MAX_LENGTH:
        raise DateError(f"a date has at most {_MAX_LENGTH} characters; write {DATE_EXAMPLES}")
    try:
        found = _named(plain, utc(now)) or _counted(plain, utc(now)) or _written(plain, utc(now))
    except (OverflowError, ValueError) as error:
        raise DateError(f"{text!r} is no date that exists ({error}); write {DATE_EXAMPLES}") from error
    if found is None:
        close = difflib.get_close_matches(plain, [*_KNOWN, *WEEKDAYS, *MONTHS], n=1)
        raise DateError(f"{text!r} is no date; " + (f"did you mean {close[0]!r}?" if close else f"write {DATE_EXAMPLES}"))
    return found


def parse_length(text: str) -> int:
    """Seconds of a length of time (`2h`, `1h30m`, `two days`). Raises DateError."""
    plain = " ".join(text.replace("_", " ").split()).lower()
    seconds = None
    if len(plain) <= _MAX_LENGTH:
        seconds = _seconds(plain)
    if seconds is None:
        raise DateError(f"{text[:_MAX_LENGTH]!r} is no length of time; write {LENGTH_EXAMPLES}")
    if not 0 < seconds <= MAX_SECONDS:
        raise DateError(f"{text!r} must be longer than nothing and at most 100 years; write {LENGTH_EXAMPLES}")
    return seconds


def show_date(at: datetime) -> str:
    """The shortest text that `parse_date` reads as `at` at any time."""
    text = at.replace(tzinfo=None).isoformat()
    return text.removesuffix("T00:00:00") if text.endswith("T00:00:00") else f"{text}Z"


def show_length(seconds: int) -> str:
    """The shortest text that `parse_length` reads as `seconds`."""
    unit, size = next((unit, size) for unit, size in reversed(UNITS.items()) if seconds % size == 0)
    return f"{seconds // size}{unit}"


def _named(plain: str, now: datetime) -> datetime | None:
    """A day, week, month or year by its name."""
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    monday, first = today - timedelta(days=today.weekday()), today.replace(day=1)
    fixed = {"now": now, "today": today, "this week": monday, "this month": first, "this year": first.replace(month=1)}
    if plain in fixed:
        return fixed[plain]
    match plain:
        case "midnight":
            return today
        case "yesterday":
            return today - timedelta(days=1)
        case "tomorrow":
            return today + timedelta(days=1)
        case "last week":
            return monday - timedelta(days=7)
        case "last month":
            return _months_before(first, 1)
        case "last year":
            return _months_before(first.replace(month=1), 12)
    word = plain.removeprefix("last ")
    is_last = word != plain
    if (day := _position(word, WEEKDAYS)) is not None:
        back = (today.weekday() - day) % 7
        return today - timedelta(days=back or (7 if is_last else 0))
    if (month := _position(word, MONTHS)) is not None:
        back = (today.month - 1 - month) % 12
        return _months_before(first, back or (12 if is_last else 0))
    return None


def _counted(plain: str, now: datetime) -> datetime | None:
    """`3 days ago`, `a month ago`, `2h` and `2h ago`."""
    length = plain.removesuffix(" ago")
    if _PARTS.match(length) or length != plain:
        if found := _COUNTED.fullmatch(length):
            count, unit = _number(found[1]), found[2]
            if count is not None and unit in ("month", "year"):
                return _months_before(now, count * (12 if unit == "year" else 1))
        seconds = _seconds(length)
        return None if seconds is None else now - timedelta(seconds=seconds)
    return None


def _written(plain: str, now: datetime) -> datetime | None:
    """A date in figures (ISO 8601), or with the month's name: `22 nov 2026`, `november 22`, `november 2026`."""
    if found := _ISO_MONTH.fullmatch(plain):
        return now.replace(
            year=int(found[1]), month=int(found[2] or 1), day=1, hour=0, minute=0, second=0, microsecond=0
        )  # raises ValueError
    if plain[:1].isdigit() and "-" in plain[:5]:
        return utc(datetime.fromisoformat(plain.replace(" ", "T", 1).upper()))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, day=1)
    month, day, year = None, None, None
    for word in plain.replace(",", " ").split():
        figure = re.sub(r"(?<=\d)(?:st|nd|rd|th)$", "", word)
        if figure.isascii() and figure.isdigit() and len(figure) <= 2 and day is None:
            day = int(figure)
        elif figure.isascii() and figure.isdigit() and len(figure) == 4 and year is None:
            year = int(figure)
        elif (place := _position(word, MONTHS)) is not None and month is None:
            month = place + 1
        else:
            return None
    if month is None:
        return None
    found_at = midnight.replace(year=year or now.year, month=month).replace(day=1 if day is None else day)
    return found_at.replace(year=now.year - 1) if year is None and found_at > now else found_at


def _seconds(plain: str) -> int | None:
    parts = _PARTS.findall(plain.replace(" ", ""))
    if parts and "".join(map("".join, parts)) == plain.replace(" ", ""):
        return sum(int(count) * UNITS[unit] for count, unit in parts)
    found = _COUNTED.fullmatch(plain)
    if not found or (count := _number(found[1])) is None or found[2] not in UNIT_NAMES:
        return None
    return count * UNITS[UNIT_NAMES[found[2]]]


def _number(word: str) -> int | None:
    return int(word) if word.isdecimal() else NUMBERS.get(word)


def _position(word: str, names: tuple[str, ...]) -> int | None:
    """Which name it is; the first three letters (or more) are enough."""
    found = [place for place, name in enumerate(names) if len(word) >= 3 and name.startswith(word)]
    return found[0] if len(found) == 1 else None


def _months_before(moment: datetime, months: int) -> datetime:
    """So many months earlier, on the same day or the month's last."""
    year, month = divmod(moment.year * 12 + moment.month - 1 - months, 12)
    for day in range(moment.day, 27, -1):
        try:
            return moment.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return moment.replace(year=year, month=month + 1, day=min(moment.day, 27))
