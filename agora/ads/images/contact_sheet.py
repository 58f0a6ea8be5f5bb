"""All pictures of a job on one page of HTML that needs no other file: each with its size, style, checks and warnings."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Final

from agora.ads.images.picture import Picture
from agora.files import write_atomically

_STYLE = """
:root { color-scheme: light; --line: #dcdce0; --soft: #63636b; }
* { box-sizing: border-box; }
body { margin: 0; padding: 40px 44px 64px; background: #f4f4f2; color: #17171a; font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 28px; letter-spacing: -0.02em; margin: 0 0 4px; }
h2 { font-size: 18px; letter-spacing: -0.01em; margin: 44px 0 14px; padding-top: 20px; border-top: 1px solid var(--line); }
p { margin: 0; color: var(--soft); }
.row { display: flex; flex-wrap: wrap; gap: 26px; align-items: flex-start; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; height: auto; background: #fff; box-shadow: 0 1px 2px #0002, 0 6px 22px #00000014; }
figcaption { margin-top: 9px; font-size: 12.5px; color: var(--soft); }
figcaption b { color: #17171a; font-weight: 600; }
.bad { color: #a3130c; font-weight: 600; }
.good { color: #14663b; font-weight: 600; }
"""
_SHOWN_AREA: Final = 105_000  # square pixels of a picture on the page, so large and small placements stand side by side
_SHOWN_HEIGHT: Final = 440
_WIDE: Final = 2.6  # width by height from which a picture stands below the others


def contact_sheet(pictures: Iterable[tuple[str, Picture]], *, title: str) -> str:
    """HTML of pictures, each with the name of its group; neighbours with the same name stand together."""
    groups: list[tuple[str, list[Picture]]] = []
    for name, picture in pictures:
        if not groups or groups[-1][0] != name:
            groups.append((name, []))
        groups[-1][1].append(picture)
    count = sum(len(group) for _, group in groups)
    failing = sum(not picture.checks.passed for _, group in groups for picture in group)
    verdict = f'<span class="bad">{failing} fail a check</span>' if failing else '<span class="good">all pass every check</span>'
    body = "".join(
        f'<section><h2>{escape(name)}</h2><div class="row">{"".join(map(_figure, _by_height(group)))}</div></section>'
        for name, group in groups
    )
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title><style>{_STYLE}</style>'
    intro = f"<h1>{escape(title)}</h1><p>{count} pictures; {verdict}</p>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{intro}{body}</body></html>\n'


def write_contact_sheet(path: Path, pictures: Iterable[tuple[str, Picture]], *, title: str) -> None:
    """Write the page as a whole."""
    write_atomically(path, contact_sheet(pictures, title=title))


def _scale(picture: Picture) -> float:
    layout = picture.layout
    return min(1.0, math.sqrt(_SHOWN_AREA / (layout.width * layout.height)), _SHOWN_HEIGHT / layout.height)


def _by_height(group: list[Picture]) -> list[Picture]:
    """The highest first, so that rows are full; wide ones last."""
    return sorted(group, key=lambda one: (one.layout.width / one.layout.height >= _WIDE, -one.layout.height * _scale(one)))


def _figure(picture: Picture) -> str:
    layout, checks = picture.layout, picture.checks
    scale = _scale(picture)
    data = base64.b64encode(picture.png).decode()
    words = " ".join(layout.lines["headline"])
    image = f'<img src="data:image/png;base64,{data}" width="{round(layout.width * scale)}" alt="{escape(words, quote=True)}">'
    worst = min(checks.contrast.values())
    facts = (
        f"<b>{escape(layout.placement)}</b> {layout.width} x {layout.height}, {checks.size_kb:g} of {checks.max_kb:g} kB<br>"
        f"{escape(layout.family)}, {escape(layout.scheme)}, {escape(layout.background)}; "
        f"smallest text {checks.smallest_text_px:g} px, least contrast {worst:.1f}"
    )
    problems = "".join(f'<br><span class="bad">{escape(problem)}</span>' for problem in checks.problems)
    warnings = "".join(f"<br>{escape(warning)}" for warning in checks.warnings)
    width = max(170, round(layout.width * scale))
    return f'<figure style="width: {width}px">{image}<figcaption>{facts}{problems}{warnings}</figcaption></figure>'
