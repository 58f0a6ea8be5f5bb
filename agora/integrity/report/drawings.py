"""Pictures of a campaign as SVG. Goes in: its members and artefacts. Comes out: the network, the timeline, the curve of closeness.

The same campaign gives the same picture. Colours come from the page's style by class; words stand beside a picture, not in it, so
that they stay readable at any width. Not drawn: more than MAX_NODES members and MAX_OUTSIDERS others, weak edges of dense networks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from agora.integrity.records import Artefact, Campaign, Member, iso
from agora.integrity.report.markup import Markup, seconds_of, span, tag

MAX_NODES: Final = 60
MAX_OUTSIDERS: Final = 24
NUM_BINS: Final = 60
_TOP, _BOTTOM = 60, 40
_EDGES_PER_NODE: Final = 6
_SCATTER: Final = 40_503  # orders edges of equal weight, so that no node gathers them by its number
_STEPS: Final = 80
_WIDTH, _HEIGHT, _MARGIN = 480, 330, 22
_GOLDEN_ANGLE, _GRAVITY = math.pi * (3 - math.sqrt(5)), 0.05
_TICKS: Final = (0, 1, 10, 60, 600, 3600, 21_600, 86_400)
_TICK_WIDTH = 80  # about as wide as on a screen: lines of a picture that is stretched much are drawn blurred
"""Seconds at equal distances on the axis of closeness; what lies further apart stands at the right end."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Node:
    """`kind`: labelled, queued, source or outside. `x` and `y` lie in a picture of WIDTH by HEIGHT."""

    account: str
    kind: str
    num_actions: int
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Graph:
    """What the drawing shows, for programs. `edges`: places of two nodes, and how many artefacts they share."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int, int], ...]


def graph(campaign: Campaign, labelled: frozenset[str]) -> Graph:
    """The members that act most, the outsiders that share most with them, and the strongest edges between."""
    members = sorted(campaign.members, key=lambda member: (-member.num_actions, member.account))[:MAX_NODES]
    common, others = _common(campaign.artefacts, {member.account: index for index, member in enumerate(members)})
    outsiders = [account for account, _ in sorted(others.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_OUTSIDERS]]
    edges = _strongest(common, len(members)) | {
        (index, len(members) + number): 1 for number, account in enumerate(outsiders) for index, _ in others[account].most_common(2)
    }
    place = _layout(len(members) + len(outsiders), edges).tolist()
    kinds = ["source" if one.is_source else "labelled" if one.account in labelled else "queued" for one in members]
    names = [(one.account, kind, one.num_actions) for one, kind in zip(members, kinds, strict=True)]
    names += [(account, "outside", sum(others[account].values())) for account in outsiders]
    nodes = tuple(Node(*name, x, y) for name, (x, y) in zip(names, place, strict=True))
    return Graph(nodes, tuple((left, right, weight) for (left, right), weight in edges.items()))


def gaps(artefacts: Sequence[Artefact]) -> tuple[list[float], list[float]]:
    """Seconds from each action of a member, and of an outsider, to the nearest action of a (further) member on the same artefact."""
    inside: list[float] = []
    outside: list[float] = []
    for artefact in artefacts:
        by_member = np.sort(np.array([seconds_of(action.at) for action in artefact.actions if action.is_member]))
        by_other = np.array([seconds_of(action.at) for action in artefact.actions if not action.is_member])
        inside += _to_next(by_member)
        outside += _to_nearest(by_other, by_member)
    return inside, outside


@dataclass(frozen=True, slots=True)
class Network:
    """The drawing, and what it had to leave out."""

    picture: Markup
    num_members: int
    num_outsiders: int


def network(campaign: Campaign, anchors: dict[str, str], labelled: frozenset[str]) -> Network:
    """Members joined by the artefacts they share; outsiders who shared the same ones in grey. `anchors` tells where a member's row is."""
    members = sorted(campaign.members, key=lambda member: (-member.num_actions, member.account))[:MAX_NODES]
    inside = {member.account: index for index, member in enumerate(members)}
    common, others = _common(campaign.artefacts, inside)
    outsiders = [account for account, _ in sorted(others.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_OUTSIDERS]]
    kept = _strongest(common, len(members))
    loose = {(index, len(members) + number): 1 for number, account in enumerate(outsiders) for index, _ in others[account].most_common(2)}
    place = _layout(len(members) + len(outsiders), kept | loose)
    top = max(kept.values(), default=1)
    strength = [
        [edge for edge, weight in kept.items() if low < weight / top <= high] for low, high in ((0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1))
    ]
    picture = tag(
        "svg",
        _lines(loose, place, "edge outside"),
        *(_lines(edges, place, f"edge e{level}") for level, edges in enumerate(strength)),
        *(_dot(place[len(members) + number], 3.0, account, "node outside") for number, account in enumerate(outsiders)),
        *(_member(member, place[index], anchors, labelled) for index, member in enumerate(members)),
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        class_="network",
        aria_label=f"Network of {len(members)} members and {len(outsiders)} outsiders; the table of members says the same in words",
    )
    return Network(picture, len(members), len(outsiders))


def _common(artefacts: Sequence[Artefact], inside: dict[str, int]) -> tuple[Counter[tuple[int, int]], dict[str, Counter[int]]]:
    """How many artefacts each pair of members shares, and for each outsider how many with each member."""
    common: Counter[tuple[int, int]] = Counter()
    others: dict[str, Counter[int]] = {}
    for artefact in artefacts:
        here = sorted({inside[action.account] for action in artefact.actions if action.account in inside})
        common.update(combinations(here, 2))
        for account in dict.fromkeys(action.account for action in artefact.actions if not action.is_member):
            others.setdefault(account, Counter()).update(here)
    return common, others


def _strongest(common: Counter[tuple[int, int]], num_nodes: int) -> dict[tuple[int, int], int]:
    """Edges worth drawing: the strongest of each node, and of all as many as keep the picture readable."""
    ranked = sorted(common.items(), key=lambda item: (-item[1], item[0][0] * _SCATTER ^ item[0][1] * _SCATTER >> 3 & 0xFFFF, item[0]))
    held = [0] * num_nodes
    kept = {}
    for (left, right), weight in ranked:
        if min(held[left], held[right]) < _EDGES_PER_NODE // 2 or max(held[left], held[right]) < _EDGES_PER_NODE:
            kept[left, right] = weight
            held[left] += 1
            held[right] += 1
    return kept


def _layout(num_nodes: int, edges: dict[tuple[int, int], int]) -> Floats:
    """Places from springs (Fruchterman and Reingold, 1991), started from a sunflower's seeds, so that the same edges lie the same."""
    number = np.arange(num_nodes)
    place: Floats = np.sqrt(number + 0.5)[:, None] * np.stack((np.cos(number * _GOLDEN_ANGLE), np.sin(number * _GOLDEN_ANGLE)), axis=1)
    pull = np.zeros((num_nodes, num_nodes))
    for (left, right), weight in edges.items():
        pull[left, right] = pull[right, left] = 1 + math.log(weight)
    for step in np.linspace(math.sqrt(num_nodes + 1), 0.02, _STEPS):
        apart = place[:, None] - place[None]
        distance = np.sqrt(np.einsum("ijk,ijk->ij", apart, apart)) + 1e-6
        force = np.einsum("ijk,ij->ik", apart, 1 / distance**2 - pull * distance) - _GRAVITY * place
        length = np.hypot(*force.T)[:, None] + 1e-9
        place = place + force / length * np.minimum(length, step)
    if not num_nodes:
        return place
    low, high = place.min(axis=0), place.max(axis=0)
    unit = np.where(high > low, (place - low) / np.where(high > low, high - low, 1), 0.5)
    result: Floats = _MARGIN + unit * (np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN)
    return result


def _lines(edges: Sequence[tuple[int, int]] | dict[tuple[int, int], int], place: Floats, name: str) -> Markup:
    path = "".join(f"M{_xy(place[left])}L{_xy(place[right])}" for left, right in edges)
    return tag("path", d=path, class_=name) if path else Markup()


def _xy(point: Floats) -> str:
    return f"{point[0]:.0f} {point[1]:.0f}"


def _dot(point: Floats, radius: float, title: str, name: str) -> Markup:
    return tag("g", tag("title", title), tag("circle", cx=f"{point[0]:.0f}", cy=f"{point[1]:.0f}", r=f"{radius:.1f}"), class_=name)


def _member(member: Member, point: Floats, anchors: dict[str, str], labelled: frozenset[str]) -> Markup:
    kind = "source" if member.is_source else "labelled" if member.account in labelled else "queued"
    dot = _dot(
        point, min(3.5 + 1.1 * math.sqrt(member.num_actions), 13), f"{member.account}: {member.num_actions:,} actions", f"node {kind}"
    )
    anchor = anchors.get(member.account)
    return tag("a", dot, href=f"#{anchor}", tabindex=-1) if anchor else dot


@dataclass(frozen=True, slots=True)
class Timeline:
    """Members' actions above the line, outsiders' below. `is_one_scale`: a bar below counts what one above counts."""

    picture: Markup
    first_at: str
    last_at: str
    bin_s: float
    most_members: int
    most_outsiders: int
    is_one_scale: bool


def timeline(artefacts: Sequence[Artefact]) -> Timeline | None:
    """Actions over time, or None where there are none."""
    times = [(seconds_of(action.at), action.is_member) for artefact in artefacts for action in artefact.actions]
    if not times:
        return None
    first, last = min(times)[0], max(times)[0]
    width = max((last - first) / NUM_BINS, 1.0)
    inside, outside = [0] * NUM_BINS, [0] * NUM_BINS
    for at, is_member in times:
        (inside if is_member else outside)[min(int((at - first) / width), NUM_BINS - 1)] += 1
    most_inside, most_outside = max(inside), max(outside)
    above = _TOP / max(most_inside, 1)
    is_one_scale = most_outside * above <= _BOTTOM
    below = above if is_one_scale else _BOTTOM / most_outside
    up, down = _bars(inside, _TOP, -above), _bars(outside, _TOP + 1, below)
    words = f"Actions over time: members at most {most_inside} and outsiders at most {most_outside} in {span(width)}"
    picture = tag(
        "svg",
        *(tag("path", d=path, class_=name) for path, name in ((up, "inside"), (down, "outside")) if path),
        tag("line", x1=0, x2=NUM_BINS, y1=_TOP + 0.5, y2=_TOP + 0.5, class_="axis"),
        viewBox=f"0 0 {NUM_BINS} {_TOP + 1 + _BOTTOM}",
        preserveAspectRatio="none",
        role="img",
        aria_label=words,
        class_="chart",
    )
    return Timeline(picture, iso(first), iso(last), width, most_inside, most_outside, is_one_scale)


def _bars(counts: list[int], base: int, unit: float) -> str:
    return "".join(f"M{x} {base}v{unit * count:.1f}h.8v{-unit * count:.1f}z" for x, count in enumerate(counts) if count)


@dataclass(frozen=True, slots=True)
class Closeness:
    """Shares of members' and outsiders' actions by the time to the nearest action of a (further) member on the same artefact."""

    picture: Markup
    ticks: tuple[str, ...]
    num_members: int
    num_outsiders: int
    members_in_minute: float | None
    outsiders_in_minute: float | None


def closeness(artefacts: Sequence[Artefact]) -> Closeness | None:
    """The curve of members beside that of outsiders: the organic spread of the very same artefacts."""
    inside, outside = gaps(artefacts)
    if not inside:
        return None
    curves = [(outside, "outside"), (inside, "inside")]
    marks = tuple(tag("line", x1=_TICK_WIDTH * x, x2=_TICK_WIDTH * x, y1=0, y2=100, class_="tick") for x in range(1, len(_TICKS) - 1))
    words = f"Share of actions by time to the nearest action of a member: {_share(inside):.0%} of members' within a minute" + (
        f", {_share(outside):.0%} of outsiders'" if outside else ""
    )
    picture = tag(
        "svg",
        *marks,
        *(tag("path", d=_steps(gaps), class_=f"curve {name}") for gaps, name in curves if gaps),
        viewBox=f"0 -2 {_TICK_WIDTH * (len(_TICKS) - 1)} 104",
        preserveAspectRatio="none",
        role="img",
        aria_label=words,
        class_="chart",
    )
    labels = ("0", *(span(second).replace(" ", "\u00a0") for second in _TICKS[1:]))
    return Closeness(picture, labels, len(inside), len(outside), _share(inside), _share(outside) if outside else None)


def _to_next(ordered: Floats) -> list[float]:
    """Of each time the distance to its nearest neighbour."""
    if len(ordered) < 2:
        return []
    gaps = np.diff(ordered)
    nearest: list[float] = np.minimum(np.append(np.inf, gaps), np.append(gaps, np.inf)).tolist()
    return nearest


def _to_nearest(times: Floats, ordered: Floats) -> list[float]:
    if not len(times) or not len(ordered):
        return []
    after = np.searchsorted(ordered, times)
    right = ordered[np.minimum(after, len(ordered) - 1)]
    left = ordered[np.maximum(after - 1, 0)]
    nearest: list[float] = np.minimum(abs(times - left), abs(times - right)).tolist()
    return nearest


def _share(gaps: list[float]) -> float | None:
    return sum(gap < 60 for gap in gaps) / len(gaps) if gaps else None


def _steps(gaps: list[float]) -> str:
    """The share of gaps up to each point of the axis, as a path; the axis is logarithmic from its second tick on."""
    grid = np.unique(np.concatenate([np.linspace(0, 1, 5), *(np.geomspace(a, b, 13) for a, b in pairwise(_TICKS[1:]))]))
    shares = np.searchsorted(np.sort(gaps), grid, side="right") / len(gaps)
    x = np.where(grid <= 1, grid, 1 + np.interp(np.log(np.maximum(grid, 1)), np.log(_TICKS[1:]), np.arange(len(_TICKS) - 1)))
    return "M" + "L".join(f"{_TICK_WIDTH * at:.0f} {100 - 100 * share:.1f}" for at, share in zip(x, shares, strict=True))
