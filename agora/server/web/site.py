"""The frame of all pages: who looks, side navigation, errors. Goes in: a request. Comes out: a `Viewer`, or the way to the sign-in page."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar, get_type_hints
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from nicegui import ui
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from agora.errors import AgoraError
from agora.server.accounts import Caller
from agora.server.areas import Areas, People
from agora.server.errors import ApiError, from_agora_error
from agora.server.gate import session_secret
from agora.server.web.parts import box, button, empty, note, text

log = logging.getLogger(__name__)
F = TypeVar("F", bound=BaseModel)
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


THEME_COOKIE: Final = "agora_theme"
_TURN: Final = f"""() => {{
  const dark = !document.body.classList.contains('body--dark'), name = dark ? 'dark' : 'light';
  setDark(dark);
  document.documentElement.dataset.theme = name;
  document.cookie = `{THEME_COOKIE}=${{name}}; path=/; max-age=31536000; samesite=lax`;
  emit(dark);
}}"""
"""In the browser, so that it is at once, and the other of what is seen, whoever chose that. The browser keeps it, signed in or not."""


_ENTER_MENU: Final = "() => setTimeout(() => document.querySelector('.side a.nav')?.focus(), 200)"
_LEAVE_MENU: Final = """() => {
  const menu = document.querySelector('[aria-label="Menu"]');
  if (menu.offsetParent) { emit(); menu.focus(); }
}"""
"""Where the menu lies over the page: who opened it by keyboard is in it, and Escape leads back."""


class Shown(Exception):
    """Something went wrong that the page tells. `is_missing`: what was asked for is not there."""

    def __init__(self, message: str, *, is_missing: bool = False) -> None:
        super().__init__(message)
        self.is_missing = is_missing


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at a page. `now` asks again who that is: at each action, so that it is over at once when a session ends, a key is revoked,
    or the first account is made on a server that was this machine's before."""

    caller: Caller
    now: Callable[[], Awaitable[Caller | None]]
    has_session: bool


class Site:
    """What all pages share."""

    def __init__(self, areas: Areas, people: People) -> None:
        self.areas = areas
        self.people = people

    def page(self, address: str, title: str, here: str, *, narrow: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
        """A page of ours: `build(viewer, ...)` fills its frame for whoever may see it; its other parameters come from the address. One
        that cannot be read is told on the page, which shows the parameter's default instead."""

        def add(build: Callable[..., None]) -> Callable[..., None]:
            hints = get_type_hints(build)
            asked = [one.replace(annotation=hints[name]) for name, one in inspect.signature(build).parameters.items() if name != "viewer"]

            def show(request: Request, **given: Any) -> Response | None:
                viewer = self.enter(request)
                if isinstance(viewer, Response):
                    return viewer
                values, problems = read_parameters(asked, given)
                with self.frame(viewer, here, narrow=narrow) as may:
                    if may:
                        for problem in problems:
                            note(problem, "warn")
                        build(viewer, **values)
                return None

            # All are words to FastAPI, whose own refusal is no page.
            words = [one.replace(annotation=str, default=_as_word(one.default), kind=inspect.Parameter.KEYWORD_ONLY) for one in asked]
            request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
            show.__signature__ = inspect.Signature([request, *words])  # type: ignore[attr-defined]
            show.__annotations__ = {"request": Request, **{one.name: str for one in words}}
            ui.page(address, title=f"{title} - Agora")(show)
            return build

        return add

    @staticmethod
    def enter(request: Request) -> Viewer | Response:
        """Who looks, or a redirection to the sign-in page."""
        caller = getattr(request.state, "caller", None)
        if caller is None:
            return RedirectResponse(sign_in_address(request), status_code=303)
        return Viewer(caller, request.state.caller_now, session_secret(request.headers) is not None)

    @contextmanager
    def frame(self, viewer: Viewer, here: str, *, narrow: bool = False) -> Iterator[bool]:
        """The page's frame. Gives whether the viewer may see what it holds; where not, it says so."""
        dark = styled()
        allowed = [page for page in PAGES if viewer.caller.may(page[3])]
        drawer = ui.left_drawer(bordered=False, value=False).classes("side").props("width=224 breakpoint=900")
        drawer.value = None  # by the width; begun with it, it would ask the browser, in vain where the page is left at once
        with drawer, box("inside") as inside:
            inside.on("keydown.escape", drawer.hide, js_handler=_LEAVE_MENU)
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

                def turned(event: Any) -> None:
                    dark.value = bool(event.args)

                with box("line"):
                    button("", lambda: None, "ghost", "dark_mode", "Dark or light").on("click", turned, js_handler=_TURN)
                    if viewer.has_session:
                        with box("", "form", method="post", action="/sign-out"):
                            ui.button("Sign out", color=None).props("type=submit flat no-caps dense").classes("ghost")
        with ui.header().classes("bar phone-only lt-md"), box("line"):
            button("", drawer.toggle, "ghost", "menu", "Menu").on("click", js_handler=_ENTER_MENU)
            ui.link("Agora", "/ask").classes("brand")
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
            if not await still_in(viewer):
                ui.navigate.to(sign_in_address(ui.context.client.request))
                raise Shown("Your session ended; sign in again.")
            return await run_in_threadpool(work, *args, **kwargs)
        except ApiError as error:
            raise Shown(str(error.detail), is_missing=error.status_code == 404) from error
        except AgoraError as error:
            raise Shown(str(from_agora_error(error).detail)) from error
        except Shown:
            raise
        except Exception as error:
            log.exception("a page failed")
            raise Shown("The server failed; its log has the details.") from error


def sign_in_address(request: Request) -> str:
    """Where one signs in, and comes back from to the page that was asked for."""
    address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/sign-in?next={quote(address, safe='')}"


def styled() -> ui.dark_mode:
    """The page in our colours, dark or light as this browser chose, else as it asks."""
    ui.add_head_html('<link rel="stylesheet" href="/assets/agora.css">')
    ui.colors(primary="var(--accent)")
    return ui.dark_mode({"dark": True, "light": False}.get(theme_of(ui.context.client.request.cookies)))


def theme_of(cookies: Mapping[str, str]) -> str:
    """`dark`, `light`, or nothing where the browser made no choice here."""
    name = cookies.get(THEME_COOKIE, "")
    return name if name in ("dark", "light") else ""


def _as_word(default: Any) -> Any:
    return default if default is inspect.Parameter.empty else str(default)


def read_parameters(asked: Sequence[inspect.Parameter], given: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The values of an address for parameters of type str, int or float, and what is to be told of those that are none."""
    values: dict[str, Any] = {}
    problems = []
    for one in asked:
        word = given[one.name]
        try:
            values[one.name] = one.annotation(word)
            if values[one.name] != values[one.name]:  # "nan" is a float
                raise ValueError
        except ValueError:
            values[one.name] = one.default
            kind = "a whole number" if one.annotation is int else "a number"
            problems.append(f"{one.name}={word[:60]!r} in the address is not {kind}; shown is {one.name}={one.default:,}.")
    return values, problems


async def still_in(viewer: Viewer) -> bool:
    """Whether the one who opened the page may still do what the page offers. Raises AgoraError where the database is busy."""
    try:
        now = await viewer.now()
    except ApiError:  # a key that is none any more
        return False
    return now is not None and now.account == viewer.caller.account and now.scopes >= viewer.caller.scopes


def tell(problem: Shown) -> None:
    """What went wrong, where the page's part would stand."""
    message = str(problem)
    before, mark, command = message.partition(": agora ")
    if mark:
        first, *more = [part.split(", or: ")[0] for part in f"agora {command}".split(", or: ")]
        empty("Nothing here yet", f"{before}:", first, *more)
    elif problem.is_missing:
        said = message.partition("; see GET ")[0]  # the API's address says nothing here
        empty("It is not here", f"{said[:1].upper()}{said[1:]}. It may have been removed.")
    else:
        note(message.partition("\n")[0], "bad")  # below, for terminals: the query, with a mark under the place


def formed(form: type[F], **values: Any) -> F:
    """The body of a request, from what was typed on a page. Raises Shown for what it cannot hold."""
    try:
        return form(**values)
    except ValidationError as error:
        first = error.errors()[0]
        raise Shown(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}.") from error


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
