"""Wafers that stream their weights (Cerebras): time, memory, failures, and what nobody has measured. Goes in: a shape, a batch, layouts.
Comes out: StepTimes and MemoryBytes as for any accelerator, or the reason why a layout is not for wafers.

    streaming_times(shape, batch, layouts, hardware, constants).total_s

Weights and optimizer state lie in a store outside; of every pass of micro-batches each layer's weights come in for the forward pass and
again for the backward pass, and gradients leave. All wafers take the same stream and read different sequences; SRAM holds the activations.
Not covered: sparse products, layers divided over wafers, a store slower than the link.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from agora.cluster.columns import FULL, Hardware, LayoutColumns, Values
from agora.cluster.constants import Constants
from agora.cluster.facts import Table, load_tables
from agora.cluster.layout import Layout
from agora.cluster.memory import MemoryBytes, activation_bytes
from agora.cluster.step_time import Batch, StepTimes
from agora.errors import ConfigError
from agora.model.counts import attention_flops_per_token, layer_parameters, num_parameters
from agora.model.shape import ModelShape
from agora.units import format_bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """What is streamed as one: `count` of them, each of so many parameters; forward FLOPs of a token in products and in attention."""

    count: Values
    parameters: Values
    products: Values
    attention: Values


def pieces(shape: ModelShape, seq_len: Values) -> Iterator[Piece]:
    """Layers without and with experts, the output layer, and an input table of its own, which only moves."""
    layer, sparse = layer_parameters(shape), shape.num_expert_layers
    every, norms = layer.attention + layer.attention_whole, layer.norms
    attention = attention_flops_per_token(shape, seq_len) / shape.num_layers
    visited = layer.routed_experts * shape.experts_per_token / np.maximum(shape.num_experts, 1)
    shared = layer.shared_experts + layer.router
    dense = every + layer.dense_feed_forward
    yield Piece(shape.num_layers - sparse, dense + norms, 2 * dense, attention)
    yield Piece(sparse, every + norms + shared + layer.routed_experts, 2 * (every + shared + visited), attention)
    table = shape.vocab_size * shape.dim
    yield Piece(1, table + shape.dim, 2 * table, 0)
    yield Piece(1, table * (1 - 1 * shape.tie_embeddings) + shape.num_positions * shape.dim, 0, 0)


def streaming_times(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> StepTimes:
    """Seconds of one step by cause. Streams count only where compute does not hide them (`stream_s`); `matmul_ceiling` is the share of the
    peak that whole steps reach."""
    facts = load_tables("memory")["wafer"]
    passes = batch.global_batch / (layouts.data * layouts.micro_batch)
    rate = hardware.rate(layouts.precision) * hardware.matmul_ceiling / (layouts.micro_batch * batch.seq_len)
    link = hardware.out_bytes_per_s * constants.out
    matmul: Values = 0.0
    attention: Values = 0.0
    again: Values = 0.0
    waits: Values = 0.0
    first: Values = 0.0
    for piece in pieces(shape, batch.seq_len):
        products, scores = piece.products / rate, piece.attention / rate
        forward = products + scores
        repeated = np.where(layouts.recompute == FULL, forward, 0.0)
        inward = piece.parameters * facts.base("stream_weights") / link
        outward = piece.parameters * facts.base("stream_gradients") / link
        left_f = np.maximum(inward - constants.hidden * forward, 0)
        left_b = np.maximum(np.maximum(inward, outward) - constants.hidden * (2 * forward + repeated), 0)
        matmul, attention = matmul + piece.count * 3 * products, attention + piece.count * 3 * scores
        again, waits = again + piece.count * repeated, waits + piece.count * (left_f + left_b)
        first = np.maximum(first, np.where(piece.count > 0, inward + outward, 0.0))
    busy = passes * (matmul + attention + again)
    zero = 0.0 * busy
    return StepTimes(
        matmul_s=passes * matmul, attention_s=passes * attention, memory_bound_s=zero, launch_s=zero, recompute_s=passes * again,
        tensor_s=zero, context_s=zero, expert_s=zero, pipeline_s=zero, bubble_s=zero, data_s=zero, stream_s=passes * waits,
        optimizer_s=first + zero,  # gradients of the last layer leave and its new weights come back before the next step begins
        fixed_s=constants.step_s + passes * (constants.micro_batch_s + 2 * hardware.out_latency_s),
        straggler_s=(busy + passes * waits) * hardware.scaling_loss * np.log2(np.maximum(layouts.data, 1)),
    )  # fmt: skip


def streaming_memory(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> MemoryBytes:
    """Bytes in the SRAM of a wafer: activations of all layers and of one at work, a chunk of logits, and a reserve. No weight stays."""
    reserved, chunk = load_tables("memory")["wafer"].base("reserved"), load_tables("memory")["margin"].base("chunk")
    kept, working, _ = activation_bytes(shape, batch, replace(layouts, kernels=0, attention=0))
    activations, zero = kept * shape.num_layers, 0.0 * kept
    logits = zero + 10 * chunk * shape.vocab_size
    counted = activations + working + logits
    return MemoryBytes(
        weights=zero, gradients=zero, optimizer=zero, gathered=zero, activations=activations, working=working, logits=logits,
        communication=zero, margin=counted * reserved / (1 - reserved),
    )  # fmt: skip


def is_wafer(chip: Table) -> bool:
    """Whether weights are streamed to it."""
    return bool(chip.words.get("streams_weights"))


def refuse_on_wafers(chip: Table, shape: ModelShape, num_wafers: int, layout: Layout | None, recovery: str) -> None:
    """Raises ConfigError for what is not for wafers, with the nearest possible."""
    most = int(chip.base("max_cluster"))
    if num_wafers > most:
        raise ConfigError(f"a cluster of {chip.name} joins at most {most:,} wafers; the nearest possible is num_accelerators={most}")
    needed, store = num_parameters(shape).total * load_tables("memory")["wafer"].base("store"), chip.base("store")
    if needed > store:
        raise ConfigError(
            f"weights and optimizer state need {format_bytes(needed)} and the largest store beside {chip.name} has {format_bytes(store)}; "
            f"the nearest possible is a model of {store / needed:.0%} of these parameters"
        )
    if recovery == "replica":
        raise ConfigError(
            f"nothing published says that a cluster of {chip.name} goes on without one of its wafers; the nearest possible is "
            "recovery=restart"
        )
    for name in ("tensor", "pipeline", "context", "expert", "shard"):
        degree = 1 if layout is None else getattr(layout, name)
        if degree > 1:
            raise ConfigError(
                f"layout.{name}={degree} is not for {chip.name}: its weights stream in layer by layer, every wafer computes whole layers "
                f"and wafers only read different sequences; the nearest possible is {name}=1 with replicate={num_wafers}"
            )


def interruptions_of_wafer_s() -> float:
    """Unexpected interruptions per wafer and second: those of an H100 by component, times what `data/failures.toml` says of a wafer."""
    tables = load_tables("failures")
    return sum(tables["components"].base(name) * fact.base for name, fact in tables["wafer"].facts.items())


def widened(low: float, high: float, chip: Table) -> tuple[float, float]:
    """An interval of measured / predicted of software nobody saw, and of a machine of which only claims are known: both spreads count."""
    claims = math.log(chip.base("claim_spread"))
    return math.exp(-math.hypot(math.log(low), claims)), math.exp(math.hypot(math.log(high), claims))
