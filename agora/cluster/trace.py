"""One step as a timeline that chrome://tracing and Perfetto open. Goes in: a Plan. Comes out: trace events, one row per pipeline stage.

Each stage runs its micro-batches in the order of its schedule; a pass begins when the stage is free and its input has arrived. Zero-bubble
splits the backward pass: B makes the gradient of the input, W that of the weights, which fills waiting time (Qi et al. 2024, section 2.1).
Interleaved stages take chunks in Megatron-LM's order. Long steps are cut to their first micro-batches. The end is near the plan's step, not
equal: every stage is drawn with the mean time of the heaviest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agora.cluster.layout import Layout
from agora.cluster.plan import Plan, times_by_cause

_MAX_PASSES = 64

Task = tuple[str, int, int]
"""Kind ("F", "B" or "W"), micro-batch, chunk of layers."""


@dataclass(slots=True)
class _Stage:
    """What a stage has yet to do, and since when it is free."""

    order: list[Task]
    position: int = 0
    free_s: float = 0.0
    weights: list[Task] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Lengths:
    forward_s: float
    backward_s: float
    weights_s: float


def step_trace(plan: Plan) -> dict[str, Any]:
    """The timeline as a JSON-ready dictionary (Trace Event Format, times in microseconds)."""
    layout = plan.layout
    passes = layout.num_micro_batches(plan.chosen.global_batch)
    shown = min(passes, max(_MAX_PASSES // layout.pipeline, 2) * layout.pipeline)
    orders = [stage_order(layout, stage, shown) for stage in range(layout.pipeline)]
    events, end_s = _play([_Stage(order) for order in orders], _lengths(plan, passes), layout.virtual)
    causes = times_by_cause(plan.steps)
    for name in ("data_s", "stream_s", "optimizer_s", "fixed_s"):
        if causes[name] > 0:
            events += [_event(name.removesuffix("_s"), stage, end_s, causes[name]) for stage in range(layout.pipeline)]
            end_s += causes[name]
    names = [{"ph": "M", "name": "process_name", "pid": 0, "args": {"name": f"{plan.shape.name} on {plan.chip.name}"}}]
    names += [{"ph": "M", "name": "thread_name", "pid": 0, "tid": s, "args": {"name": f"stage {s}"}} for s in range(layout.pipeline)]
    note = {"layout": layout.describe(), "micro_batches_shown": shown, "micro_batches": passes, "end_s": end_s}
    return {"traceEvents": names + events, "displayTimeUnit": "ms", "otherData": note}


def stage_order(layout: Layout, stage: int, passes: int) -> list[Task]:
    """What one stage does with `passes` micro-batches, in order."""
    if layout.schedule == "interleaved" and layout.virtual > 1:
        return _interleaved(stage, layout.pipeline, layout.virtual, passes)
    return _plain(stage, layout.pipeline, passes, layout.schedule)


def _lengths(plan: Plan, passes: int) -> _Lengths:
    """Seconds of one micro-batch on one chunk of a stage."""
    causes = times_by_cause(plan.steps)
    share = 1 / (passes * plan.layout.virtual)
    work = sum(causes[f"{name}_s"] for name in ("matmul", "attention", "memory_bound", "launch", "tensor", "context", "expert")) * share
    again = causes["recompute_s"] * share
    weights = work / 3 if plan.layout.schedule == "zero_bubble" else 0.0
    return _Lengths(work / 3, work * 2 / 3 + again - weights, weights)


def _plain(stage: int, stages: int, passes: int, schedule: str) -> list[Task]:
    ahead = passes if schedule == "gpipe" else min(stages - stage, passes)
    order: list[Task] = [("F", number, 0) for number in range(ahead)]
    for number in range(passes):
        order.append(("B", number, 0))
        if ahead + number < passes:
            order.append(("F", ahead + number, 0))
    return order


def _interleaved(stage: int, stages: int, virtual: int, passes: int) -> list[Task]:
    total = passes * virtual
    ahead = min((stages - stage - 1) * 2 + (virtual - 1) * stages, total)

    def task(kind: str, index: int) -> Task:
        chunk = index % (stages * virtual) // stages
        number = index // (stages * virtual) * stages + index % stages
        return kind, number, chunk if kind == "F" else virtual - 1 - chunk

    order = [task("F", index) for index in range(ahead)]
    for index in range(total):
        if ahead + index < total:
            order.append(task("F", ahead + index))
        order.append(task("B", index))
    return order


def _before(task: Task, stage: int, stages: int, virtual: int) -> tuple[Task, int] | None:
    """The task, and its stage, whose result a task waits for."""
    kind, number, chunk = task
    if kind == "F":
        if stage > 0:
            return (kind, number, chunk), stage - 1
        return ((kind, number, chunk - 1), stages - 1) if chunk > 0 else None
    if stage < stages - 1:
        return (kind, number, chunk), stage + 1
    return ((kind, number, chunk + 1), 0) if chunk < virtual - 1 else None


def _play(stages: list[_Stage], lengths: _Lengths, virtual: int) -> tuple[list[dict[str, Any]], float]:
    done: dict[tuple[Task, int], float] = {}
    events: list[dict[str, Any]] = []
    moved = True
    while moved:
        moved = False
        for number, stage in enumerate(stages):
            while stage.position < len(stage.order):
                task = stage.order[stage.position]
                waits_for = _before(task, number, len(stages), virtual)
                if waits_for is not None and waits_for not in done:
                    break
                ready_s = done[waits_for] if waits_for is not None else 0.0
                _fill(stage, number, ready_s, lengths, events)
                start_s = max(stage.free_s, ready_s)
                length_s = lengths.forward_s if task[0] == "F" else lengths.backward_s
                events.append(_event(f"{task[0]}{task[1]}" + (f".{task[2]}" if virtual > 1 else ""), number, start_s, length_s))
                stage.free_s = done[task, number] = start_s + length_s
                if task[0] == "B" and lengths.weights_s:
                    stage.weights.append(("W", task[1], task[2]))
                stage.position += 1
                moved = True
    for number, stage in enumerate(stages):
        _fill(stage, number, float("inf"), lengths, events)
    return events, max(stage.free_s for stage in stages)


def _fill(stage: _Stage, number: int, until_s: float, lengths: _Lengths, events: list[dict[str, Any]]) -> None:
    """Make gradients of weights while waiting."""
    while stage.weights and stage.free_s + lengths.weights_s <= until_s:
        task = stage.weights.pop(0)
        events.append(_event(f"W{task[1]}", number, stage.free_s, lengths.weights_s))
        stage.free_s += lengths.weights_s


def _event(name: str, stage: int, start_s: float, length_s: float) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": 0, "tid": stage, "ts": round(start_s * 1e6, 3), "dur": round(length_s * 1e6, 3)}
