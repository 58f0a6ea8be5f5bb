"""Numbers that can be followed. Goes in: a sentence about a campaign. Comes out: the sentence, every number in it a link to what it counts.

Which list a number links to follows from the words after it; a number that names nothing known links to the artefacts.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from agora.integrity.report.markup import Markup, joined, tag

_TIME: Final = r"(?:s|min|h|hours?|days?|minutes?|seconds?)\b"
_NUMBER: Final = re.compile(
    r"(?<![\w@#./:-])(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?Z?)?|\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)"
    rf"(?:\s?%|\s{_TIME}(?:\s\d\d\s{_TIME})?)?(?![\w@/-])"
)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_DURATION: Final = re.compile(rf"\s{_TIME}$")
_KNOWN: Final = re.compile(
    r"\b(?P<members>accounts?|members?)\b|\b(?P<tests>occasions?|expected|chance|pairs?|tests?|windows?|bursts?)\b"
    r"|(?P<repost>\bposts? of others|\breposts?\b)|(?P<reply>\bposts? they answered|\brepl(?:y|ies)\b)"
    r"|\b(?P<link>links?|pages?)\b|\b(?P<hashtags>(?:rows of )?hashtags?)\b|\b(?P<image>images?|pictures?)\b"
    r"|\b(?P<near_text>texts?)\b|\b(?P<artefacts>artefacts?|posts?|actions?|others?|outsiders?|evidence)\b"
)
LISTS: Final = frozenset({"members", "tests", "artefacts", "timeline"})


def linked(sentence: str, campaign: str, signals: Collection[str] = ()) -> Markup:
    """The sentence with links into the section whose anchors start with `campaign`; each of `signals` has a list of artefacts there."""
    parts: list[str] = []
    end = 0
    for found in _NUMBER.finditer(sentence):
        target = _target(found[0], sentence[found.end() :])
        if target == "near_text" and target not in signals:
            target = "text"
        if target not in LISTS and target not in signals:
            target = "artefacts"
        parts += [sentence[end : found.start()], tag("a", found[0], href=f"#{campaign}-{target}", class_="count")]
        end = found.end()
    return joined(*parts, sentence[end:])


def _target(number: str, after: str) -> str:
    """The list that a number counts."""
    if _DATE.match(number):
        return "timeline"
    if _DURATION.search(number):
        return "tests"
    after = re.sub(r"^ of \d[\d,]*", "", after)  # in `3 of 14 members` both count members
    ahead = re.split(r"[.;,](?:\s|$)|\d", after, maxsplit=1)[0]
    known = _KNOWN.search(ahead)
    return (known.lastgroup or "artefacts") if known else "artefacts"
