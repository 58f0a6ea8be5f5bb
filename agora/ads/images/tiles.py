"""A background of tiles: quarter discs, half discs, discs and leaves on a grid."""

from __future__ import annotations

import math

from agora.ads.images.scene import Box, Fill, Item, Solid, Step, rectangle
from agora.ads.images.stage import Stage, flat

_CURVE = 0.5522847498  # a quarter circle as one cubic curve


def tiles(stage: Stage) -> list[Item]:
    """A grid of quarter discs, half discs and discs in few colours; in quiet tones behind a product, where no text is."""
    near, mid, loud, other = stage.palette.shapes
    tones = (near, mid) if stage.has_product else (loud, other, other, stage.palette.ink, mid)
    cell = stage.short / (3 if stage.long < 2.4 * stage.short else 2)
    columns, rows = (math.ceil(round(side / cell, 3)) for side in (stage.width, stage.height))
    items: list[Item] = [flat(stage)]
    before: dict[tuple[int, int], int] = {}
    for down in range(rows):
        for across in range(columns):
            box = Box(across * cell, down * cell, (across + 1) * cell, (down + 1) * cell)
            kind, turn, tone = (int(stage.rng.integers(most)) for most in (11, 4, len(tones)))
            kind = 0 if kind == 0 else 1 + kind % 5
            while len(tones) > 2 and tones[tone] in {tones[before[at]] for at in ((across - 1, down), (across, down - 1)) if at in before}:
                tone = (tone + 1) % len(tones)
            before[across, down] = tone
            if kind and not any(text.grown(0.1 * cell).overlaps(box) for text in stage.texts):
                items.append(Fill(_tile(box, kind, turn), Solid(tones[tone])))
    return items


def _tile(box: Box, kind: int, turn: int) -> tuple[Step, ...]:
    """One shape in its cell: a quarter disc (1, 2), a half disc (3), a disc (4), a leaf between two corners (5), turned."""
    left, top, right, bottom = box.left, box.top, box.right, box.bottom
    k = _CURVE
    if kind == 4:
        return rectangle(box, 0.5 * box.width)
    if kind == 5:
        if turn % 2:
            a, b, c, d = (left, top), (right, bottom), (right, top), (left, bottom)
        else:
            a, b, c, d = (left, bottom), (right, top), (left, top), (right, bottom)
        return ("M", a), ("C", (*_toward(a, c, k), *_toward(b, c, k), *b)), ("C", (*_toward(b, d, k), *_toward(a, d, k), *a)), ("Z", ())
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    if kind == 3:
        start, end = corners[turn], corners[(turn + 1) % 4]
        far_end, far_start = corners[(turn + 2) % 4], corners[(turn + 3) % 4]
        middle = _toward(_toward(start, far_start, 0.5), _toward(end, far_end, 0.5), 0.5)
        near_start, near_end = _toward(start, far_start, 0.5), _toward(end, far_end, 0.5)
        return (
            ("M", start), ("C", (*_toward(start, near_start, k), *_toward(middle, near_start, k), *middle)),
            ("C", (*_toward(middle, near_end, k), *_toward(end, near_end, k), *end)), ("Z", ()),
        )  # fmt: skip
    center, one, across, two = corners[turn], corners[(turn + 1) % 4], corners[(turn + 2) % 4], corners[(turn + 3) % 4]
    return ("M", center), ("L", one), ("C", (*_toward(one, across, k), *_toward(two, across, k), *two)), ("Z", ())


def _toward(start: tuple[float, float], end: tuple[float, float], share: float) -> tuple[float, float]:
    return start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share
