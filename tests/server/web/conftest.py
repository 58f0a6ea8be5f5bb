"""A real server in a process of its own, and a real browser. Screenshots go to the folder named by AGORA_SCREENSHOTS, if it is set."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest

from agora.posts.schema import posts_table
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.server.accounts import Accounts
from agora.server.tables import open_database
from agora.settings import Workspace

PAYLOADS = (
    "<script>window.broken=1</script>", "<img src=x onerror=window.broken=1>", "<svg/onload=window.broken=1>",
    "\"><script>window.broken=1</script>", "'><img src=x onerror=window.broken=1>", "</title><script>window.broken=1</script>",
    "</script><script>window.broken=1</script>", "<iframe srcdoc='<script>parent.broken=1</script>'></iframe>",
    "<a href=javascript:window.broken=1>click</a>", "[click](javascript:window.broken=1)", "![x](https://evil.example/x.png)",
    "<details open ontoggle=window.broken=1>", "<body onload=window.broken=1>", "<input autofocus onfocus=window.broken=1>",
    "{{constructor.constructor('window.broken=1')()}}", "${window.broken=1}", "`;window.broken=1;//",
    "<style>@import 'https://evil.example/x.css'</style>",
    "<math><mtext><script>window.broken=1</script></mtext></math>", "javascript:window.broken=1//<!--",
    "&lt;script&gt;window.broken=1&lt;/script&gt;",
    "<form action=https://evil.example><button>go</button></form>",
)  # fmt: skip
"""What hostile posts and names hold. Any that acts sets window.broken, or asks another host for something."""
PEOPLE = {"ada": ["member"], "root": ["admin"]}
PASSWORD = "correct horse battery"
FOLDER = os.environ.get("AGORA_SCREENSHOTS")


def browser_path() -> str | None:
    """Debian's Chromium, or what AGORA_BROWSER names."""
    return os.environ.get("AGORA_BROWSER") or shutil.which("chromium")


@pytest.fixture(scope="session")
def shown_square(square: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The square with hostile posts by hostile names, and a finished run."""
    place = Workspace(tmp_path_factory.mktemp("shown") / "workspace")
    shutil.copytree(square.root, place.root)
    rows = [
        {"id": f"x{number}{payload}"[:60], "author": f"xss{number}{payload}"[:80], "text": f"hostile teapot {number}: {payload}",
         "created_at": datetime(2026, 3, 16, 10, number, tzinfo=timezone.utc), "kind": "post", "source": "test",
         "urls": [f"https://evil.example/{number}?{payload}"]}
        for number, payload in enumerate(PAYLOADS)
    ]  # fmt: skip
    with PostStore.open(place.folder("posts")) as store:
        store.append(posts_table(rows))
    index_posts(place, embeddings="none")
    run = place.folder("runs", "main")
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"kind": "pretrain", "training": {"steps": 60}, "model": {"dim": 64}, "command": "agora train"})
    )
    (run / "outcome.json").write_text(json.dumps({"state": "finished"}))
    lines = [
        {"step": step, "loss": 2.0 + 6.0 / step, "heldout_loss": 2.2 + 6.0 / step if step % 10 == 0 else None, "grad_norm": 1 / step,
         "tokens": step * 4096, "tokens_per_s": 9_000 + step, "elapsed_s": step * 0.5, "joules_per_token": 0.002}
        for step in range(1, 61)
    ]  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place


class Server:
    """`agora serve` as a user starts it, in a process of its own. It starts at once; `address` waits until it answers."""

    def __init__(self, place: Workspace) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "agora", "serve", "--port", str(port), "-w", str(place.root)]
        self._address = f"http://127.0.0.1:{port}"
        self.log = place.root / "served.log"
        with self.log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log, cwd=place.root, env={**os.environ, **_path()})

    @functools.cached_property
    def address(self) -> str:
        until = time.monotonic() + 120
        while True:
            try:
                httpx.get(f"{self._address}/health", timeout=2).raise_for_status()
                return self._address
            except httpx.HTTPError:
                assert self._process.poll() is None and time.monotonic() < until, "the server did not start"
                time.sleep(0.1)

    def stop(self) -> None:
        """At once; that a server ends gracefully is tested elsewhere."""
        self._process.kill()
        self._process.wait(timeout=20)


def _path() -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[3])
    return {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


@pytest.fixture(scope="session")
def servers(shown_square: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """`open`: without accounts, full of things. `people`: with accounts (PEOPLE), and posts that nobody has indexed or scanned."""
    bare = Workspace(tmp_path_factory.mktemp("people") / "workspace").create()
    bare.folder("posts").mkdir()
    database = open_database(bare)
    for name, scopes in PEOPLE.items():
        Accounts(database).add(name, scopes=scopes, password=PASSWORD)
    database.close()
    started = {"open": Server(shown_square), "people": Server(bare)}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def site(servers: dict[str, Server]) -> str:
    """The address of a server without accounts."""
    return servers["open"].address


@pytest.fixture(scope="session")
def people_site(servers: dict[str, Server]) -> str:
    """The address of a server with accounts."""
    return servers["people"].address


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped, saying so, where there is none. Not for the session: Playwright keeps an event loop running in
    the thread of the tests, where other files could not start theirs."""
    path = browser_path()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium, or AGORA_BROWSER=path")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


class Tab:
    """A page of the browser that notes what must not happen: errors of scripts, requests to other hosts."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.problems: list[str] = []
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.problems.append(f"script: {error}"))
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: self._look(request.url))

    def _look(self, url: str) -> None:
        if not url.startswith((self.address, self.address.replace("http", "ws"), "data:", "blob:")):
            self.problems.append(f"asked another host: {url}")

    def open(self, path: str) -> Any:
        """Go there and wait until everything is loaded."""
        self.page.goto(self.address + path)
        self.settled()
        return self.page

    def settled(self) -> None:
        self.page.wait_for_selector("main")
        self.page.wait_for_function("window.did_handshake !== false && !document.querySelector('[aria-busy=true]')")

    def shot(self, name: str) -> None:
        """A screenshot, where they are wanted."""
        if FOLDER:
            Path(FOLDER).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(FOLDER) / f"{name}.png"), full_page=True)

    def close(self) -> None:
        """Leave; nothing may have gone wrong."""
        self.page.context.close()
        assert self.problems == []

    def sign_in(self, name: str, password: str) -> None:
        """Fill the form that is shown."""
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.keyboard.press("Enter")


@pytest.fixture
def tab(chromium: Any, site: str) -> Iterator[Tab]:
    """A page at the server without accounts. Nothing may go wrong on it."""
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    made = Tab(context.new_page(), site)
    yield made
    made.close()


@pytest.fixture
def new_tab(chromium: Any) -> Iterator[Callable[..., Tab]]:
    """Pages of other sizes and servers."""
    contexts = []

    def make(address: str, **options: Any) -> Tab:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 860}, **options})
        contexts.append(context)
        return Tab(context.new_page(), address)

    yield make
    for context in contexts:
        context.close()
