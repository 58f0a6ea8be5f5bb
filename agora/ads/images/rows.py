"""Leaderboards and banners: product or mark | headline and description | button, in one row."""

from __future__ import annotations

from agora.ads.images.arrangement import Arrangement, Part, Shown, aligned
from agora.ads.images.measure import Measure, Sizes
from agora.ads.images.scene import Box
from agora.ads.images.typeset import Block


def row(measure: Measure, shown: Shown, size: float, *, is_foot: bool) -> Arrangement | None:
    """The disclosure stands under the button, or under the text (`is_foot`)."""
    content, sizes, height = measure.content, measure.scale(size), measure.height
    limit = 0.34 * content.width
    button, small = measure.button(sizes.button, limit), measure.disclosure(0.5 * content.width if is_foot else limit)
    if button is None or small is None:
        return None
    inner = max(4.0, 0.08 * height)
    found = Arrangement("row-foot" if is_foot else "row")
    side = button.width if is_foot else max(button.width, small.width)
    stack = button.height + (0.0 if is_foot else inner + small.height)
    if stack > content.height:
        return None
    cell = Box(content.right - side, content.top, content.right, content.bottom)
    top = content.top + (content.height - stack) / 2
    across = min(side, 1.3 * button.width)  # as wide as what stands under it, within reason
    found.button = aligned(cell, across, top, button.height, "center")
    words = top + (button.height - button.block.optical_height) / 2
    found.parts["call_to_action"] = Part(
        button.block, Box(found.button.left, words, found.button.right, words + button.block.height), "center"
    )
    if not is_foot:
        found.put("disclosure", small, cell, found.button.bottom + inner, "center")
    gap = max(0.22 * height, 8.0) if not shown.divide else 6.0  # divided words: the room is needed
    left = _lead(measure, found, shown, gap)
    if left is None:
        return None
    column = Box(left, content.top, cell.left - gap, content.bottom)
    if column.width < 0.18 * measure.width or not _texts(measure, found, column, sizes, shown, small if is_foot else None):
        return None
    found.focus = found.product or found.panel or Box(0, 0, 0.5 * height, height)
    return found


def _lead(measure: Measure, found: Arrangement, shown: Shown, gap: float) -> float | None:
    """What stands first: product and mark, each on a field of the brand's colour as high as the picture; gives where the text begins."""
    content, height = measure.content, measure.height
    left = content.left
    is_banner = measure.shape == "banner"
    if shown.product:
        tall = 0.86 * height
        across = min(tall * 1.6, tall * (measure.product_ratio or 1.0))
        found.product = measure.fitted(Box(left, (height - tall) / 2, left + across, (height + tall) / 2))
        left = found.product.right + 0.6 * gap
        if measure.wish.panel:
            found.panel = Box(0, 0, left, height)
        left += 0.8 * gap if measure.wish.panel else 0.2 * gap
    if not (shown.mark and measure.has_mark):
        if found.panel is None and not shown.product and not shown.divide:
            bar = max(4.0, 0.07 * height)
            found.panel = Box(0, 0, bar, height)
            left = max(left, bar + gap * 0.8)
        return left
    mark = measure.mark(0.22 * content.width)
    if mark is None or mark.height > content.height or (shown.product and is_banner):
        return None
    box = aligned(Box(left, content.top, left + mark.width, content.bottom), mark.width, (height - mark.height) / 2, mark.height, "left")
    if mark.block is None:
        found.logo = box
    else:
        found.parts["wordmark"] = Part(mark.block, Box(box.left, _centred(mark.block, height), box.right, box.bottom), "left")
    left = box.right + gap
    if not shown.product:
        found.panel = Box(0, 0, box.right + (box.left if not is_banner else 0.8 * gap), height)
        left = found.panel.right + 0.9 * gap
    return left


def _centred(block: Block, height: float) -> float:
    """The top of a block whose capitals are in the middle of the height."""
    return (height - block.optical_height) / 2


def _texts(measure: Measure, found: Arrangement, column: Box, sizes: Sizes, shown: Shown, small: Block | None) -> bool:
    """Headline, description and, if given, the disclosure, in the middle of the height; False where they do not fit."""
    head = measure.headline(column.width, sizes.headline, divide=shown.divide)
    text = None
    if shown.description and measure.texts.description is not None:
        text = measure.texts.description.block(column.width, max(measure.min_text, 0.55 * sizes.headline), max_lines=2)
        if text is None:
            return False
    if head is None:
        return False
    gap, lower = max(0.3 * sizes.headline, 4.0), max(4.0, (0.1 if not shown.divide else 0.08) * measure.height)
    group = head.height + (gap + text.height if text else 0.0) + (lower + small.height if small else 0.0)
    if group > column.height:
        return False
    top = found.put("headline", head, column, column.top + (column.height - group) / 2, "left")
    if text:
        top = found.put("description", text, column, top + gap, "left")
    if small:
        found.put("disclosure", small, column, top + lower, "left")
    return True
