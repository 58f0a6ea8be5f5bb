"""Ask: a conversation with the square. Answers stream in, with the posts they rest on as cards."""

from __future__ import annotations

import re
from contextlib import aclosing
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from nicegui import background_tasks, ui

from agora.errors import UsageError
from agora.search.answers.rewrite import MAX_CHARS
from agora.server.api.search import Cited
from agora.server.asking import Asked, Event, Growing
from agora.server.web.parts import FOLLOW_S, box, button, choice, empty, note, on_enter, post_card, sheet, text, waiting
from agora.server.web.site import Shown, Site, Viewer, loaded, quick, styled, tell

_STATES: Final = {"stopped": "Stopped.", "failed": "This answer failed.", "interrupted": "The server ended while this was written."}
_DOWN: Final = "setTimeout(() => window.scrollTo(0, document.body.scrollHeight), 50)"
_BOX: Final = """setTimeout(() => {
  const isLost = document.activeElement === document.body && matchMedia('(pointer: fine)').matches;
  if (isLost) document.querySelector('.ask-box textarea').focus();
}, 60)"""
"""Who pressed a button that is gone now is not thrown back to the beginning of the page."""
_BACK: Final = """window.shown_path = location.pathname;
window.addEventListener('popstate', () => { if (location.pathname !== window.shown_path) location.reload(); });"""
"""A conversation gets its address when it begins, on the page that is there: back and forward must show what their address names."""


def add_pages(site: Site) -> None:
    """/ask, /ask/{talk}, /shared/{token}"""

    @site.page("/ask", "Ask", "ask", narrow=True)
    def new_talk(viewer: Viewer, q: str = "") -> None:
        page = _Talk(site, viewer, None)
        page.build()
        page.box.value = q[:MAX_CHARS]

    @site.page("/ask/{talk}", "Ask", "ask", narrow=True)
    def known_talk(viewer: Viewer, talk: str) -> None:
        _Talk(site, viewer, talk).build()

    @ui.page("/shared/{token}", title="Shared conversation - Agora")
    def shared(token: str) -> None:
        styled()
        with box("page narrow"):
            try:
                talk = site.people.talks.read_shared(token)
            except UsageError:
                empty("There is no conversation under this link", "Its owner may have taken it back.")
                return
            text("h1", talk["title"], "wrap")
            with box("stack wide"):
                for message in talk["messages"]:
                    _message(message)


class _Talk:
    """One conversation on the page."""

    def __init__(self, site: Site, viewer: Viewer, talk: str | None) -> None:
        self.site, self.viewer, self.talk = site, viewer, talk
        self.client = ui.context.client  # what acts is often a button of an answer, which may be gone by the time it is done
        self.running: Asked | None = None
        self.is_busy = False
        self.editing: int | None = None

    def build(self) -> None:
        with box("line apart"):
            self.title = text("h1", "Ask", "wrap grow")
            with box("line").style("width:auto"):
                self.share = button("", self.share_it, "ghost", "share", "Share by a link")
                button("", self.history, "ghost", "history", "Earlier conversations")
                button("New", lambda: ui.navigate.to("/ask"), "plain", "add")
        self.share.set_visibility(self.talk is not None)
        self.list = box("stack wide", aria_live="polite")
        ui.add_head_html(f"<script>{_BACK}</script>")
        with box("dock"):
            with box("note") as self.otherwise:
                text("span", "The question and what follows it will be replaced.", "grow")
                button("Leave it", self.leave, "plain")
            with box("ask-box"):
                self.box = ui.textarea(placeholder="Ask about what is said here").props(
                    'autogrow borderless dense rows=1 input-style="max-height:220px" aria-label="Your question" autofocus'
                )
                self.box.props["maxlength"] = MAX_CHARS
                on_enter(self.box, self.send)
                self.go = button("", self.send, "main", "arrow_upward", "Send")
                self.halt = button("", self.stop, "danger", "stop", "Stop")
            with box("line").style("padding:4px 4px 0"):
                text("p", "Answers rest on posts, which may be wrong. Read the cited ones.", "tiny soft")
                known = self.site.people.asker.personas if self.site.people.asker is not None else ()
            with box("line").style("padding:0 4px; min-height:34px"):
                self.deep = ui.checkbox("Research: several searches, a report").props("dense size=sm").classes("small soft")
                ui.space()
                spoken = {one: one for one in known}
                self.persona = choice(spoken, "neutral" if "neutral" in known else None, name="How the answer speaks")
                self.persona.set_visibility(len(known) > 1)
        self.halt.set_visibility(False)
        self.otherwise.set_visibility(False)
        self.client.on_delete(self.stop)
        if self.talk is None:
            self.welcome()
        else:
            with self.list:
                waiting()
            ui.timer(0.01, self.load, once=True)

    def welcome(self) -> None:
        with self.list, box("stack"):
            text("p", "A question is answered from the posts of this square: each sentence names the posts it rests on.", "soft")
            self.openers = box("line")
            with self.openers:
                waiting(2)
        loaded(self.openers, self.load_openers)

    async def load_openers(self) -> None:
        """Questions that the posts answer, to begin with one press."""
        questions = await self.site.call(self.viewer, self.site.areas.search.questions)
        if self.openers.is_deleted:
            return
        self.openers.clear()
        with self.openers:
            if questions:
                text("span", "Try one:", "small soft")
            for question in questions:
                button(question, lambda question=question: self.ask(question), "plain")

    async def load(self) -> None:
        assert self.talk is not None
        try:
            known = await self.site.call(self.viewer, self.site.people.talks.read, self.viewer.caller.account, self.talk)
        except Shown as problem:
            self.list.clear()
            with self.list:
                tell(problem)
            return
        self.title.text = known["title"]
        self.list.clear()
        with self.list:
            for message in known["messages"]:
                _message(message, self)
            if self.running is None and known["messages"] and known["messages"][-1]["state"] == "writing":
                ui.timer(FOLLOW_S, self.load, once=True)  # it is written for a page that was left or loaded anew
        self.client.run_javascript(_DOWN)

    async def send(self) -> None:
        await self.ask(self.box.value or "", self.editing)

    async def ask(self, question: str | None, after: int | None = None) -> None:
        """Ask, or, with None, have the last question answered again. With `after`, that message and what follows go first."""
        if self.is_busy or (question is not None and not question.strip()):
            return
        self.is_busy = True  # at once: a second press of Enter is no second question
        with self.client:
            try:
                await self.begin(question, after)
            except Shown as problem:
                quick(problem)
            finally:
                self.is_busy = self.running is not None

    async def begin(self, question: str | None, after: int | None) -> None:
        """Raises Shown; then the question stays in its box."""
        asker, account = self.site.people.asker, self.viewer.caller.account
        assert asker is not None
        if self.talk is None:
            self.talk = await self.site.call(self.viewer, self.site.people.talks.begin, account, question or "")
            self.list.clear()
            self.title.text = " ".join((question or "").split())[:80]
            ui.navigate.history.push(f"/ask/{self.talk}")
            ui.run_javascript("window.shown_path = location.pathname")
            self.share.set_visibility(True)
        how: dict[str, Any] = {"after": after, "persona": self.persona.value or "neutral", "is_deep": bool(self.deep.value)}
        number, answer, asked = await self.site.call(self.viewer, asker.begin, account, self.talk, question, **how)
        self.running = asked
        self.box.value = ""
        self.leave()
        if after is not None or question is None:
            await self.load()
            for child in list(self.list)[-1:]:  # the answer that is being written is shown as it grows instead
                child.delete()
        else:
            with self.list:
                _message({"role": "user", "content": question, "state": "complete", "details": {}, "id": number}, self)
        self.go.set_visibility(False)
        self.halt.set_visibility(True)
        self.client.run_javascript(_BOX)
        background_tasks.create(self.follow(answer, asked), name="answer on a page")

    async def follow(self, answer: int, asked: Asked) -> None:
        """Show an answer as it grows."""
        asker, grown = self.site.people.asker, Growing()
        assert asker is not None
        with self.list:
            card = box("stack", "article", aria_busy="true").style("min-height:30vh")  # room to grow into, under the question
        self.client.run_javascript(_DOWN)
        with card:
            steps = text("p", "Reading the question", "small soft")
            said = text("div", "", "said")
            sources = box("stack")
        async with aclosing(asker.events(answer, asked)) as events:
            async for event in events:
                grown.take(event)
                self.piece(event, grown, steps, said, sources)
        state = grown.details.get("state", "complete")
        self.running, self.is_busy = None, False
        if card.is_deleted:
            return
        card.clear()
        with card:
            _answer({"id": answer, "role": "assistant", "content": grown.text, "state": state, "details": grown.details}, self)
        card.props["aria-busy"] = "false"
        card.style(remove="min-height:30vh")
        self.go.set_visibility(True)
        self.halt.set_visibility(False)

    def piece(self, event: Event, grown: Growing, steps: Any, said: Any, sources: ui.element) -> None:
        if steps.is_deleted:
            return
        if event.kind == "step":
            steps.text = event.data["text"]
        elif event.kind == "text":
            said.text = grown.text
        elif event.kind in ("warning", "error"):
            with sources:
                note(event.data["text"], "warn" if event.kind == "warning" else "bad")

    def stop(self) -> None:
        if self.running is not None:
            self.running.cancelled.set()

    def edit(self, message: dict[str, Any]) -> None:
        self.box.value, self.editing = message["content"], message["id"]
        self.otherwise.set_visibility(True)
        self.box.run_method("focus")

    def leave(self) -> None:
        """Nothing is asked otherwise (any more)."""
        if self.editing is not None:
            self.box.value = ""
        self.editing = None
        self.otherwise.set_visibility(False)

    async def again(self) -> None:
        self.leave()  # else what is asked otherwise would be replaced by nothing
        await self.ask(None)

    async def rate(self, message: int, kind: str, words: str = "") -> bool:
        """Whether it is stored; what hinders it is told."""
        try:
            await self.site.call(
                self.viewer, self.site.people.talks.give_feedback, self.viewer.caller.account, message, kind, words
            )  # fmt: skip
        except Shown as problem:
            quick(problem)
            return False
        ui.notify("Noted, thank you.", type="positive")
        return True

    def improve(self, message: dict[str, Any]) -> None:
        with sheet("What should the answer have been?") as dialog:
            better = ui.textarea(value=message["content"]).props('outlined autogrow aria-label="The better answer"')

            async def keep() -> None:
                if await self.rate(message["id"], "edit", better.value or ""):
                    dialog.close()

            with box("line"):
                button("Keep", keep, "main")
                button("Cancel", dialog.close, "plain")

    async def share_it(self) -> None:
        assert self.talk is not None
        account, talks = self.viewer.caller.account, self.site.people.talks
        try:
            token = await self.site.call(self.viewer, talks.share, account, self.talk, is_shared=True)
        except Shown as problem:
            quick(problem)
            return
        with sheet("Anyone with this link can read it") as dialog:
            address = f"/shared/{token}"
            ui.link(address, address, new_tab=True).classes("mono wrap")

            async def take_back() -> None:
                try:
                    await self.site.call(self.viewer, talks.share, account, self.talk or "", is_shared=False)
                except Shown as problem:
                    quick(problem)
                    return
                dialog.close()
                ui.notify("The link is gone.")

            with box("line"):
                button("Done", dialog.close, "main")
                copied = button("Copy", lambda: ui.notify("Copied."), "plain", "content_copy")
                copied.on("click", js_handler=f"() => navigator.clipboard.writeText(location.origin + '{address}')")
                button("Take the link back", take_back, "danger")

    async def history(self) -> None:
        account, talks = self.viewer.caller.account, self.site.people.talks
        try:
            known = await self.site.call(self.viewer, talks.all, account, limit=100)
        except Shown as problem:
            quick(problem)
            return
        with sheet("Earlier conversations"):
            if not known:
                text("p", "None yet.", "soft")
            with box("stack").style("max-height:60vh; overflow:auto; gap:2px"):
                for one in known:
                    with box("line").style("flex-wrap:nowrap") as row:
                        with ui.link(target=f"/ask/{one['id']}").classes("nav grow"):
                            text("span", one["title"], "wrap")

                        async def delete(one: dict[str, Any] = one, row: ui.element = row) -> None:
                            try:
                                await self.site.call(self.viewer, talks.delete, account, one["id"])
                            except Shown as problem:
                                quick(problem)
                                return
                            with self.client:
                                row.delete()
                                if one["id"] == self.talk:
                                    ui.navigate.to("/ask")

                        button("", delete, "ghost", "delete", f"Delete: {one['title']}")


def _message(message: dict[str, Any], page: _Talk | None = None) -> None:
    if message["role"] == "user":
        with box("stack tight").style("align-items:flex-end"):
            text("div", message["content"], "me said", dir="auto")
            if page is not None:
                button("", lambda: page.edit(message), "ghost", "edit", "Ask it otherwise")
        return
    with box("stack", "article"):
        _answer(message, page)


def _answer(message: dict[str, Any], page: _Talk | None) -> None:
    details = message["details"]
    text("div", message["content"] or ("…" if message["state"] == "writing" else ""), "said", dir="auto")
    for warning in details.get("warnings", ()):
        note(warning, "warn")
    if details.get("num_forgotten"):
        note(forgotten(details["num_forgotten"]))
    if message["state"] in _STATES:
        note(details.get("error") or _STATES[message["state"]], "bad" if message["state"] == "failed" else "")
    if page is not None:
        with box("line").style("gap:2px"):
            number = message["id"]
            button("", lambda: _copy(message["content"]), "ghost", "content_copy", "Copy")
            button("", page.again, "ghost", "refresh", "Answer again")
            button("", lambda: page.rate(number, "up"), "ghost", "thumb_up", "A good answer")
            button("", lambda: page.rate(number, "down"), "ghost", "thumb_down", "A bad answer")
            button("", lambda: page.rate(number, "unsupported"), "ghost", "link_off", "The posts do not say this")
            button("", lambda: page.improve(message), "ghost", "edit_note", "Write it better")
    used = {int(number) for number in re.findall(r"\[(\d{1,4})\]", message["content"])}
    cited = [one for one in details.get("citations", ()) if not used or one["number"] in used]
    if cited:
        labelled = sum(one.get("label") is not None for one in cited)
        with ui.expansion("1 post" if len(cited) == 1 else f"{len(cited)} posts", value=True).props("dense"), box("halves"):
            for one in cited:
                post = Cited(**{name: one.get(name) or "" for name in ("author", "created_at", "text", "voice")}, id=one["post_id"],
                             label=one.get("label"), alike=one.get("alike") or 0)  # fmt: skip
                explain = partial(_explain, one["post_id"]) if page is not None and " " not in one["post_id"] else None
                post_card(post, number=one["number"], label=one.get("label"), extra=explain)
        if labelled:
            text("p", f"{labelled} of them labelled as coordinated", "small soft")


def forgotten(number: int) -> str:
    """That the memory's budget left out so many messages, in words."""
    what = "message was" if number == 1 else f"{number:,} messages were"
    return f"This conversation is long: its first {what} not read for this answer."


def _explain(post_id: str) -> None:
    ui.link("Explain this post", f"/ask?{urlencode({'q': f'explain post {post_id}'})}").classes("small")


def _copy(words: str) -> None:
    ui.clipboard.write(words)
    ui.notify("Copied.")
