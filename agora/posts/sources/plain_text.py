"""From what platforms store to what a person read: HTML to plain text, X's three escapes, links expanded.

Goes in: HTML or escaped text. Comes out: plain text, and the links in it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(r"<!--.*?(?:-->|\Z)|<(/?)([a-zA-Z][\w-]*)((?:[^<>\"']|\"[^\"]*\"|'[^']*')*)>", re.DOTALL)
_ATTRIBUTE: Final = re.compile(r"([\w-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_BLOCKS: Final = frozenset(
    ["p", "div", "ul", "ol", "blockquote", "pre", "table", "h1", "h2", "h3", "h4", "h5", "h6", "aside", "section", "article"]
)
_LINES: Final = frozenset(["br", "tr", "hr"])
_SILENT: Final = frozenset(["script", "style", "template"])


@dataclass(slots=True)
class Reading:
    """Plain text of an HTML fragment, and its links by what their class says they are."""

    text: str = ""
    urls: list[str] = field(default_factory=list)
    mentions: list[str] = field(default_factory=list)


def attributes(tag: str) -> dict[str, str]:
    """The attributes inside one tag, unescaped."""
    return {name.lower(): html.unescape(a or b or c) for name, a, b, c in _ATTRIBUTE.findall(tag)}


def read_html(fragment: str) -> Reading:
    """Paragraphs become blank lines, `<br>` a line end, list items `- `; an emoji image becomes its alt text. Linear in the input."""
    reading, parts = Reading(), _Parts()
    position, silent_in = 0, ""
    for match in _TOKEN.finditer(fragment):
        if not silent_in:
            parts.text(fragment[position : match.start()])
        position = match.end()
        name, closing = (match[2] or "").lower(), match[1] == "/"
        if name in _SILENT:
            silent_in = "" if closing else name
        elif name == "pre":
            parts.verbatim = not closing
            parts.block()
        elif name in _BLOCKS:
            parts.block()
        elif name in _LINES:
            parts.line()
        elif name == "li" and not closing:
            parts.line("- ")
        elif name in ("a", "img") and not closing:
            _link_or_image(name, attributes(match[3]), reading, parts)
    if not silent_in:
        parts.text(fragment[position:])
    reading.text = parts.joined()
    return reading


def _link_or_image(name: str, found: Mapping[str, str], reading: Reading, parts: _Parts) -> None:
    if name == "img":
        parts.raw(found.get("alt") or "")
        return
    target, kinds = found.get("href", ""), found.get("class", "").split()
    if "mention" in kinds and "hashtag" not in kinds:
        reading.mentions.append(target)
    elif "hashtag" not in kinds and re.match(r"https?://|//", target):
        reading.urls.append(target)


class _Parts:
    """Text pieces with collapsed white space and pending block ends."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.pending = ""
        self.verbatim = False

    def text(self, escaped: str) -> None:
        if not escaped:
            return
        plain = html.unescape(escaped) if "&" in escaped else escaped
        if not self.verbatim:
            plain = re.sub(r"[ \t\r\n\f]+", " ", plain)
            if (self.pending or not self.pieces) and plain.startswith(" "):
                plain = plain[1:]
        self.raw(plain)

    def raw(self, plain: str) -> None:
        if plain:
            if self.pieces and self.pending:
                self.pieces.append(self.pending)
            self.pending = ""
            self.pieces.append(plain)

    def block(self) -> None:
        self.pending = "\n\n"

    def line(self, start: str = "") -> None:
        # After "<li>- " nothing but the marker may be pending, so several line ends in a row stay one blank line at most.
        ends = "\n\n" if self.pending.startswith("\n") and not start else "\n"
        self.pending = ends + start
        if start and not self.pieces:
            self.pieces.append(start)
            self.pending = ""

    def joined(self) -> str:
        return re.sub(r" +\n", "\n", "".join(self.pieces)).strip()


def unescape_x(text: str) -> str:
    """X escapes exactly `&`, `<` and `>` (so `&amp;copy;` was typed as `&copy;`)."""
    if "&" not in text:
        return text
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def expand_links(text: str, expansions: Iterable[tuple[str, str | None]]) -> str:
    """Put each short link's target in its place; a target of None removes the link (own media, shown as attachment)."""
    for short, target in expansions:
        if short:
            text = text.replace(short, target or "")
    return text.strip()
