"""Peak memory of the fullest rank, for arrays of layouts at once. Goes in: a shape, a batch, layouts. Comes out: MemoryBytes by kind.

    memory_bytes(shape, batch, layouts).total

States are those of `training/`: bfloat16 copy, float32 masters, gradients, and two moments of AdamW or one of Muon. Activations are what
autograd keeps of the plain operations of `agora.model`, or what fused kernels keep. First and last stage are counted; the fuller one is
returned. Not covered: memory of the host, offloading.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np

from agora.cluster.columns import (
    GPIPE,
    GRADIENTS,
    INTERLEAVED,
    NONE,
    PARAMETERS,
    SELECTIVE,
    ZERO_BUBBLE,
    Hardware,
    LayoutColumns,
    Values,
    stack_layouts,
)
from agora.cluster.facts import load_tables
from agora.cluster.layout import Layout
from agora.cluster.step_time import BYTES, Batch
from agora.model.counts import layer_parameters
from agora.model.shape import ModelShape

Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryBytes:
    """Bytes of one rank by kind. `gathered` holds what sharded state becomes while a layer works; `margin` what no count sees."""

    weights: Values
    gradients: Values
    optimizer: Values
    gathered: Values
    activations: Values
    working: Values
    logits: Values
    communication: Values
    margin: Values

    @property
    def counted(self) -> Values:
        """What a dry run can see: everything but communication buffers and margin."""
        return self.weights + self.gradients + self.optimizer + self.gathered + self.activations + self.working + self.logits

    @property
    def total(self) -> Values:
        """What an accelerator must have."""
        return self.counted + self.communication + self.margin


@dataclass(frozen=True, slots=True)
class _Stage:
    """Parameters of one rank of one stage: divided by tensor ranks, the part of experts, and those of a layer, the tables, the head;
    `vectors` are tables and norms, which AdamW steps in any case, `matrix` those of the largest matrix that Muon makes whole."""

    held: Values
    experts: Values
    layer: Values
    expert_layer: Values
    tables: Values
    head: Values
    has_head: Values
    num_layers: Values
    vectors: Values
    matrix: Values
    is_joint: Values
    is_staged: Values


def memory_bytes(
    shape: ModelShape, batch: Batch, layouts: LayoutColumns, *, documents: bool = True, optimizer: Optimizer = "adamw"
) -> MemoryBytes:
    """Peak bytes of the fullest rank. `documents`: rows hold several, which may not see each other (training.document_aware); `optimizer`:
    adamw or muon (training.optimizer.name)."""
    ask = _Ask(documents, optimizer == "muon")
    per_stage = np.ceil(shape.num_layers / layouts.pipeline)
    rest = np.maximum(shape.num_layers - (layouts.pipeline - 1) * per_stage, 1)
    passes = batch.global_batch / (layouts.data * layouts.micro_batch)
    first = _of_stage(shape, batch, layouts, per_stage, 0, passes, ask)
    if np.all(layouts.pipeline == 1):
        return first
    last = _of_stage(shape, batch, layouts, rest, 1, passes, ask)
    is_first = first.total >= last.total
    return MemoryBytes(**{field.name: np.where(is_first, getattr(first, field.name), getattr(last, field.name)) for field in fields(first)})


@dataclass(frozen=True, slots=True)
class _Ask:
    documents: bool
    is_muon: bool


def _of_stage(
    shape: ModelShape, batch: Batch, layouts: LayoutColumns, num_layers: Values, position: int, passes: Values, ask: _Ask
) -> MemoryBytes:  # fmt: skip
    """`position` 0: first stage; 1: last stage."""
    stage = _stage(shape, layouts, num_layers, position)
    state, margin = load_tables("memory")["state"], load_tables("memory")["margin"]
    shards = layouts.shard * layouts.context
    expert_shards = np.maximum(layouts.shard * layouts.context * layouts.tensor / layouts.expert, 1)
    divided = stage.held / shards + stage.experts / expert_shards
    whole = stage.held + stage.experts
    # zero bubble makes gradients of weights later: until then all layers stay gathered, their gradients whole and in bfloat16
    puts_off = (layouts.schedule == ZERO_BUBBLE) & (layouts.pipeline > 1)
    compute, master = state.base("compute_weights"), state.base("master_weights")
    is_gathered = (layouts.sharding == PARAMETERS) & ~puts_off
    weights = master * np.where(layouts.sharding >= 1, divided, whole) + compute * np.where(is_gathered, 0.0, whole)
    stepped = np.where(layouts.sharding >= 1, divided, whole)
    vectors = stage.vectors / np.where(layouts.sharding >= 1, shards, 1)
    optimizer = state.base("moments") * stepped - ask.is_muon * state.base("moments") / 2 * (stepped - vectors)
    is_scattered = (layouts.sharding >= GRADIENTS) & ~puts_off
    waiting = np.where(is_scattered, divided, whole) * np.where(puts_off, compute, state.base("gradients")) * (passes > 1)
    kept, working, more = activation_bytes(shape, batch, layouts)
    mask, scores = _pair_bytes(shape, batch, layouts)
    mask = ask.documents * mask
    kept = kept + np.where(layouts.recompute == NONE, mask * layouts.virtual / num_layers, 0.0)  # one for all layers of a chunk
    working = working + scores + np.where(layouts.recompute == NONE, 0.0, mask)  # those of the layer that works
    in_flight = _in_flight_layers(layouts, num_layers, position, passes)
    logits = stage.has_head * logits_bytes(shape, layouts, margin.base("chunk"))
    parts = _Parts(waiting, compute * is_gathered, 1.0 * is_scattered, kept, in_flight, working, logits)
    collected = np.where(is_scattered | (layouts.sharding >= 1), divided, whole) * state.base("gradients")
    # AdamW takes one value for each weight, Muon whole matrices one by one
    scratch = np.maximum(state.base("gradients") * vectors, _MUON_SCRATCH * stage.matrix) if ask.is_muon else collected
    worst = _worst_moment(stage, parts, collected, scratch)
    counted = weights + optimizer + sum(worst)
    communication, rest = reserved_bytes(layouts, counted)
    gradients, gathered, activations, at_work, at_loss = worst
    return MemoryBytes(
        weights=weights, gradients=gradients, optimizer=optimizer, gathered=gathered, activations=activations, working=at_work,
        logits=at_loss, communication=communication, margin=rest + more * np.where(layouts.recompute == NONE, in_flight, 1),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the moments of a step are made of. `gathered` and `scattered`: bytes of a parameter's working copy, and 1, where the layout
    gathers layers and divides gradients one by one, else 0."""

    waiting: Values
    gathered: Values
    scattered: Values
    kept: Values
    in_flight: Values
    working: Values
    logits: Values


_MUON_SCRATCH = 10.5  # bytes for each weight of the matrix that is orthogonalised: float32 twice while it is gathered, then bfloat16


def _worst_moment(stage: _Stage, parts: _Parts, gradients: Values, scratch: Values) -> list[Values]:
    """Gradients, gathered layers, activations, working space and logits at the moment of a step that takes most. Tables stay gathered.

    Loss: the last layer is still gathered. Backward pass of a layer: two are gathered (one works, one arrives; experts by themselves), and
    the head's gradient waits for the end of the pass. From the second layer on the one before has let go of what it kept, and its gradient
    is on its way to the shards in float32. End of that pass: gradients of the layer whole, in bfloat16 and in float32 (of experts one
    matrix once more, in the order of its shards; their working copies are gone, but for two that chunks of a pipeline still hold as they
    came). End of the last pass: the same for the tables, whose working copies are gone. Optimizer: its scratch.
    """
    # experts that no axis divides lie with their layer; else they arrive and leave by themselves
    joint = np.where(stage.is_joint, stage.expert_layer, 0.0)
    layer, experts, head = stage.layer + joint, stage.expert_layer - joint, 2 * stage.head
    tables = parts.gathered * stage.tables
    kept = parts.kept * parts.in_flight
    leaving = np.maximum(6 * layer, (6 + 2 / 3) * experts)
    two_layers = tables + parts.gathered * (2 * layer + experts)
    last_gathered = tables + parts.gathered * 2 * (layer + stage.is_staged * experts)
    zero = 0.0 * kept
    moments = [
        [parts.waiting, tables + parts.gathered * (layer + experts), kept, zero, parts.logits],
        [parts.waiting + parts.scattered * 2 * joint + head, two_layers, kept, parts.working, zero],
        [parts.waiting + parts.scattered * (4 * layer + 2 * joint) + head, two_layers, kept - parts.kept, parts.working, zero],
        [parts.waiting + parts.scattered * leaving + head, last_gathered, kept - parts.kept, zero, zero],
        [parts.waiting + parts.scattered * 6 * stage.tables, zero, kept - parts.kept * stage.num_layers, zero, zero],
        [np.maximum(gradients, parts.waiting), zero, zero, scratch, zero],
    ]
    worst, most = moments[0], sum(moments[0])
    for moment in moments[1:]:
        total = sum(moment)
        worst = [np.where(total > most, new, old) for new, old in zip(moment, worst, strict=True)]
        most = np.maximum(total, most)
    return worst


def reserved_bytes(layouts: LayoutColumns, counted: Values) -> tuple[Values, Values]:
    """What no count of tensors sees: buffers of communicators; and context, workspaces and fragmentation."""
    margin, shards = load_tables("memory")["margin"], layouts.shard * layouts.context
    communicators = sum(1.0 * (degree > 1) for degree in (layouts.tensor, layouts.context, shards, layouts.replicate, layouts.expert))
    communicators = communicators + 2.0 * (layouts.pipeline > 1)
    return communicators * margin.base("communicator"), margin.base("context") + margin.base("fragmentation") * counted


def _stage(shape: ModelShape, layouts: LayoutColumns, num_layers: Values, position: int) -> _Stage:
    counts = layer_parameters(shape)
    t = layouts.tensor
    sparse_layers = shape.num_expert_layers
    is_alone = np.asarray(layouts.pipeline == 1)
    dense_total = shape.num_layers - sparse_layers
    # layers without experts come first
    dense = np.clip(dense_total - position * (shape.num_layers - num_layers), 0, num_layers)
    sparse = num_layers - dense
    every = counts.attention / t + counts.attention_whole + counts.norms
    feed, shared = counts.dense_feed_forward / t, counts.shared_experts / t + counts.router
    table = shape.vocab_size * shape.dim / t
    has_head = np.where(is_alone, True, position == 1)
    two = 2 - 1 * shape.tie_embeddings
    tables = table * np.where(is_alone, two, 1) + shape.dim * has_head + (position == 0) * shape.num_positions * shape.dim
    held = num_layers * every + dense * feed + sparse * shared + tables
    experts = sparse * counts.routed_experts / layouts.expert
    layer = every + np.where(sparse > 0, shared, feed)
    expert_layer = (sparse > 0) * counts.routed_experts / layouts.expert
    vectors = tables + num_layers * counts.norms
    widest = np.maximum((dense > 0) * shape.hidden_dim, np.maximum(shape.query_dim, shape.num_shared_experts * shape.expert_dim))
    matrix = np.maximum(shape.dim * widest, expert_layer / (2 + 1 * shape.gated))
    is_joint = layouts.expert * t == 1
    return _Stage(held, experts, layer, expert_layer, tables, table * has_head, has_head, num_layers, vectors, matrix, is_joint, ~is_alone)


def _in_flight_layers(layouts: LayoutColumns, num_layers: Values, position: int, passes: Values) -> Values:
    """Layers whose activations a rank keeps at the worst moment.

    1F1B: as many micro-batches as stages follow (Narayanan et al. 2021, section 2.2); interleaved: (p - 1 - rank) 2 + (v - 1) p + 1 chunks
    (Megatron-LM's warm-up); GPipe: all of them.
    """
    p, v = layouts.pipeline, layouts.virtual
    ahead = np.where(position == 0, p, 1)
    plain = np.where(layouts.schedule == GPIPE, passes, np.minimum(ahead, passes))
    chunks = np.minimum((ahead - 1) * 2 + (v - 1) * p + 1, passes * v)
    return num_layers * np.where((layouts.schedule == INTERLEAVED) & (p > 1), chunks / v, np.where(p > 1, plain, 1))


def activation_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> tuple[Values, Values, Values]:
    """Bytes of one layer and micro-batch that wait for the backward pass, those that one layer needs while it works, and what more waits
    on the busiest expert rank.

    Counted by tensor, per token (C = dim, Q and K = widths of queries and keys, F = width of the feed-forward block): plain norms keep a
    float32 copy and the normed value (6 bytes a channel), products keep their input, attention keeps queries, keys, values, result and one
    float32 per head. `tests/cluster/test_memory.py` compares with what autograd keeps of `agora.model`.
    """
    tokens = layouts.micro_batch * batch.seq_len / layouts.context
    t = layouts.tensor
    stream = np.where(layouts.sequence_parallel, t, 1)
    sparse = shape.num_expert_layers / shape.num_layers
    visits = shape.experts_per_token
    everything = _attention_bytes(shape, batch, layouts) + _feed_forward_bytes(shape, layouts, visits)
    inputs = np.where(layouts.kernels == 0, 2, 4) * shape.dim / stream
    again, more_kept = _product_bytes(shape, layouts)
    is_selective = layouts.recompute == SELECTIVE
    kept = np.where(layouts.recompute == NONE, everything, inputs + is_selective * (again + more_kept))
    # gradients of the widest values, or what experts pass on; under recomputation the whole layer again, less what is there already
    passed_on = (2 + (layouts.expert > 1)) * BYTES * visits * shape.dim
    widest = np.where(sparse == 0, 2 * BYTES * shape.hidden_dim, np.maximum(2 * BYTES * visits * shape.expert_dim, passed_on))
    working = 2 * BYTES * shape.dim + widest / t + (layouts.recompute != NONE) * everything
    # what is kept of the layer is there already, and its input's gradient comes when the widest values are gone
    late = np.maximum(BYTES * shape.dim * (t > 1) - 2 * BYTES * shape.hidden_dim / t, 0)
    gradients = np.where(sparse == 0, 2 * BYTES * shape.dim / stream + late, 2 * BYTES * shape.dim + widest / t)
    working = np.where(is_selective, everything - again + gradients, working)
    busier = (load_tables("memory")["margin"].base("imbalance") - 1) * sparse * visits
    more = busier * BYTES * (2 * shape.dim + 4 * shape.expert_dim) / t
    return kept * tokens, working * tokens, more * tokens


def _product_bytes(shape: ModelShape, layouts: LayoutColumns) -> tuple[Values, Values]:
    """Results that selective recomputation keeps per token (agora.training.recompute): those that a backward pass needs too, and others.

    Kept are products of matrices and fused attention; not the products of experts, and nothing of a ring of ranks. Of the others, what
    tensor ranks have yet to sum up is whole on each; alone, the block's own result is the next layer's input, which is there anyway.
    """
    t, alone = layouts.tensor, layouts.tensor == 1
    stream = np.where(layouts.sequence_parallel, t, 1)
    sparse = shape.num_expert_layers / shape.num_layers
    wide = BYTES * (1 + 1 * shape.gated)
    fused = (layouts.context == 1) & (layouts.attention == 0)
    attention = BYTES * (shape.query_dim + 2 * _key_dim(shape)) + fused * (BYTES * shape.output_dim + 4 * shape.num_heads)
    latent = (shape.kv_latent > 0) * BYTES * (shape.query_latent + shape.kv_latent + shape.rope_dim)
    dense = (1 - sparse) * wide * shape.hidden_dim + sparse * shape.num_shared_experts * wide * shape.expert_dim
    partial = BYTES * shape.dim * (1 + np.where(alone, 0.0, 1 - sparse * (shape.num_shared_experts == 0)))
    return (attention + dense) / t + latent, partial + sparse * BYTES * shape.num_experts / stream


def _pair_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> tuple[Values, Values]:
    """What plain kernels hold for each pair of positions: the mask that keeps documents apart, one for all heads
    (agora.model.operations.Documents); and in a ring of ranks, which needs none, scores of the keys that are passing by, with their
    gradients: twice in float32, once in bfloat16 (agora.training.ring_attention)."""
    pairs = (layouts.kernels != 0) * layouts.micro_batch * (batch.seq_len / layouts.context) ** 2
    is_ring = layouts.context > 1
    return np.where(is_ring, 0.0, BYTES * pairs), np.where(is_ring, 10 * pairs * shape.num_heads / layouts.tensor, 0.0)


def _attention_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> Values:
    """What one layer keeps per token outside its feed-forward block, both norms included."""
    t = layouts.tensor
    is_plain = layouts.kernels != 0
    norm = np.where(is_plain, 6, 2)
    queries, keys = shape.query_dim, _key_dim(shape)
    # inputs of the products after a norm are whole on every tensor rank; experts take each rank's own positions
    stream, sparse = np.where(layouts.sequence_parallel, t, 1), shape.num_expert_layers / shape.num_layers
    norms = 2 * norm * shape.dim / stream + (2 - sparse + sparse / t) * BYTES * shape.dim + 8 * is_plain
    kept = BYTES * (queries + 2 * keys) + BYTES * (queries + keys) + BYTES * shape.output_dim + 4 * shape.num_heads
    turned = is_plain * shape.qk_norm * (6 * (queries + keys) + 4 * (shape.num_heads + shape.num_kv_heads))
    tables = is_plain * 4 * shape.head_dim / layouts.micro_batch
    latent = (shape.kv_latent > 0) * (BYTES + norm) * (shape.query_latent + shape.kv_latent)
    scores = (layouts.attention == 1) * 5 * shape.num_heads * batch.seq_len
    return norms + (kept + turned + scores) / t + tables + latent


def _feed_forward_bytes(shape: ModelShape, layouts: LayoutColumns, visits: Values) -> Values:
    """What the feed-forward blocks keep per token, mean of dense layers and of those with experts."""
    t = layouts.tensor
    sparse = shape.num_expert_layers / shape.num_layers
    width = BYTES * np.where(shape.gated, np.where(layouts.kernels == 0, 3, 4), 2)
    router = 8 * shape.num_experts / np.where(layouts.sequence_parallel, t, 1)
    routed = visits * (2 * BYTES * shape.dim + width * shape.expert_dim) / t
    shared = shape.num_shared_experts * width * shape.expert_dim / t
    return (1 - sparse) * width * shape.hidden_dim / t + sparse * (routed + shared + router)


def _key_dim(shape: ModelShape) -> Values:
    return np.where(shape.kv_latent > 0, shape.num_heads * shape.head_dim, shape.kv_dim)


def logits_bytes(shape: ModelShape, layouts: LayoutColumns, chunk_rows: float) -> Values:
    """The chunk of logits in three forms (2 + 4 + 4 bytes), the float32 gradient of the output layer (twice where tensor ranks divide it),
    and what a chunk adds to it."""
    columns = shape.vocab_size / layouts.tensor
    return columns * (10 * chunk_rows + (6 + 4 * (layouts.tensor > 1)) * shape.dim)


def lightest_recompute(shape: ModelShape, layout: Layout, *, seq_len: int, global_batch: int, hardware: Hardware) -> Layout:
    """The layout without recomputation where that fits, else with selective; who recomputes everything is taken to say so."""
    bare = replace(layout, recompute="none")
    needed = memory_bytes(shape, Batch(seq_len=seq_len, global_batch=global_batch), stack_layouts([bare])).total
    return bare if needed[0] <= hardware.memory_bytes else replace(layout, recompute="selective")
