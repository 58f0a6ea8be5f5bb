"""How long one optimizer step takes, for arrays of layouts at once. Goes in: a shape, a batch, layouts, hardware, constants.
Comes out: StepTimes, seconds by cause; they add up to the step.

    step_times(shape, batch, layouts, hardware, default_constants()).total_s

Suffixes: `_T` values per token, `layer` one layer of one micro-batch on one rank, `pass` one micro-batch through one stage.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from agora.cluster.collectives import (
    all_gather_s,
    all_reduce_s,
    context_group,
    dispatch_s,
    expert_group,
    replicate_group,
    ring_pass_s,
    send_s,
    shard_group,
    tensor_group,
)
from agora.cluster.columns import FULL, INTERLEAVED, PARAMETERS, SELECTIVE, WHOLE, ZERO_BUBBLE, Hardware, LayoutColumns, Values
from agora.cluster.constants import Constants
from agora.cluster.matmul import matmul_s
from agora.model.counts import layer_parameters, num_parameters, windowed_keys
from agora.model.shape import ModelShape

BYTES = 2  # of an activation or a weight in the forward pass
_ATTENTION_BACKWARD = 2.5 * 73 / 63  # forwards: 2.5 times the FLOPs, at 63% and not 73% of the peak (FlashAttention-2, section 4.1)
_DISPATCH_8 = (1 + 4 / 128 + BYTES) / (2 * BYTES)  # one way 8 bits with a scale for 128 values, back 16 bits (DeepSeek-V3, section 3.3.2)
_OPTIMIZER_BYTES = 34  # AdamW reads gradient, master and two moments, writes three and the working copy, and clears the gradient


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Tokens of one step: sequences of `seq_len` tokens, `global_batch` of them. `imbalance`: busiest expert rank against the mean."""

    seq_len: Values
    global_batch: Values
    imbalance: Values = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTimes:
    """Seconds of one step by cause. Communication counts only where compute does not hide it. `stream_s`: wafers wait for weights."""

    matmul_s: Values
    attention_s: Values
    memory_bound_s: Values
    launch_s: Values
    recompute_s: Values
    tensor_s: Values
    context_s: Values
    expert_s: Values
    pipeline_s: Values
    bubble_s: Values
    data_s: Values
    optimizer_s: Values
    fixed_s: Values
    straggler_s: Values
    stream_s: Values = 0.0

    @property
    def total_s(self) -> Values:
        """The whole step."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, slots=True)
class LayerTimes:
    """Forward seconds of one layer of one micro-batch on one rank (the mean of dense and expert layers), and its backward pass."""

    matmul: Values
    matmul_backward: Values
    attention: Values
    attention_backward: Values
    memory: Values
    launches: Values
    tensor: Values
    context: Values
    expert: Values


def step_times(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> StepTimes:
    """Price one optimizer step for every row. Layouts are taken to be possible (`Layout.check`)."""
    layer = layer_times(shape, batch, layouts, hardware, constants)
    return assemble(shape, batch, layouts, hardware, constants, layer)


def _rates(layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> tuple[Values, Values]:
    """FLOP/s that large products reach: in the layout's precision, and in 16 bits (attention, output layer)."""
    sixteen = hardware.rate_16 * hardware.matmul_ceiling * constants.matmul
    share = np.where(layouts.precision < 2, 1.0, np.where(layouts.precision < 4, constants.rate_8, constants.rate_4))
    return hardware.rate(layouts.precision) * hardware.matmul_ceiling * constants.matmul * share, sixteen


def layer_times(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> LayerTimes:
    """Forward and backward seconds of one layer of one micro-batch; depends on micro_batch, tensor, context, expert and choices only."""
    rate, rate_16 = _rates(layouts, hardware, constants)
    tokens = layouts.micro_batch * batch.seq_len / layouts.context
    forward, backward = _matmuls(shape, tokens, batch.imbalance, layouts, hardware, constants, rate)
    seen = (shape.num_layers - shape.num_windowed_layers) * (batch.seq_len + 1) / 2 + shape.num_windowed_layers * windowed_keys(
        shape, batch.seq_len
    )
    scores = 2 * (shape.query_dim + shape.output_dim) * seen / shape.num_layers * tokens / layouts.tensor
    is_plain = layouts.attention == 1
    attention = scores / np.where(is_plain, rate_16 * 0.5, hardware.rate_16 * hardware.attention_ceiling * constants.attention)
    memory = _memory_bytes(shape, batch, tokens, layouts, constants) / (hardware.memory_bytes_per_s * constants.memory)
    sparse = shape.num_expert_layers / shape.num_layers
    wide = tokens * shape.dim * BYTES
    tensor = (layouts.tensor > 1) * 2 * all_reduce_s(wide, tensor_group(layouts, hardware, constants))
    traveling = wide / layouts.tensor * batch.imbalance * np.where(layouts.dispatch == 1, _DISPATCH_8, 1.0)
    exchange = dispatch_s(traveling, shape.experts_per_token, expert_group(layouts, hardware, constants), shape.expert_groups_per_token)
    experts = 2 * sparse * (layouts.expert > 1) * exchange
    keys = np.where(shape.kv_latent > 0, shape.num_heads * shape.head_dim, shape.kv_dim)
    context = ring_pass_s(tokens * 2 * keys / layouts.tensor * BYTES, context_group(layouts, hardware, constants))
    kernels = (
        14
        + 6 * (shape.kv_latent > 0)
        + sparse * constants.expert_kernels
        + 2 * (layouts.tensor > 1)
        + 4 * is_plain
        + 8 * (layouts.precision >= 2)
    )
    return LayerTimes(
        forward,
        backward,
        attention,
        attention * np.where(is_plain, 2.0, _ATTENTION_BACKWARD),
        memory,
        kernels * constants.launch_s,
        tensor,
        context,
        experts,
    )


def _matmuls(
    shape: ModelShape, tokens: Values, imbalance: Values, layouts: LayoutColumns, hardware: Hardware, constants: Constants, rate: Values
) -> tuple[Values, Values]:
    """Seconds of the weight products of one layer, forward and backward, mean of dense and expert layers."""
    t = layouts.tensor
    sparse = shape.num_expert_layers / shape.num_layers
    wide = 1 + 1 * shape.gated
    products = [
        (1.0, tokens, (1 - (shape.kv_latent > 0)) * (shape.query_dim + 2 * shape.kv_dim) / t, shape.dim),
        (1.0, tokens, shape.dim, shape.output_dim / t),
        (1 - sparse, tokens, wide * shape.hidden_dim / t, shape.dim),
        (1 - sparse, tokens, shape.dim, shape.hidden_dim / t),
    ]
    if np.any(shape.kv_latent):
        latent = 1.0 * (shape.kv_latent > 0)
        per_head = shape.head_dim - shape.rope_dim + shape.value_dim
        products += [
            (latent, tokens, shape.query_latent + shape.kv_latent + shape.rope_dim, shape.dim),
            (latent, tokens, shape.query_dim / t, shape.query_latent),
            (latent, tokens, shape.num_heads * per_head / t, shape.kv_latent),
        ]
    forward: Values = 0.0
    backward: Values = 0.0
    sizes = {"rate": rate, "units": hardware.compute_units, "half_depth": constants.half_depth, "quantisation": constants.quantisation}
    for times, rows, columns, depth in products:
        forward = forward + times * matmul_s(rows, columns, depth, **sizes)
        backward = backward + times * (matmul_s(rows, depth, columns, **sizes) + matmul_s(depth, columns, rows, **sizes))
    if np.any(shape.num_experts):
        one, both = _expert_matmuls(shape, tokens, imbalance, layouts, constants, sizes)
        forward, backward = forward + sparse * one, backward + sparse * both
    return forward, backward


def _expert_matmuls(
    shape: ModelShape, tokens: Values, imbalance: Values, layouts: LayoutColumns, constants: Constants, sizes: dict[str, Values]
) -> tuple[Values, Values]:
    experts = np.maximum(shape.num_experts, 1)
    local = np.maximum(experts / layouts.expert, 1)
    rows = tokens / layouts.tensor * shape.experts_per_token * imbalance / local
    wide = 1 + 1 * shape.gated
    grouped = {**sizes, "units": sizes["units"] / local, "rate": sizes["rate"] * constants.experts / local}
    forward: Values = 0.0
    backward: Values = 0.0
    for columns, depth in ((wide * shape.expert_dim, shape.dim), (shape.dim, shape.expert_dim)):
        forward = forward + matmul_s(rows, columns, depth, **grouped)
        backward = backward + matmul_s(rows, depth, columns, **grouped) + matmul_s(depth, columns, rows, **grouped)
        shared = shape.num_shared_experts * columns / layouts.tensor
        forward = forward + matmul_s(tokens, shared, depth, **sizes)
        backward = backward + matmul_s(tokens, depth, shared, **sizes) + matmul_s(depth, shared, tokens, **sizes)
    return forward, backward


def _memory_bytes(shape: ModelShape, batch: Batch, tokens: Values, layouts: LayoutColumns, constants: Constants) -> Values:
    """Bytes that norms, residuals, rotary, activations, routing and number casts of one layer read and write, forward."""
    t = layouts.tensor
    sparse = shape.num_expert_layers / shape.num_layers
    stream = 12 * shape.dim / np.where(layouts.sequence_parallel, t, 1)
    heads = 4 * (shape.query_dim + 2 * np.where(shape.kv_latent > 0, shape.num_heads * shape.head_dim, shape.kv_dim)) / t
    gated = 2 + 1 * shape.gated
    feed = (1 - sparse) * gated * shape.hidden_dim / t
    visits = shape.experts_per_token + shape.num_shared_experts
    routed = sparse * (visits * gated * shape.expert_dim + 8 * shape.experts_per_token * shape.dim) / t
    cast = (
        (layouts.precision >= 2)
        * 3
        * (2 * shape.dim + shape.output_dim + (1 - sparse) * shape.hidden_dim + sparse * visits * (shape.dim + shape.expert_dim))
        / t
    )
    scores = (layouts.attention == 1) * 8 * shape.num_heads / t * batch.seq_len
    share = np.where(layouts.kernels == 0, constants.fused, 1.0)
    return BYTES * tokens * constants.elementwise * share * (stream + heads + feed + routed + cast + scores)


def _both(launches: Values, work: Values) -> Values:
    """Host and device work beside each other: the slower one counts, and a little of the other near equality."""
    return (launches**4 + work**4) ** 0.25


def assemble(
    shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants, layer: LayerTimes
) -> StepTimes:
    """The step out of its layers: stages, passes, bubble, output layer, data-parallel exchange, optimizer."""
    passes = batch.global_batch / (layouts.data * layouts.micro_batch)
    is_full, is_selective = layouts.recompute == FULL, layouts.recompute == SELECTIVE
    work_f = layer.matmul + layer.attention + layer.memory
    work_b = layer.matmul_backward + layer.attention_backward + 2 * layer.memory
    # a ring of keys and values passes under attention; what is left of it, and tensor and expert exchange, take turns with the work
    ring_f = np.maximum(layer.context - constants.hidden * layer.attention, 0)
    ring_b = np.maximum(2 * layer.context - constants.hidden * layer.attention_backward, 0)
    is_beside = np.asarray(layouts.expert_overlap, dtype=bool)
    wire = layer.tensor + np.where(is_beside, 0.0, layer.expert)
    wire_f, wire_b = wire + ring_f, wire + ring_b
    again = is_full * (_both(layer.launches, work_f + wire_f) - wire_f) + is_selective * (
        layer.memory + (layouts.attention == 1) * layer.attention
    )
    forward, backward = _both(layer.launches, work_f + wire_f) - wire_f, _both(2 * layer.launches, work_b + wire_b) - wire_b
    trips = 2 + is_full
    tensor = layer.tensor * trips
    hideable = constants.hidden * (forward + backward + again)
    beside = np.maximum(layer.expert * trips - hideable, 0) + constants.interference * layer.expert * trips
    experts = np.where(is_beside, beside, layer.expert * trips)
    context = ring_f * (1 + is_full) + ring_b
    one_layer = forward + backward + again + tensor + experts + context

    # stages: chunks of whole layers; the output layer lies on the last one
    per_stage = np.ceil(shape.num_layers / layouts.pipeline)
    rest = np.maximum(shape.num_layers - (layouts.pipeline - 1) * per_stage, 0)
    head_matmul, head_memory = _head(shape, batch, layouts, hardware, constants)
    head = head_matmul + head_memory
    last = rest * one_layer + head
    first = per_stage * one_layer
    heaviest = np.where(layouts.pipeline > 1, np.maximum(first, last), last)
    others = np.where(last >= first, (layouts.pipeline - 1) * first, (layouts.pipeline - 2) * first + last)
    fill = np.where(layouts.schedule == INTERLEAVED, 1 / layouts.virtual, np.where(layouts.schedule == ZERO_BUBBLE, 1 / 3, 1.0))
    bubble = (layouts.pipeline > 1) * others * fill
    tokens = layouts.micro_batch * batch.seq_len / layouts.context
    message = send_s(tokens * shape.dim * BYTES / np.where(layouts.sequence_parallel, layouts.tensor, 1), layouts, hardware, constants)
    pipe = (layouts.pipeline > 1) * 2 * message * (passes * layouts.virtual * (1 - constants.hidden) + layouts.pipeline - 1)

    data, optimizer = _data_parallel(shape, layouts, hardware, constants, passes, heaviest)
    layers_here = np.where(layouts.pipeline > 1, np.where(last >= first, rest, per_stage), shape.num_layers)
    has_head = np.where((layouts.pipeline > 1) & (last < first), 0.0, 1.0)
    count = passes * layers_here
    busy = passes * heaviest + bubble
    ranks = layouts.num_accelerators
    return StepTimes(
        matmul_s=count * (layer.matmul + layer.matmul_backward) + passes * has_head * head_matmul,
        attention_s=count * (layer.attention + layer.attention_backward),
        memory_bound_s=count * 3 * layer.memory + passes * has_head * head_memory,
        launch_s=count * np.maximum(forward - work_f + backward - work_b, 0),  # rounding may leave less than nothing
        recompute_s=count * again,
        tensor_s=count * tensor,
        context_s=count * context,
        expert_s=count * experts,
        pipeline_s=pipe,
        bubble_s=bubble,
        data_s=data,
        optimizer_s=optimizer,
        fixed_s=constants.step_s + passes * constants.micro_batch_s,
        straggler_s=busy * constants.rank_spread * np.sqrt(2 * np.log(np.maximum(ranks, 1))),
    )


def _head(shape: ModelShape, batch: Batch, layouts: LayoutColumns, hardware: Hardware, constants: Constants) -> tuple[Values, Values]:
    """Output layer and loss of one micro-batch, forward and backward: matrix products, and passes over the logits."""
    tokens = layouts.micro_batch * batch.seq_len / layouts.context
    columns = shape.vocab_size / layouts.tensor
    _, rate_16 = _rates(layouts, hardware, constants)
    sizes = {"rate": rate_16, "units": hardware.compute_units, "half_depth": constants.half_depth, "quantisation": constants.quantisation}
    products = (
        matmul_s(tokens, columns, shape.dim, **sizes)
        + matmul_s(tokens, shape.dim, columns, **sizes)
        + matmul_s(shape.dim, columns, tokens, **sizes)
    )
    moved = tokens * columns * 24 * constants.logits
    return products, moved / (hardware.memory_bytes_per_s * constants.memory)


def _data_parallel(
    shape: ModelShape, layouts: LayoutColumns, hardware: Hardware, constants: Constants, passes: Values, heaviest: Values
) -> tuple[Values, Values]:
    """Exposed seconds of gradient and parameter exchange of one step, and seconds of the optimizer.

    `heaviest`: seconds of one micro-batch on the heaviest stage, forward and backward, under which communication hides.
    """
    counts, layer = num_parameters(shape), layer_parameters(shape)
    routed = shape.num_expert_layers * layer.routed_experts
    dense = (counts.total - routed) / layouts.tensor / layouts.pipeline
    experts = routed / layouts.pipeline / layouts.expert
    held = dense + experts
    group, copies = shard_group(layouts, hardware, constants), replicate_group(layouts, hardware, constants)
    # expert weights are exchanged only among the ranks that hold the same experts
    is_shared = (routed > 0) & (layouts.shard * layouts.context * layouts.tensor > layouts.expert)
    gather = all_gather_s(dense * BYTES, group) + is_shared * all_gather_s(experts * BYTES, group)
    is_sharded = layouts.shard > 1
    parts = np.where(is_sharded & (layouts.sharding != WHOLE), layouts.shard, 1)
    copy = (layouts.replicate > 1) * all_reduce_s(held * BYTES / parts, copies)
    # parameters are gathered for both directions and gradients scattered, every pass; otherwise both happen once
    is_every_pass = is_sharded * (layouts.sharding == PARAMETERS)
    each = is_every_pass * 3 * gather
    once = is_sharded * (layouts.sharding != PARAMETERS) * 2 * gather + copy
    hidden, beside = np.where(layouts.overlap, constants.hidden, 0.0) * heaviest, constants.interference * layouts.overlap
    left = np.maximum(hidden - each, 0)  # of the last pass, for what happens once
    exposed = passes * (np.maximum(each - hidden, 0) + beside * each) + np.maximum(once - left, 0) + beside * once
    states = held / np.where(layouts.sharding == WHOLE, 1, layouts.shard)
    optimizer = states * _OPTIMIZER_BYTES * constants.optimizer / (hardware.memory_bytes_per_s * constants.memory)
    return exposed, optimizer
