"""How long the pictures of a campaign take, and whether the same seed gives the same bytes.

python -m benchmarks ads_speed [--quick]

3 audiences x 3 variants x 6 sizes = 54 pictures (PNG, SVG and checks, with a product cut out once), shared by two processes. The bar
is 30 s of wall time on two quiet cores; processor time is printed beside it because it says the same on a busy machine. Every
picture is then made once more in another process and compared byte by byte. --quick compares 12 of them.

The peer is the same scene without a layout solver: what skia alone takes to draw and pack a picture of that size.
"""

from __future__ import annotations

import functools
import hashlib
import multiprocessing
import time
from typing import Final

import numpy as np

from agora.ads.images import render
from agora.ads.images.product import Product
from agora.ads.images.scene import Box, Fill, Group, Linear, Scene, Stop, draw, encode_png, rectangle
from agora.ads.placements import placement_named
from benchmarks.ads_layout import BRANDS, Kit, product
from benchmarks.registry import Benchmark, Result

SIZES: Final = ("landscape", "square", "story", "medium-rectangle", "leaderboard", "half-page")
HEADLINES: Final = (
    "Slow-roasted coffee, at your door in 2 days",
    "Your pension, in plain words",
    "Run further with 12 weeks of coaching",
)
MAX_S: Final = 30.0
Job = tuple[int, int, str]


def jobs() -> list[Job]:
    """Audience, variant, size."""
    return [(audience, variant, size) for audience in range(3) for variant in range(3) for size in SIZES]


def one(job: Job) -> tuple[str, float]:
    """The SHA-256 of a picture's PNG and SVG, and the processor seconds that it took."""
    started = time.process_time()
    audience, variant, size = job
    name, colours = BRANDS[audience]
    picture = render(
        headline=HEADLINES[audience],
        description="A plan that adapts to your pace, from the couch to 21 km.",
        call_to_action="Start now",
        brand=Kit(name, colours),
        placement=size,
        seed=1000 * audience + variant,
        product_picture=_thing(audience),
    )
    return hashlib.sha256(picture.png + picture.svg.encode()).hexdigest(), time.process_time() - started


@functools.cache
def _thing(audience: int) -> Product:
    return product(np.random.default_rng(audience))


def plain(size: str) -> float:
    """Processor seconds to draw and pack one gradient of a size."""
    started = time.process_time()
    place = placement_named(size)
    paint = Linear((0, 0), (place.width, place.height), (Stop(0, "#1b2a6b"), Stop(1, "#f5b82e")))
    background = Group("background", (Fill(rectangle(Box(0, 0, place.width, place.height)), paint),))
    encode_png(draw(Scene(place.width, place.height, [background])))
    return time.process_time() - started


def run(quick: bool, options: dict[str, str]) -> Result:
    """Draw them twice; the value is the seconds of the first time."""
    work = jobs()
    compared = work[:12] if quick else work
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        started = time.perf_counter()
        first = pool.map(one, work, chunksize=3)
        wall = time.perf_counter() - started
        second = pool.map(one, compared[::-1], chunksize=2)[::-1]
    same = sum(a[0] == b[0] for a, b in zip(first, second, strict=False))
    processor = sum(seconds for _, seconds in first)
    bare = sum(plain(size) for size in SIZES) * 9
    print(f"{len(work)} pictures: {wall:.1f} s of wall time with 2 processes (bar {MAX_S:.0f} s), {processor:.1f} s of processor time")
    print(f"skia alone, a gradient of each size: {bare:.1f} s of processor time for 54")
    print(f"same seed, same bytes: {same} of {len(compared)} (bar: all)")
    details = {"pictures": len(work), "processor_s": processor, "identical": same, "skia_alone_s": bare}
    return Result(value=wall, holds=wall <= MAX_S and same == len(compared), details=details)


BENCHMARK = Benchmark(
    measures="54 pictures (3 audiences x 3 variants x 6 sizes) on 2 cores; the same seed gives the same bytes",
    unit="s",
    bound="<= 30 and all identical",
    run=run,
)
