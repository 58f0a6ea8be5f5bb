"""Search: operators, facets, time, folded near-duplicates, a cited answer, kept searches."""

from __future__ import annotations

from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from nicegui import ui

from agora.chat.shown import safe_text
from agora.server.api.search import Answered, Facets, Found, Result
from agora.server.web import charts
from agora.server.web.parts import box, button, choice, count, empty, note, on_enter, post_card, sheet, text, waiting
from agora.server.web.site import Shown, Site, Viewer, loaded, quick, tell

OPERATORS: Final = (
    ('"night train"', "these words in this order"),
    ("aare OR rhine", "one of both"),
    ("-advert", "not this word"),
    ("from:ada", "posts of an account"),
    ("to:ada", "replies to an account"),
    ("#flood", "posts with a tag"),
    ("since:yesterday until:2026-03-15", "within a time"),
    ("lang:de", "in a language"),
    ("filter:links -filter:reposts", "with links, without reposts"),
    ("label:coordinated", "labelled as coordinated"),
    ("min_faves:10", "liked that often"),
)
LIMIT: Final = 30


def add_pages(site: Site) -> None:
    """/search"""

    @site.page("/search", "Search", "search")
    def show(viewer: Viewer, q: str = "", mode: str = "top") -> None:
        _Search(site, viewer, q[:2_000], "latest" if mode == "latest" else "top").build()


class _Search:
    """One search on the page."""

    def __init__(self, site: Site, viewer: Viewer, query: str, mode: str) -> None:
        self.site, self.viewer, self.query, self.mode = site, viewer, query, mode
        self.limit = LIMIT

    def build(self) -> None:
        text("h1", "Search")
        with box("stack", "search"):
            with box("ask-box").style("align-items:center"):
                ui.icon("search").classes("soft").style("font-size:22px")
                self.box = ui.input(value=self.query, placeholder="Words, or operators").props(
                    'borderless dense clearable maxlength=2000 aria-label="Search posts" autofocus'
                )
                on_enter(self.box, lambda: self.go(self.box.value or ""))
                button("Search", lambda: self.go(self.box.value or ""), "main")
            with box("line apart"):
                choice({"top": "Top", "latest": "Latest"}, self.mode, lambda event: self.switch(event.value), name="Order")
                with box("line").style("width:auto"):
                    button("Answer this", self.answer, "plain", "forum")
                    button("Keep this search", self.keep, "plain", "bookmark")
            with ui.expansion("Operators").props("dense"), box("halves").style("gap:4px 24px"):
                for example, meaning in OPERATORS:
                    with box("line").style("flex-wrap:nowrap"):
                        ui.link(example, f"/search?{urlencode({'q': example})}").classes("mono")
                        text("span", meaning, "small soft")
        self.answered = box("stack")
        with box("cols"):
            self.found = box("stack", aria_live="polite")
            self.side = box("stack wide", "aside", aria_label="Counts and kept searches")
        with self.found:
            waiting(6)
        with self.side:
            waiting(3)
        loaded(self.found, self.load)
        loaded(self.side, self.load_side)

    def go(self, query: str) -> None:
        ui.navigate.to(f"/search?{urlencode({'q': query, 'mode': self.mode})}")

    def switch(self, mode: str) -> None:
        self.mode = mode
        self.go(self.box.value or "")

    def narrow(self, more: str) -> None:
        self.go(f"{self.query} {more}".strip())

    async def load(self) -> None:
        mode: Any = self.mode
        results = await self.site.call(self.viewer, self.site.areas.search.find, self.query, mode=mode, limit=self.limit)
        self.found.clear()
        with self.found:
            self.show(results)

    def show(self, results: Found) -> None:
        for warning in results.warnings:
            note(f"Character {warning.position + 1}: {warning.message}", "warn")
        for one in results.notes:
            note(one)
        if not results.hits:
            empty("No post matches", "Try fewer words, or OR between them.")
            return
        sure = "" if results.confidence is None else f", confidence {results.confidence:.0%}"
        text("p", f"{results.total:,} posts match, {results.voices:,} voices among those looked at{sure}", "small soft")
        is_apart = False
        for hit in results.hits:
            if hit.is_loose and not is_apart:
                is_apart = True
                text("h2", "Hold some of it, or mean the like").style("padding-top:10px")
            post_card(hit.post, label=hit.label, extra=partial(self.details, hit))
        if len(results.hits) == self.limit and self.limit < 200:
            button("Show more", self.more, "plain")

    def details(self, hit: Result) -> None:
        if hit.post.urls:
            with box("line").style("gap:6px 14px"):
                for url in hit.post.urls[:5]:
                    text("span", url, "tiny soft wrap mono")
        with box("line"):
            if hit.alike:
                text("span", f"+{hit.alike}{' or more' if hit.alike_is_least else ''} alike", "chip")
            if hit.voice.startswith("campaign:"):
                text("span", "one campaign, one voice", "chip warn")
            with ui.expansion("Why here").props("dense").style("width:auto"):
                text("p", "; ".join(hit.why) or "by time", "small soft wrap")
                parts = ", ".join(f"{name} {value:.3f}" for name, value in hit.parts.items() if value)
                text("p", f"score {hit.score:.3f}{': ' + parts if parts else ''}", "tiny soft mono wrap")
                if hit.alike_ids:
                    text("p", f"alike: {', '.join(hit.alike_ids[:20])}", "tiny soft mono wrap")
                text("p", f"id: {hit.post.id}", "tiny soft mono wrap")
                if " " not in hit.post.id:
                    ui.link("Explain this post", f"/ask?{urlencode({'q': f'explain post {hit.post.id}'})}").classes("small")

    async def more(self) -> None:
        self.limit = min(self.limit * 2, 200)
        try:
            await self.load()
        except Shown as problem:
            quick(problem)

    async def load_side(self) -> None:
        try:
            facets = await self.site.call(self.viewer, self.site.areas.search.facets, self.query)
        except Shown:  # the list beside it says what is missing
            self.side.clear()
            return
        kept = await self.site.call(self.viewer, self.site.areas.search.saved, self.viewer.caller)
        self.side.clear()
        with self.side:
            if facets.counted:
                self.show_facets(facets)
            if kept:
                with box("stack tight"):
                    text("h2", "Kept searches", "minor")
                    for one in kept:
                        with box("line").style("flex-wrap:nowrap") as row:
                            ui.link(one.name, f"/search?{urlencode({'q': one.query, 'mode': 'latest'})}").classes("grow wrap")
                            if one.num_alerts:
                                text("span", one.num_alerts, "chip accent")
                            button("", lambda one=one, row=row: self.forget(one.name, row), "ghost", "close", f"Forget {one.name}")

    def show_facets(self, facets: Facets) -> None:
        with box("stack tight"):
            text("h2", "When", "minor")
            charts.histogram(facets.histogram)
            text("p", f"the newest {facets.counted:,} of {facets.total:,}", "tiny soft")
        for title, key, values in (("Language", "lang", facets.langs), ("Account", "from", facets.authors), ("Kind", "", facets.kinds)):
            with box("stack tight"):
                text("h2", title, "minor")
                for one in values[:6]:
                    with box("line apart").style("flex-wrap:nowrap"):
                        plain = key and one.value != "none" and " " not in one.value and '"' not in one.value
                        if plain:
                            ui.link(one.value, f"/search?{urlencode({'q': f'{self.query} {key}:{one.value}'.strip(), 'mode': self.mode})}")
                        else:
                            text("span", one.value, "wrap")
                        text("span", count(one.count), "small soft num")

    async def answer(self) -> None:
        if not (self.box.value or "").strip():
            ui.notify("Type a question first.")
            return
        self.answered.clear()
        with self.answered, box("card"):
            waiting(3)
        try:
            area = self.site.areas
            found = await self.site.call(self.viewer, area.search.ask, self.box.value, model=area.services.writer)
        except Shown as problem:
            self.answered.clear()
            with self.answered:
                tell(problem)
            return
        self.answered.clear()
        with self.answered:
            show_answer(found)

    def keep(self) -> None:
        with sheet("Keep this search") as dialog:
            text("p", "Posts that come in from now on and match are counted beside its name.", "soft")
            name = ui.input("Name").props("outlined dense autofocus maxlength=34")
            text("code", self.box.value or "", "wrap")

            async def save() -> None:
                try:
                    notes = await self.site.call(
                        self.viewer, self.site.areas.search.save, self.viewer.caller, name.value or "", self.box.value or ""
                    )
                except Shown as problem:
                    quick(problem)
                    return
                dialog.close()
                for one in notes:
                    ui.notify(one.message, type="warning")
                ui.notify("Kept.", type="positive")
                await self.load_side()

            on_enter(name, save)
            with box("line"):
                button("Keep", save, "main")
                button("Cancel", dialog.close, "plain")

    async def forget(self, name: str, row: ui.element) -> None:
        try:
            await self.site.call(self.viewer, self.site.areas.search.remove, self.viewer.caller, name)
        except Shown as problem:
            quick(problem)
            return
        row.delete()


def show_answer(found: Answered) -> None:
    """An answer with its posts."""
    numbers = {post.id: number for number, post in enumerate(found.posts, start=1)}
    with box("card"):
        text("h2", found.question, "wrap")
        if found.abstained:
            note(found.abstained)
        cites = {one: f"[{number}]" for one, number in numbers.items()}
        said = " ".join(f"{safe_text(one.text)} {''.join(cites[key] for key in one.post_ids if key in cites)}" for one in found.sentences)
        if said:
            text("div", said, "said", dir="auto")
        for warning in found.warnings:
            note(warning, "warn")
        if found.posts:
            with ui.expansion(f"{len(found.posts)} posts", value=True).props("dense"), box("halves"):
                for post in found.posts:
                    post_card(post, number=numbers[post.id], label=post.label)
