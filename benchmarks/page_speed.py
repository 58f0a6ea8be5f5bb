"""Seconds to the first load of each page of the web app, and milliseconds from an interaction to the next paint, in a real Chromium.

python -m benchmarks page_speed [--quick] [--posts N] [--rounds N]

A server as `agora serve` starts it, over a simulated square with an index, a scan and a run; Chromium on the same machine. First load: a
browser with an empty cache, from the beginning of the navigation until the page is connected and everything on it is filled in (no part
waits any more). Interaction to next paint: the longest `duration` that the browser's Event Timing tells for presses and keys on the page
(https://www.w3.org/TR/event-timing/, steps of 8 ms), per round. What a press changes by way of the server (a question that is sent stands
in the conversation, the page turns dark) is timed apart, from the press to the frame that shows it. Median and worst per page. The bars: no
page's median load above 2 s, no interaction and no such change above 200 ms in the median of the rounds. How long it takes until the sent
question is answered stands beside it, as does the first page after the server's start.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agora.errors import MissingExtraError, UsageError
from agora.settings import Workspace
from benchmarks.registry import Benchmark, Result, whole_number
from benchmarks.served_square import indexed_square, served

LOAD_BAR_S: Final = 2.0
PAINT_BAR_MS: Final = 200.0
BROWSER: Final = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
_DARK: Final = ("change", "[aria-label='Dark or light']", "document.body.classList.contains('body--dark') !== window.wasDark")
PAGES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "/ask": (("type", "What do people say about it?"), ("press", "[aria-label='Earlier conversations']")),
    "/ask?q=What do people say about the train?": (
        ("change", "[aria-label='Send']", "document.querySelector('.me')"), ("answer", "[aria-label='Answer again']"), _DARK,
    ),
    "/search?q=train": (("press", "text=Operators"), ("type", " late"), ("press", "text=Why here")),
    "/integrity": (_DARK,),
    "/integrity/CAMPAIGN": (("press", "text=Give a verdict"), ("press", "text=Cancel"), _DARK),
    "/ads": (_DARK,),
    "/ads/new": (("press", "text=Upload a file"), ("press", "text=Targeting besides the audience")),
    "/training": (_DARK,),
    "/training/main": (("press", "text=Model and training"),),
    "/cluster": (("press", "input[type=range] >> nth=0"), ("key", "ArrowRight"), ("key", "ArrowRight"), _DARK),
    "/admin": (("press", "text=Add an account"), ("press", "text=Cancel")),
}  # fmt: skip
"""What is done on each page: press an element, type into the field that has the focus, or a key; press what changes something, until a
script says so; wait for an answer."""
_FILLED: Final = "window.did_handshake !== false && document.querySelector('main') && !document.querySelector('[aria-busy=true]')"
_OBSERVE: Final = """() => { window.events = [];
new PerformanceObserver(list => window.events.push(...list.getEntries().filter(one => one.interactionId).map(one => one.duration)))
  .observe({type: 'event', durationThreshold: 16, buffered: false}); }"""
_WATCH: Final = """() => { window.wasDark = document.body.classList.contains('body--dark'); window.pressed = window.shown = 0;
document.addEventListener('pointerdown', event => { window.pressed = event.timeStamp; }, {capture: true, once: true});
const look = () => { if (window.pressed && (UNTIL)) requestAnimationFrame(at => { window.shown = performance.now(); });
  else requestAnimationFrame(look); };
requestAnimationFrame(look); }"""


@dataclass(slots=True)
class Seen:
    """One visit. Without an interaction of 16 ms or more, and without a change, the times are 16 and 0."""

    load_s: float
    paint_ms: float = 16.0
    change_ms: float = 0.0
    answer_s: float = 0.0


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
        with served(place) as (address, _), sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=browser_path, args=BROWSER)
            opening = _visit(browser, address, "/ask", ()).load_s
            campaign = json.load(urllib.request.urlopen(f"{address}/api/v1/campaigns"))["campaigns"][0]["id"]
            found: dict[str, list[Seen]] = {path: [] for path in PAGES}
            for _ in range(rounds):
                for path, actions in PAGES.items():
                    found[path].append(_visit(browser, address, path.replace("CAMPAIGN", campaign), actions))
            browser.close()
    rows = {path: _row(some) for path, some in found.items()}
    value, paint, change = (max(row[name] for row in rows.values()) for name in ("load_s", "paint_ms", "change_ms"))
    answers = [one.answer_s for some in found.values() for one in some if one.answer_s]
    details = {
        "posts": num_posts, "rounds": rounds, "pages": rows, "slowest_median_load_s": value, "slowest_median_paint_ms": paint,
        "slowest_median_change_ms": change, "answer_s": statistics.median(answers),
        "bars": {"load_s": LOAD_BAR_S, "paint_ms": PAINT_BAR_MS, "change_ms": PAINT_BAR_MS}, "first_page_after_start_s": opening,
        "load_of_the_machine": os.getloadavg()[0],
    }  # fmt: skip
    print(f"{'page':<44}{'load, median':>14}{'worst':>8}{'paint, median':>15}{'worst':>8}{'change, median':>16}{'worst':>8}")
    for path, row in rows.items():
        print(
            f"{path:<44}{row['load_s']:>12.2f} s{row['worst_load_s']:>6.2f} s{row['paint_ms']:>12.0f} ms{row['worst_paint_ms']:>5.0f} ms"
            f"{row['change_ms']:>13.0f} ms{row['worst_change_ms']:>5.0f} ms"
        )
    print(f"bars: load <= {LOAD_BAR_S} s, interaction to next paint and change <= {PAINT_BAR_MS:.0f} ms")
    return Result(value=value, holds=value <= LOAD_BAR_S and max(paint, change) <= PAINT_BAR_MS, details=details)


def _row(some: list[Seen]) -> dict[str, float]:
    loads, paints, changes = [one.load_s for one in some], [one.paint_ms for one in some], [one.change_ms for one in some]
    return {
        "load_s": round(statistics.median(loads), 3), "worst_load_s": round(max(loads), 3),
        "paint_ms": statistics.median(paints), "worst_paint_ms": max(paints),
        "change_ms": round(statistics.median(changes)), "worst_change_ms": round(max(changes)),
    }  # fmt: skip


def _visit(browser: Any, address: str, path: str, actions: tuple[tuple[str, ...], ...]) -> Seen:
    """Load the page with an empty cache, and do what is done there."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(address + path, wait_until="commit")
    page.wait_for_function(_FILLED, polling="raf")
    seen = Seen(page.evaluate("performance.now()") / 1000)
    page.evaluate(_OBSERVE)
    for kind, what, *until in actions:
        if kind == "press":
            page.locator(what).first.click()
        elif kind == "change":
            page.evaluate(_WATCH.replace("UNTIL", until[0]))
            page.locator(what).first.click()
            page.wait_for_function("window.shown")
            seen.change_ms = max(seen.change_ms, page.evaluate("window.shown - window.pressed"))
        elif kind == "answer":
            begun = time.perf_counter()
            page.locator(what).first.wait_for()
            seen.answer_s = time.perf_counter() - begun
        elif kind == "type":
            page.locator("main input:visible, main textarea:visible").first.press_sequentially(what, delay=30)
        else:
            page.keyboard.press(what)
        page.wait_for_timeout(250)
    seen.paint_ms = max(page.evaluate("window.events"), default=16.0)
    context.close()
    return seen


def _square(root: Path, num_posts: int) -> Workspace:
    """A workspace with posts, index, scan and a run."""
    place = indexed_square(root, num_posts)
    run = place.folder("runs", "main")
    run.mkdir(parents=True)
    started = {"kind": "pretrain", "training": {"steps": 500}, "model": {"dim": 64}, "command": "agora train pretrain"}
    (run / "run.json").write_text(json.dumps(started))
    (run / "outcome.json").write_text(json.dumps({"state": "finished"}))
    steps = [{"step": step, "loss": 2 + 6 / step, "grad_norm": 1 / step, "tokens_per_s": 9_000 + step} for step in range(1, 501)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    return place


BENCHMARK = Benchmark(
    measures="slowest page of the web app: median first load on localhost (and interactions to their paint <= 200 ms)", unit="s",
    bound=f"<= {LOAD_BAR_S}", run=_run, options=("posts", "rounds"),
)  # fmt: skip
