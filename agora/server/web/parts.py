"""The parts that pages are built from. Goes in: plain values, also those that strangers wrote. Comes out: elements that show them as text.

Nothing here makes HTML out of a value: text goes into text nodes and attributes, which the browser never reads as markup.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

from agora.server.api.ads_forms import Working
from agora.server.api.search import Cited, Post
from agora.units import format_bytes

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d|\d+ min \d\d s")
_NUMBER: Final = "event => emit(Number(event.target.value))"
_ENTER: Final = "event => { if (!event.isComposing && event.keyCode !== 229) { event.preventDefault(); emit(); } }"
FOLLOW_S: Final = 1.0
"""How often a page asks how far work is."""


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


def on_enter(field: ui.element, act: Callable[..., Any]) -> None:
    """What Enter does in a field, unless it ends a word in Chinese, Japanese or Korean. With Shift it is a new line."""
    field.on("keydown.enter.exact", act, js_handler=_ENTER)


def choice(options: Mapping[str, str], value: str | None, act: Callable[..., Any] | None = None, *, name: str) -> ui.toggle:
    """One of a few, side by side."""
    made = ui.toggle(dict(options), value=value, on_change=act).props(
        'no-caps unelevated dense toggle-text-color=on-accent padding="4px 14px"'
    )
    made.props["role"], made.props["aria-label"] = "group", name
    return made


class Slider:
    """A number from `low` to `high`. The browser's own: it has the keyboard, and says its name and value where it has the focus.
    `words`: the value as it is read out."""

    def __init__(self, name: str, low: float, high: float, step: float, value: float, *, words: Callable[[], str]) -> None:
        self.value, self._words = value, words
        self._field = box("", "input", type="range", aria_label=name, min=low, max=high, step=step, value=value)

    def follow(self, moving: Callable[[], Any], moved: Callable[[], Any]) -> None:
        """What is done while it moves, and when it was let go."""

        def take(event: Any) -> None:
            self.value = float(event.args)
            moving()

        def let_go(event: Any) -> Any:
            take(event)
            self.tell()
            return moved()

        self._field.on("input", take, throttle=0.05, js_handler=_NUMBER)
        self._field.on("change", let_go, js_handler=_NUMBER)

    def tell(self) -> None:
        """Read out the value in words. Not while it moves: what comes back from here would be behind."""
        self._field.props["value"], self._field.props["aria-valuetext"] = self.value, self._words()


def picker(
    label: str, take: Callable[[str, bytes], Awaitable[None]], *, accept: str, max_bytes: int, icon: str = "upload_file"
) -> ui.button:
    """A button that takes a file: `take(name, data)` gets what was chosen, of at most `max_bytes`."""

    async def taken(event: Any) -> None:
        data = await event.file.read()
        uploader.reset()
        await take(event.file.name, data)

    def refused() -> None:
        ui.notify(f"That file is not one of {accept.replace(',', ', ')}, or larger than {format_bytes(max_bytes)}.", type="negative")

    uploader = ui.upload(on_upload=taken, on_rejected=refused, max_file_size=max_bytes, auto_upload=True)
    uploader.props["accept"] = accept
    uploader.classes("hidden").props('aria-hidden="true"')
    made = button(label, lambda: None, "plain", icon)
    # In the browser, since a picker of files opens only while the click is being handled.
    made.on("click", js_handler=f"() => runMethod({uploader.id}, 'pickFiles', [])")
    return made


def note(message: str, kind: str = "") -> ui.element:
    """A line that stands out: plain, warn or bad."""
    with box(f"note {kind}", role="alert" if kind == "bad" else "note") as made:
        ui.icon("error" if kind == "bad" else "warning" if kind == "warn" else "info").style("font-size:20px; margin-top:1px")
        text("span", message, "grow")
    return made


@contextmanager
def sheet(title: str) -> Iterator[ui.dialog]:
    """A dialog with a heading, which is its name too. Escape closes it."""
    with ui.dialog(value=True) as made, box("sheet"):
        made.props["aria-label"] = title
        text("h2", title, "wrap")
        yield made


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
    with box("stack", role="status", aria_busy="true", aria_label="Loading") as made:
        for place in range(lines):
            box("wait").style(f"width:{(94, 78, 86, 60)[place % 4]}%")
    return made


def sub_pages(pages: Mapping[str, str], here: str) -> None:
    """Links to the parts of a page, by address."""
    with box("line tabs", "nav", aria_label="Parts of this page"):
        for address, name in pages.items():
            made = ui.link(name, address).classes(f"tab{' here' if address == here else ''}")
            if address == here:
                made.props["aria-current"] = "page"


def tile(name: str, value: object, hint: str = "") -> None:
    """One number with its name."""
    with box("tile"):
        text("div", name, "small soft")
        text("div", value, "value")
        if hint:
            text("div", hint, "tiny soft")


def progress(work: Working, title: str) -> None:
    """How far work is, with a bar."""
    share = 100 * work.done / work.total if work.total else 0
    with box("card", role="status"):
        with box("line apart"):
            text("span", title, "strong")
            text(
                "span",
                "waits for its turn" if work.state == "waiting" else f"{work.done:,} of {work.total:,}" if work.total else "",
                "small soft",
            )
        with box("progress", role="progressbar", aria_label=title, aria_valuenow=f"{share:.0f}", aria_valuemin="0", aria_valuemax="100"):
            box("").style(f"width:{share:.1f}%")
        text("p", "  ·  ".join(part for part in (work.title, work.note) if part) or "Starting", "small soft wrap")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], numbers: Iterable[int] = (), best: Iterable[int] = ()) -> None:
    """`numbers`: columns that are set right; `best`: rows that stand out."""
    right, marked = set(numbers), set(best)
    with box("scroll"), box("rows", "table"):
        if any(columns):
            with box("", "thead"), box("", "tr"):
                for place, column in enumerate(columns):
                    if column:
                        text("th", column, "num" if place in right else "", scope="col")
                    else:
                        box("", "td")
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
    """An ISO time as people write it. Only the comma breaks a line."""
    return _written(at, "%-d\u00a0%b\u00a0%Y, %H:%M")


def day(at: str | None) -> str:
    """The day of an ISO time."""
    return _written(at, "%-d\u00a0%b\u00a0%Y")


def unbroken(sentence: str) -> str:
    """The sentence with dates and times that no line ends within."""
    return _DATE.sub(lambda match: match[0].replace("-", "\u2011").replace(" ", "\u00a0"), sentence)


def _written(at: str | None, form: str) -> str:
    try:
        return datetime.fromisoformat(at).strftime(form) if at else ""
    except ValueError:
        return at or ""


def count(number: float | None) -> str:
    """1,234; 5.2 million; - for none."""
    if number is None:
        return "–"
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(number) >= limit:
            return f"{number / limit:.3g} {word}"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:.3g}"
