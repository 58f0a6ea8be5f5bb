"""Laws that every plan must obey, on 10,000 random cases each (hypothesis).

python -m benchmarks planner_properties [--law PART_OF_ITS_NAME] [--quick]
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from agora.errors import UsageError
from benchmarks.registry import Benchmark, Result

NUM_CASES, NUM_QUICK_CASES = 10_000, 300


def laws() -> dict[str, Callable[..., None]]:
    """Name to law; each takes hypothesis' data object."""
    return {
        "more bandwidth is never slower": faster_links,
        "more memory never leaves fewer layouts": larger_memory,
        "energy is power times time": energy,
        "units are consistent": units,
    }


def _case(data: Any) -> tuple[Any, Any, Any, Any]:
    """A random shape, batch, layout and accelerator."""
    from hypothesis import strategies as st

    from agora.cluster.accelerator import accelerator, hardware, torus_dimensions
    from agora.cluster.columns import stack_layouts
    from agora.cluster.facts import load_tables
    from agora.cluster.layout import DISPATCHES, PRECISIONS, RECOMPUTES, SCHEDULES, SHARDINGS, Layout
    from agora.cluster.models import model_names, model_shape
    from agora.cluster.step_time import Batch
    from agora.cluster.wafer import is_wafer

    shape = model_shape(data.draw(st.sampled_from(model_names())))
    powers = st.integers(0, 4).map(lambda power: 2**power)
    pipeline = data.draw(powers)
    schedule: Any = data.draw(st.sampled_from(SCHEDULES)) if pipeline > 1 else "1f1b"
    virtual = data.draw(st.integers(2, 4)) if schedule == "interleaved" else 1
    layout = Layout(
        replicate=data.draw(powers),
        shard=data.draw(st.integers(0, 9).map(lambda power: 2**power)),
        sharding=data.draw(st.sampled_from(SHARDINGS)),
        tensor=data.draw(powers),
        pipeline=pipeline,
        virtual=virtual,
        schedule=schedule,
        context=data.draw(powers),
        expert=data.draw(powers) if shape.num_experts else 1,
        recompute=data.draw(st.sampled_from(RECOMPUTES)),
        micro_batch=data.draw(powers),
        precision=data.draw(st.sampled_from(PRECISIONS)),
        overlap=data.draw(st.booleans()),
        dispatch=data.draw(st.sampled_from(DISPATCHES)),
        expert_overlap=data.draw(st.booleans()),
        sequence_parallel=data.draw(st.booleans()),
    )
    batch = Batch(
        seq_len=data.draw(st.sampled_from((2048, 8192, 32_768))),
        global_batch=layout.data * layout.micro_batch * data.draw(st.integers(1, 64)),
    )
    name, net = data.draw(st.sampled_from(sorted(load_tables("accelerators")))), data.draw(st.sampled_from(("", "ethernet", "cloud")))
    if is_wafer(accelerator(name)):
        layout = Layout(replicate=layout.data, recompute=layout.recompute, micro_batch=layout.micro_batch, precision=layout.precision)
    usual = "" if torus_dimensions(accelerator(name)) or is_wafer(accelerator(name)) else net
    chip = hardware(name, usual, data.draw(st.sampled_from((0, layout.num_accelerators))))
    return shape, batch, stack_layouts([layout]), chip


def faster_links(data: Any) -> None:
    """Raising any bandwidth or rate leaves the step as long or shorter."""
    from hypothesis import strategies as st

    from agora.cluster.constants import default_constants
    from agora.cluster.pricing import times_on

    shape, batch, columns, chip = _case(data)
    name = data.draw(st.sampled_from(("up_bytes_per_s", "out_bytes_per_s", "memory_bytes_per_s", "rate_16", "rate_8", "rate_4")))
    better = replace(chip, **{name: getattr(chip, name) * data.draw(st.floats(1, 100))})
    before, after = (float(times_on(shape, batch, columns, one, default_constants()).total_s[0]) for one in (chip, better))
    assert math.isfinite(before) and 0 < after <= before * (1 + 1e-9), (name, before, after)


def larger_memory(data: Any) -> None:
    """A search on more memory finds at least as many layouts, and nothing slower."""
    from hypothesis import strategies as st

    from agora.cluster.accelerator import hardware
    from agora.cluster.constants import default_constants
    from agora.cluster.models import model_shape
    from agora.cluster.search import Question, tally_layouts

    shape = model_shape(data.draw(st.sampled_from(("Qwen3-0.6B", "Llama-3-8B", "Qwen3-30B-A3B", "GPT-OSS-20B", "Llama-2-70B"))))
    number = data.draw(st.sampled_from((2, 4, 8, 12, 16)))
    chip = hardware(data.draw(st.sampled_from(("A100-40", "H100", "B200", "MI300X", "TPU-v5p", "WSE-3"))), "", number)
    memory, factor = chip.memory_bytes * data.draw(st.floats(0.1, 4)), data.draw(st.floats(1, 10))
    batch, seq_len = number * data.draw(st.integers(1, 8)), data.draw(st.sampled_from((1024, 4096, 8192)))
    found = []
    for size in (memory, memory * factor):
        question = Question(
            shape=shape, seq_len=seq_len, global_batch=batch, num_accelerators=number, hardware=replace(chip, memory_bytes=size),
            constants=default_constants(),
        )  # fmt: skip
        tally = tally_layouts(question, 1)
        found.append((tally.num_fitting, tally.best[0].score if tally.best else math.inf))
    assert found[0][0] <= found[1][0] and found[1][1] <= found[0][1] * (1 + 1e-9)


def energy(data: Any) -> None:
    """Both energies are their power times the time; carbon and electricity follow; a cap never raises the power."""
    from hypothesis import strategies as st

    from agora.cluster.accelerator import accelerator, network
    from agora.cluster.energy import cost, energy_use, power_draw
    from agora.cluster.facts import load_tables

    chip = accelerator(data.draw(st.sampled_from(sorted(load_tables("accelerators")))))
    net = network(data.draw(st.sampled_from(sorted(load_tables("networks")))))
    number, seconds = data.draw(st.integers(1, 1_000_000)), data.draw(st.floats(1, 1e8))
    activity, cap, pue = data.draw(st.floats(0, 1)), data.draw(st.floats(0.4, 1)), data.draw(st.floats(1, 2))
    draw = power_draw(chip, net, number, activity, power_cap=cap, pue=pue)
    used = energy_use(draw, seconds)
    assert math.isclose(used.metered_j, (draw.nodes_w + draw.network_w + draw.cooling_w) * seconds, rel_tol=1e-9)
    assert math.isclose(used.tdp_j, number * chip.base("tdp") * cap * seconds, rel_tol=1e-9)
    assert math.isclose(draw.it_w * pue, draw.facility_w, rel_tol=1e-9)
    assert 0 < draw.nodes_w <= draw.rated_w and draw.nodes_w <= power_draw(chip, net, number, activity, pue=pue).nodes_w * (1 + 1e-9)
    price = load_tables("power")["electricity"].base("price")
    assert math.isclose(cost(chip, net, number, draw, seconds).electricity_usd, used.metered_j * price, rel_tol=1e-9)


def units(data: Any) -> None:
    """Twice the tokens take twice the steps; causes add up to the step; hours, steps and seconds agree; unit words convert both ways."""
    from hypothesis import strategies as st

    from agora.cluster.constants import default_constants
    from agora.cluster.facts import load_tables
    from agora.cluster.plan import times_by_cause
    from agora.cluster.pricing import times_on

    shape, batch, columns, chip = _case(data)
    times = times_on(shape, batch, columns, chip, default_constants())
    parts = times_by_cause(times)
    assert all(seconds >= 0 for seconds in parts.values()) and math.isclose(sum(parts.values()), float(times.total_s[0]), rel_tol=1e-9)
    # time is measured in one unit: a machine whose every rate is slower and every latency longer by a factor takes that factor longer
    factor = data.draw(st.floats(0.01, 100))
    rates = ("rate_16", "rate_8", "rate_4", "memory_bytes_per_s", "up_bytes_per_s", "out_bytes_per_s")
    slower = replace(
        chip,
        **{name: getattr(chip, name) / factor for name in rates},
        up_latency_s=chip.up_latency_s * factor,
        out_latency_s=chip.out_latency_s * factor,
        hop_latency_s=chip.hop_latency_s * factor,
    )
    constants = default_constants()
    stretched = replace(
        constants, launch_s=constants.launch_s * factor, up_step_s=constants.up_step_s * factor, step_s=constants.step_s * factor,
        micro_batch_s=constants.micro_batch_s * factor,
    )  # fmt: skip
    assert math.isclose(
        float(times_on(shape, batch, columns, slower, stretched).total_s[0]), factor * float(times.total_s[0]), rel_tol=1e-6
    )
    table = load_tables("accelerators")[data.draw(st.sampled_from(sorted(load_tables("accelerators"))))]
    assert math.isclose(table.base("memory") / 1e9, table.facts["memory"].value) and math.isclose(
        table.base("bf16") / 1e12, table.facts["bf16"].value
    )


def check_law(law: Callable[..., None], num_cases: int) -> int:
    """Run one law on random cases; returns how many were run. Raises AssertionError with the smallest failing case."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    ran = 0

    @settings(max_examples=num_cases, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data: Any) -> None:
        nonlocal ran
        ran += 1
        law(data)

    run()
    return ran


def _run(quick: bool, options: dict[str, str]) -> Result:
    number, details, broken = NUM_QUICK_CASES if quick else NUM_CASES, {}, 0
    chosen = {name: law for name, law in laws().items() if options.get("law", "") in name}
    if not chosen:
        raise UsageError(f"--law {options['law']!r} is in no law's name; laws: {', '.join(laws())}")
    for name, law in chosen.items():
        started = time.process_time()
        try:
            ran, problem = check_law(law, number), None
        except AssertionError as error:
            ran, problem, broken = 0, str(error), broken + 1
        details[name] = {"cases": ran, "problem": problem, "seconds": time.process_time() - started}
    return Result(value=broken, holds=broken == 0, details=details)


BENCHMARK = Benchmark(
    measures="laws of the planner that a random case breaks (10,000 cases each)", unit="laws", bound="0", run=_run, options=("law",)
)
