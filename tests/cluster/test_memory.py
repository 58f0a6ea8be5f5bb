from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agora.cluster.accelerator import hardware
from agora.cluster.columns import stack_layouts
from agora.cluster.layout import Layout
from agora.cluster.memory import MemoryBytes, activation_bytes, lightest_recompute, memory_bytes
from agora.cluster.models import model_shape
from agora.cluster.step_time import Batch
from agora.model.config import ModelConfig
from agora.model.counts import layer_parameters, num_parameters
from agora.model.shape import shape_of
from agora.training.config import TrainingConfig
from agora.training.dryrun import dry_run
from benchmarks.planner_memory import KEPT, MAX_BOUND, MEAN_BOUND, dry_run_rows


def memory(layout: Layout, model: str = "Llama-3-8B", batch: int = 256, seq_len: int = 8192) -> MemoryBytes:
    return memory_bytes(model_shape(model), Batch(seq_len=seq_len, global_batch=batch), stack_layouts([layout]))


def value(column: object) -> float:
    return float(np.ravel(np.asarray(column))[0])


def test_closed_form_agrees_with_dry_runs_of_the_program() -> None:
    """Recorded by `python -m benchmarks dryrun_layouts`: dense models and mixtures, sharded, divided by tensor and into stages; two of the
    mixtures as the recipes gpu8 and h100_10k train them."""
    rows = dry_run_rows(KEPT)
    errors = [abs(row["error"]) for row in rows]
    assert {row["model"] for row in rows} >= {"Llama-3-8B", "Llama-3-70B", "Grok-1-314B", "Qwen3-30B-A3B"}
    assert sum(row["optimizer"] == "muon" for row in rows) >= 4
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


DENSE = ModelConfig(
    vocab_size=512, dim=256, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64, hidden_dim=512, max_seq_len=1024, tie_embeddings=False
)
MIXTURE = replace(DENSE, num_experts=8, experts_per_token=2, expert_dim=256)


@pytest.mark.parametrize(
    ("model", "layout"),
    [
        (DENSE, Layout(shard=2, tensor=2, micro_batch=4)),
        (MIXTURE, Layout(shard=2, expert=2, micro_batch=8)),
    ],
    ids=["dense", "experts"],
)
def test_selective_recomputation_keeps_what_training_keeps(model: ModelConfig, layout: Layout) -> None:
    """Of one more layer: what a rank of the program holds more at its peak, and what the planner says that it keeps."""
    layout, seq_len, rows = replace(layout, recompute="selective"), 1024, layout.data * layout.micro_batch
    batch = Batch(seq_len=seq_len, global_batch=rows)
    training = TrainingConfig(batch_tokens=rows * seq_len, seq_len=seq_len, micro_batch=layout.micro_batch, document_aware=False)
    peaks = [dry_run(replace(model, num_layers=number), training, layout).record.by_kind["activations"] for number in (2, 3)]
    kept, _, _ = activation_bytes(shape_of(model), batch, stack_layouts([layout]))
    assert peaks[1] - peaks[0] == pytest.approx(value(kept), rel=0.01)


def test_muon_holds_one_moment_of_a_matrix_and_two_of_the_rest() -> None:
    shape, batch = model_shape("Qwen3-30B-A3B"), Batch(seq_len=4096, global_batch=64)
    adamw, muon = (
        memory_bytes(shape, batch, stack_layouts([Layout(shard=8, expert=8)]), optimizer=name).optimizer for name in ("adamw", "muon")
    )
    tables_and_norms = 2 * shape.vocab_size * shape.dim + shape.num_layers * layer_parameters(shape).norms + shape.dim
    assert value(adamw) / 8 == pytest.approx(num_parameters(shape).total / 8, rel=1e-6)
    assert value(muon) == pytest.approx(value(adamw) / 2 + 4 * tables_and_norms / 8, rel=1e-6)
