"""Seconds to the first load of each page of the web app, and milliseconds from an interaction to the next paint, in a real Chromium.

python -m benchmarks page_speed [--quick] [--posts N] [--rounds N]

A server as `agora serve` starts it, over a simulated square with an index, a scan and a run; Chromium on the same machine. First load: a
browser with an empty cache, from the beginning of the navigation until the page is connected and everything on it is filled in (no part
waits any more). Interaction to next paint: the longest `duration` that the browser's Event Timing tells for presses and keys on the page
(https://www.w3.org/TR/event-timing/, steps of 8 ms), per round. Median and worst per page. The bars: no page's median load above 2 s, no
interaction above 200 ms in the median of the rounds. The first page after the server's start is told apart.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from agora.errors import MissingExtraError, UsageError
from agora.integrity.config import IntegrityConfig
from agora.integrity.folder import IntegrityFolder
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.settings import Workspace
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number

LOAD_BAR_S: Final = 2.0
PAINT_BAR_MS: Final = 200.0
BROWSER: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
PAGES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "/ask": (("type", "What do people say about it?"), ("press", "[aria-label='Earlier conversations']")),
    "/search?q=train": (("press", "text=Operators"), ("type", " late"), ("press", "text=Why here")),
    "/integrity": (("press", "[aria-label='Dark or light']"),),
    "/integrity/CAMPAIGN": (("press", "text=Give a verdict"), ("press", "text=Cancel")),
    "/ads": (("press", "[aria-label='Dark or light']"),),
    "/ads/new": (("press", "text=Upload a file"), ("press", "text=Targeting besides the audience")),
    "/training": (("press", "[aria-label='Dark or light']"),),
    "/training/main": (("press", "text=Model and training"),),
    "/cluster": (("press", ".q-slider >> nth=0"), ("key", "ArrowRight"), ("key", "ArrowRight")),
    "/admin": (("press", "text=Add an account"), ("press", "text=Cancel")),
}
"""What is done on each page: press an element, type into the field that has the focus, or a key."""
_FILLED: Final = "window.did_handshake !== false && document.querySelector('main') && !document.querySelector('[aria-busy=true]')"
_OBSERVE: Final = """() => { window.events = [];
new PerformanceObserver(list => window.events.push(...list.getEntries().filter(one => one.interactionId).map(one => one.duration)))
  .observe({type: 'event', durationThreshold: 16, buffered: false}); }"""


def _run(quick: bool, options: dict[str, str]) -> Result:
    num_posts = whole_number(options, "posts", 3_200 if quick else 12_000, at_least=3_200)
    rounds = whole_number(options, "rounds", 2 if quick else 5, at_least=1)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingExtraError("playwright", "dev", "measuring pages") from error
    browser_path = os.environ.get("AGORA_BROWSER") or shutil.which("chromium")
    if browser_path is None:
        raise UsageError("there is no Chromium: apt-get install chromium, or AGORA_BROWSER=path")
    with tempfile.TemporaryDirectory() as folder:
        place = _square(Path(folder) / "workspace", num_posts)
        with _served(place) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=browser_path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
            )
            opening = _load(browser, address, "/ask", ())[0]
            campaign = json.load(urllib.request.urlopen(f"{address}/api/v1/campaigns"))["campaigns"][0]["id"]
            found: dict[str, list[tuple[float, float]]] = {path: [] for path in PAGES}
            for _ in range(rounds):
                for path, actions in PAGES.items():
                    found[path].append(_load(browser, address, path.replace("CAMPAIGN", campaign), actions))
            browser.close()
    rows = {path: _row(some) for path, some in found.items()}
    value, paint = max(row["load_s"] for row in rows.values()), max(row["paint_ms"] for row in rows.values())
    details = {
        "posts": num_posts, "rounds": rounds, "pages": rows, "slowest_median_load_s": value, "slowest_median_paint_ms": paint,
        "bars": {"load_s": LOAD_BAR_S, "paint_ms": PAINT_BAR_MS}, "first_page_after_start_s": opening,
        "load_of_the_machine": os.getloadavg()[0],
    }  # fmt: skip
    print(f"{'page':<22}{'load, median':>14}{'worst':>8}{'paint, median':>15}{'worst':>8}")
    for path, row in rows.items():
        print(f"{path:<22}{row['load_s']:>12.2f} s{row['worst_load_s']:>6.2f} s{row['paint_ms']:>12.0f} ms{row['worst_paint_ms']:>5.0f} ms")
    print(f"bars: load <= {LOAD_BAR_S} s, interaction to next paint <= {PAINT_BAR_MS:.0f} ms")
    return Result(value=value, holds=value <= LOAD_BAR_S and paint <= PAINT_BAR_MS, details=details)


def _row(some: list[tuple[float, float]]) -> dict[str, float]:
    loads, paints = [load for load, _ in some], [paint for _, paint in some]
    return {
        "load_s": round(statistics.median(loads), 3), "worst_load_s": round(max(loads), 3),
        "paint_ms": statistics.median(paints), "worst_paint_ms": max(paints),
    }  # fmt: skip


def _load(browser: Any, address: str, path: str, actions: tuple[tuple[str, str], ...]) -> tuple[float, float]:
    """Seconds to the filled page with an empty cache, and the longest interaction in milliseconds (16 where all were shorter)."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(address + path, wait_until="commit")
    page.wait_for_function(_FILLED, polling="raf")
    load_s = page.evaluate("performance.now()") / 1000
    page.evaluate(_OBSERVE)
    for kind, what in actions:
        if kind == "press":
            page.locator(what).first.click()
        elif kind == "type":
            page.locator("main input:visible, main textarea:visible").first.press_sequentially(what, delay=30)
        else:
            page.keyboard.press(what)
        page.wait_for_timeout(250)
    durations = page.evaluate("window.events")
    context.close()
    return load_s, max(durations, default=16.0)


def _square(root: Path, num_posts: int) -> Workspace:
    """A workspace with posts, index, scan and a run."""
    place = Workspace(root).create()
    with PostStore.open(place.folder("posts"), create=True) as store:
        simulate_into(store, SquareConfig(num_posts=num_posts, num_accounts=max(400, num_posts // 10)))
        folder = IntegrityFolder.of(place)
        folder.scan_store(store, IntegrityConfig())
    with folder.ledger() as ledger:
        folder.publish(ledger)
    index_posts(place, embeddings="none")
    run = place.folder("runs", "main")
    run.mkdir(parents=True)
    started = {"kind": "pretrain", "training": {"steps": 500}, "model": {"dim": 64}, "command": "agora train pretrain"}
    (run / "run.json").write_text(json.dumps(started))
    (run / "outcome.json").write_text(json.dumps({"state": "finished"}))
    steps = [{"step": step, "loss": 2 + 6 / step, "grad_norm": 1 / step, "tokens_per_s": 9_000 + step} for step in range(1, 501)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return place


@contextmanager
def _served(place: Workspace) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "agora", "serve", "--port", str(port), "-w", str(place.root)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise UsageError("the server did not start") from error
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


BENCHMARK = Benchmark(
    measures="slowest page of the web app: median first load on localhost (and interaction to next paint <= 200 ms)", unit="s",
    bound=f"<= {LOAD_BAR_S}", run=_run, options=("posts", "rounds"),
)  # fmt: skip
