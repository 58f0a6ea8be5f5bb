"""Arrangements that a placement may have: each a function from the size of the headline to boxes, or None where it does not fit.

Beside a product: text in a column, product in the rest. Stacked and poster: text above, below or around it. Without a product: text
beside a field of colour (split), above or below one (banded), or alone. Leaderboards and banners are one row (rows.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

from agora.ads.images.arrangement import Arrangement, Part, Shown, aligned
from agora.ads.images.measure import Button, Mark, Measure, Sizes
from agora.ads.images.rows import row
from agora.ads.images.scene import Box
from agora.ads.images.typeset import Block, Toward

Frame = Callable[[float], Arrangement | None]
_BOTH = (True, False)


def frames(measure: Measure, shown: Shown) -> Iterator[Frame]:
    """Those that suit the shape of the placement and what is shown."""
    shape = measure.shape
    if measure.is_row:
        yield from (partial(row, measure, shown, is_foot=is_foot) for is_foot in _BOTH)
    elif not shown.product:
        yield from _without_product(measure, shown)
    elif measure.is_wide:
        shares: tuple[float, ...] = (0.5, 0.56, 0.63) if shape == "landscape" else (0.6, 0.7)
        yield from (partial(_beside, measure, shown, share=share, first=first) for share in shares for first in _BOTH)
    else:
        shares = (0.34, 0.44, 0.54)
        yield from (partial(_stacked, measure, shown, share=share, first=first) for share in shares for first in _BOTH)
        if shape != "skyscraper":
            yield from (partial(_poster, measure, shown, share=share) for share in (0.46, 0.56))
        if (measure.product_ratio or 1) < 0.75 and shape in ("square", "portrait"):
            yield from (partial(_beside, measure, shown, share=share, first=first) for share in (0.56, 0.66) for first in _BOTH)


def _without_product(measure: Measure, shown: Shown) -> Iterator[Frame]:
    yield partial(_alone, measure, shown)
    if measure.is_wide:
        shares: tuple[float, ...] = (0.54, 0.62, 0.72) if measure.shape == "landscape" else (0.6, 0.7, 0.8)
        yield from (partial(_split, measure, shown, share=share, first=first) for share in shares for first in _BOTH)
    else:
        shares = (0.2, 0.3, 0.4, 0.5) if measure.shape != "square" else (0.24, 0.34, 0.44)
        yield from (partial(_banded, measure, shown, share=share, first=first) for share in shares for first in _BOTH)


# text in a column


def _column(
    measure: Measure, shown: Shown, size: float, box: Box, *, frame: str, toward: Toward = "left", anchor: float = 0.45
) -> Arrangement | None:
    """Mark above; headline and description between; button and disclosure below. `anchor`: how much of the free height is above."""
    sizes = measure.scale(size)
    head = measure.headline(box.width, size, divide=shown.divide)
    text = measure.description(sizes, box.width) if shown.description else None
    mark = measure.mark(box.width) if shown.mark else None
    if head is None or (shown.description and text is None) or measure.lacks(shown, mark):
        return None
    found = Arrangement(frame)
    foot = _foot(measure, found, sizes, box, toward)
    if foot is None:
        return None
    top = box.top
    if mark:
        put_mark(found, mark, box, top, toward)
        top += mark.height + max(measure.step, 0.3 * size)
    group = head.height + (sizes.gap + text.height if text else 0.0)
    free = foot - max(1.1 * measure.step, 0.36 * size) - top - group
    if free < 0:
        return None
    _put_texts(found, sizes, head, text, box, top + free * anchor, toward)
    found.slack = free / measure.height
    return found


def _put_texts(found: Arrangement, sizes: Sizes, head: Block, text: Block | None, box: Box, top: float, toward: Toward) -> float:
    """Headline and description from `top` down; gives their lower edge."""
    top = found.put("headline", head, box, top, toward)
    return found.put("description", text, box, top + sizes.gap, toward) if text else top


def _foot(measure: Measure, found: Arrangement, sizes: Sizes, box: Box, toward: Toward) -> float | None:
    """Button and disclosure at the lower edge, on one line of writing where there is room; gives their upper edge."""
    button, small = measure.button(sizes.button, box.width), measure.disclosure(box.width)
    if button is None or small is None:
        return None
    apart = 1.4 * small.size
    if toward == "left" and button.width + apart + small.width <= box.width and len(small.lines) == 1:
        put_button(found, button, box, box.bottom - button.height, "left")
        line = found.parts["call_to_action"].box.top + button.block.optical_height
        if len(button.block.lines) > 1:
            line = box.bottom - (button.height - small.optical_height) / 2
        is_full = box.width > 0.75 * measure.width
        left = Box(box.left + button.width + apart, box.top, box.right, box.bottom)
        found.put("disclosure", small, box if is_full else left, line - small.optical_height, "right" if is_full else "left")
        return box.bottom - button.height
    found.put("disclosure", small, box, box.bottom - small.height, toward)
    top = box.bottom - small.height - max(0.6 * measure.step, 7.0) - button.height
    put_button(found, button, box, top, toward)
    return top


def put_button(found: Arrangement, button: Button, box: Box, top: float, toward: Toward) -> float:
    """Place the button with its words in the middle; gives its lower edge."""
    found.button = aligned(box, button.width, top, button.height, toward)
    inner = top + (button.height - button.block.optical_height) / 2
    words = Box(found.button.left, inner, found.button.right, inner + button.block.height)
    found.parts["call_to_action"] = Part(button.block, words, "center")
    return top + button.height


def put_mark(found: Arrangement, mark: Mark, area: Box, top: float, toward: Toward) -> None:
    """Place the brand's name or logo."""
    box = aligned(area, mark.width, top, mark.height, toward)
    if mark.block is None:
        found.logo = box
    else:
        found.parts["wordmark"] = Part(mark.block, box, toward)


def _beside(measure: Measure, shown: Shown, size: float, *, share: float, first: bool) -> Arrangement | None:
    """Text in a column at one side, the product in the rest."""
    content, gutter, width, height = measure.content, 0.045 * measure.width, measure.width, measure.height
    span = content.width * share
    column = Box(content.left, content.top, content.left + span, content.bottom)
    panel = Box(column.right + 0.6 * content.left, 0, width, height)
    if not first:
        column = Box(content.right - span, content.top, content.right, content.bottom)
        panel = Box(0, 0, column.left - 0.9 * content.left, height)
    found = _column(measure, shown, size, column, frame=f"beside-{'first' if first else 'last'}")
    if found is None:
        return None
    inner, outer = gutter - 0.6 * content.left, width - content.right
    room = Box(panel.left + (inner if first else outer), 0.075 * height, panel.right - (outer if first else inner), 0.925 * height)
    if measure.wish.panel:
        found.panel = panel
        room = Box(panel.left + 0.06 * width, 0.1 * height, panel.right - 0.06 * width, 0.9 * height)
    found.product = found.focus = measure.fitted(room)
    return found


# without a product


def _alone(measure: Measure, shown: Shown, size: float) -> Arrangement | None:
    """Text over the whole picture; the background has its weight where the text leaves room."""
    content = measure.content
    box = Box(content.left, content.top, content.left + content.width * (0.9 if measure.is_wide else 1.0), content.bottom)
    toward: Toward = "center" if measure.wish.centered else "left"
    if toward == "center":
        box = Box((measure.width - box.width) / 2, box.top, (measure.width + box.width) / 2, box.bottom)
    tall = measure.height > 1.3 * measure.width
    found = _column(measure, shown, size, box, frame="alone", toward=toward, anchor=0.0 if tall and toward == "left" else 0.45)
    if found is not None:
        found.focus = _free(measure, found)
    return found


def _free(measure: Measure, found: Arrangement) -> Box:
    """Around a point away from the text, as far as no text is touched."""
    width, height = measure.width, measure.height
    if width >= height * 1.15:
        points = [(across * width, down * height) for across in (0.82, 0.9, 0.98) for down in (0.5, 0.2, 0.85)]
    else:
        points = [(across * width, down * height) for down in (0.1, 0.3, 0.5, 0.7, 0.95) for across in (0.62, 0.82, 0.96)]
    room = [(min(_distance(point, box) for box in found.text_boxes), point) for point in points]
    reach, (x, y) = max(room, key=lambda pair: pair[0])
    half = max(0.1 * measure.short, min(0.84 * reach, 0.44 * max(width, height)))
    return Box(x - half, y - half, x + half, y + half)


def _distance(point: tuple[float, float], box: Box) -> float:
    """From a point to the nearest point of a box, in pixels."""
    return math.hypot(max(box.left - point[0], 0.0, point[0] - box.right), max(box.top - point[1], 0.0, point[1] - box.bottom))


def _split(measure: Measure, shown: Shown, size: float, *, share: float, first: bool) -> Arrangement | None:
    """Text beside a field of colour that goes to three edges."""
    content, width = measure.content, measure.width
    margin = content.left
    column = Box(content.left, content.top, share * width - margin, content.bottom)
    panel = Box(share * width, 0, width, measure.height)
    if not first:
        column = Box((1 - share) * width + margin, content.top, content.right, content.bottom)
        panel = Box(0, 0, (1 - share) * width, measure.height)
    found = _column(measure, shown, size, column, frame=f"split-{'first' if first else 'last'}")
    if found is not None:
        found.panel = found.focus = panel
    return found


def _banded(measure: Measure, shown: Shown, size: float, *, share: float, first: bool) -> Arrangement | None:
    """Text above or below a field of colour as wide as the picture."""
    content, height = measure.content, measure.height
    pad = content.left
    if first:
        edge = (1 - share) * height
        box = Box(content.left, content.top, content.right, min(content.bottom, edge - pad))
        panel = Box(0, edge, measure.width, height)
    else:
        edge = share * height
        box = Box(content.left, max(content.top, edge + pad), content.right, content.bottom)
        panel = Box(0, 0, measure.width, edge)
    found = _column(measure, shown, size, box, frame=f"banded-{'first' if first else 'last'}", anchor=0.0 if first else 0.3)
    if found is not None:
        found.panel = found.focus = panel
    return found


# text above or below the product


def _stacked(measure: Measure, shown: Shown, size: float, *, share: float, first: bool) -> Arrangement | None:
    """Texts and product one above the other, button and disclosure at the foot."""
    content, sizes, step = measure.content, measure.scale(size), measure.step
    toward: Toward = "center" if measure.wish.centered else "left"
    head = measure.headline(content.width, size, divide=shown.divide)
    text = measure.description(sizes, content.width) if shown.description else None
    mark = measure.mark(content.width) if shown.mark else None
    if head is None or (shown.description and text is None) or measure.lacks(shown, mark):
        return None
    below = max(1.1 * step, 0.36 * size)
    block_height = head.height + (sizes.gap + text.height if text else 0.0)
    found = Arrangement(f"stacked-{'first' if first else 'last'}")
    foot = _foot(measure, found, sizes, content, toward)
    if foot is None or block_height > share * content.height:
        return None
    above = content.top
    if mark:
        put_mark(found, mark, content, above, toward)
        above += mark.height + max(step, 0.3 * size)
    room = Box(content.left, above + block_height + 0.8 * step, content.right, foot - 0.9 * step)
    if not first:
        room = Box(content.left, above, content.right, foot - below - step - block_height)
    if measure.wish.panel:
        room = Box(room.left, room.top, room.right, room.bottom - 0.7 * step)
    if room.height < 0.16 * content.height:
        return None
    _put_texts(found, sizes, head, text, content, above if first else foot - below - block_height, toward)
    found.product = found.focus = measure.fitted(room)
    if measure.wish.panel:
        product = found.product
        found.panel = Box(0, product.top + 0.4 * product.height, measure.width, product.bottom + 0.7 * step)
        if product.height < 0.62 * room.height:  # a small product lies on a field as high as its room
            found.panel = Box(0, room.top, measure.width, room.bottom + 0.7 * step)
    return found


def _poster(measure: Measure, shown: Shown, size: float, *, share: float) -> Arrangement | None:
    """All text above, the product alone below it and down to the lower edge, where a story keeps no words."""
    content, height = measure.content, measure.height
    column = Box(content.left, content.top, content.right, content.top + share * (0.96 * height - content.top))
    found = _column(measure, shown, size, column, frame="poster-first", toward="center" if measure.wish.centered else "left", anchor=0.0)
    if found is None:
        return None
    lowest = max(box.bottom for box in found.text_boxes)
    beneath = (0.93 if measure.shape == "story" else 0.955) * height
    found.product = found.focus = measure.fitted(Box(content.left, lowest + measure.step, content.right, beneath))
    if measure.wish.panel:
        found.panel = Box(0, found.product.top + 0.45 * found.product.height, measure.width, height)
    return found
