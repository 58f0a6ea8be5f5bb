from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from agora.cluster.accelerator import accelerator, hardware, network, network_levels, num_placed, ranks_per_domain
from agora.cluster.collectives import Group, all_gather_s, all_reduce_s, dispatch_s, expert_group, shard_group, tensor_group
from agora.cluster.columns import Hardware, LayoutColumns, stack_hardware, stack_layouts
from agora.cluster.constants import NAMES, default_constants, from_logs, priors, to_logs
from agora.cluster.layout import Layout
from agora.cluster.matmul import matmul_s
from agora.cluster.models import model_shape
from agora.cluster.plan import PlanRequest, plan, times_by_cause
from agora.cluster.step_time import Batch, step_times
from agora.cluster.trace import step_trace
from agora.errors import ConfigError
from agora.model.counts import flops_per_token
from agora.model.shape import stack_shapes


def seconds(layout: Layout, *, model: str = "Llama-3-8B", accelerator: str = "H100", batch: int = 256, **changes: float) -> float:
    chip = replace(hardware(accelerator), **changes)
    times = step_times(model_shape(model), Batch(seq_len=8192, global_batch=batch), stack_layouts([layout]), chip, default_constants())
    return float(times.total_s[0])


def test_causes_add_up_to_the_step_and_none_is_negative() -> None:
    times = step_times(
        model_shape("DeepSeek-V3"),
        Batch(seq_len=4096, global_batch=512),
        stack_layouts([Layout(shard=32, pipeline=4, expert=16, tensor=2)]),
        hardware("H100"),
        default_constants(),
    )
    parts = times_by_cause(times)
    assert all(part >= 0 for part in parts.values())
    assert math.isclose(sum(parts.values()), float(times.total_s[0]))


def test_rows_side_by_side_cost_what_each_costs_alone() -> None:
    cases = [
        (Layout(shard=32, sharding="parameters"), "Llama-3-8B", "H100"),
        (Layout(shard=8, tensor=4, pipeline=4, virtual=2, schedule="interleaved", recompute="full"), "Llama-3-70B", "A100-80"),
        (Layout(shard=16, expert=16, sharding="optimizer", precision="mxfp8"), "Qwen3-30B-A3B", "GB200"),
        (Layout(shard=8, expert=8, pipeline=4), "DeepSeek-V3", "B200"),
        (Layout(replicate=8, tensor=2, attention="plain", overlap=False), "GPT-3-175B", "A100-80"),
    ]
    alone = [seconds(layout, model=model, accelerator=accelerator) for layout, model, accelerator in cases]
    together = step_times(
        stack_shapes([model_shape(model) for _, model, _ in cases]),
        Batch(seq_len=8192, global_batch=256),
        stack_layouts([layout for layout, _, _ in cases]),
        stack_hardware([hardware(accelerator) for _, _, accelerator in cases]),
        default_constants(),
    ).total_s
    assert np.allclose(together, alone, rtol=1e-12)


def test_a_step_never_beats_the_peak() -> None:
    shape = model_shape("Llama-3-8B")
    for tensor in (1, 2, 8):
        layout = Layout(shard=8, tensor=tensor)
        least = flops_per_token(shape, 8192) * 8192 * 256 / layout.num_accelerators / hardware("H100").rate_16
        assert seconds(layout) > least


@pytest.mark.parametrize("name", ["up_bytes_per_s", "out_bytes_per_s", "memory_bytes_per_s", "rate_16"])
def test_more_bandwidth_is_never_slower(name: str) -> None:
    layout = Layout(shard=16, tensor=4, pipeline=2)
    assert seconds(layout, **{name: getattr(hardware("H100"), name) * 3}) <= seconds(layout)


def test_recomputation_costs_time() -> None:
    none, selective, full = (seconds(Layout(shard=32, recompute=policy)) for policy in ("none", "selective", "full"))
    assert none < selective < full


def test_more_chunks_shrink_the_bubble() -> None:
    def bubble(layout: Layout) -> float:
        times = step_times(
            model_shape("Llama-3-70B"),
            Batch(seq_len=8192, global_batch=128),
            stack_layouts([layout]),
            hardware("H100"),
            default_constants(),
        )
        return float(np.ravel(times.bubble_s)[0])

    plain = bubble(Layout(shard=8, tensor=8, pipeline=8))
    assert bubble(Layout(shard=8, tensor=8, pipeline=8, virtual=5, schedule="interleaved")) == pytest.approx(plain / 5)
    assert bubble(Layout(shard=8, tensor=8, pipeline=8, schedule="zero_bubble")) < plain / 2


@pytest.mark.parametrize("layout", [
    Layout(shard=16, tensor=8, pipeline=8, sharding="gradients", recompute="full"),
    Layout(shard=16, tensor=8, pipeline=8, sharding="gradients", schedule="zero_bubble"),
    Layout(shard=16, tensor=8, pipeline=8, sharding="gradients", recompute="full", schedule="gpipe"),
    Layout(shard=16, tensor=8, pipeline=8, virtual=2, schedule="interleaved", sharding="gradients", recompute="full"),
])  # fmt: skip
def test_the_timeline_ends_near_the_closed_form(layout: Layout) -> None:
    """The timeline plays the schedule task by task. It draws every stage like the heaviest and no stragglers: within 10%."""
    found = plan(PlanRequest(model="Llama-3-70B", num_accelerators=layout.num_accelerators, layout=layout, batch_tokens=1024 * 8192))
    end_s = step_trace(found)["otherData"]["end_s"]
    causes = times_by_cause(found.steps)
    assert end_s == pytest.approx(found.chosen.step_s - causes["straggler_s"] - causes["pipeline_s"], rel=0.1)


def test_a_product_takes_whole_waves_of_tiles() -> None:
    sizes = {"rate": 1e12, "units": 100, "half_depth": 0.0, "quantisation": 1.0}
    one_wave = matmul_s(1280, 1280, 1000, **sizes)  # 100 tiles
    assert matmul_s(1280, 1281, 1000, **sizes) == pytest.approx(2 * one_wave)
    assert matmul_s(1280, 1280, 1000, **{**sizes, "half_depth": 1000.0}) == pytest.approx(2 * one_wave)
    assert one_wave == pytest.approx(2 * 1280 * 1280 * 1000 / 1e12)


def test_collectives_follow_the_alpha_beta_model() -> None:
    group = Group(8, 8, 100e9, 10e9, 100e9, 10e9, 0.0, 0.0)
    assert all_gather_s(8e9, group) == pytest.approx(7 / 8 * 8e9 / 100e9)
    assert all_reduce_s(8e9, group) == pytest.approx(2 * all_gather_s(8e9, group))
    nodes = Group(64, 8, 1000e9, 10e9, 1000e9, 10e9, 0.0, 0.0)
    # a ring over several ranks of a node uses all of the node's NICs
    assert all_gather_s(64e9, nodes) == pytest.approx(63 / 64 * 64e9 / 80e9)


def test_a_large_group_climbs_a_tree_and_not_a_ring() -> None:
    group = Group(100_352, 8, 450e9, 50e9, 450e9, 50e9, 0.0, 20e-6)
    assert all_gather_s(1e6, group) < 100_352 / 8 * 20e-6 / 100


def test_tokens_cross_to_a_domain_once_however_many_experts_they_visit_there() -> None:
    two_domains = Group(16, 8, 1e15, 10e9, 1e15, 10e9, 0.0, 0.0)
    many = dispatch_s(1e9, 1000, two_domains)
    assert many == pytest.approx(1e9 / 10e9, rel=0.01)
    assert dispatch_s(1e9, 8, Group(8, 8, 100e9, 1.0, 100e9, 1.0, 0.0, 0.0)) == pytest.approx(8 * 7 / 8 * 1e9 / 100e9)


def test_routing_to_few_domains_sends_to_no_more() -> None:
    eight_domains = Group(64, 8, 1e15, 10e9, 1e15, 10e9, 0.0, 0.0)
    assert dispatch_s(1e9, 8, eight_domains, 4) == pytest.approx(4 * 7 / 8 * 1e9 / 10e9)
    assert dispatch_s(1e9, 2, eight_domains, 4) == dispatch_s(1e9, 2, eight_domains) == dispatch_s(1e9, 2, eight_domains, 0)


def expert_seconds(layout: Layout, **changes: float) -> tuple[float, float]:
    """Seconds that experts are waited for, and of the whole step."""
    times = step_times(
        model_shape("DeepSeek-V3"), Batch(seq_len=4096, global_batch=1024), stack_layouts([layout]), replace(hardware("H800"), **changes),
        default_constants(),
    )  # fmt: skip
    return float(times.expert_s[0]), float(times.total_s[0])


def test_tokens_sent_in_8_bits_and_returned_in_16_take_three_quarters_of_the_time() -> None:
    layout = Layout(shard=64, expert=64)
    no_latency = {"up_latency_s": 0.0, "out_latency_s": 0.0, "hop_latency_s": 0.0}
    half = expert_seconds(replace(layout, dispatch="fp8"), **no_latency)[0] / expert_seconds(layout, **no_latency)[0]
    assert half == pytest.approx((1 + 4 / 128 + 2) / 4, rel=0.01)


def test_experts_beside_compute_are_waited_for_only_where_compute_ends_first() -> None:
    layout, constants = Layout(shard=64, expert=64), default_constants()
    alone, beside = expert_seconds(layout), expert_seconds(replace(layout, expert_overlap=True))
    assert beside[0] < alone[0] and beside[1] < alone[1]
    wide = {"out_bytes_per_s": 1e13, "up_bytes_per_s": 1e13}
    hidden = expert_seconds(replace(layout, expert_overlap=True), **wide)[0]
    assert hidden == pytest.approx(constants.interference * expert_seconds(layout, **wide)[0])
    narrow = {"out_bytes_per_s": 1e9}
    assert expert_seconds(replace(layout, expert_overlap=True), **narrow)[0] > 0.8 * expert_seconds(layout, **narrow)[0]


def test_an_oversubscribed_level_slows_what_crosses_it() -> None:
    """Stages far apart send across pods with all their ranks; a ring crosses the edge of a pod once for each rail."""
    layout = Layout(replicate=512, tensor=8, pipeline=2, recompute="full")
    thin = hardware("H100", "ethernet")
    even, thinner = (replace(thin, pod_oversubscription=factor) for factor in (1.0, 1000.0))

    def causes(chip: Hardware) -> dict[str, float]:
        batch = Batch(seq_len=8192, global_batch=4096)
        return times_by_cause(step_times(model_shape("Llama-3-8B"), batch, stack_layouts([layout]), chip, default_constants()))

    assert causes(even)["pipeline_s"] < causes(thin)["pipeline_s"] < causes(thinner)["pipeline_s"]
    assert causes(even)["data_s"] == causes(thin)["data_s"] < causes(thinner)["data_s"]


def test_expert_traffic_between_pods_shares_what_leaves_them() -> None:
    layouts = LayoutColumns(shard=4096, expert=np.array([64, 4096]))
    even, thin = (
        expert_group(layouts, replace(hardware("H100", "ethernet"), pod_oversubscription=f), default_constants()) for f in (1.0, 7.0)
    )
    assert np.allclose(thin.out_any / even.out_any, [1.0, 1 / (7 * (1 - 3072 / 4096))])


def test_messages_that_climb_levels_take_longer() -> None:
    groups = shard_group(LayoutColumns(shard=np.array([16, 512, 100_352])), hardware("H100", "ethernet"), default_constants())
    assert np.all(np.diff(groups.out_latency_s) > 0)


def test_groups_that_straddle_racks_are_priced_by_their_smaller_piece() -> None:
    """16 ranks on racks of 72: some groups lie 8 and 8."""
    layouts = LayoutColumns(tensor=np.array([8, 16, 72]), shard=9)
    assert tensor_group(layouts, hardware("GB200"), default_constants()).inside.tolist() == [8, 8, 72]


@pytest.mark.parametrize(
    ("number", "ranks", "placed"), [(720, 72, 720), (256, 64, 288), (1_000_000, 64, 1_125_000), (32, 32, 32), (1009, 72, 1012)]
)
def test_jobs_take_whole_racks_or_the_same_part_of_each(number: int, ranks: int, placed: int) -> None:
    assert ranks_per_domain(accelerator("GB300"), number) == ranks
    assert num_placed(accelerator("GB300"), number) == placed


def test_a_torus_gives_a_pair_one_link_and_all_pairs_the_bisection() -> None:
    chip = hardware("TPU-v5p")
    groups = expert_group(LayoutColumns(shard=8960, expert=np.array([2, 64, 256])), chip, replace(default_constants(), up=1.0))
    assert groups.up[0] == pytest.approx(chip.up_bytes_per_s / 6) and groups.up[1] == groups.up[2] == pytest.approx(chip.up_bytes_per_s)
    # 8 x 8 x 4 chips: 2 x 32 links each way between the halves carry 128 x 128 / 256 of the 256 shares
    assert groups.up_any[2] == pytest.approx(chip.up_bytes_per_s * 4 / (3 * 256 ** (1 / 3)))


@pytest.mark.parametrize(("chip", "net"), [("H100", "torus"), ("TPU-v5p", "ethernet")])
def test_a_network_that_does_not_go_with_the_chip_is_refused(chip: str, net: str) -> None:
    with pytest.raises(ConfigError, match=r"does not go with .* nearest possible is network="):
        hardware(chip, net)


def test_levels_of_switches_grow_with_the_machine() -> None:
    assert [network_levels(network("infiniband"), number) for number in (64, 2048, 65_536, 1_000_000)] == [1, 2, 3, 4]


def test_constants_survive_their_logarithms_and_have_priors() -> None:
    constants = default_constants()
    back = from_logs(to_logs(constants))
    assert all(math.isclose(getattr(back, name), getattr(constants, name)) for name in NAMES)
    medians, spreads = priors()
    assert np.all(np.isfinite(medians)) and np.all(spreads >= 0)
    assert np.all(np.abs(to_logs(constants) - medians) <= 4 * spreads + 1e-9), "no fitted constant is far from what was assumed"


def test_an_unknown_accelerator_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown accelerator 'H10'.*'H100'"):
        hardware("H10")


def test_columns_can_be_single_numbers() -> None:
    times = step_times(
        model_shape("Llama-3-8B"), Batch(seq_len=2048, global_batch=8), LayoutColumns(shard=8), hardware("H100"), default_constants()
    )
    assert float(times.total_s) > 0
