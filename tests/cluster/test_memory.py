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
from benchmarks.planner_memory import KEPT, MAX_BOUND, MEAN_BOUND, dry_run_rows


def memory(layout: Layout, model: str = "Llama-3-8B", batch: int = 256, seq_len: int = 8192) -> MemoryBytes:
    return memory_bytes(model_shape(model), Batch(seq_len=seq_len, global_batch=batch), stack_layouts([layout]))


def value(column: object) -> float:
    return float(np.ravel(np.asarray(column))[0])


def test_closed_form_agrees_with_dry_runs_of_the_program() -> None:
    """Recorded by `python -m benchmarks dryrun_layouts`: dense models and a mixture, sharded, divided by tensor and into stages."""
    rows = dry_run_rows(KEPT)
    errors = [abs(row["error"]) for row in rows]
    assert {row["model"] for row in rows} >= {"Llama-3-8B", "Llama-3-70B", "Grok-1-314B"}
    assert sum(errors) / len(errors) <= MEAN_BOUND and max(errors) <= MAX_BOUND
    assert all(row["reserved_bytes"] > row["exact_bytes"] for row in rows)


@pytest.mark.parametrize(
    ("sharding", "states", "gradients"),
    [("none", 14.0, 4.0), ("optimizer", 2 + 12 / 8, 4.0), ("gradients", 2 + 12 / 8, 4 / 8), ("parameters", 12 / 8, 4 / 8)],
)
def test_states_of_a_parameter_are_divided_as_the_layout_says(sharding: str, states: float, gradients: float) -> None:
    found = memory(Layout(shard=8, sharding=sharding))  # type: ignore[arg-type]
    total = num_parameters(model_shape("Llama-3-8B")).total
    assert value(found.weights) + value(found.optimizer) == pytest.approx(states * total, rel=1e-6)
    assert gradients * total <= value(found.gradients) <= gradients * total + 6 * total / 16  # and a layer on its way to its shards


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
