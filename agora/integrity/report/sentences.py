"""Numbers that can be followed. Goes in: a sentence about a campaign. Comes out: the sentence, every number in it a link to what it counts.

Which list a number links to follows from the word after it; a number that names nothing known links to the artefacts.
"""

from __future__ import annotations

import re
from typing import Final

from agora.integrity.report.markup import Markup, joined, tag

_NUMBER: Final = re.compile(
    r"(?<![\w@#./:-])(?:\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?Z?)?|\d[\d,]*(?:\.\d+)?(?:e-?\d+)?)"
    r"(?:\s?%|\s(?:s|min|h|hours?|days?|minutes?|seconds?)\b)?(?![\w@/])"
)
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_NEAREST_FIRST: Final = re.compile(
    r"(?P<members>\b(?:accounts?|members?)\b)|(?P<tests>\b(?:occasions?|expected|expects?|chance|pairs?|tests?|windows?|bursts?)\b|%)"
    r"|(?P<artefacts>\b(?:outsiders?|others?|artefacts?|posts?|reposts?|links?|texts?|repl(?:y|ies)|hashtags?|images?|actions?)\b)"
)
_UNIT_OF_TIME: Final = re.compile(r"\s(?:s|min|h|hours?|days?|minutes?|seconds?)$")


def linked(sentence: str, campaign: str) -> Markup:
    """The sentence with links into the section of the page whose anchors start with `campaign`."""
    parts: list[str] = []
    end = 0
    for found in _NUMBER.finditer(sentence):
        target = _target(found[0], sentence[found.end() :])
        parts += [sentence[end : found.start()], tag("a", found[0], href=f"#{campaign}-{target}", class_="count")]
        end = found.end()
    return joined(*parts, sentence[end:])


def _target(number: str, after: str) -> str:
    """The list that a number counts."""
    if _DATE.match(number):
        return "timeline"
    if _UNIT_OF_TIME.search(number) or number.endswith("%"):
        return "tests"
    ahead = re.split(r"[.;,](?:\s|$)|\d", after, maxsplit=1)[0]
    known = _NEAREST_FIRST.search(ahead)
    return known.lastgroup or "artefacts" if known else "artefacts"
