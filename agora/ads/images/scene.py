"""A picture as named groups of shapes and small images, drawn by skia to pixels and written as SVG. Both come from the same numbers.

Lines of text are outlines, so the SVG looks the same wherever it is opened; each group of text carries its words as a title.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from agora.ads.images.color import rgb
from agora.errors import MissingExtraError

Step = tuple[str, tuple[float, ...]]
_CURVE = 0.5522847498  # a quarter circle as one cubic curve


@dataclass(frozen=True, slots=True)
class Box:
    """Left, top, right, bottom in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Pixels down."""
        return self.bottom - self.top

    @property
    def center(self) -> tuple[float, float]:
        """The middle."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def grown(self, by: float) -> Box:
        """Larger by so many pixels on each side."""
        return Box(self.left - by, self.top - by, self.right + by, self.bottom + by)

    def overlaps(self, other: Box, *, tolerance: float = 0.0) -> bool:
        """Whether the two share more than `tolerance` pixels both ways."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across > tolerance and down > tolerance

    def inside(self, other: Box, *, tolerance: float = 0.51) -> bool:
        """Whether it lies in `other`, but for half a pixel of smoothing."""
        return (
            self.left >= other.left - tolerance
            and self.top >= other.top - tolerance
            and self.right <= other.right + tolerance
            and self.bottom <= other.bottom + tolerance
        )


@dataclass(frozen=True, slots=True)
class Stop:
    """One stop of a gradient."""

    at: float
    color: str
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Solid:
    """One colour."""

    color: str
    alpha: float = 1.0


@dataclass(frozen=True, slots=True)
class Linear:
    """A gradient along a line."""

    start: tuple[float, float]
    end: tuple[float, float]
    stops: tuple[Stop, ...]


@dataclass(frozen=True, slots=True)
class Radial:
    """A gradient around a point."""

    center: tuple[float, float]
    radius: float
    stops: tuple[Stop, ...]


Paint = Solid | Linear | Radial


@dataclass(frozen=True, slots=True)
class Fill:
    """A filled outline."""

    path: tuple[Step, ...]
    paint: Paint


@dataclass(frozen=True, slots=True)
class Stroke:
    """A drawn line."""

    path: tuple[Step, ...]
    color: str
    alpha: float
    width: float


@dataclass(frozen=True, slots=True)
class Raster:
    """Pixels [height, width, 4] of 0..255 with straight alpha, one to one, at whole coordinates; `tiled` repeats them everywhere."""

    pixels: np.ndarray
    left: int = 0
    top: int = 0
    tiled: bool = False


Item = Fill | Stroke | Raster


@dataclass(frozen=True, slots=True)
class Group:
    """Items that belong together. `title` is what is read there. In a `frame` (whole pixels) the items count from its upper left corner,
    and nothing of them is seen outside it."""

    name: str
    items: tuple[Item, ...]
    title: str = ""
    frame: Box | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """Groups from back to front."""

    width: int
    height: int
    groups: list[Group] = field(default_factory=list)


def rectangle(box: Box, radius: float = 0.0) -> tuple[Step, ...]:
    """A rectangle with round corners."""
    r = min(radius, box.width / 2, box.height / 2)
    left, top, right, bottom = box.left, box.top, box.right, box.bottom
    if r <= 0:
        return (("M", (left, top)), ("L", (right, top)), ("L", (right, bottom)), ("L", (left, bottom)), ("Z", ()))
    k = r * (1 - _CURVE)
    return (
        ("M", (left + r, top)),
        ("L", (right - r, top)),
        ("C", (right - k, top, right, top + k, right, top + r)),
        ("L", (right, bottom - r)),
        ("C", (right, bottom - k, right - k, bottom, right - r, bottom)),
        ("L", (left + r, bottom)),
        ("C", (left + k, bottom, left, bottom - k, left, bottom - r)),
        ("L", (left, top + r)),
        ("C", (left, top + k, left + k, top, left + r, top)),
        ("Z", ()),
    )


def circle(x: float, y: float, radius: float) -> tuple[Step, ...]:
    """A full circle."""
    return rectangle(Box(x - radius, y - radius, x + radius, y + radius), radius)


def polygon(points: Iterable[tuple[float, float]]) -> tuple[Step, ...]:
    """Straight lines, closed."""
    listed = list(points)
    return (("M", listed[0]), *(("L", point) for point in listed[1:]), ("Z", ()))


def smooth(points: Sequence[tuple[float, float]]) -> list[Step]:
    """A curve through the points (Catmull-Rom as cubic curves), open."""
    steps: list[Step] = [("M", points[0])]
    for index in range(len(points) - 1):
        before, start = points[max(0, index - 1)], points[index]
        end, after = points[index + 1], points[min(len(points) - 1, index + 2)]
        steps.append(
            (
                "C",
                (
                    start[0] + (end[0] - before[0]) / 6,
                    start[1] + (end[1] - before[1]) / 6,
                    end[0] - (after[0] - start[0]) / 6,
                    end[1] - (after[1] - start[1]) / 6,
                    *end,
                ),
            )
        )
    return steps


def skia_module() -> Any:
    """skia-python. Raises MissingExtraError."""
    try:
        import skia
    except ImportError:
        raise MissingExtraError("skia-python", "ads", "drawing a picture") from None
    return skia


def draw(scene: Scene, groups: Iterable[str] | None = None) -> np.ndarray:
    """The pixels [height, width, 3]; of the named groups only, if given."""
    skia = skia_module()
    surface = skia.Surface(scene.width, scene.height)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorWHITE)
    chosen = None if groups is None else set(groups)
    for group in scene.groups:
        if chosen is None or group.name in chosen:
            canvas.save()
            if group.frame is not None:
                canvas.clipRect(skia.Rect.MakeLTRB(group.frame.left, group.frame.top, group.frame.right, group.frame.bottom))
                canvas.translate(group.frame.left, group.frame.top)
            for item in group.items:
                _draw_item(skia, canvas, item)
            canvas.restore()
    return np.ascontiguousarray(surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., :3])


def coverage(scene: Scene, group: Group) -> np.ndarray:
    """How much of each pixel the filled shapes of a group cover, [height, width] of 0..255."""
    skia = skia_module()
    surface = skia.Surface(scene.width, scene.height)
    canvas = surface.getCanvas()
    canvas.clear(skia.ColorBLACK)
    paint = skia.Paint(AntiAlias=True, Color=skia.ColorWHITE)
    for item in group.items:
        if isinstance(item, Fill):
            canvas.drawPath(_skia_path(skia, item.path), paint)
    return np.ascontiguousarray(surface.makeImageSnapshot().toarray(colorType=skia.kRGBA_8888_ColorType)[..., 0])


def _draw_item(skia: Any, canvas: Any, item: Item) -> None:
    if isinstance(item, Raster):
        image = skia.Image.fromarray(np.ascontiguousarray(item.pixels), colorType=skia.kRGBA_8888_ColorType, copy=True)
        if item.tiled:
            canvas.drawPaint(skia.Paint(Shader=image.makeShader(skia.TileMode.kRepeat, skia.TileMode.kRepeat, skia.SamplingOptions())))
        else:
            canvas.drawImage(image, item.left, item.top)
        return
    paint = skia.Paint(AntiAlias=True)
    if isinstance(item, Stroke):
        paint.setStyle(skia.Paint.kStroke_Style)
        paint.setStrokeWidth(item.width)
        paint.setColor(_skia_color(skia, item.color, item.alpha))
    elif isinstance(item.paint, Solid):
        paint.setColor(_skia_color(skia, item.paint.color, item.paint.alpha))
    else:
        paint.setShader(_skia_gradient(skia, item.paint))
        paint.setDither(True)
    canvas.drawPath(_skia_path(skia, item.path), paint)


def _skia_color(skia: Any, color: str, alpha: float) -> Any:
    return skia.Color(*rgb(color), round(255 * alpha))


def _skia_gradient(skia: Any, paint: Linear | Radial) -> Any:
    colors = [_skia_color(skia, stop.color, stop.alpha) for stop in paint.stops]
    places = [stop.at for stop in paint.stops]
    if isinstance(paint, Linear):
        return skia.GradientShader.MakeLinear([skia.Point(*paint.start), skia.Point(*paint.end)], colors, places)
    return skia.GradientShader.MakeRadial(skia.Point(*paint.center), paint.radius, colors, places)


def _skia_path(skia: Any, steps: Iterable[Step]) -> Any:
    path = skia.Path()
    calls = {"M": path.moveTo, "L": path.lineTo, "Q": path.quadTo, "C": path.cubicTo, "Z": path.close}
    for kind, numbers in steps:
        calls[kind](*numbers)
    return path


def to_svg(scene: Scene, *, title: str) -> str:
    """The scene as SVG 1.1: one group per layer, named."""
    definitions: list[str] = []
    body: list[str] = []
    for group in scene.groups:
        place = _svg_frame(group.frame, definitions) if group.frame is not None else ""
        body.append(f"<g id={quoteattr(group.name)}{place}>" + (f"<title>{escape(group.title)}</title>" if group.title else ""))
        body += [_svg_item(item, scene, definitions) for item in group.items]
        body.append("</g>")
    size = f'width="{scene.width}" height="{scene.height}" viewBox="0 0 {scene.width} {scene.height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {size}>'
    return "\n".join([head, f"<title>{escape(title)}</title>", "<defs>", *definitions, "</defs>", *body, "</svg>", ""])


def _svg_frame(frame: Box, definitions: list[str]) -> str:
    name = f"d{len(definitions)}"
    size = f'width="{_number(frame.width)}" height="{_number(frame.height)}"'
    definitions.append(f'<clipPath id="{name}"><rect {size}/></clipPath>')
    return f' transform="translate({_number(frame.left)} {_number(frame.top)})" clip-path="url(#{name})"'


def _svg_item(item: Item, scene: Scene, definitions: list[str]) -> str:
    if isinstance(item, Stroke):
        line = f'stroke="{item.color}" stroke-opacity="{_number(item.alpha)}" stroke-width="{_number(item.width)}"'
        return f'<path d="{svg_path(item.path)}" fill="none" {line}/>'
    if isinstance(item, Fill):
        if isinstance(item.paint, Solid):
            opacity = "" if item.paint.alpha >= 1 else f' fill-opacity="{_number(item.paint.alpha)}"'
            return f'<path d="{svg_path(item.path)}" fill="{item.paint.color}"{opacity}/>'
        return f'<path d="{svg_path(item.path)}" fill="url(#{_svg_gradient(item.paint, definitions)})"/>'
    height, width = item.pixels.shape[:2]
    data = "data:image/png;base64," + base64.b64encode(encode_png(item.pixels, level=3)).decode()
    if not item.tiled:
        return f'<image x="{item.left}" y="{item.top}" width="{width}" height="{height}" xlink:href="{data}"/>'
    name = f"d{len(definitions)}"
    image = f'<image width="{width}" height="{height}" xlink:href="{data}" image-rendering="optimizeSpeed"/>'
    definitions.append(f'<pattern id="{name}" patternUnits="userSpaceOnUse" width="{width}" height="{height}">{image}</pattern>')
    return f'<rect width="{scene.width}" height="{scene.height}" fill="url(#{name})"/>'


def _svg_gradient(paint: Linear | Radial, definitions: list[str]) -> str:
    name = f"d{len(definitions)}"
    stops = "".join(
        f'<stop offset="{_number(stop.at)}" stop-color="{stop.color}" stop-opacity="{_number(stop.alpha)}"/>' for stop in paint.stops
    )
    if isinstance(paint, Linear):
        (x1, y1), (x2, y2) = paint.start, paint.end
        place = f'x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"'
        definitions.append(f'<linearGradient id="{name}" gradientUnits="userSpaceOnUse" {place}>{stops}</linearGradient>')
    else:
        place = f'cx="{_number(paint.center[0])}" cy="{_number(paint.center[1])}" r="{_number(paint.radius)}"'
        definitions.append(f'<radialGradient id="{name}" gradientUnits="userSpaceOnUse" {place}>{stops}</radialGradient>')
    return name


def svg_path(steps: Iterable[Step]) -> str:
    """The `d` of a path."""
    return "".join(kind + " ".join(_number(number) for number in numbers) for kind, numbers in steps)


def _number(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def encode_png(pixels: np.ndarray, *, level: int = 6) -> bytes:
    """Pixels [height, width, 3 or 4] as a PNG file, always the same bytes for the same pixels."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("pillow", "ads", "writing a picture") from None
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=level)
    return file.getvalue()
