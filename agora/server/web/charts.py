"""Charts as SVG elements. Goes in: numbers, and names as text. Comes out: elements in the page's colours (agora.css), without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from nicegui import ui

from agora.server.api.campaigns import CurvePoint, NetworkData, TimeBin
from agora.server.api.search import Bar
from agora.server.web.parts import box, count, moment, text

WIDTH, HEIGHT = 640, 190
Points = Sequence[tuple[float, float]]


def histogram(bars: Sequence[Bar], height: int = 72) -> None:
    """Counts over time, with the times of both ends."""
    if not bars:
        return
    most, width = max(bar.count for bar in bars) or 1, WIDTH / len(bars)
    with box("stack tight"):
        path = "".join(
            f"M{place * width + 0.5:.1f} {height}V{(1 - bar.count / most) * height:.1f}h{max(width - 1.5, 1):.1f}V{height}z"
            for place, bar in enumerate(bars)
            if bar.count
        )
        with _svg(WIDTH, height, f"Posts over time, at most {most} in one bar", stretch=True):
            box("bar", "path", d=path)
            box("axis", "line", x1=0, x2=WIDTH, y1=height, y2=height)
        with box("line apart"):
            text("span", moment(bars[0].start), "tiny soft")
            text("span", moment(bars[-1].start), "tiny soft")


def timeline(bins: Sequence[TimeBin], height: int = 130) -> None:
    """Members' actions above the line, outsiders' below."""
    if not bins:
        return
    above, below = max(one.members for one in bins) or 1, max(one.outsiders for one in bins) or 1
    most, width, middle = max(above, below), WIDTH / len(bins), height * 0.6
    room = {True: middle - 2, False: height - middle - 2}

    def path(values: list[int], is_up: bool) -> str:
        unit = room[is_up] / most * (-1 if is_up else 1)
        return "".join(
            f"M{place * width + 0.5:.1f} {middle}v{value * unit:.1f}h{max(width - 1.5, 1):.1f}v{-value * unit:.1f}z"
            for place, value in enumerate(values)
            if value
        )

    with box("stack tight"):
        with _svg(WIDTH, height, f"Actions over time: members at most {above}, others at most {below} in one bar", stretch=True):
            box("bar", "path", d=path([one.members for one in bins], True))
            box("bar other", "path", d=path([one.outsiders for one in bins], False))
            box("axis", "line", x1=0, x2=WIDTH, y1=middle, y2=middle)
        with box("line apart"):
            text("span", moment(bins[0].start), "tiny soft")
            text("span", moment(bins[-1].start), "tiny soft")
        legend({"members": 0, "others who shared the same": 4})


def closeness(curve: Sequence[CurvePoint]) -> None:
    """The share of actions that has another member's beside it within a time: members, and everybody else."""
    series = {"members": [(one.seconds, one.members) for one in curve]}
    others = [(one.seconds, one.outsiders) for one in curve if one.outsiders is not None]
    if others:
        series["organic spread"] = others
    lines(series, x_is_log=True, top=1.0, y_label=lambda value: f"{value:.0%}", x_label=_span, name="Share of actions by closeness in time")


def network(data: NetworkData) -> None:
    """Accounts as dots, joined where they shared the same things."""
    top = max((weight for *_, weight in data.edges), default=1)
    with _svg(480, 330, f"Network of {len(data.nodes)} accounts; the table of members says the same in words").classes("free"):
        for is_strong in (False, True):
            path = "".join(
                f"M{data.nodes[left].x:.0f} {data.nodes[left].y:.0f}L{data.nodes[right].x:.0f} {data.nodes[right].y:.0f}"
                for left, right, weight in data.edges
                if (weight / top > 0.5) == is_strong
            )
            if path:
                box("edge strong" if is_strong else "edge", "path", d=path)
        for node in sorted(data.nodes, key=lambda one: one.kind != "outside"):
            radius = 3.5 if node.kind == "outside" else min(4 + 1.1 * math.sqrt(node.num_actions), 13)
            with box(f"node {node.kind}", "circle", cx=round(node.x), cy=round(node.y), r=round(radius, 1)):
                text("title", f"{node.account}: {node.num_actions} actions")
    legend({"labelled": 1, "not labelled": 0, "often first": 2, "others": 5})


def lines(
    series: Mapping[str, Points], *, x_is_log: bool = False, top: float | None = None, y_label: Callable[[float], str] = count,
    x_label: Callable[[float], str] = lambda value: count(round(value)), name: str = "Chart",
) -> None:  # fmt: skip
    """Curves over one axis, which counts steps unless `x_label` says otherwise."""
    points = [point for one in series.values() for point in one]
    if len(points) < 2:
        text("p", "Too few points to draw yet.", "small soft")
        return
    scale: Callable[[float], float] = (lambda x: math.log(max(x, 1e-9))) if x_is_log else (lambda x: x)
    left, right = scale(min(x for x, _ in points)), scale(max(x for x, _ in points))
    low, high = (0.0, top) if top is not None else (min(y for _, y in points), max(y for _, y in points))
    spread = (high - low) or abs(high) or 1.0
    if top is None:
        low, high = max(low - spread * 0.05, 0.0 if low >= 0 else -math.inf), high + spread * 0.05

    def place(x: float, y: float) -> str:
        across = (scale(x) - left) / ((right - left) or 1) * WIDTH
        return f"{across:.1f} {(high - y) / ((high - low) or 1) * HEIGHT:.1f}"

    with box("plot"):
        with box("up", aria_hidden="true"):
            for step in range(4, -1, -1):
                text("span", y_label(low + (high - low) * step / 4))
        with _svg(WIDTH, HEIGHT, name, stretch=True):
            for step in range(5):
                box("grid", "line", x1=0, x2=WIDTH, y1=HEIGHT * step / 4, y2=HEIGHT * step / 4)
            for number, one in enumerate(series.values()):
                if one:
                    box(f"curve c{number % 5}", "path", d="M" + "L".join(place(x, y) for x, y in one))
        with box("across", aria_hidden="true"):
            for step in range(3):
                at = left + (right - left) * step / 2
                text("span", x_label(math.exp(at) if x_is_log else at))
    if len(series) > 1:
        legend({title: number % 5 for number, title in enumerate(series)})


def intervals(rows: Sequence[tuple[str, float, float, float]]) -> None:
    """Low end, value and high end of each row, on one scale from 0."""
    top = max((high for _, _, rate, high in rows if rate > 0), default=0.0) or 1.0
    with box("stack tight"):
        for name, low, rate, high in rows:
            with box("span-row"):
                text("span", name, "small wrap")
                with box("span", role="img", aria_label=f"{name}: {rate:.2%}, between {low:.2%} and {high:.2%}"):
                    box("ends").style(f"left:{100 * low / top:.1f}%; width:{100 * (min(high, top) - low) / top:.1f}%")
                    box("mark").style(f"left:{100 * rate / top:.1f}%")


def shares(parts: Mapping[str, float], whole: float, unit: str) -> None:
    """One bar in parts, with what each is."""
    with box("parts", role="img", aria_label=", ".join(f"{name} {value:.3g} {unit}" for name, value in parts.items())):
        for number, value in enumerate(parts.values()):
            box(f"fill-{number % 5}").style(f"width:{min(value / whole, 1) * 100 if whole else 0:.2f}%")
    with box("line"):
        for number, (name, value) in enumerate(parts.items()):
            _key(f"{name} {value:,.3g} {unit}", number % 5)


def legend(names: Mapping[str, int]) -> None:
    """What the colours mean."""
    with box("line"):
        for name, colour in names.items():
            _key(name, colour)


def _key(name: str, colour: int) -> None:
    with box("key", "span"):
        box(f"fill-{colour}" if colour < 5 else "fill-line", "i")
        text("span", name)


def _svg(width: int, height: int, name: str, *, stretch: bool = False) -> ui.element:
    made = box("chart", "svg", viewBox=f"0 0 {width} {height}", role="img", aria_label=name)
    if stretch:
        made.props["preserveAspectRatio"] = "none"
        made.style(f"height:{height}px")
    return made


def _span(seconds: float) -> str:
    for limit, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= limit * 0.99:
            return f"{seconds / limit:.0f} {word}"
    return f"{seconds:.0f} s"
