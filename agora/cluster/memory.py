"""Peak memory of the fullest rank, for arrays of layouts at once. Goes in: a shape, a batch, layouts. Comes out: MemoryBytes by kind.

    memory_bytes(shape, batch, layouts).total

States are those of `training/`: bfloat16 copy, float32 masters, gradients and two moments. Activations are what autograd keeps of the plain
operations of `agora.model`, or what fused kernels keep. First and last stage are
counted; the fuller one is returned. Not covered: memory of the host, offloading.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from agora.cluster.columns import FULL, GPIPE, GRADIENTS, INTERLEAVED, PARAMETERS, SELECTIVE, Hardware, LayoutColumns, Values, stack_layouts
from agora.cluster.facts import load_tables
from agora.cluster.layout import RECOMPUTES, Layout
from agora.cluster.step_time import BYTES, Batch
from agora.model.counts import layer_parameters
from agora.model.shape import ModelShape


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
    """Parameters of one rank of one stage: divided by tensor ranks, the part of experts, and those of one layer and of the tables."""

    held: Values
    experts: Values
    layer: Values
    expert_layer: Values
    tables: Values
    has_head: Values
    num_layers: Values


def memory_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> MemoryBytes:
    """Peak bytes of the fullest rank."""
    per_stage = np.ceil(shape.num_layers / layouts.pipeline)
    rest = np.maximum(shape.num_layers - (layouts.pipeline - 1) * per_stage, 1)
    passes = batch.global_batch / (layouts.data * layouts.micro_batch)
    first = _of_stage(shape, batch, layouts, per_stage, 0, passes)
    if np.all(layouts.pipeline == 1):
        return first
    last = _of_stage(shape, batch, layouts, rest, 1, passes)
    is_first = first.total >= last.total
    return MemoryBytes(**{field.name: np.where(is_first, getattr(first, field.name), getattr(last, field.name)) for field in fields(first)})


def _of_stage(shape: ModelShape, batch: Batch, layouts: LayoutColumns, num_layers: Values, position: int, passes: Values) -> MemoryBytes:
    """`position` 0: first stage; 1: last stage."""
    stage = _stage(shape, layouts, num_layers, position)
    state, margin = load_tables("memory")["state"], load_tables("memory")["margin"]
    shards = layouts.shard * layouts.context
    expert_shards = np.maximum(layouts.shard * layouts.context * layouts.tensor / layouts.expert, 1)
    divided = stage.held / shards + stage.experts / expert_shards
    whole = stage.held + stage.experts
    compute, master = state.base("compute_weights"), state.base("master_weights")
    weights = master * np.where(layouts.sharding >= 1, divided, whole) + compute * np.where(layouts.sharding == PARAMETERS, 0.0, whole)
    gradients = state.base("gradients") * np.where(layouts.sharding >= GRADIENTS, divided, whole)
    optimizer = state.base("moments") * np.where(layouts.sharding >= 1, divided, whole)
    biggest = stage.layer + stage.expert_layer
    # two layers gathered (one works, one arrives), the whole gradient of one and its float32 copy on the way to its shards; tables stay
    is_gathered, is_scattered = layouts.sharding == PARAMETERS, layouts.sharding >= GRADIENTS
    gathered = is_gathered * compute * (2 * biggest + stage.tables) + is_scattered * 6 * biggest
    kept, working = activation_bytes(shape, batch, layouts)
    in_flight = _in_flight_layers(layouts, num_layers, position, passes)
    logits = stage.has_head * logits_bytes(shape, layouts, margin.base("chunk"))
    counted = weights + gradients + optimizer + gathered + kept * in_flight + working + logits
    communication, rest = reserved_bytes(layouts, counted)
    return MemoryBytes(
        weights=weights, gradients=gradients, optimizer=optimizer, gathered=gathered, activations=kept * in_flight, working=working,
        logits=logits, communication=communication, margin=rest,
    )  # fmt: skip


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
    is_alone = layouts.pipeline == 1
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
    return _Stage(held, experts, layer, expert_layer, tables, has_head, num_layers)


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


def activation_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> tuple[Values, Values]:
    """Bytes of one layer and micro-batch that wait for the backward pass, and those that one layer needs while it works.

    Counted by tensor, per token (C = dim, Q and K = widths of queries and keys, F = width of the feed-forward block): plain norms keep a
    float32 copy and the normed value (6 bytes a channel), products keep their input, attention keeps queries, keys, values, result and one
    float32 per head. `tests/cluster/test_memory.py` compares with what autograd keeps of `agora.model`.
    """
    tokens = layouts.micro_batch * batch.seq_len / layouts.context
    t = layouts.tensor
    stream = np.where(layouts.sequence_parallel, t, 1)
    sparse = shape.num_expert_layers / shape.num_layers
    is_fused = layouts.kernels == 0
    visits = shape.experts_per_token * load_tables("memory")["margin"].base("imbalance")
    everything = _attention_bytes(shape, batch, layouts) + _feed_forward_bytes(shape, layouts, visits)
    inputs = np.where(is_fused, 2, 4) * shape.dim / stream
    queries, keys = shape.query_dim, _key_dim(shape)
    products = (BYTES * (queries + 2 * keys + shape.output_dim) + 4 * shape.num_heads) / t + 2 * BYTES * shape.dim / stream
    products = products + (1 - sparse) * 2 * BYTES * shape.hidden_dim / t + sparse * visits * 2 * BYTES * (shape.dim + shape.expert_dim) / t
    kept = np.where(layouts.recompute == FULL, inputs, np.where(layouts.recompute == SELECTIVE, inputs + products, everything))
    # gradients of the widest values, and under recomputation the whole layer again
    working = 2 * BYTES * shape.dim + (sparse == 0) * 2 * BYTES * shape.hidden_dim / t + (layouts.recompute > 0) * everything
    return kept * tokens, working * tokens


def _attention_bytes(shape: ModelShape, batch: Batch, layouts: LayoutColumns) -> Values:
    """What one layer keeps per token outside its feed-forward block, both norms included."""
    t = layouts.tensor
    is_plain = layouts.kernels != 0
    norm = np.where(is_plain, 6, 2)
    queries, keys = shape.query_dim, _key_dim(shape)
    # inputs of the products after a norm are whole on every tensor rank
    norms = 2 * norm * shape.dim / np.where(layouts.sequence_parallel, t, 1) + 2 * BYTES * shape.dim + 8 * is_plain
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
    """The chunk of logits in three forms (2 + 4 + 4 bytes), and the float32 gradient of the output layer."""
    columns = shape.vocab_size / layouts.tensor
    return columns * (10 * chunk_rows + 4 * shape.dim)


def lightest_recompute(shape: ModelShape, layout: Layout, *, seq_len: int, global_batch: int, hardware: Hardware) -> Layout:
    """The layout with the lightest recompute policy that fits; full recompute when none does."""
    options = [replace(layout, recompute=policy) for policy in RECOMPUTES]
    fits = memory_bytes(shape, Batch(seq_len=seq_len, global_batch=global_batch), stack_layouts(options)).total
    return options[0] if fits[0] <= hardware.memory_bytes else options[1]
