from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agora.cluster.accelerator import hardware
from agora.cluster.columns import stack_layouts
from agora.cluster.constants import default_constants
from agora.cluster.describe import plan_table, short_row
from agora.cluster.explain import assumptions, sentences
from agora.cluster.failures import interruption_rate
from agora.cluster.layout import Layout
from agora.cluster.models import model_shape
from agora.cluster.plan import Plan, PlanRequest, plan
from agora.cluster.requests import request_from_words
from agora.cluster.step_time import Batch, StepTimes
from agora.cluster.studies import compare, pareto
from agora.cluster.trace import step_trace
from agora.cluster.wafer import pieces, streaming_memory, streaming_times
from agora.errors import ConfigError
from agora.model.counts import flops_per_token, num_parameters

WAFERS = PlanRequest(model="Llama-3-8B", accelerator="WSE-3", num_accelerators=16, tokens=1e12)


def times(model: str = "Llama-3-70B", **changes: float) -> StepTimes:
    chip = replace(hardware("WSE-3", "", 16), scaling_loss=0.0, out_latency_s=0.0)
    batch = Batch(seq_len=4096, global_batch=64)
    layout = stack_layouts([Layout(replicate=16, micro_batch=2, recompute="full")])
    return streaming_times(model_shape(model), batch, layout, replace(chip, **changes), default_constants())


def value(column: object) -> float:
    return float(np.ravel(np.asarray(column))[0])


@pytest.fixture(scope="module")
def small() -> Plan:
    return plan(WAFERS)


@pytest.mark.parametrize("model", ["Llama-3-70B", "Qwen3-30B-A3B", "DeepSeek-V3", "GPT-OSS-20B", "BLOOM-176B"])
def test_what_is_streamed_is_the_model_and_its_flops(model: str) -> None:
    shape = model_shape(model)
    found = list(pieces(shape, 4096))
    assert sum(piece.count * piece.parameters for piece in found) == num_parameters(shape).total
    forward = sum(piece.count * (piece.products + piece.attention) for piece in found)
    assert 3 * forward == pytest.approx(flops_per_token(shape, 4096), rel=1e-9)


def test_a_starved_link_takes_the_weights_twice_and_the_gradients_beside_them() -> None:
    """Per pass: in for the forward pass; in and out at once for the backward pass."""
    shape, constants = model_shape("Llama-3-70B"), default_constants()
    slow = times(out_bytes_per_s=1e6)
    each_way = 2 * num_parameters(shape).total / (1e6 * constants.out)
    assert value(slow.stream_s) == pytest.approx(2 * 2 * each_way, rel=1e-3)  # two passes of 2 x 16 sequences
    assert value(times(out_bytes_per_s=1e18).stream_s) < 1e-6


def test_compute_is_the_stated_share_of_the_peak_and_more_sequences_hide_the_stream() -> None:
    chip = hardware("WSE-3", "", 16)
    found = times()
    needed = 64 / 16 * 4096 * flops_per_token(model_shape("Llama-3-70B"), 4096)
    assert value(found.matmul_s + found.attention_s) == pytest.approx(needed / (chip.rate_16 * chip.matmul_ceiling), rel=1e-6)
    assert value(found.recompute_s) == pytest.approx(value(found.matmul_s + found.attention_s) / 3)


def test_sram_holds_activations_and_no_weight() -> None:
    batch, layout = Batch(seq_len=4096, global_batch=16), Layout(replicate=16, recompute="full")
    found = streaming_memory(model_shape("Llama-3-70B"), batch, stack_layouts([layout]))
    assert value(found.weights + found.gradients + found.optimizer + found.gathered) == 0
    assert value(found.activations) == 4096 * 80 * 8192 * 2  # one input of each layer
    assert value(found.total) * 0.85 == pytest.approx(value(found.counted))


def test_a_plan_says_what_its_numbers_rest_on(small: Plan) -> None:
    table, said = plan_table(small), " ".join(sentences(small))
    assert small.layout.replicate == 16 and small.chosen.memory_bytes <= 44e9
    assert not table["is_measured"] and "No run on WSE-3 was measured" in said and "no price of WSE-3 is published" in said
    assert set(table["cost_usd"]) == {"electricity_usd"} and table["failures"]["goodput_losing_one_replica"] is None
    gpu = plan(replace(WAFERS, accelerator="H100"))
    assert small.interval_s[1] / small.chosen.step_s > gpu.interval_s[1] / gpu.chosen.step_s
    assert "streams" in assumptions(small) and "streams" not in assumptions(gpu)
    assert any(event["name"] == "stream" for event in step_trace(plan(replace(WAFERS, model="Llama-3-70B", seq_len=4096)))["traceEvents"])


def test_a_wafer_fails_more_often_than_a_gpu_and_only_as_a_whole(small: Plan) -> None:
    rate = small.failures.rate_per_accelerator_s / interruption_rate()
    assert 20 < rate < 57 and not small.recovery.is_elastic


def test_a_comparison_shows_it_beside_gpus() -> None:
    found = compare(replace(WAFERS, accelerator="H100"), accelerators=["H100", "WSE-3"])
    rows = {option.label: short_row(option.plan) for option in found if option.plan}
    assert rows["16 x H100"]["rests_on"] == "measured runs on H100" and "vendor stated" in rows["16 x WSE-3"]["rests_on"]
    assert {option.label for option in pareto(found)} >= {"16 x WSE-3"}  # faster, and without a price that could be beaten


def test_its_own_durations_come_back() -> None:
    """13B on 260B tokens: 39 days on four CS-2, as offered."""
    offered = PlanRequest(
        model="Llama-2-13B", accelerator="WSE-2", num_accelerators=4, tokens=260e9, seq_len=2048, batch_tokens=1080 * 2048, precision="fp16"
    )
    low, high = plan_table(plan(offered))["days_80_percent"]
    assert low < 39 < high


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["layout.tensor=2"], r"layout.tensor=2 is not for WSE-3: .*replicate=16"),
        (["layout.pipeline=2"], r"layout.pipeline=2 is not for WSE-3"),
        (["layout.shard=16"], r"layout.shard=16 is not for WSE-3"),
        (["Qwen3-30B-A3B", "layout.expert=2"], r"layout.expert=2 is not for WSE-3"),
        (["network=ethernet"], r"nearest possible is network='swarmx'"),
        (["accelerator=H100", "network=swarmx"], r"nearest possible is network='infiniband'"),
        (["num_accelerators=4096"], r"nearest possible is num_accelerators=2048"),
        (["recovery=replica"], r"nearest possible is recovery=restart"),
        (["Llama-3-405B", "seq_len=131072"], r"nearest possible: seq_len=\d+"),
        (["shape.num_layers=2000000"], r"largest store beside WSE-3"),
    ],
)
def test_what_is_not_for_wafers_gets_the_reason_and_the_nearest_possible(words: list[str], reason: str) -> None:
    models = [word for word in words if "=" not in word] or ["Llama-3-8B"]
    settings = ["accelerator=WSE-3", "num_accelerators=16", *(word for word in words if "=" in word)]
    with pytest.raises(ConfigError, match=reason):
        plan(request_from_words([models[0], *{word.partition("=")[0]: word for word in settings}.values()]))


def test_open_ranks_become_replicas() -> None:
    found = plan(request_from_words(["Llama-3-8B", "accelerator=WSE-3", "num_accelerators=16", "layout.recompute=full"]))
    assert found.layout.replicate == 16 and found.chosen.step_s > 0
