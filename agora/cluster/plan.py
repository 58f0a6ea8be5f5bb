"""The plan: layout, time, memory, failures, power, money of one training run on one machine. Goes in: a PlanRequest. Comes out: a Plan.

plan(PlanRequest(model="Llama-3-405B", accelerator="H100", num_accelerators=16_384, tokens=15.6e12))
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from agora.cluster.accelerator import accelerator, check_format, hardware, network, num_placed
from agora.cluster.calibrate import Calibration, Interval, default_calibration
from agora.cluster.columns import Hardware, stack_layouts
from agora.cluster.energy import Cost, EnergyUse, PowerDraw, clock_share, cost, energy_use, power_draw
from agora.cluster.facts import Table, load_tables
from agora.cluster.failures import FailureModel
from agora.cluster.layout import RECOMPUTES, Kernels, Layout, Precision
from agora.cluster.memory import MemoryBytes, Optimizer
from agora.cluster.models import model_shape
from agora.cluster.pricing import memory_on, times_on
from agora.cluster.recovery import Recovery, RecoveryKind, recovery_of
from agora.cluster.search import BATCH_TOLERANCE, MOST_MOVED, TIE, Candidate, Question, SearchResult, price, search
from agora.cluster.step_time import StepTimes
from agora.cluster.wafer import is_wafer, refuse_on_wafers, widened
from agora.errors import ConfigError
from agora.model.counts import flops_per_token, num_parameters
from agora.model.shape import ModelShape
from agora.units import format_bytes

NOT_COVERED = (
    "failures that come in groups (a rack, a power line, a switch level)",
    "silent corruption that is found late",
    "jobs of others on the same network or storage",
    "data loading slower than the step (tokens are small: some bytes each)",
    "manufacturing energy and carbon, staff, storage halls",
    "convergence: a larger batch or a lower precision may need more tokens",
    "weather and part load of cooling, taxes, discounts",
)

MAX_ACCELERATORS, MAX_SEQ_LEN = 10_000_000, 16_777_216
# of which a value must lie inside (infinity and what is no number never do): name, least, most
_RANGES = (
    ("tokens", 0.0, 1e18), ("batch_tokens", 0.0, 1e12), ("pue", 1.0, 5.0), ("usd_per_kwh", 0.0, 100.0), ("kg_per_kwh", 0.0, 10.0),
    ("usd_per_accelerator_hour", 0.0, 100_000.0),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanRequest:
    """What is asked. Raises ConfigError for numbers that cannot be.

    model                     a model of `agora cluster known`
    shape                     sizes instead of a name; shape.KEY=VALUE changes those of the model, model.KEY=VALUE plans for Agora's own
    accelerator               an accelerator of `agora cluster known`
    num_accelerators          how many
    network                   a network of `agora cluster known`; empty = the usual one of the accelerator
    tokens                    tokens to train on; 0 = 20 per parameter
    seq_len                   tokens of a sequence
    batch_tokens              tokens of one step, moved by up to 10% where that is faster; 0 = about 4M, 16M from 8,192 accelerators on
    precision                 number format of the matrix products
    kernels                   element-wise work: fused (compiled) or plain
    optimizer                 adamw, or muon: one moment of a matrix less in memory; nothing else of the plan knows it
    layout                    price this layout (layout.KEY=VALUE) instead of searching
    recovery                  what a failure takes away: restart = the job, replica = one replica where there are several, best = the better
    power_cap                 share of the accelerators' TDP that they may draw
    network_share             share of the NIC bandwidth that is there
    memory_share              share of the memory that may be used
    pue                       power of the hall / power of the machines; none = `agora/cluster/data/power.toml`
    usd_per_kwh               price of electricity; none = `agora/cluster/data/power.toml`
    kg_per_kwh                carbon of electricity; none = `agora/cluster/data/power.toml`
    usd_per_accelerator_hour  rent; none = that of the accelerator
    calibration               constants of --calibration; none = those that ship
    """

    model: str = "Llama-3-8B"
    shape: ModelShape | None = None
    accelerator: str = "H100"
    num_accelerators: int = 1024
    network: str = ""
    tokens: float = 0.0
    seq_len: int = 8192
    batch_tokens: float = 0.0
    precision: Precision = "bf16"
    kernels: Kernels = "plain"
    optimizer: Optimizer = "adamw"
    layout: Layout | None = None
    recovery: RecoveryKind = "best"
    power_cap: float = 1.0
    network_share: float = 1.0
    memory_share: float = 1.0
    pue: float | None = None
    usd_per_kwh: float | None = None
    kg_per_kwh: float | None = None
    usd_per_accelerator_hour: float | None = None
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        for name, most in (("num_accelerators", MAX_ACCELERATORS), ("seq_len", MAX_SEQ_LEN)):
            if not 1 <= getattr(self, name) <= most:
                nearest = 1 if getattr(self, name) < 1 else most
                raise ConfigError(f"plan.{name}={getattr(self, name)} must be between 1 and {most:,}; the nearest possible is {nearest}")
        for name, lowest, highest in _RANGES:
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise ConfigError(f"plan.{name}={value:g} must be between {lowest:g} and {highest:g}")
        for name in ("power_cap", "network_share", "memory_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ConfigError(f"plan.{name}={getattr(self, name)} must be above 0 and at most 1")
        if self.power_cap < 0.4:
            raise ConfigError(f"plan.power_cap={self.power_cap} is below what accelerators run at; the nearest possible is 0.4")

    def calibrated(self) -> Calibration:
        """The constants in use, with their intervals."""
        return default_calibration() if self.calibration is None else self.calibration

    def resolve_shape(self) -> ModelShape:
        """The shape that is planned for."""
        return model_shape(self.model) if self.shape is None else self.shape


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The answer. Seconds, bytes, watts, joules and dollars are in base units; `describe.plan_table` makes them readable."""

    request: PlanRequest
    question: Question
    shape: ModelShape
    chip: Table
    net: Table
    hardware: Hardware
    chosen: Candidate
    baseline: Candidate | None
    others: tuple[Candidate, ...]
    search: SearchResult | None
    steps: StepTimes
    memory: MemoryBytes
    num_steps: float
    tokens: float
    interval_s: tuple[float, float]
    recovery: Recovery
    placed: int
    duration_s: float
    draw: PowerDraw
    energy: EnergyUse
    cost: Cost

    @property
    def layout(self) -> Layout:
        """The object that `training/parallelize.py` applies."""
        return self.chosen.layout

    @property
    def failures(self) -> FailureModel:
        """What interrupts the job and what that costs."""
        return self.recovery.failures

    @property
    def tokens_per_s(self) -> float:
        """Tokens of an undisturbed second."""
        return self.chosen.global_batch * self.request.seq_len / self.chosen.step_s

    @property
    def model_flops_share(self) -> float:
        """Model FLOPs of a second against the 16-bit peak (MFU; attention counted causally)."""
        needed = flops_per_token(self.shape, self.request.seq_len) * self.tokens_per_s
        return float(needed / (self.request.num_accelerators * self.hardware.rate_16))

    @property
    def activity(self) -> float:
        """How busy the accelerators are as their power sees it: 1 while they compute, less while they wait."""
        return activity_of(self.steps)

    @property
    def useful_share(self) -> float:
        """Share of calendar time that becomes progress, as the plan recovers from failures."""
        return self.recovery.useful_share


def compute_share(steps: StepTimes) -> float:
    """Share of a step in which the busiest rank computes or moves memory."""
    busy = steps.matmul_s + steps.attention_s + steps.memory_bound_s + steps.recompute_s + steps.optimizer_s
    return float(np.ravel(busy / steps.total_s)[0])


def activity_of(steps: StepTimes) -> float:
    """Share of a step's compute, and of its waiting what that draws against computing (`data/power.toml`)."""
    computing = compute_share(steps)
    return computing + (1 - computing) * load_tables("power")["node"].base("waiting")


def machine_hardware(request: PlanRequest) -> Hardware:
    """Hardware under the request's power cap and shares of network and memory."""
    net = network(request.network, request.accelerator)
    whole = hardware(accelerator(request.accelerator).name, net.name, request.num_accelerators)
    clock = clock_share(request.power_cap)
    return replace(
        whole, rate_16=whole.rate_16 * clock, rate_8=whole.rate_8 * clock, rate_4=whole.rate_4 * clock,
        out_bytes_per_s=whole.out_bytes_per_s * request.network_share, memory_bytes=whole.memory_bytes * request.memory_share,
    )  # fmt: skip


def default_batch(request: PlanRequest) -> int:
    """Sequences of one step: what is asked, or 4M tokens and 16M from 8,192 accelerators on, in whole sequences."""
    tokens = request.batch_tokens or (2**24 if request.num_accelerators >= 8192 else 2**22)
    return max(1, round(tokens / request.seq_len))


def question_of(request: PlanRequest) -> Question:
    """The search that a request asks for."""
    shape = request.resolve_shape()
    return Question(
        shape=shape,
        seq_len=request.seq_len,
        global_batch=default_batch(request),
        num_accelerators=request.num_accelerators,
        hardware=machine_hardware(request),
        constants=request.calibrated().constants,
        precisions=(request.precision,),
        kernels=request.kernels,
        optimizer=request.optimizer,
        useful_share=_useful_share(request, shape),
        imbalance=load_tables("memory")["margin"].base("imbalance"),
        batch_tolerance=0.0 if request.batch_tokens else BATCH_TOLERANCE,
    )


def _useful_share(request: PlanRequest, shape: ModelShape) -> Callable[[Any], Any]:
    """For numbers of replicas: the share of the calendar that becomes progress, as the plan will state it."""
    known: dict[int, float] = {}

    def useful(replicate: Any) -> Any:
        values, rows = np.unique(np.asarray(replicate), return_inverse=True)
        for number in values.tolist():
            if number not in known:
                known[number] = _recovery(request, shape, int(number)).useful_share
        return np.array([known[number] for number in values.tolist()])[rows]

    return useful


def _recovery(request: PlanRequest, shape: ModelShape, replicate: int) -> Recovery:
    return recovery_of(accelerator(request.accelerator), shape, request.num_accelerators, replicate, request.recovery)


def machine_size(request: PlanRequest, num_spare_nodes: int) -> int:
    """Accelerators that must be there: those of the job, those that its racks leave idle, and spare nodes that these do not cover."""
    chip = accelerator(request.accelerator)
    placed = num_placed(chip, request.num_accelerators)
    spares = num_spare_nodes * int(chip.base("per_node"))
    return request.num_accelerators + max(placed - request.num_accelerators, spares)


def plan(request: PlanRequest) -> Plan:
    """Find the layout and price the run. Raises ConfigError with the reason and the nearest possible thing."""
    chip = accelerator(request.accelerator)
    if is_wafer(chip):
        refuse_on_wafers(chip, request.resolve_shape(), request.num_accelerators, request.layout, request.recovery)
    check_format(request.accelerator, request.precision if request.layout is None else request.layout.precision)
    question = question_of(request)
    if request.layout is None:
        found = _search_near(question)
        return build_plan(request, question, found.best[0], found)
    near = _near_batch(request.layout, question.global_batch)
    request.layout.check(question.shape, seq_len=request.seq_len, global_batch=near if request.batch_tokens == 0 else question.global_batch)
    if request.layout.num_accelerators != request.num_accelerators:
        nearest = request.layout.num_accelerators
        raise ConfigError(
            f"the layout ({request.layout.describe()}) is for {nearest:,} accelerators, the machine has {request.num_accelerators:,}; "
            f"the nearest possible is num_accelerators={nearest}"
        )
    if request.batch_tokens == 0:
        question = replace(question, global_batch=near)
    candidate = price(question, request.layout)
    if candidate.memory_bytes > question.hardware.memory_bytes:
        raise ConfigError(_too_large(question, candidate))
    return build_plan(request, question, candidate, None)


def _search_near(question: Question) -> SearchResult:
    """The fastest layouts near the batch; one that nobody stated moves further where nothing near it fits. A stated batch is kept where
    that costs less than the model can tell; else the plan says that it moved."""
    if question.batch_tolerance > 0:
        return search(question, most_moved=MOST_MOVED)
    near = search(replace(question, batch_tolerance=BATCH_TOLERANCE))
    if near.best[0].global_batch == question.global_batch:
        return near
    try:
        exact = search(question)
    except ConfigError:
        return near
    return exact if exact.best[0].score <= near.best[0].score * (1 + TIE) else near


def _near_batch(layout: Layout, wanted: int) -> int:
    """The batch near `wanted` that divides over the layout's ranks."""
    each = layout.data * layout.micro_batch
    return each * layout.nearest_passes(max(1, round(wanted / each)))


def _too_large(question: Question, candidate: Candidate) -> str:
    needed, have = format_bytes(candidate.memory_bytes), format_bytes(float(question.hardware.memory_bytes))
    reason = f"the layout ({candidate.layout.describe()}) needs {needed} on its fullest rank and there are {have}"
    for recompute in RECOMPUTES[RECOMPUTES.index(candidate.layout.recompute) + 1 :]:
        leaner = price(question, replace(candidate.layout, recompute=recompute))
        if leaner.memory_bytes <= question.hardware.memory_bytes:
            return f"{reason}; the nearest possible is recompute={recompute!r} with {format_bytes(leaner.memory_bytes)}"
    best = search(question, num_best=1).best[0]
    return f"{reason}; the nearest possible is {best.layout.describe()}"


def build_plan(request: PlanRequest, question: Question, chosen: Candidate, found: SearchResult | None) -> Plan:
    """Everything that follows from a layout."""
    chip, net, shape = accelerator(request.accelerator), network(request.network, request.accelerator), question.shape
    columns = stack_layouts([chosen.layout])
    batch = question.batch(chosen.global_batch)
    steps = times_on(shape, batch, columns, question.hardware, question.constants)
    total = num_parameters(shape).total
    tokens = request.tokens or 20.0 * total
    num_steps = math.ceil(tokens / (chosen.global_batch * request.seq_len))
    recovery = _recovery(request, shape, chosen.layout.replicate)
    duration = num_steps * chosen.step_s / recovery.useful_share
    placed = machine_size(request, recovery.failures.num_spare_nodes)
    draw = power_draw(
        chip, net, request.num_accelerators, activity_of(steps), power_cap=request.power_cap, pue=request.pue,
        num_idle=placed - request.num_accelerators,
    )  # fmt: skip
    per_j = None if request.usd_per_kwh is None else request.usd_per_kwh / 3.6e6
    return Plan(
        request=request,
        question=question,
        shape=shape,
        chip=chip,
        net=net,
        hardware=question.hardware,
        chosen=chosen,
        baseline=found.baseline if found else None,
        others=found.best[1:] if found else (),
        search=found,
        steps=steps,
        memory=memory_on(shape, batch, columns, question.hardware, question.optimizer),
        num_steps=num_steps,
        tokens=tokens,
        interval_s=_interval(request, chip, shape).around(chosen.step_s),
        recovery=recovery,
        placed=placed,
        duration_s=duration,
        draw=draw,
        energy=energy_use(draw, duration, carbon_kg_per_j=None if request.kg_per_kwh is None else request.kg_per_kwh / 3.6e6),
        cost=cost(
            chip,
            net,
            placed,
            draw,
            duration,
            rent_usd_per_h=request.usd_per_accelerator_hour,
            electricity_usd_per_j=per_j,
        ),
    )


def _interval(request: PlanRequest, chip: Table, shape: ModelShape) -> Interval:
    found = request.calibrated().interval(shape.num_experts > 0, chip.name)
    return Interval(*widened(found.low, found.high, chip)) if is_wafer(chip) else found


def times_by_cause(steps: StepTimes) -> dict[str, float]:
    """Seconds by cause, of the first row."""
    return {entry.name: float(np.ravel(getattr(steps, entry.name))[0]) for entry in fields(steps)}
