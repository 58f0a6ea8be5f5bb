"""Time words of a question. Goes in: a question and the time it is asked. Comes out: the span of days it means, and the words that said so.

Only words that surely mean a time are read: "on Friday", "in March", "yesterday", "the last 3 days", "2015-08-07". "Black Friday", "may",
"march" and "USA Today" are left alone. Weeks begin on Monday; all days are UTC. Not covered: clock times, and other languages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

_MONTHS: Final = ["january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december"]
_DAYS: Final = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
_MONTH: Final = rf"(?P<month>{'|'.join(f'{name}|{name[:3]}' for name in _MONTHS)})\.?"
_UNITS: Final = {"minute": 1 / 1440, "hour": 1 / 24, "day": 1.0, "week": 7.0, "month": 30.0, "year": 365.0}
_SMALL: Final = {
    word: value for value, word in enumerate(["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], start=1)
}
_EDGE: Final = r"(?P<edge>since|after|before|until|till|by|on|in|during|from|for)"

_PATTERNS: Final = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:{_EDGE}\s+)?(?P<iso>\d{{4}}-\d{{2}}-\d{{2}})\b",
        rf"\b(?:{_EDGE}\s+)?(?:the\s+)?{_MONTH}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<year>(?:19|20)\d\d))?\b(?!\s*%)",
        rf"\b(?:{_EDGE}\s+)?(?:the\s+)?(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH}(?:,?\s+(?P<year>(?:19|20)\d\d))?\b",
        rf"\b{_EDGE}\s+{_MONTH}(?:,?\s+(?P<year>(?:19|20)\d\d))?\b(?!\s+\d)",
        rf"\b{_EDGE}\s+(?P<year>(?:19|20)\d\d)\b(?![-/])",
        rf"\b(?:{_EDGE}\s+|(?P<last>last)\s+|this\s+)(?:last\s+)?(?P<weekday>{'|'.join(_DAYS)})\b(?!\s+(?:night\s+)?(?:times|times'))",
        r"\b(?:in|during|over|within|for)?\s*(?:the\s+)?(?:last|past)\s+"
        r"(?P<count>\d{1,4}|" + "|".join(_SMALL) + r")\s+(?P<unit>minute|hour|day|week|month|year)s?\b",
        r"\b(?:in|during|over)?\s*(?:the\s+)?(?P<which>last|past|this)\s+(?P<unit>hour|week|month|year)\b",
        r"\b(?:(?P<edge>since|until|before)\s+)?(?<!USA )(?<!this )"
        r"(?P<relative>today|yesterday|tonight|right now|at the moment)(?:['’]s)?\b",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """From `since` on, before `until`. `words` are the parts [start, end) of the question that said so."""

    since: datetime | None = None
    until: datetime | None = None
    words: tuple[tuple[int, int], ...] = ()
    is_year: bool = False
    """Said as a bare year: it may be what the question is about ("the election in 2016") rather than when it was said."""

    def holds(self, at: datetime) -> bool:
        """Whether a post of this time lies inside."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)


def read_times(question: str, now: datetime, protected: tuple[tuple[int, int], ...] = ()) -> Span:
    """The span that a question means; without one, everything. Nothing inside `protected` parts is read."""
    found: list[tuple[re.Match[str], datetime | None, datetime | None]] = []
    for pattern in _PATTERNS:
        for match in pattern.finditer(question):
            taken = [*protected, *(earlier.span() for earlier, _, _ in found)]
            if not any(low < match.end() and match.start() < high for low, high in taken) and (span := _span(match, now)):
                found.append((match, *span))
    since = max((low for _, low, _ in found if low), default=None)
    until = min((high for _, _, high in found if high), default=None)
    if not found or (since and until and since >= until):
        return Span()
    return Span(since, until, tuple(match.span() for match, _, _ in found), all(_is_bare_year(match) for match, _, _ in found))


def _is_bare_year(match: re.Match[str]) -> bool:
    groups = match.groupdict()
    return bool(groups.get("year")) and not groups.get("month")


def _span(match: re.Match[str], now: datetime) -> tuple[datetime | None, datetime | None] | None:
    groups = {name: value.lower() for name, value in match.groupdict().items() if value}
    edge = groups.get("edge", "on")
    try:
        low, high = _moments(groups, now)
    except (ValueError, OverflowError):
        return None  # such as 31 February
    if groups.get("month") in ("may", "mar", "march") and "day" not in groups and not match.group("month")[0].isupper():
        return None
    if edge in ("since", "from"):
        return low, None
    if edge == "after":
        return high, None
    if edge in ("before", "until", "till", "by"):
        return None, low if edge == "before" else high
    return low, high


def _moments(groups: dict[str, str], now: datetime) -> tuple[datetime, datetime | None]:
    day = timedelta(days=1)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if "iso" in groups:
        start = _midnight(date.fromisoformat(groups["iso"]), now)
        return start, start + day
    if "month" in groups:
        return _month(groups, now)
    if "year" in groups:
        year = int(groups["year"])
        return _midnight(date(year, 1, 1), now), _midnight(date(year + 1, 1, 1), now)
    if "weekday" in groups:
        back = (now.weekday() - _DAYS.index(groups["weekday"])) % 7 or (7 if "last" in groups else 0)
        return today - back * day, today - (back - 1) * day
    if "count" in groups:
        count = int(groups["count"]) if groups["count"].isdigit() else _SMALL[groups["count"]]
        return now - timedelta(days=count * _UNITS[groups["unit"]]), None
    if "which" in groups:
        return _unit(groups["which"], groups["unit"], now)
    if groups["relative"] == "yesterday":
        return today - day, today
    return (today if groups["relative"] in ("today", "tonight") else now - day), None


def _month(groups: dict[str, str], now: datetime) -> tuple[datetime, datetime]:
    """A month or a day of it; without a year, the last one that has begun."""
    number = next(index for index, name in enumerate(_MONTHS, start=1) if name.startswith(groups["month"][:3]))
    first = int(groups.get("day", 1))
    year = int(groups["year"]) if "year" in groups else now.year - ((number, first) > (now.month, now.day))
    start = _midnight(date(year, number, first), now)
    if "day" in groups:
        return start, start + timedelta(days=1)
    return start, _midnight(date(year + number // 12, number % 12 + 1, 1), now)


def _unit(which: str, unit: str, now: datetime) -> tuple[datetime, datetime | None]:
    if unit == "hour" or which == "past":
        return now - timedelta(days=_UNITS[unit]), None
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    start = {
        "week": today - timedelta(days=today.weekday()), "month": today.replace(day=1), "year": today.replace(month=1, day=1),
    }[unit]  # fmt: skip
    if which == "this":
        return start, None
    if unit == "week":
        return start - timedelta(days=7), start
    before = (start - timedelta(days=1)).replace(day=1)
    return (before.replace(month=1) if unit == "year" else before), start


def _midnight(day: date, now: datetime) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
