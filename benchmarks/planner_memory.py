"""Closed-form memory of the planner beside exact byte counts, model by model and layout by layout.

python -m benchmarks planner_memory [--dryrun FILE] [--quick]

The exact count enumerates every parameter with its padded shard, asks autograd what one layer of `agora.model` keeps (fake tensors),
and walks the pipeline's schedule for what is in flight. Experts are enumerated by hand. --dryrun compares with rows of `agora train
dryrun` instead: JSON lines {"model", "layout": {...}, "seq_len", "global_batch", "peak_bytes"}.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.registry import Benchmark, Result

MEAN_BOUND, MAX_BOUND = 0.03, 0.08
SEQ_LEN = 8192
MODELS = ("Llama-3-8B", "Llama-3-70B", "Llama-3-405B", "Grok-1-314B")


def layouts(model: str) -> list[tuple[Any, int]]:
    """Four layouts with their batches in sequences."""
    from agora.cluster.layout import Layout

    cases = {
        "Llama-3-8B": [
            (Layout(shard=64, micro_batch=1), 64),
            (Layout(shard=8, tensor=8, micro_batch=2), 64),
            (Layout(shard=16, tensor=2, pipeline=4, sharding="gradients"), 256),
            (Layout(shard=256, micro_batch=2, recompute="full"), 512),
        ],
        "Llama-3-70B": [
            (Layout(shard=256, recompute="full"), 256),
            (Layout(shard=32, tensor=8), 128),
            (Layout(shard=16, tensor=8, pipeline=4, recompute="full", sharding="optimizer"), 256),
            (Layout(shard=16, tensor=4, pipeline=8, virtual=2, schedule="interleaved", recompute="full", sharding="gradients"), 256),
        ],
        "Llama-3-405B": [
            (Layout(shard=128, tensor=8, pipeline=16, recompute="full", sharding="gradients"), 2048),
            (Layout(shard=512, tensor=8, recompute="full"), 1024),
            (Layout(replicate=28, shard=28, tensor=8, pipeline=16, recompute="full"), 12544),
            (Layout(shard=32, tensor=8, pipeline=16, virtual=4, schedule="interleaved", recompute="full", sharding="optimizer"), 1024),
        ],
        "Grok-1-314B": [
            (Layout(shard=512, expert=8, recompute="full"), 512),
            (Layout(shard=128, tensor=8, expert=8), 512),
            (Layout(shard=64, tensor=2, pipeline=8, expert=8, recompute="full", sharding="gradients"), 512),
            (Layout(replicate=4, shard=128, tensor=4, expert=8, recompute="full", micro_batch=2), 1024),
        ],
    }  # fmt: skip
    return cases[model]


def _run(quick: bool, options: dict[str, str]) -> Result:
    rows = _dry_run_rows(Path(options["dryrun"])) if "dryrun" in options else _exact_rows(MODELS[:1] if quick else MODELS)
    errors = [abs(row["error"]) for row in rows]
    mean, worst = sum(errors) / len(errors), max(errors)
    # what the planner would reserve, margin included, against what is needed
    short = [row for row in rows if row["reserved_bytes"] < row["exact_bytes"]]
    details = {
        "against": "dry run" if "dryrun" in options else "exact byte count",
        "mean": mean,
        "max": worst,
        "too_small": short,
        "rows": rows,
    }
    return Result(value=mean, holds=mean <= MEAN_BOUND and worst <= MAX_BOUND and not short, details=details)


def _row(model: str, layout: Any, shape: Any, seq_len: int, global_batch: int, exact: float) -> dict[str, Any]:
    import numpy as np

    from agora.cluster.columns import stack_layouts
    from agora.cluster.memory import memory_bytes
    from agora.cluster.step_time import Batch

    found = memory_bytes(shape, Batch(seq_len=seq_len, global_batch=global_batch), stack_layouts([layout]))
    counted = float(np.ravel(found.counted)[0])
    return {
        "model": model, "layout": layout.describe(), "predicted_bytes": counted, "exact_bytes": exact, "error": counted / exact - 1,
        "reserved_bytes": float(np.ravel(found.total)[0]),
    }  # fmt: skip


def _dry_run_rows(path: Path) -> list[dict[str, Any]]:
    from agora.cluster.layout import Layout
    from agora.cluster.models import model_shape
    from agora.config import from_dict
    from agora.errors import DataError

    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, json.JSONDecodeError) as error:
        raise DataError(f"--dryrun {path} cannot be read as JSON lines: {error}") from error
    rows = []
    for line in lines:
        layout = from_dict(Layout, line["layout"], str(path))
        shape = replace(model_shape(line["model"]), qk_norm=True)
        rows.append(_row(line["model"], layout, shape, line["seq_len"], line["global_batch"], float(line["peak_bytes"])))
    return rows


def _exact_rows(models: tuple[str, ...]) -> list[dict[str, Any]]:
    from agora.cluster.models import model_shape

    rows = []
    for model in models:
        shape = replace(model_shape(model), qk_norm=True)  # Agora's layers norm queries and keys
        for layout, global_batch in layouts(model):
            rows.append(_row(model, layout, shape, SEQ_LEN, global_batch, exact_bytes(shape, layout, global_batch)))
    return rows


def exact_bytes(shape: Any, layout: Any, global_batch: int) -> float:
    """Peak bytes of the fuller of first and last stage, enumerated."""
    stages = {0, layout.pipeline - 1}
    return max(_stage_bytes(shape, layout, global_batch, stage) for stage in stages)


def _stage_bytes(shape: Any, layout: Any, global_batch: int, stage: int) -> float:
    per_stage = math.ceil(shape.num_layers / layout.pipeline)
    num_layers = per_stage if stage < layout.pipeline - 1 else shape.num_layers - per_stage * (layout.pipeline - 1)
    layer = _layer_matrices(shape, layout)
    tables = _tables(shape, layout, stage)
    total = 0.0
    for count, matrices in ((num_layers, layer), (1, tables)):
        for rows, columns, is_expert in matrices:
            total += count * _state_bytes(rows, columns, is_expert, layout)
    biggest = sum(rows * columns for rows, columns, _ in layer)
    table_size = sum(rows * columns for rows, columns, _ in tables)
    if layout.sharding == "parameters":
        total += 2 * (2 * biggest + table_size)
    if layout.sharding in ("gradients", "parameters"):
        total += 6 * biggest
    kept, working = _activations(shape, layout)
    chunk_layers = num_layers / layout.virtual
    total += kept * chunk_layers * _in_flight(layout, global_batch, stage) + working
    if stage == layout.pipeline - 1:
        vocabulary = shape.vocab_size / layout.tensor
        total += vocabulary * (512 * 10 + 4 * shape.dim)
    return float(total)


def _layer_matrices(shape: Any, layout: Any) -> list[tuple[int, int, bool]]:
    """(rows, columns, is an expert) of every parameter of one layer on one tensor rank."""
    t = layout.tensor
    found = [
        (shape.dim, 1, False), (shape.dim, 1, False), (shape.head_dim, 1, False), (shape.head_dim, 1, False),
        ((shape.query_dim + 2 * shape.kv_dim) // t, shape.dim, False), (shape.dim, shape.query_dim // t, False),
    ]  # fmt: skip
    if not shape.num_experts:
        return [*found, (2 * shape.hidden_dim // t, shape.dim, False), (shape.dim, shape.hidden_dim // t, False)]
    found.append((shape.num_experts, shape.dim, False))
    for _ in range(shape.num_experts // layout.expert):
        found += [(2 * shape.expert_dim, shape.dim, True), (shape.dim, shape.expert_dim, True)]
    return found


def _tables(shape: Any, layout: Any, stage: int) -> list[tuple[int, int, bool]]:
    table = (shape.vocab_size // layout.tensor, shape.dim, False)
    is_first, is_last = stage == 0, stage == layout.pipeline - 1
    num = 1 if is_first != is_last else (1 if shape.tie_embeddings else 2)
    return [table] * (num if is_first or is_last else 0) + [(shape.dim, 1, False)] * is_last


def _state_bytes(rows: int, columns: int, is_expert: bool, layout: Any) -> float:
    """Weights, gradients and optimizer of one matrix on the rank with the largest shard."""
    shards = layout.shard * layout.context
    if is_expert:
        shards = max(shards * layout.tensor // layout.expert, 1)
    part, whole = math.ceil(rows / shards) * columns, rows * columns
    if layout.sharding == "parameters":
        return float(16 * part)
    if layout.sharding == "gradients":
        return float(2 * whole + 16 * part)
    return 6 * whole + 12 * part if layout.sharding == "optimizer" else 18 * whole


def _in_flight(layout: Any, global_batch: int, stage: int) -> int:
    """Most chunks of layers that a stage holds activations of, by walking its schedule."""
    from agora.cluster.trace import stage_order

    held = most = 0
    for kind, _, _ in stage_order(layout, stage, layout.num_micro_batches(global_batch)):
        held += 1 if kind == "F" else -1
        most = max(most, held)
    return most


def _activations(shape: Any, layout: Any) -> tuple[float, float]:
    """Bytes of one layer that wait for the backward pass, and that one layer needs while it works."""
    tokens = layout.micro_batch * SEQ_LEN // layout.context
    everything = _autograd_bytes(shape, layout) + _expert_bytes(shape, layout, tokens)
    inputs = 2 * 2 * tokens * shape.dim / (layout.tensor if layout.sequence_parallel else 1)
    width = 0 if shape.num_experts else 2 * shape.hidden_dim // layout.tensor
    working = 2 * tokens * (2 * shape.dim + width)
    return (everything, working) if layout.recompute == "none" else (inputs, working + everything)


def _expert_bytes(shape: Any, layout: Any, tokens: int) -> float:
    """Dispatched tokens, gate and up, their products, results; router scores and probabilities in float32."""
    if not shape.num_experts:
        return 0.0
    visits = tokens * shape.experts_per_token * 1.15 / layout.tensor
    stream = layout.tensor if layout.sequence_parallel else 1
    routed = visits * 2 * (shape.dim + 2 * shape.expert_dim + shape.expert_dim + shape.expert_dim + shape.dim)
    return float(routed + tokens / stream * 8 * shape.num_experts)


def _autograd_bytes(shape: Any, layout: Any) -> float:
    """What autograd keeps of one plain layer of a tensor rank; norms count for the part of sequence parallelism."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from agora.model.config import ModelConfig
    from agora.model.fast import plain_operations
    from agora.model.transformer import Layer, Positions

    t, rows, length = layout.tensor, layout.micro_batch, SEQ_LEN // layout.context
    hidden = shape.hidden_dim // t if not shape.num_experts else 1
    config = ModelConfig(
        vocab_size=8, dim=shape.dim, num_layers=1, num_heads=shape.num_heads // t, num_kv_heads=max(shape.num_kv_heads // t, 1),
        head_dim=shape.head_dim, hidden_dim=hidden, max_seq_len=SEQ_LEN,
    )  # fmt: skip
    # made of real tensors: the tables of positions are kept for the whole process
    positions = Positions(config, torch.zeros(rows, length, dtype=torch.int64), None, None, None)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with plain_operations(), FakeTensorMode(allow_non_fake_inputs=True):
            layer = Layer(config)
            stream = torch.zeros(rows, length, shape.dim, requires_grad=True)
            weights = {weight.untyped_storage()._cdata for weight in layer.parameters()}
            kept: dict[int, tuple[Any, float]] = {}

            def keep(tensor: torch.Tensor) -> torch.Tensor:
                storage = tensor.untyped_storage()
                # values of width dim with three axes are those inside the norms
                share = t if layout.sequence_parallel and tensor.dim() == 3 and tensor.shape[-1] in (shape.dim, 1) else 1
                if storage._cdata not in weights:
                    kept[storage._cdata] = (tensor, storage.nbytes() / share)
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                layer(stream, stream + 0, positions, None, 0)
    finally:
        torch.set_default_dtype(before)
    total = sum(num_bytes for _, num_bytes in kept.values())
    # with experts the one-wide feed-forward block stands for none
    return total - (10.0 * rows * length if shape.num_experts else 0.0)


BENCHMARK = Benchmark(
    measures="closed-form memory against exact byte counts (or a dry run): mean error over 16 layouts; nothing said to fit that does not",
    unit="relative error",
    bound=f"mean <= {MEAN_BOUND}, max <= {MAX_BOUND}",
    run=_run,
    options=("dryrun",),
)
