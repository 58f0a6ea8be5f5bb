from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agora.cluster.accelerator import hardware
from agora.cluster.columns import stack_layouts
from agora.cluster.layout import Layout
from agora.cluster.memory import MemoryBytes, lightest_recompute, memory_bytes
from agora.cluster.models import model_shape
from agora.cluster.step_time import Batch
from agora.model.counts import num_parameters
from benchmarks.planner_memory import exact_bytes, layouts


def memory(layout: Layout, model: str = "Llama-3-8B", batch: int = 256, seq_len: int = 8192) -> MemoryBytes:
    return memory_bytes(model_shape(model), Batch(seq_len=seq_len, global_batch=batch), stack_layouts([layout]))


def value(column: object) -> float:
    return float(np.ravel(np.asarray(column))[0])


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("model", ["Llama-3-8B", "Grok-1-314B"])
def test_closed_form_equals_the_count_by_tensors(model: str, number: int) -> None:
    """The count enumerates tensors and asks autograd; padding of the last shard is all that may differ: within 1%."""
    shape = replace(model_shape(model), qk_norm=True)
    layout, batch = layouts(model)[number]
    found = memory_bytes(shape, Batch(seq_len=8192, global_batch=batch), stack_layouts([layout]))
    assert value(found.counted) == pytest.approx(exact_bytes(shape, layout, batch), rel=0.01)
    assert value(found.total) > value(found.counted)


@pytest.mark.parametrize(
    ("sharding", "num_bytes"), [("none", 18.0), ("optimizer", 6 + 12 / 8), ("gradients", 2 + 16 / 8), ("parameters", 16 / 8)]
)
def test_states_of_a_parameter_are_divided_as_the_layout_says(sharding: str, num_bytes: float) -> None:
    found = memory(Layout(shard=8, sharding=sharding))  # type: ignore[arg-type]
    states = value(found.weights) + value(found.gradients) + value(found.optimizer)
    assert states == pytest.approx(num_bytes * num_parameters(model_shape("Llama-3-8B")).total, rel=1e-6)


def test_recomputation_and_more_ranks_save_memory() -> None:
    none, selective, full = (value(memory(Layout(shard=32, recompute=policy)).total) for policy in ("none", "selective", "full"))
    assert none > selective > full
    assert value(memory(Layout(shard=32, tensor=8)).total) < none
    assert value(memory(Layout(shard=64)).total) < none


def test_gpipe_keeps_every_micro_batch_and_1f1b_as_many_as_stages() -> None:
    plain = memory(Layout(shard=8, pipeline=4), batch=256)
    gpipe = memory(Layout(shard=8, pipeline=4, schedule="gpipe"), batch=256)
    assert value(gpipe.activations) == pytest.approx(value(plain.activations) * 32 / 4)


def test_the_lightest_policy_that_fits_is_chosen() -> None:
    shape, layout = model_shape("Llama-3-70B"), Layout(shard=64, tensor=8, sharding="parameters")
    chip = hardware("H100")
    small = lightest_recompute(shape, layout, seq_len=2048, global_batch=512, hardware=chip)
    large = lightest_recompute(shape, replace(layout, micro_batch=8), seq_len=8192, global_batch=512, hardware=chip)
    assert (small.recompute, large.recompute) == ("none", "selective")
