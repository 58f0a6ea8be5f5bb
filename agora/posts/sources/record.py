"""What a reader yields: one item for every record of its file, so that nothing is lost without a reason.

Goes in: values as a platform wrote them. Comes out: rows for POST_SCHEMA, or a RecordError `reason: detail` whose reason is counted.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any, Final, Literal, TypeAlias

import pyarrow as pa

from agora.errors import RecordError
from agora.posts.schema import KINDS, REPOST

EARLIEST: Final = datetime(1990, 1, 1, tzinfo=timezone.utc)
"""No platform with a reader here is older; catches epoch zero and clocks that were never set."""
LATEST_AHEAD_S: Final = 2 * 86_400
"""A post may be dated this far ahead of this machine's clock: time zones (14 h) and wrong clocks, never years."""
EXCERPT_BYTES: Final = 2_000
"""How much of a broken record is kept in the quarantine file; the rest is named by its sha256 and size."""
MAX_ID_CHARACTERS: Final = 2_048
"""Longest id or author: an id is a number, a name or a URI (browsers and servers cut URIs at about this length)."""

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A readable record that is no post, with the reason."""

    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Deletion:
    """The platform says that a post or an author was deleted."""

    kind: Literal["post", "author"]
    key: str


@dataclass(frozen=True, slots=True)
class Edit:
    """The platform says that a post now reads `row`. `revision` orders the edits of one post, as text."""

    row: Row
    revision: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot become a post. `excerpt` is its beginning, `sha256` and `size_bytes` are of the whole."""

    reason: str
    detail: str
    place: str
    excerpt: bytes
    sha256: str
    size_bytes: int


def make_deletion(kind: Literal["post", "author"], key: Any) -> Deletion:
    """A checked Deletion. Raises RecordError when `key` is no identity."""
    return Deletion(kind, checked_identity(key, "id" if kind == "post" else "author"))


Item: TypeAlias = Row | Skipped | Deletion | Edit | Broken | pa.Table
KEPT_FIRST: Final = Skipped("edit of a post (the first version is kept)")
"""What an import makes of an edit: its files come in any order."""


def broken(error: str, place: str, raw: bytes) -> Broken:
    """The quarantine item for `raw`; `error` is `reason: detail`."""
    reason, _, detail = error.partition(": ")
    return Broken(reason, detail, place, raw[:EXCERPT_BYTES], hashlib.sha256(raw).hexdigest(), len(raw))


def attempt(convert: Callable[[Any], Item], value: Any, place: str = "") -> Item:
    """`convert(value)`; a record that cannot be read as a post comes back as Broken. `place` says where inside its container."""
    try:
        return convert(value)
    except RecordError as error:
        message = str(error)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        message = f"unexpected shape: {type(error).__name__} {error}"
    return broken(message, place, json.dumps(value, default=str).encode())


def attempt_all(expand: Callable[[Any], Iterable[Item]], value: Any, place: str) -> Iterator[Item]:
    """Every item of `expand(value)`, or Broken for the whole. Broken items inside get `place`, where `value` is, in front of their own."""
    outcome: Any = attempt(lambda whole: list(expand(whole)), value)  # type: ignore[arg-type,return-value]
    for item in outcome if isinstance(outcome, list) else [outcome]:
        if isinstance(item, Broken):
            item = replace(item, place=f"{place}, {item.place}" if item.place else place)
        yield item


def attempt_each(convert: Callable[[Any], Item], values: Iterable[Any], label: str = "item") -> Iterator[Item]:
    """`attempt` for every one of `values`, numbered from 0."""
    for index, value in enumerate(values):
        yield attempt(convert, value, f"{label} {index}")


def make_post(
    *,
    source: str,
    id: Any,
    author: Any,
    created_at_us: int,
    text: str | None,
    kind: str = "post",
    lang: Any = None,
    ref_id: Any = None,
    ref_author: Any = None,
    urls: Sequence[str] = (),
    hashtags: Sequence[str] = (),
    mentions: Sequence[str] = (),
    media: Sequence[dict[str, str | None]] = (),
    num_likes: Any = None,
) -> Row:
    """A checked row of POST_SCHEMA. Raises RecordError when an identity, the time or the kind cannot stand."""
    if kind not in KINDS:
        raise RecordError(f"unknown kind: {kind!r} is not one of {', '.join(KINDS)}")
    if text is None or not isinstance(text, str):
        raise RecordError(f"no text: {text!r}")
    return {
        "id": checked_identity(id, "id"),
        "author": checked_identity(author, "author"),
        "created_at": checked_time(created_at_us),
        "text": clean_text(text),
        "lang": clean_text(lang) if lang and isinstance(lang, str) else None,
        "kind": kind,
        "ref_id": None if ref_id in (None, "") else checked_identity(ref_id, "ref_id"),
        "ref_author": None if ref_author in (None, "") else checked_identity(ref_author, "ref_author"),
        "urls": _clean_list(urls),
        "hashtags": _clean_list(hashtags),
        "mentions": _clean_list(mentions),
        "media": [_clean_media(item) for item in media],
        "source": source,
        "num_likes": None if kind == REPOST else whole_number(num_likes),
    }


def whole_number(value: Any) -> int | None:
    """A count as a source states it, also as text or 12.0; None where it states none that can be read: no post is lost for that."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value.partition(".")[0])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) < 2**63 else None


def checked_identity(value: Any, name: str) -> str:
    """An id or author as text. Raises RecordError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise RecordError(f"no {name}: {value!r}")
    if len(value) > MAX_ID_CHARACTERS:
        raise RecordError(f"{name} too long: {len(value)} characters, at most {MAX_ID_CHARACTERS}")
    if clean_text(value) != value:
        raise RecordError(f"{name} is not text: {value!r} holds NUL or half of a surrogate pair")
    return value


def clean_text(text: str) -> str:
    """Without NUL; half surrogate pairs (text that was cut inside an emoji) become U+FFFD, as they have no UTF-8 form."""
    if "\0" in text:
        text = text.replace("\0", "")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # A pair written as two escapes is whole: join it first.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _clean_optional(value: Any) -> str | None:
    return clean_text(value) if isinstance(value, str) and value else None


def _clean_media(item: Any) -> Row:
    if not isinstance(item, Mapping) or not isinstance(item.get("kind"), str):
        raise RecordError(f"media not understood: {item!r}")
    return {"kind": clean_text(item["kind"]), "url": _clean_optional(item.get("url")), "alt": _clean_optional(item.get("alt"))}


def _clean_list(values: Sequence[str]) -> list[str]:
    return [clean_text(value) for value in values if isinstance(value, str) and value] if values else []


def checked_time(created_at_us: int) -> int:
    """Microseconds since 1970 when plausible. Raises RecordError outside EARLIEST .. now + LATEST_AHEAD_S."""
    if not _EARLIEST_US <= created_at_us <= latest_us():
        try:
            shown = datetime.fromtimestamp(created_at_us / 1e6, timezone.utc).isoformat()
        except (ValueError, OverflowError, OSError):
            shown = f"{created_at_us} us"
        raise RecordError(f"time out of range: {shown} is not between {EARLIEST.date()} and now")
    return created_at_us


_WHOLE: Final = re.compile(r"-?[0-9]{1,19}(?:\.0+)?")
_EARLIEST_US: Final = int(EARLIEST.timestamp()) * 1_000_000


def latest_us() -> int:
    """The latest plausible time, microseconds since 1970."""
    return int((time.time() + LATEST_AHEAD_S) * 1e6)


_MONTHS: Final = {m: i for i, m in enumerate(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], start=1)}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_X_TIME: Final = re.compile(r"\w{3} (\w{3}) (\d\d) (\d\d):(\d\d):(\d\d) ([+-]\d{4}) (\d{4})")
_SECONDS_BELOW, _MILLISECONDS_BELOW, _MICROSECONDS_BELOW = 1e11, 1e14, 1e17


def to_microseconds(value: datetime) -> int:
    """Exact integer microseconds since 1970; a time without zone is UTC."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=timezone.utc)
    delta = value - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def parse_time(value: Any) -> int:
    """Microseconds since 1970 from ISO 8601, X's `Tue Jan 25 16:41:04 +0000 2022`, or a number since 1970.

    A time without zone is UTC. Numbers below 1e11 are seconds, below 1e14 milliseconds, below 1e17 microseconds (each reaches past
    the year 5000 in its unit). Raises RecordError.
    """
    if isinstance(value, str) and value:
        return _parse_text_time(value)
    if isinstance(value, datetime):
        return to_microseconds(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == value:
        size = abs(value)
        if size < _SECONDS_BELOW:
            return round(value * 1_000_000)
        if size < _MILLISECONDS_BELOW:
            return round(value * 1_000)
        if size < _MICROSECONDS_BELOW:
            return round(value)
    if value is None or value == "":
        raise RecordError("no time: the record does not say when it was written")
    raise RecordError(f"time not understood: {value!r}")


def _parse_text_time(value: str) -> int:
    try:
        match = _X_TIME.fullmatch(value)
        if match:
            month, day, hour, minute, second, zone, year = match.groups()
            return to_microseconds(datetime.fromisoformat(f"{year}-{_MONTHS[month]:02d}-{day}T{hour}:{minute}:{second}{zone}"))
        return to_microseconds(datetime.fromisoformat(value.strip().replace(" +", "+").replace(" -", "-").replace(" UTC", "Z")))
    except (ValueError, KeyError, OverflowError):
        pass
    if re.fullmatch(r"\d{9,17}(\.\d+)?", value):
        return parse_time(float(value) if "." in value else int(value))
    raise RecordError(f"time not understood: {value!r}")
