"""How long texts may be. Goes in: a text and a platform's name. Comes out: its width as that platform counts it, and what is too long.

Limits and rules of counting stand in data/platforms.toml, each with source and date. A text that fills fields of several platforms must
fit all of them.
"""

from __future__ import annotations

import functools
import tomllib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final, Literal

import regex

from agora.config import unknown_value
from agora.errors import UsageError

Counting = Literal["wide", "utf16", "weighted"]
IMAGE: Final = "image"
"""What holds for our own pictures, whatever the platforms."""
_LINK: Final = regex.compile(r"https?://[^\s<>\"]+")
_EMOJI: Final = regex.compile(r"[\p{Extended_Pictographic}\p{Regional_Indicator}\u20e3]")
_CLUSTER: Final = regex.compile(r"\X")
_LIGHT: Final = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
"""Code points that weigh 1 in twitter-text configuration 3; all others weigh 2."""
_PLAIN_PICTOGRAPHS: Final = "©®™‼⁉0123456789#*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """One field of one platform. `copy` is the field of a Copy that fills it; `with_link`: the landing page is written behind the text."""

    platform: str
    field: str
    max: int
    copy: str
    basis: str
    with_link: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Platform:
    """A platform's limits and its rule of counting."""

    name: str
    title: str
    counting: Counting
    emoji: bool
    link_width: int
    fields: tuple[Limit, ...]
    source: str
    date: str
    emoji_source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Excess:
    """A text that does not fit."""

    limit: Limit
    width: int
    reason: str


@functools.cache
def platforms() -> Mapping[str, Platform]:
    """All platforms of the data file, by name."""
    tables = tomllib.loads(files("agora.ads").joinpath("data/platforms.toml").read_text(encoding="utf-8"))
    return {
        name: Platform(name=name, fields=tuple(Limit(platform=name, field=key, **one) for key, one in fields.items()), **rest)
        for name, table in tables.items()
        for fields, rest in [(table["fields"], {key: value for key, value in table.items() if key != "fields"})]
    }


def platforms_named(names: Sequence[str]) -> tuple[Platform, ...]:
    """These platforms (none named: all), and always what holds for our pictures. Raises UsageError with the nearest name."""
    known = platforms()
    for name in names:
        if name not in known or name == IMAGE:
            raise UsageError(f"platforms: {unknown_value(name, [one for one in known if one != IMAGE], 'platform')}")
    return tuple(known[name] for name in dict.fromkeys([*(names or known), IMAGE]))


def width_of(text: str, platform: str, *, with_link: bool = False) -> int:
    """How long `text` is for a platform. `with_link`: with a blank and a link behind it."""
    rules = platforms_named([platform])[0] if platform != IMAGE else platforms()[IMAGE]
    return counted(text, rules.counting, rules.link_width) + (1 + rules.link_width if with_link else 0)


def counted(text: str, counting: Counting, link_width: int = 0) -> int:
    """How long `text` is by a rule of counting; links count `link_width` where the rule says so (weighted)."""
    return _COUNTERS[counting](text, link_width)


def has_emoji(text: str) -> bool:
    """Whether a picture character is in a text; (c), (R) and TM are not."""
    return any(match.group() not in _PLAIN_PICTOGRAPHS for match in _EMOJI.finditer(text))


def limits_of(copy_field: str, chosen: Iterable[Platform]) -> tuple[Limit, ...]:
    """All limits that a field of a Copy has to keep."""
    return tuple(limit for platform in chosen for limit in platform.fields if limit.copy == copy_field)


def excess(text: str, copy_field: str, chosen: Iterable[Platform]) -> Excess | None:
    """The first limit that `text` breaks as `copy_field`, or None when it fits everywhere."""
    known = platforms()
    for limit in limits_of(copy_field, chosen):
        width = width_of(text, limit.platform, with_link=limit.with_link)
        if width > limit.max:
            return Excess(limit=limit, width=width, reason=f"{limit.platform} {limit.field}: {width} of {limit.max}")
        if not known[limit.platform].emoji and has_emoji(text):
            return Excess(limit=limit, width=width, reason=f"{limit.platform} {limit.field}: emoji are not allowed there")
    return None


def _wide(text: str, link_width: int) -> int:
    return sum(_wide_cluster(cluster) for cluster in _CLUSTER.findall(unicodedata.normalize("NFC", text)))


def _wide_cluster(cluster: str) -> int:
    """Code points, of which wide ones and pictures count 2. Nothing is forgiven: each part of a composed emoji counts."""
    return sum(
        2 if unicodedata.east_asian_width(one) in "WF" or (_EMOJI.match(one) and one not in _PLAIN_PICTOGRAPHS) else 1 for one in cluster
    )


def _utf16(text: str, link_width: int) -> int:
    return max(len(text.encode("utf-16-le")) // 2, _wide(text, link_width))


def _weighted(text: str, link_width: int) -> int:
    text = unicodedata.normalize("NFC", text)
    without = _LINK.sub("", text)
    links = len(_LINK.findall(text)) * link_width
    return links + sum(2 if has_emoji(cluster) else sum(map(_weight, cluster)) for cluster in _CLUSTER.findall(without))


def _weight(character: str) -> int:
    return 1 if any(low <= ord(character) <= high for low, high in _LIGHT) else 2


_COUNTERS: Final = {"wide": _wide, "utf16": _utf16, "weighted": _weighted}

__all__ = [
    "IMAGE",
    "Counting",
    "Excess",
    "Limit",
    "Platform",
    "counted",
    "excess",
    "has_emoji",
    "limits_of",
    "platforms",
    "platforms_named",
    "width_of",
]
