"""Small charts as SVG text, without any package. Goes in: series of points. Comes out: one <svg> element for a page or a file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_COLOURS = ("#1f5fbf", "#c2410c", "#15803d", "#7e22ce", "#0f766e", "#b91c1c")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP, _RIGHT = 560, 300, 64, 44, 30, 16

Points = Sequence[tuple[float, float]]


def line_chart(title: str, series: Mapping[str, Points], *, x_label: str, y_label: str) -> str:
    """Lines on logarithmic axes (all values must be above 0)."""
    every = [point for points in series.values() for point in points if point[0] > 0 and point[1] > 0]
    if not every:
        return ""
    x_low, x_high = _range([x for x, _ in every])
    y_low, y_high = _range([y for _, y in every])

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = _LEFT + (math.log10(point[0]) - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)
        y = _HEIGHT - _BOTTOM - (math.log10(point[1]) - y_low) / (y_high - y_low) * (_HEIGHT - _BOTTOM - _TOP)
        return round(x, 1), round(y, 1)

    parts = [_frame(title, x_label, y_label)]
    for value in _ticks(x_low, x_high):
        x, _ = place((value, 10.0**y_low))
        parts.append(f'<line x1="{x}" y1="{_TOP}" x2="{x}" y2="{_HEIGHT - _BOTTOM}" class="grid"/>')
        parts.append(_text(x, _HEIGHT - _BOTTOM + 14, _si(value), "middle"))
    for value in _ticks(y_low, y_high):
        _, y = place((10.0**x_low, value))
        parts.append(
            f'<line x1="{_LEFT}" y1="{y}" x2="{_WIDTH - _RIGHT}" y2="{y}" class="grid"/>{_text(_LEFT - 6, y + 4, _si(value), "end")}'
        )
    for number, (name, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        placed = [place(point) for point in points if point[0] > 0 and point[1] > 0]
        path = " ".join(f"{x},{y}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in placed]
        parts.append(f'<text x="{_LEFT + 8}" y="{_TOP + 14 + 15 * number}" fill="{colour}">{escape(name)}</text>')
    return _svg(title, parts)


def bar_chart(title: str, bars: Mapping[str, float], *, unit: str) -> str:
    """Horizontal bars with their values."""
    shown = {name: value for name, value in bars.items() if value > 0}
    if not shown:
        return ""
    most = max(shown.values())
    height = 20 * len(shown) + 44
    parts = [f'<text x="12" y="18" font-weight="600">{escape(title)}</text>']
    for row, (name, value) in enumerate(sorted(shown.items(), key=lambda item: -item[1])):
        y = 30 + 20 * row
        parts.append(f'<rect x="150" y="{y}" width="{round(300 * value / most, 1)}" height="14" fill="{_COLOURS[0]}"/>')
        parts.append(_text(144, y + 11, name, "end") + _text(156 + 300 * value / most, y + 11, f"{value:,.3g} {unit}", "start"))
    return _svg(title, parts, height)


def _ticks(low: float, high: float) -> list[float]:
    """Values to label between two powers of ten: whole powers, with 2 and 5 of each where those are few."""
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        values = [step * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for step in steps]
        inside = [value for value in values if low <= math.log10(value) <= high]
        if len(inside) >= 3:
            break
    return inside


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return low - 0.15, max(high + 0.15, low + 0.5)


def _si(value: float) -> str:
    for power, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= power:
            return f"{value / power:g}{prefix}"
    return f"{value:g}"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{round(x, 1)}" y="{round(y, 1)}" text-anchor="{anchor}" class="tick">{escape(text)}</text>'


def _frame(title: str, x_label: str, y_label: str) -> str:
    middle = _HEIGHT / 2
    return (
        f'<text x="{_LEFT}" y="18" font-weight="600">{escape(title)}</text>'
        + _text((_LEFT + _WIDTH) / 2, _HEIGHT - 8, x_label, "middle")
        + f'<text x="14" y="{middle}" transform="rotate(-90 14 {middle})" text-anchor="middle" class="tick">{escape(y_label)}</text>'
    )


def _svg(title: str, parts: Sequence[str], height: int = _HEIGHT) -> str:
    style = "text{font:12px system-ui,sans-serif}.tick{font-size:10px;fill:#475569}.grid{stroke:#e2e8f0}"
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(title)}"><style>{style}</style>\n{body}\n</svg>'
    )
