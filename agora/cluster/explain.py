"""What limits a plan and what to change next, in words. Goes in: a Plan. Comes out: sentences, and the assumptions behind every number.

The limit is found by asking: twice the arithmetic, the memory bandwidth, the scale-up links, the network - which one shortens the step
most?
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agora.cluster.accelerator import network_levels
from agora.cluster.columns import Hardware, stack_layouts
from agora.cluster.energy import J_PER_MWH
from agora.cluster.facts import load_tables
from agora.cluster.plan import NOT_COVERED, Plan, times_by_cause
from agora.cluster.pricing import times_on
from agora.cluster.search import BATCH_TOLERANCE, TIE
from agora.cluster.wafer import is_wafer
from agora.model.counts import num_parameters
from agora.units import format_bytes, format_seconds

_DAY_S = 86_400.0
_RESOURCES: dict[str, tuple[str, ...]] = {
    "arithmetic": ("rate_16", "rate_8", "rate_4"), "memory bandwidth": ("memory_bytes_per_s",), "scale-up links": ("up_bytes_per_s",),
    "network": ("out_bytes_per_s",),
}  # fmt: skip
_NEXT = {
    "arithmetic": "the step is bound by matrix products: faster accelerators, a lower precision or more of them shorten it",
    "memory bandwidth": "the step is bound by memory traffic: fused kernels, larger micro-batches or less recomputation shorten it",
    "scale-up links": "the step waits for links inside a domain: a smaller tensor degree, or larger micro-batches, shorten it",
    "network": "the step waits for the network: more NICs, larger batches per rank, or sharding within fewer nodes shorten it",
    "waiting": "the step waits for itself (bubble, launches, stragglers): more micro-batches, fewer stages or interleaving shorten it",
}
_NEXT_OF_WAFERS = {
    "network": "the step waits for weights on their way to the wafer: more sequences of a pass (they must fit in its SRAM) or a wider link",
    "waiting": "the step waits for itself (the slowest wafer, the turn of a step): more sequences of a pass shorten it",
}


@dataclass(frozen=True, slots=True)
class Limit:
    """Which resource limits a step: `gains` is the share of the step that twice of each would save."""

    name: str
    gains: dict[str, float]
    advice: str


def limit_of(plan: Plan) -> Limit:
    """Double each resource and see. When none helps by much, the step waits for itself."""
    gains = {name: _gain(plan, names) for name, names in _RESOURCES.items()}
    causes = times_by_cause(plan.steps)
    waiting = (causes["bubble_s"] + causes["launch_s"] + causes["straggler_s"] + causes["fixed_s"]) / plan.chosen.step_s
    gains["waiting"] = waiting / 2
    name = max(gains, key=lambda key: gains[key])
    advice = {**_NEXT, **(_NEXT_OF_WAFERS if is_wafer(plan.chip) else {})}
    return Limit(name, gains, advice[name])


def _gain(plan: Plan, names: tuple[str, ...]) -> float:
    better: Hardware = replace(plan.hardware, **{name: getattr(plan.hardware, name) * 2 for name in names})
    batch = plan.question.batch(plan.chosen.global_batch)
    total = times_on(plan.shape, batch, stack_layouts([plan.layout]), better, plan.request.calibrated().constants).total_s
    return 1 - float(np.ravel(total)[0]) / plan.chosen.step_s


def sentences(plan: Plan) -> list[str]:
    """The plan in words: what it takes, the limit, the baseline, failures, what to change next."""
    limit = limit_of(plan)
    rest = ", ".join(f"{name} {gain:.0%}" for name, gain in limit.gains.items() if name not in (limit.name, "waiting") and gain >= 0.005)
    said = [
        _about_result(plan),
        f"Limit: {limit.name}. Twice of it would save {limit.gains[limit.name]:.0%} of the step; {limit.advice}."
        + (f" Twice of others would save: {rest}." if rest else " Twice of any other resource would save less than 1%."),
        _about_interval(plan),
        _about_memory(plan),
        *_about_batch(plan),
        _about_wafers(plan) if is_wafer(plan.chip) else _about_baseline(plan),
        _about_failures(plan),
        _about_machine(plan),
        *_about_price(plan),
    ]
    causes = sorted(times_by_cause(plan.steps).items(), key=lambda item: -item[1])[:3]
    said.append(
        "Most of the step: "
        + ", ".join(f"{name.removesuffix('_s').replace('_', ' ')} {s / plan.chosen.step_s:.0%}" for name, s in causes)
        + "."
    )
    return said


def _about_result(plan: Plan) -> str:
    """The answer: time, money, energy."""
    low, high = (plan.duration_s / _DAY_S * bound / plan.chosen.step_s for bound in plan.interval_s)
    prices = {"owned": plan.cost.own_usd, "rented": plan.cost.rent_usd}
    money = " or ".join(f"{_large(price)} USD {name}" for name, price in prices.items() if price is not None)
    return (
        f"Result: {plan.duration_s / _DAY_S:,.4g} days ({low:,.4g} to {high:,.4g}) for {_large(plan.tokens)} tokens, "
        f"{plan.chosen.step_s:.3g} s a step; {money or 'no price'}; {_large(plan.energy.metered_j / J_PER_MWH)} MWh."
    )


def _large(value: float) -> str:
    """`15.6e12` -> `15.6 trillion`."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if value >= size:
            return f"{value / size:,.4g} {word}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _about_batch(plan: Plan) -> list[str]:
    asked, taken = plan.question.global_batch, plan.chosen.global_batch
    if not plan.request.batch_tokens:
        if abs(taken / asked - 1) <= BATCH_TOLERANCE + 1e-9:
            return []
        return [
            f"Batch: {taken:,} sequences, as no layout that fits divides the usual {asked:,} over {plan.request.num_accelerators:,} "
            "accelerators; a number with more divisors would."
        ]
    if asked == taken:
        return []
    return [f"Batch: {asked:,} sequences were asked for; no layout that is as fast divides them, so the plan takes {taken:,}."]


def _about_memory(plan: Plan) -> str:
    used, have = plan.chosen.memory_bytes, float(plan.hardware.memory_bytes)
    return f"Memory: {format_bytes(used)} of {format_bytes(have)} on the fullest rank, margin included ({used / have:.0%})."


def _about_baseline(plan: Plan) -> str:
    if plan.search is None:
        return "The layout was given; nothing was searched."
    ties = len(plan.search.ties) - 1
    said = f" Of the next nine {ties} are within {TIE:.0%}, as good as the model can tell: measure them before a long run." if ties else ""
    return _against_baseline(plan) + said


def _against_baseline(plan: Plan) -> str:
    if plan.baseline is None:
        return "Plain sharded data parallel does not fit or does not divide the batch here."
    gain = plan.baseline.s_per_sequence / plan.chosen.s_per_sequence - 1
    return f"Plain sharded data parallel ({plan.baseline.layout.describe()}) would take {gain:.0%} longer."


def _about_failures(plan: Plan) -> str:
    recovery = plan.recovery
    mean = format_seconds(recovery.failures.mean_time_s)
    text = f"Something interrupts the job every {mean} on average; a restart as a whole leaves {recovery.goodput:.0%} useful time"
    spares = f"{recovery.failures.num_spare_nodes} spare nodes"
    if recovery.is_elastic:
        return (
            f"{text}, losing one replica at a time ({plan.layout.replicate} of them) {recovery.elastic_goodput:.0%}: the plan counts on "
            f"that, with {spares}, and needs a trainer that goes on without a replica (Agora's own restarts as a whole: "
            "recovery=restart)."
        )
    if recovery.goodput < 0.8 and plan.layout.replicate == 1:
        return f"{text}; the layout has one replica, so nothing can be lost alone: shard within fewer ranks and replicate."
    return f"{text}, with a checkpoint every {format_seconds(recovery.checkpoint_interval_s)} and {spares}."


def _about_interval(plan: Plan) -> str:
    """What the interval knows of."""
    calibration = plan.request.calibrated()
    if calibration.is_own:
        return f"Interval: from {calibration.num_rows} measured steps of your own; it holds for machines and models like those."
    text = "Interval: 80% of runs of software that the constants never saw lie in it; layouts, failures and prices are not part of it."
    basis = rests_on(plan)
    return text if is_measured(plan) else f"{text} {basis[0].upper()}{basis[1:]}."


def is_measured(plan: Plan) -> bool:
    """Whether measured runs on this accelerator stand behind the constants; without them it is priced from data sheets alone."""
    calibration = plan.request.calibrated()
    return not is_wafer(plan.chip) and (calibration.is_own or plan.chip.name in calibration.accelerators)


def rests_on(plan: Plan) -> str:
    """What the step time of this accelerator rests on."""
    name = plan.chip.name
    if is_wafer(plan.chip):
        return (
            f"no run on {name} was measured: whole steps reach {plan.chip.base('matmul_ceiling'):.0%} of a dense peak because its vendor "
            "stated durations, and failures are guessed from those of GPUs by area of silicon"
        )
    if not is_measured(plan):
        return f"no run on {name} was measured: its figures are those of data sheets, and the interval may be too narrow"
    if plan.request.calibrated().is_own:
        return "your own measured steps"
    return f"measured runs on {name}"


def _about_wafers(plan: Plan) -> str:
    store = num_parameters(plan.shape).total * load_tables("memory")["wafer"].base("store")
    return (
        f"Layout: every wafer computes whole layers of sequences of its own; weights and optimizer state ({format_bytes(store)}) lie in a "
        "store outside and stream through each wafer's link twice a pass, gradients once. Agora's own training does not run there."
    )


def _about_price(plan: Plan) -> list[str]:
    if plan.cost.rent_usd is not None or plan.cost.own_usd is not None:
        return []
    return [f"Cost: no price of {plan.chip.name} is published, so only electricity is priced; give usd_per_accelerator_hour."]


def _about_machine(plan: Plan) -> str:
    """What must be bought and built for the job, where that is more than its accelerators."""
    idle = plan.placed - plan.request.num_accelerators
    used, domain = int(plan.hardware.up_domain), int(plan.chip.base("scale_up_domain"))
    text = f"Machine: {plan.placed:,} accelerators, {idle:,} of them beside the job (spares and what its racks leave idle)"
    if used < domain and plan.request.num_accelerators > domain and int(plan.hardware.torus_dims) == 0:
        text += f"; {used} of the {domain} of each scale-up domain work, since {domain} do not divide {plan.request.num_accelerators:,}"
    return (
        f"{text}; build for {plan.draw.build_w / 1e6:,.4g} MW, {plan.draw.facility_w / 1e6:,.4g} MW are drawn on average while training; "
        f"{network_levels(plan.net, plan.placed)} levels of switches."
    )


def assumptions(plan: Plan) -> dict[str, list[str]]:
    """Every number behind the plan, by table, each with value, unit, source and date."""
    tables = {
        "accelerator": plan.chip,
        "network": plan.net,
        "step time": load_tables("constants")["step_time"],
        "interval": load_tables("constants")["interval"],
        "memory": load_tables("memory")["state"],
        "margin": load_tables("memory")["margin"],
        "failures": load_tables("failures")["components"],
        "restart": load_tables("failures")["restart"],
        "storage": load_tables("failures")["storage"],
        "node power": load_tables("power")["node"],
        "facility": load_tables("power")["facility"],
        "electricity": load_tables("power")["electricity"],
    }
    if is_wafer(plan.chip):
        tables |= {"streams": load_tables("memory")["wafer"], "failures against a GPU's": load_tables("failures")["wafer"]}
    lines = {
        name: [fact.describe() for key, fact in table.facts.items() if key != "planned"]  # interruptions that are not counted
        for name, table in tables.items()
    }
    if plan.request.calibration is not None:
        lines["step time"] = lines["interval"] = [f"calibrated by the user on {plan.request.calibration.num_rows} measured steps"]
    lines["not covered"] = list(NOT_COVERED)
    return lines
