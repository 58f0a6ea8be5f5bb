"""Backgrounds drawn from a palette and a seed: instant, made of shapes, quiet where text stands and loud around the product.

Each kind is one function in `KINDS`. None draws letters. `focus` is where the product (or the weight of the picture) is, `quiet` where
the headline stands, `texts` all that is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

import numpy as np

from agora.ads.images.color import mix, oklch, shade
from agora.ads.images.scene import Box, Fill, Item, Linear, Radial, Raster, Solid, Step, Stop, Stroke, circle, polygon, rectangle, smooth
from agora.ads.images.stage import Stage, flat, glow
from agora.ads.images.tiles import tiles

_GRAIN_TILE: Final = 192  # pixels; repeats are not seen at this strength


def aurora(stage: Stage) -> list[Item]:
    """Soft light in two or three colours of the palette."""
    near, mid, loud, other = stage.palette.shapes
    other = other if oklch(other)[1] > 0.05 else near  # a grey or black one would look like dirt
    x, y = stage.focus.center
    spread = max(stage.reach * 2.3, 0.55 * stage.long)
    items: list[Item] = [flat(stage)]
    turn = stage.rng.uniform(0, 2 * math.pi)
    for step, (color, alpha) in enumerate(((mid, 0.9), (loud, 0.75), (other, 0.6))):
        angle = turn + step * 2.1
        items.append(
            glow(x + 0.55 * spread * math.cos(angle), y + 0.45 * spread * math.sin(angle), spread * (1 - 0.12 * step), color, alpha, stage)
        )
    far = stage.quiet.center
    items.append(glow(far[0], far[1], 0.8 * stage.long, stage.palette.ground, 0.85, stage))
    return items


def orbit(stage: Stage) -> list[Item]:
    """One large disc behind the product, thin rings around it, and a small disc that answers."""
    _near, mid, loud, other = stage.palette.shapes
    x, y = stage.focus.center
    radius = stage.clear_radius(stage.reach * stage.rng.uniform(1.0, 1.12)) or 0.3 * stage.reach
    items: list[Item] = [flat(stage)]
    items += [
        Stroke(circle(x, y, radius * factor), mid, 0.55 - 0.13 * step, max(1.0, 0.0022 * stage.long))
        for step, factor in enumerate((1.28, 1.6, 1.98))
    ]
    disc = Linear((x - radius, y - radius), (x + radius, y + radius), (Stop(0, loud), Stop(1, mix(loud, mid, 0.65))))
    items.append(Fill(circle(x, y, radius), disc if stage.has_product else Solid(loud)))
    angle = math.radians(stage.rng.choice([215.0, 320.0, 40.0, 140.0]))
    small = circle(x + 1.28 * radius * math.cos(angle), y + 1.28 * radius * math.sin(angle), radius * 0.11)
    items.append(Fill(small, Solid(other)))
    if not stage.has_product:  # the disc alone carries the picture
        items.append(Fill(circle(x, y, radius * 0.52), Solid(other)))
    return items


def arches(stage: Stage) -> list[Item]:
    """Nested arches that rise from the lower edge behind the product."""
    near, mid, loud, _other = stage.palette.shapes
    x = stage.focus.center[0]
    base = float(stage.height) if stage.focus.bottom > 0.6 * stage.height else stage.focus.bottom + 0.06 * stage.short
    half = stage.reach * 1.22
    top = min(stage.focus.top, stage.focus.center[1] - half * 0.5)
    items: list[Item] = [flat(stage)]
    tones = (near, mix(near, mid, 0.7), mix(mid, loud, 0.6), loud)
    for step, tone in enumerate(tones):
        factor = 1.45 - 0.24 * step
        box = Box(x - half * factor, top - half * (factor - 0.9), x + half * factor, base + half * 4)
        items.append(Fill(rectangle(box, half * factor), Solid(tone)))
    if base < stage.height:
        items.append(Fill(rectangle(Box(0, base, stage.width, stage.height)), Solid(stage.palette.ground)))
    return items


def waves(stage: Stage) -> list[Item]:
    """Layers of long waves in two tones from the side of the product."""
    near, mid, loud, other = stage.palette.shapes
    wide = stage.side_by_side
    items: list[Item] = [flat(stage)]
    tones = (near, mid, loud, other)
    if stage.has_product:
        tones = (near, mix(near, mid, 0.75), mix(mid, loud, 0.45), mix(mid, loud, 0.9))
    to_right = stage.focus.center[0] >= stage.quiet.center[0]
    to_bottom = stage.focus.center[1] >= stage.quiet.center[1]
    phase = stage.rng.uniform(0, 2 * math.pi)
    for step, tone in enumerate(tones):
        items.append(Fill(_wave(stage, 0.14 + step * 0.20, phase + 0.9 * step, wide, to_right if wide else to_bottom), Solid(tone)))
    return items


def _wave(stage: Stage, depth: float, phase: float, wide: bool, at_end: bool) -> tuple[Step, ...]:
    """A field whose inner edge is a wave; `depth` 0..1 is how far it draws back towards the edge of the product's side."""
    span, across = (stage.height, stage.width) if wide else (stage.width, stage.height)
    focus_from = (stage.focus.left if wide else stage.focus.top) if at_end else (stage.focus.right if wide else stage.focus.bottom)
    room = across - focus_from if at_end else focus_from
    edge = focus_from + depth * room if at_end else focus_from - depth * room
    points = []
    for index in range(9):
        along = -0.1 * span + 1.2 * span * index / 8
        swing = math.sin(phase + index * 0.78) * 0.10 * room + (index / 8 - 0.5) * 0.22 * room
        points.append((edge + swing, along) if wide else (along, edge + swing))
    outer = across * 1.2 if at_end else -0.2 * across
    steps = smooth(points)
    last, first = points[-1], points[0]
    steps += [("L", (outer, last[1]) if wide else (last[0], outer)), ("L", (outer, first[1]) if wide else (first[0], outer)), ("Z", ())]
    return tuple(steps)


def paper(stage: Stage) -> list[Item]:
    """Cut paper: a few sheets with round edges, each with a soft shadow on the next."""
    near, mid, loud, _other = stage.palette.shapes
    x, y = stage.focus.center
    items: list[Item] = [flat(stage)]
    turn = stage.rng.uniform(0, 2 * math.pi)
    for step, (tone, factor) in enumerate(
        ((near, 1.75), (mix(near, mid, 0.6), 1.42), (mix(mid, loud, 0.5) if stage.has_product else loud, 1.12))
    ):
        sheet = _blob(x, y, stage.reach * factor, turn + 0.8 * step, 0.10)
        depth = 0.010 * stage.long
        for layer in range(5):
            spread = (layer + 1) / 5
            items.append(Fill(_shifted(sheet, 0.25 * depth * spread, depth * spread * 1.4), Solid("#000000", 0.028)))
        items.append(Fill(sheet, Solid(tone)))
    return items


def _blob(x: float, y: float, radius: float, turn: float, wobble: float) -> tuple[Step, ...]:
    angles = [2 * math.pi * index / 14 for index in range(14)]
    points = [
        (
            x + radius * (1 + wobble * math.sin(3 * angle + turn)) * math.cos(angle),
            y + radius * (1 + wobble * math.sin(2 * angle + turn)) * math.sin(angle),
        )
        for angle in angles
    ]
    # closed curve: the ends are continued once around
    around = [points[-1], *points, points[0], points[1]]
    steps = smooth(around)[2:-1]
    return (("M", points[0]), *steps, ("Z", ()))


def _shifted(steps: tuple[Step, ...], by_x: float, by_y: float) -> tuple[Step, ...]:
    return tuple(
        (kind, tuple(number + (by_x if index % 2 == 0 else by_y) for index, number in enumerate(numbers))) for kind, numbers in steps
    )


def blocks(stage: Stage) -> list[Item]:
    """A field of colour under the product, a hard edge, and one quarter disc in the corner."""
    near, mid, loud, other = stage.palette.shapes
    wide = stage.side_by_side
    items: list[Item] = [flat(stage)]
    if wide:
        to_right = stage.focus.center[0] >= stage.quiet.center[0]
        edge = (stage.focus.left + stage.quiet.right) / 2 if to_right else (stage.focus.right + stage.quiet.left) / 2
        edge = min(max(edge, 0.3 * stage.width), 0.85 * stage.width) if to_right else min(max(edge, 0.15 * stage.width), 0.7 * stage.width)
        field = Box(edge, 0, stage.width, stage.height) if to_right else Box(0, 0, edge, stage.height)
        corner = (float(stage.width) if to_right else 0.0, float(stage.height) if stage.rng.random() < 0.5 else 0.0)
        radius = 0.62 * field.width
    else:
        to_bottom = stage.focus.center[1] >= stage.quiet.center[1]
        edge = stage.focus.center[1] + (0.08 if to_bottom else -0.08) * stage.focus.height
        field = Box(0, edge, stage.width, stage.height) if to_bottom else Box(0, 0, stage.width, edge)
        corner = (float(stage.width) if stage.rng.random() < 0.5 else 0.0, edge)
        radius = 0.42 * stage.width
        tone = mix(near, mid, 0.5)
        disc = Fill(circle(*stage.focus.center, stage.reach * 1.05), Solid(tone if stage.has_product else other))
        return (
            [*items, disc, Fill(rectangle(field), Solid(tone))]
            if stage.has_product
            else [*items, Fill(rectangle(field), Solid(tone)), disc]
        )
    items.append(Fill(rectangle(field), Solid(mix(near, mid, 0.6))))
    items += [
        Fill(_within(circle(*corner, radius * factor), field), Solid(tone))
        for factor, tone in ((1.0, mid), (0.66, mix(mid, loud, 0.55) if stage.has_product else other))
    ]
    return items


def _within(steps: tuple[Step, ...], field: Box) -> tuple[Step, ...]:
    """Points pulled to the field: good for discs around its corner, whose other parts lie outside."""
    return tuple(
        (
            kind,
            tuple(
                min(max(n, field.left), field.right) if i % 2 == 0 else min(max(n, field.top), field.bottom) for i, n in enumerate(numbers)
            ),
        )
        for kind, numbers in steps
    )


def contours(stage: Stage) -> list[Item]:
    """Fine lines like those of a map, around the product."""
    _near, _mid, loud, _other = stage.palette.shapes
    x, y = stage.focus.center
    turn = stage.rng.uniform(0, 2 * math.pi)
    items: list[Item] = [flat(stage)]
    step = max(0.016 * stage.long, 6.0)
    count = int(min(18, 2.2 * stage.reach / step))
    for ring in range(count):
        fade = 1 - ring / count
        path = _blob(x, y, stage.reach * 0.55 + ring * step * 1.5, turn + 0.12 * ring, 0.09 + 0.006 * ring)
        alpha = 0.12 + 0.45 * fade**1.5 if stage.has_product else 0.4 + 0.6 * fade
        items.append(Stroke(path, loud, alpha, max(1.0, (0.0017 if stage.has_product else 0.003) * stage.long)))
    return items


def rays(stage: Stage) -> list[Item]:
    """Broad rays from behind the product that fade outwards."""
    near, mid, loud, _other = stage.palette.shapes
    x, y = stage.focus.center
    reach = 1.6 * math.hypot(stage.width, stage.height)
    count = 14
    turn = stage.rng.uniform(0, 2 * math.pi / count)
    light: Solid | Radial = Radial((x, y), 0.75 * stage.long, (Stop(0, mid, 0.95), Stop(0.45, near, 0.8), Stop(1, near, 0.0)))
    if not stage.has_product:
        light = Solid(near)
    items: list[Item] = [flat(stage)]
    for index in range(count):
        start = turn + 2 * math.pi * index / count
        end = start + math.pi / count
        points = [
            (x, y),
            (x + reach * math.cos(start), y + reach * math.sin(start)),
            (x + reach * math.cos(end), y + reach * math.sin(end)),
        ]
        items.append(Fill(polygon(points), light))
    radius = stage.clear_radius(stage.reach * 0.98)
    if radius > 0:
        items.append(Fill(circle(x, y, radius), Solid(loud)))
    return items


def halftone(stage: Stage) -> list[Item]:
    """A field of dots that grow towards the product."""
    _near, mid, loud, _other = stage.palette.shapes
    x, y = stage.focus.center
    pitch = max(0.024 * stage.long, 9.0)
    path: list[Step] = []
    far = max(stage.reach * 2.1, 0.4 * stage.long)
    for row in range(int(stage.height / pitch) + 2):
        for column in range(int(stage.width / pitch) + 2):
            dot_x, dot_y = (column + 0.5 * (row % 2)) * pitch, row * pitch
            away = math.hypot(dot_x - x, dot_y - y) / far
            radius = 0.46 * pitch * (1 - away) ** 1.1 if away < 1 else 0.0
            dot = Box(dot_x - radius, dot_y - radius, dot_x + radius, dot_y + radius)
            if radius > 0.045 * pitch and not any(text.grown(pitch * 0.7).overlaps(dot) for text in stage.texts):
                path += circle(dot_x, dot_y, radius)
    dots: list[Item] = [Fill(tuple(path), Solid(mix(mid, loud, 0.35) if stage.has_product else loud))] if path else []
    return [flat(stage), *dots]


def plain(stage: Stage) -> list[Item]:
    """The ground alone."""
    return [flat(stage)]


KINDS: Final[dict[str, Callable[[Stage], list[Item]]]] = {
    "aurora": aurora,
    "orbit": orbit,
    "arches": arches,
    "waves": waves,
    "paper": paper,
    "blocks": blocks,
    "contours": contours,
    "rays": rays,
    "halftone": halftone,
    "tiles": tiles,
}
PLAIN: Final = "plain"  # under a mark; no kind that a style draws
GRAINY: Final = frozenset({"aurora"})  # the others show the brand's colours exactly


def background(kind: str, stage: Stage) -> list[Item]:
    """The items of a kind, with fine grain over them where it suits and the file may be large."""
    items = (KINDS | {PLAIN: plain})[kind](stage)
    if stage.grain and kind in GRAINY:
        light = oklch(stage.palette.ground)[0]
        strength = 0.055 if kind == "paper" else 0.04
        items.append(
            Raster(
                grain(int(stage.rng.integers(0, 2**31)), shade(stage.palette.ink, 0.1 if light > 0.5 else 0.95, chroma=0), strength),
                tiled=True,
            )
        )
    return items


_WEIGHTS: Final = {"orbit": (0.56, 0.54, 1.0), "rays": (0.5, 1.0, 0.9), "arches": (0.5, 0.7, 0.62), "contours": (0.6, 0.45, 0.6)}


def weight_of(kind: str, panel: Box, rng: np.random.Generator) -> Box:
    """Where a kind has its weight in a field without a product: a square around a point of it."""
    across, down, share = _WEIGHTS.get(kind, (0.62, 0.55, 0.8))
    across += float(rng.uniform(-0.12, 0.12))
    x, y, half = panel.left + across * panel.width, panel.top + down * panel.height, 0.5 * share * min(panel.width, panel.height)
    return Box(x - half, y - half, x + half, y + half)


@lru_cache(maxsize=8)
def grain(seed: int, color: str, strength: float) -> np.ndarray:
    """A tile of film grain: one colour whose alpha varies; it repeats without a seam (each pixel is drawn alone)."""
    from agora.ads.images.color import rgb

    rng = np.random.default_rng(seed)
    tile = np.empty((_GRAIN_TILE, _GRAIN_TILE, 4), np.uint8)
    tile[..., :3] = rgb(color)
    tile[..., 3] = np.clip(rng.gamma(2.0, 0.5, (_GRAIN_TILE, _GRAIN_TILE)) * strength * 255, 0, 255)
    return tile
