"""One step as a timeline that chrome://tracing and Perfetto open. Goes in: a Plan. Comes out: trace events, one row per pipeline stage.

Each stage runs its micro-batches in the order of the schedule; a pass begins when the stage is free and its input has arrived. Shown with the
mean times of the plan; large runs are cut to the first micro-batches. The end of the timeline is close to the plan's step, not equal: the
plan adds stragglers, exposed communication and fixed times in one piece each.
"""

from __future__ import annotations

from typing import Any

from agora.cluster.plan import Plan, times_by_cause

_MAX_PASSES = 64
_MAX_STAGES = 64


def step_trace(plan: Plan) -> dict[str, Any]:
    """The timeline as a JSON-ready dictionary (Trace Event Format, times in microseconds)."""
    layout = plan.layout
    stages = min(layout.pipeline, _MAX_STAGES)
    passes = layout.num_micro_batches(plan.chosen.global_batch)
    shown = min(passes, max(_MAX_PASSES, 2 * stages))
    forward_s, backward_s = _pass_times(plan, passes)
    chunk = 1 / layout.virtual
    orders = [_order(stage, stages, shown, layout.schedule) for stage in range(stages)]
    events, end_s = _play(orders, forward_s, backward_s, stages)
    causes = times_by_cause(plan.steps)
    for name in ("data_s", "optimizer_s", "fixed_s", "straggler_s"):
        if causes[name] > 0:
            events += [_event(name.removesuffix("_s"), stage, end_s, causes[name]) for stage in range(stages)]
            end_s += causes[name]
    names = [{"ph": "M", "name": "process_name", "pid": 0, "args": {"name": f"{plan.shape.name} on {plan.chip.name}"}}]
    names += [{"ph": "M", "name": "thread_name", "pid": 0, "tid": s, "args": {"name": f"stage {s}"}} for s in range(stages)]
    note = {"layout": layout.describe(), "micro_batches_shown": shown, "micro_batches": passes, "virtual_chunk_share": chunk}
    return {"traceEvents": names + events, "displayTimeUnit": "ms", "otherData": note}


def _pass_times(plan: Plan, passes: int) -> tuple[float, float]:
    """Forward and backward seconds of one micro-batch on one stage."""
    causes = times_by_cause(plan.steps)
    work = sum(causes[f"{name}_s"] for name in ("matmul", "attention", "memory_bound", "launch", "tensor", "context", "expert")) / passes
    again = causes["recompute_s"] / passes
    return work / 3, work * 2 / 3 + again


def _order(stage: int, stages: int, passes: int, schedule: str) -> list[tuple[str, int]]:
    """What a stage does, in order: ("F", micro-batch) or ("B", micro-batch)."""
    ahead = passes if schedule == "gpipe" else min(stages - stage, passes)
    order = [("F", number) for number in range(ahead)]
    for number in range(passes):
        order.append(("B", number))
        if ahead + number < passes:
            order.append(("F", ahead + number))
    return order


def _play(orders: list[list[tuple[str, int]]], forward_s: float, backward_s: float, stages: int) -> tuple[list[dict[str, Any]], float]:
    done: dict[tuple[str, int, int], float] = {}
    free = [0.0] * stages
    position = [0] * stages
    events: list[dict[str, Any]] = []
    moved = True
    while moved:
        moved = False
        for stage in range(stages):
            while position[stage] < len(orders[stage]):
                kind, number = orders[stage][position[stage]]
                before = stage - 1 if kind == "F" else stage + 1
                is_ready = not 0 <= before < stages or (kind, number, before) in done
                if not is_ready:
                    break
                start = max(free[stage], done.get((kind, number, before), 0.0))
                length = forward_s if kind == "F" else backward_s
                free[stage] = done[kind, number, stage] = start + length
                events.append(_event(f"{kind}{number}", stage, start, length))
                position[stage] += 1
                moved = True
    return events, max(free)


def _event(name: str, stage: int, start_s: float, length_s: float) -> dict[str, Any]:
    return {"ph": "X", "name": name, "pid": 0, "tid": stage, "ts": round(start_s * 1e6, 3), "dur": round(length_s * 1e6, 3)}
