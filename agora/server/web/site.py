"""The frame of all pages: who looks, side navigation, errors. Goes in: a request. Comes out: a `Viewer`, or the way to the sign-in page."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, get_type_hints
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui
from starlette.concurrency import run_in_threadpool

from agora.errors import AgoraError
from agora.server.accounts import Caller
from agora.server.areas import Areas, People
from agora.server.errors import ApiError, from_agora_error
from agora.server.gate import session_secret
from agora.server.web.parts import box, button, empty, note, text

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

PAGES: Final = (
    ("ask", "Ask", "forum", "member"),
    ("search", "Search", "search", "member"),
    ("integrity", "Integrity", "shield", "analyst"),
    ("ads", "Ads", "campaign", "advertiser"),
    ("training", "Training", "show_chart", "engineer"),
    ("cluster", "Cluster", "dns", "engineer"),
    ("admin", "Admin", "settings", "admin"),
)
"""Folder of the address, name, icon, scope."""


class Shown(Exception):
    """Something went wrong that the page tells."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page. `secret`: the session, asked again at each action, so that one that ended is over at once."""

    caller: Caller
    secret: str | None


class Site:
    """What all pages share."""

    def __init__(self, areas: Areas, people: People) -> None:
        self.areas = areas
        self.people = people
        self._dark: dict[int, bool] = {}

    def page(self, address: str, title: str, here: str, *, narrow: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """A page of ours: `build(viewer, ...)` fills its frame for whoever may see it; its other parameters come from the address."""

        def add(build: Callable[..., None]) -> Callable[..., None]:
            def show(request: Request, **given: Any) -> Response | None:
                viewer = self._enter(request)
                if isinstance(viewer, Response):
                    return viewer
                with self.frame(viewer, here, narrow=narrow) as may:
                    if may:
                        build(viewer, **given)
                return None

            hints = get_type_hints(build)
            asked = [one.replace(annotation=hints[name]) for name, one in inspect.signature(build).parameters.items() if name != "viewer"]
            request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
            keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in asked]
            show.__signature__ = inspect.Signature([request, *keywords])  # type: ignore[attr-defined]
            show.__annotations__ = {"request": Request, **{one.name: one.annotation for one in keywords}}
            ui.page(address, title=f"{title} - Agora")(show)
            return build

        return add

    def _enter(self, request: Request) -> Viewer | Response:
        """Who looks, or a redirection to the sign-in page."""
        caller = getattr(request.state, "caller", None)
        if caller is None:
            address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return RedirectResponse(f"/sign-in?next={quote(address, safe='')}", status_code=303)
        return Viewer(caller, session_secret(request.headers))

    @contextmanager
    def frame(self, viewer: Viewer, here: str, *, narrow: bool = False) -> Iterator[bool]:
        """The page's frame. Gives whether the viewer may see what it holds; where not, it says so."""
        ui.add_head_html('<link rel="stylesheet" href="/assets/agora.css">')
        ui.colors(primary="var(--accent)")
        dark = ui.dark_mode(self._dark.get(viewer.caller.account))
        allowed = [page for page in PAGES if viewer.caller.may(page[3])]
        drawer = ui.left_drawer(bordered=False).classes("side").props("width=224 breakpoint=900")
        with drawer:
            ui.link("Agora", "/ask").classes("brand")
            with box("stack tight", "nav", aria_label="Pages"):
                for address, name, icon, _ in allowed:
                    with ui.link(target=f"/{address}").classes(f"nav{' here' if address == here else ''}") as made:
                        if address == here:
                            made.props["aria-current"] = "page"
                        ui.icon(icon)
                        text("span", name)
            ui.space()
            with box("stack tight"):
                text("div", viewer.caller.name, "small soft wrap").style("padding:0 10px")

                def turn() -> None:
                    self._dark[viewer.caller.account] = not dark.value
                    dark.value = not dark.value

                with box("line"):
                    button("", turn, "ghost", "dark_mode", "Dark or light")
                    if viewer.secret:
                        with box("", "form", method="post", action="/sign-out"):
                            ui.button("Sign out", color=None).props("type=submit flat no-caps dense").classes("ghost")
        with ui.header().classes("bar phone-only lt-md"), box("line"):
            button("", drawer.toggle, "ghost", "menu", "Menu")
            text("span", next((page[1] for page in PAGES if page[0] == here), "Agora"), "strong")
        may = any(page[0] == here for page in allowed)
        with box(f"page{' narrow' if narrow else ''}") as main:
            ui.skip_link("To the content", target=main)
            if not may:
                scope = next(page[3] for page in PAGES if page[0] == here)
                empty("This page is not for your account", f"It needs the scope {scope}; an admin can give it.")
            yield may

    async def call(self, viewer: Viewer, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of one of the API's functions, in a thread. Raises Shown with what is to be told."""
        try:
            if not await run_in_threadpool(self._still_in, viewer):
                ui.navigate.to("/sign-in")
                raise Shown("Your session ended; sign in again.")
            return await run_in_threadpool(work, *args, **kwargs)
        except ApiError as error:
            raise Shown(str(error.detail)) from error
        except AgoraError as error:
            raise Shown(str(from_agora_error(error).detail)) from error
        except Shown:
            raise
        except Exception as error:
            log.exception("a page failed")
            raise Shown("The server failed; its log has the details.") from error

    def _still_in(self, viewer: Viewer) -> bool:
        if viewer.secret is None:
            return True
        now = self.people.accounts.caller_of_session(viewer.secret)
        return now is not None and now.scopes >= viewer.caller.scopes


def tell(problem: Shown) -> None:
    """What went wrong, where the page's part would stand."""
    message = str(problem)
    before, mark, command = message.partition(": agora ")
    if mark:
        first, *more = [part.split(", or: ")[0] for part in f"agora {command}".split(", or: ")]
        empty("Nothing here yet", f"{before}:", first, *more)
    else:
        note(message, "bad")


def quick(problem: Shown) -> None:
    """What went wrong with an action, at the page's edge."""
    ui.notify(str(problem), type="negative", position="bottom", multi_line=True)


def loaded(area: ui.element, fill: Callable[[], Any]) -> None:
    """Fill a part of the page after it is shown; what goes wrong stands in its place."""

    async def work() -> None:
        try:
            await fill()
        except Shown as problem:
            area.clear()
            with area:
                tell(problem)

    ui.timer(0.01, work, once=True)
