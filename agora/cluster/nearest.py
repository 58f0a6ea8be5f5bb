"""The possible layout nearest to a refused one. Goes in: a layout, the model's shape, rows and batch. Comes out: words such as
`tensor=4 with expert=2`, which the same rules accept.

The fields that a refusal names are varied, nearest values first. Where none of them is enough alone, what refuses the changed layout is
varied with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final

from agora.errors import ConfigError
from agora.model.shape import ModelShape

if TYPE_CHECKING:
    from agora.cluster.layout import Layout

_MOST_CHANGES: Final = 8
_WIDTH: Final = 8  # values of a field that are tried beside other changes
_KEPT: Final = 24  # layouts that are changed further


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """Why something is impossible. `fields` are those to vary: alternatives that are named together, groups in order of preference."""

    reason: str
    fields: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A layout with the rows (tokens) and the batch (sequences) it is for."""

    layout: Layout
    seq_len: int
    global_batch: int

    def refusal(self, shape: ModelShape) -> Refusal | None:
        """What forbids it, or None."""
        return self.layout.refusal(shape, seq_len=self.seq_len, global_batch=self.global_batch)


def nearest_possible(place: Place, shape: ModelShape, refusal: Refusal) -> list[Place]:
    """Alternatives that pass, or nothing when no few changes are enough."""
    seen = {place}
    level: list[tuple[Place, Refusal]] = []
    for group in refusal.fields:
        found = []
        for name in group:
            for changed in _varied(place, shape, name):
                seen.add(changed)
                other = changed.refusal(shape)
                if other is None:
                    found.append(changed)
                    break
                level.append((changed, other))
        if found:
            return found
    for _ in range(_MOST_CHANGES - 1):
        families: list[list[tuple[Place, Refusal]]] = []
        for start, why in level:
            families.append([])
            for name in chain.from_iterable(why.fields):
                for changed in _some(_varied(start, shape, name)):
                    if changed in seen:
                        continue
                    seen.add(changed)
                    other = changed.refusal(shape)
                    if other is None:
                        return [changed]
                    families[-1].append((changed, other))
        level = [kept for generation in zip_longest(*families) for kept in generation if kept is not None][:_KEPT]
    return []


def _some(places: Iterator[Place]) -> list[Place]:
    """The nearest, and the farthest, which divides least."""
    every = list(places)
    return every[:_WIDTH] + every[_WIDTH:][-1:]


def in_words(place: Place, found: Sequence[Place], *, in_training: bool) -> str:
    """`the nearest possible is ...`: how each alternative differs, or that there is none."""
    if not found:
        return "a few changes of it find no possible layout for this model"
    return "the nearest possible is " + ", or ".join(_difference(place, other, in_training) for other in found)


def _difference(place: Place, other: Place, in_training: bool) -> str:
    before, after = _settings(place, in_training), _settings(other, in_training)
    first, *more = [f"{name}={_shown(value)}" for name, value in after.items() if value != before[name]]
    return first + (f" with {' and '.join(more)}" if more else "")


def _settings(place: Place, in_training: bool) -> dict[str, Any]:
    """Values under the names that users set them by; what a refusal most often names comes first."""
    names = (
        "tensor", "pipeline", "virtual", "context", "shard", "replicate", "sharding", "expert", "recompute", "schedule", "micro_batch",
    )  # fmt: skip
    settings = {name: getattr(place.layout, name) for name in names}
    if in_training:
        settings["training.micro_batch"] = settings.pop("micro_batch")
        settings["training.seq_len"], settings["training.batch_tokens"] = place.seq_len, place.global_batch * place.seq_len
    else:
        settings["seq_len"], settings["global_batch"] = place.seq_len, place.global_batch
    settings["expert_overlap"] = place.layout.expert_overlap
    return settings


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _varied(place: Place, shape: ModelShape, name: str) -> Iterator[Place]:
    """The place with other values of a field, nearest first."""
    layout = place.layout
    if name == "seq_len":
        yield from (replace(place, seq_len=length) for length in _lengths(place))
        return
    if name == "global_batch":
        yield from (replace(place, global_batch=batch) for batch in _batches(place))
        return
    for value in _values(place, shape, name):
        changes: dict[str, Any] = {name: value}
        if name == "shard":
            changes["replicate"] = layout.data // value
        if changes.get("pipeline", layout.pipeline) == 1 or changes.get("virtual", layout.virtual) == 1:
            changes["virtual"] = 1
            if layout.schedule == "interleaved":
                changes["schedule"] = "1f1b"
        if name == "schedule":
            changes["virtual"] = 1
        try:
            changed = replace(layout, **changes)
        except ConfigError:
            continue
        if changed != layout:
            yield replace(place, layout=changed)


def _values(place: Place, shape: ModelShape, name: str) -> Sequence[Any]:
    layout = place.layout
    words: dict[str, tuple[Any, ...]] = {
        "sharding": ("none",), "schedule": ("1f1b",), "recompute": ("none",), "expert_overlap": (False,),
    }  # fmt: skip
    if name in words:
        return words[name]
    rows, rest = divmod(place.global_batch, layout.data)
    now = int(getattr(layout, name))
    degrees: dict[str, Sequence[int]] = {
        "tensor": divisors(shape.num_heads),
        "context": divisors(place.seq_len),
        "expert": divisors(max(1, shape.num_experts)),
        "shard": divisors(layout.shard),
        "pipeline": range(1, shape.num_layers + 1),
        "virtual": range(1, shape.num_layers + 1),
        "micro_batch": () if rest else divisors(rows),
    }
    return sorted((degree for degree in degrees[name] if degree != now), key=lambda degree: (abs(degree - now), degree))


def _lengths(place: Place) -> list[int]:
    """Rows that a ring, and with it the tensor ranks, can cut."""
    near: list[int] = []
    for piece in (2 * place.layout.context, 2 * place.layout.context * place.layout.tensor):
        count = max(1, round(place.seq_len / piece))
        near += [piece * number for number in (count, count - 1, count + 1) if number > 0]
    return near


def _batches(place: Place) -> list[int]:
    """Batches near the present one that divide over the data ranks and, first of all, suit the schedule."""
    layout = place.layout
    each = layout.data * layout.micro_batch
    count = max(1, round(place.global_batch / each))
    more = range(max(1, count - 2), count + 3)
    counts = [layout.nearest_passes(count), *sorted(map(layout.nearest_passes, more), key=lambda number: abs(number - count))]
    return [each * number for number in dict.fromkeys([*counts, max(2, count)])]


def divisors(number: int) -> list[int]:
    """All divisors of `number`, in order."""
    small = [d for d in range(1, math.isqrt(max(number, 1)) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})
