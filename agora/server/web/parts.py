"""The parts that pages are built from. Goes in: plain values, also those that strangers wrote. Comes out: elements that show them as text.

Nothing here makes HTML out of a value: text goes into text nodes and attributes, which the browser never reads as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from agora.server.api.search import Cited, Post


def text(tag: str, content: object, classes: str = "", **attributes: Any) -> TextElement:
    """An element that holds nothing but `content` as text."""
    made = TextElement(tag=tag, text=str(content))
    if classes:
        made.classes(classes)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


def box(classes: str, tag: str = "div", **attributes: Any) -> ui.element:
    """An element that holds others."""
    made = ui.element(tag).classes(classes)
    for name, value in attributes.items():
        made.props[name.replace("_", "-")] = value
    return made


def button(label: str, act: Callable[..., Any], kind: str = "plain", icon: str | None = None, hint: str = "") -> ui.button:
    """main, plain, ghost or danger. Without a label, `hint` says what it does."""
    made = ui.button(label, on_click=act, icon=icon, color=None).classes(kind).props("no-caps unelevated")
    if not label:
        made.props("dense round flat")
    if hint:
        made.props["aria-label"] = hint
        with made:
            ui.tooltip(hint)
    return made


def note(message: str, kind: str = "") -> ui.element:
    """A line that stands out: plain, warn or bad."""
    with box(f"note {kind}", role="alert" if kind == "bad" else "note") as made:
        ui.icon("error" if kind == "bad" else "warning" if kind == "warn" else "info").style("font-size:20px; margin-top:1px")
        text("span", message, "grow")
    return made


def empty(title: str, *lines: str) -> ui.element:
    """What stands where there is nothing yet."""
    with box("empty") as made:
        text("h2", title)
        for line in lines:
            command = line.startswith("agora ")
            text("code" if command else "p", line, "" if command else "small")
    return made


def waiting(lines: int = 4) -> ui.element:
    """What stands while something is looked for."""
    with box("stack", aria_busy="true", aria_label="Loading") as made:
        for place in range(lines):
            box("wait").style(f"width:{(94, 78, 86, 60)[place % 4]}%")
    return made


def tile(name: str, value: object, hint: str = "") -> None:
    """One number with its name."""
    with box("tile"):
        text("div", name, "small soft")
        text("div", value, "value")
        if hint:
            text("div", hint, "tiny soft")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = (), best: Iterable[int] = ()) -> None:
    """`numbers`: columns that are set right; `best`: rows that stand out."""
    right, marked = set(numbers), set(best)
    with box("scroll"), box("rows", "table"):
        with box("", "thead"), box("", "tr"):
            for place, column in enumerate(columns):
                text("th", column, "num" if place in right else "", scope="col")
        with box("", "tbody"):
            for number, row in enumerate(rows):
                with box("best" if number in marked else "", "tr"):
                    for place, value in enumerate(row):
                        text("td", value, "num" if place in right else "wrap")


def post_card(post: Post | Cited, *, number: int | None = None, label: str | None = None, extra: Callable[[], None] | None = None) -> None:
    """A post, as text: its links are not links, and nothing of it is loaded."""
    with box(f"card post{' labelled' if label else ''}", "article"):
        with box("line"):
            if number is not None:
                text("span", number, "number")
            text("span", f"@{post.author}", "who")
            text("time", moment(post.created_at), "small soft", datetime=post.created_at)
            if label:
                text("span", "coordinated", "chip warn")
        text("div", post.text, "said", dir="auto")
        if label:
            text("div", label, "small soft wrap")
        if extra is not None:
            extra()


def moment(at: str | None) -> str:
    """An ISO time as people write it."""
    if not at:
        return ""
    try:
        return datetime.fromisoformat(at).strftime("%-d %b %Y, %H:%M")
    except ValueError:
        return at


def count(number: float | None) -> str:
    """1,234; 5.2 million; - for none."""
    if number is None:
        return "–"
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {word}"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
