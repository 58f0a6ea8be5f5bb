"""Several plans side by side: other accelerators, more of them, a power cap, a thinner network, longer sequences, next year's machine.

Goes in: a PlanRequest and what changes. Comes out: plans, with the reason where one is impossible, the Pareto front, and what survives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agora.cluster.accelerator import accelerator, hardware, network, network_levels
from agora.cluster.plan import Plan, PlanRequest, build_plan, plan, question_of, times_by_cause
from agora.cluster.scaling import optima
from agora.cluster.search import price
from agora.errors import ConfigError
from agora.model.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Option:
    """One variant: its plan, or why it cannot be."""

    label: str
    plan: Plan | None
    reason: str | None


def options(requests: Iterable[tuple[str, PlanRequest]]) -> list[Option]:
    """Plan each request; what is impossible keeps its reason."""
    found = []
    for label, request in requests:
        try:
            found.append(Option(label, plan(request), None))
        except ConfigError as error:
            found.append(Option(label, None, str(error)))
    return found


def compare(
    request: PlanRequest, *, accelerators: Sequence[str] = (), numbers: Sequence[int] = (), power_caps: Sequence[float] = ()
) -> list[Option]:
    """The same run on every combination of accelerators, numbers and power caps. Raises ConfigError for an unknown accelerator."""
    for name in accelerators:
        accelerator(name)
    chosen = [
        (
            f"{number:,} x {name}" + (f" at {cap:.0%}" if cap < 1 else ""),
            _swapped(request, name, number, cap),
        )
        for name in accelerators or (request.accelerator,)
        for number in numbers or (request.num_accelerators,)
        for cap in power_caps or (request.power_cap,)
    ]
    return options(chosen)


def _swapped(request: PlanRequest, name: str, number: int, cap: float) -> PlanRequest:
    """Another accelerator takes its usual network where the asked one does not go with it."""
    found = replace(request, accelerator=name, num_accelerators=number, power_cap=cap)
    try:
        network(request.network, name)
    except ConfigError:
        return replace(found, network="")
    return found


def what_ifs(request: PlanRequest) -> list[Option]:
    """The usual questions about one run."""
    number = request.num_accelerators
    return options(
        [
            ("as asked", request),
            _resized("twice the accelerators", request, number * 2),
            _resized("half the accelerators", request, max(1, number // 2)),
            ("power capped to 80%", replace(request, power_cap=request.power_cap * 0.8)),
            ("a quarter of the network", replace(request, network_share=request.network_share / 4)),
            ("sequences four times as long", replace(request, seq_len=request.seq_len * 4)),
            ("8-bit products", with_choices(request, precision="fp8")),
            ("fused element-wise kernels", with_choices(request, kernels="fused")),
        ]
    )


def with_choices(request: PlanRequest, **choices: Any) -> PlanRequest:
    """The request with another precision or other kernels, also in the layout that it gives."""
    layout = None if request.layout is None else replace(request.layout, **choices)
    return replace(request, layout=layout, **choices)


def _resized(label: str, request: PlanRequest, number: int) -> tuple[str, PlanRequest]:
    """The request on another number of accelerators: a given layout gets more or fewer replicas, else shards; what cannot is searched."""
    bigger = replace(request, num_accelerators=number)
    if request.layout is None:
        return label, bigger
    for name in ("replicate", "shard"):
        rest = request.num_accelerators // getattr(request.layout, name)
        if getattr(request.layout, name) > 1 and number % rest == 0:
            return f"{label} ({name} {number // rest})", replace(bigger, layout=replace(request.layout, **{name: number // rest}))
    if number % request.num_accelerators == 0:
        return f"{label} (replicate {number // request.num_accelerators})", replace(bigger, layout=request.layout.with_accelerators(number))
    return f"{label} (layout searched)", replace(bigger, layout=None)


def pareto(found: Sequence[Option]) -> list[Option]:
    """The options that no other one beats in time, cost and energy together; where one of two has no price, in time and energy."""
    points = [(option, _prices(option.plan)) for option in found if option.plan is not None]
    return [option for option, mine in points if not any(_beats(theirs, mine) for _, theirs in points)]


def _prices(plan: Plan) -> tuple[float | None, ...]:
    money = plan.cost.own_usd if plan.cost.own_usd is not None else plan.cost.rent_usd
    return plan.duration_s, money, plan.energy.metered_j


def _beats(one: tuple[float | None, ...], other: tuple[float | None, ...]) -> bool:
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    return any(a < b for a, b in pairs) and all(a <= b for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Growth:
    """Today's layout on tomorrow's machine. `kept` plays today's layout with more replicas, `best` is what a new search finds."""

    today: Plan
    kept: Plan | None
    best: Plan
    survives: dict[str, bool]
    network: dict[str, Any]
    batch_factor: float
    reason: str | None


def grow(request: PlanRequest, num_accelerators: int) -> Growth:
    """How much of layout, batch and network survives a larger machine. Raises ConfigError when a plan is impossible."""
    today = plan(request)
    bigger = replace(request, num_accelerators=num_accelerators)
    best = plan(bigger)
    kept, reason = None, None
    try:
        layout = today.layout.with_accelerators(num_accelerators)
        question = question_of(bigger)
        passes = layout.nearest_passes(max(1, round(question.global_batch / (layout.data * layout.micro_batch))))
        candidate = price(replace(question, global_batch=passes * layout.data * layout.micro_batch), layout)
        kept = build_plan(bigger, question, candidate, None)
    except ConfigError as error:
        reason = str(error)
    survives = {name: getattr(today.layout, name) == getattr(best.layout, name) for name in _SURVIVING}
    return Growth(today, kept, best, survives, network_growth(today, best), best.chosen.global_batch / today.chosen.global_batch, reason)


def network_growth(today: Plan, then: Plan) -> dict[str, Any]:
    """What the larger machine asks of the network: levels of switches, pods, and what it carries in a step."""
    pods = [math.ceil(plan.placed / plan.net.base("pod_domain")) for plan in (today, then)]
    causes = ("data_s", "pipeline_s", "expert_s", "context_s", "stream_s")
    waits = [sum(times_by_cause(plan.steps)[name] for name in causes) for plan in (today, then)]
    return {
        "levels_of_switches": [network_levels(plan.net, plan.placed) for plan in (today, then)],
        "pods": pods,
        "survives": network_levels(today.net, today.placed) == network_levels(then.net, then.placed) and pods[0] == pods[1],
        "share_of_step_waiting_for_it": [wait / plan.chosen.step_s for wait, plan in zip(waits, (today, then), strict=True)],
    }


_SURVIVING = ("tensor", "pipeline", "virtual", "schedule", "context", "expert", "shard", "sharding", "recompute", "micro_batch")


_MOST_DAYS = 36_525


@dataclass(frozen=True, slots=True)
class Affordable:
    """What a machine can train within a time: FLOPs, and the sizes that fits of scaling laws recommend for them."""

    flops: float
    model_flops_share: float
    sizes: list[dict[str, Any]]


def affordable(request: PlanRequest, days: float) -> Affordable:
    """What can be trained with this machine in `days`. The share of peak that is reached comes from a plan for a model of that size.

    Raises ConfigError when no plan is possible, or for days that nobody has.
    """
    if not 0 < days <= _MOST_DAYS:
        raise ConfigError(f"days={days:g} must be above 0 and at most {_MOST_DAYS:,}")
    share, flops = 0.35, 0.0
    chip = hardware(accelerator(request.accelerator).name, request.network)
    for _ in range(3):
        seconds = days * 86_400
        flops = request.num_accelerators * chip.rate_16 * share * seconds
        size = sorted(optimum.parameters for optimum in optima(flops))[len(optima(flops)) // 2]
        found = plan(replace(request, shape=dense_shape(size), layout=None))
        share = found.model_flops_share * found.useful_share
    flops = request.num_accelerators * chip.rate_16 * share * days * 86_400
    sizes = [
        {
            "fit": optimum.fit,
            "parameters": optimum.parameters,
            "tokens": optimum.tokens,
            "tokens_per_parameter": optimum.tokens / optimum.parameters,
            "loss": optimum.loss,
        }
        for optimum in optima(flops)
    ]
    return Affordable(flops, share, sizes)


def dense_shape(parameters: float) -> ModelShape:
    """A dense decoder of about that many parameters in the proportions of Llama 3: heads of 128, about 120 of width for every layer."""
    dim = max(512, round((parameters * 120 / 13) ** (1 / 3) / 512) * 512)
    heads, hidden = dim // 128, round(3.5 * dim / 512) * 512
    kv_heads = math.gcd(heads, 8)
    per_layer = 2 * dim * dim + 2 * dim * kv_heads * 128 + 3 * dim * hidden
    tables = 2 * 128_256 * dim
    layers = max(4, round((parameters - tables) / per_layer / 4) * 4)
    return ModelShape(
        name=f"dense {parameters / 1e9:.0f}B", vocab_size=128_256, dim=dim, num_layers=layers, num_heads=heads, num_kv_heads=kv_heads,
        head_dim=128, hidden_dim=hidden,
    )  # fmt: skip
