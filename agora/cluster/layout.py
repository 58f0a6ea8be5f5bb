"""How one training run is laid over accelerators. Goes in: degrees and choices. Comes out: a frozen Layout that the planner prices and
`training/parallelize.py` applies; an impossible one is refused with the reason and the nearest that is possible.

    Layout(shard=64, tensor=8, pipeline=2).check(shape, seq_len=8192, global_batch=1024)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from agora.cluster.nearest import Place, Refusal, divisors, in_words, nearest_possible
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.shape import ModelShape, shape_of

Sharding = Literal["none", "optimizer", "gradients", "parameters"]
Schedule = Literal["gpipe", "1f1b", "interleaved", "zero_bubble"]
Recompute = Literal["none", "selective", "full"]
Precision = Literal["bf16", "fp16", "fp8", "mxfp8", "nvfp4"]
Kernels = Literal["fused", "plain"]
Dispatch = Literal["bf16", "fp8"]
SHARDINGS: tuple[Sharding, ...] = get_args(Sharding)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
KERNELS: tuple[Kernels, ...] = get_args(Kernels)
RECOMPUTES: tuple[Recompute, ...] = get_args(Recompute)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_MOST_PADDING = 1.1  # of a stack of experts: FSDP2 fills up its first dimension to equal shards
DISPATCHES: tuple[Dispatch, ...] = get_args(Dispatch)
_CHOICES: dict[str, tuple[str, ...]] = {
    "sharding": SHARDINGS, "schedule": SCHEDULES, "recompute": RECOMPUTES, "precision": PRECISIONS, "dispatch": DISPATCHES
}  # fmt: skip
_DEGREES = ("replicate", "shard", "tensor", "pipeline", "virtual", "context", "expert", "micro_batch")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One way to divide a run. Raises ConfigError for values that contradict each other.

    replicate          copies of the whole model that exchange gradients (pure data parallel)
    shard              ranks of a copy among which data is divided and state is sharded
    sharding           what `shard` ranks divide: nothing, optimizer states, also gradients, also parameters (FSDP, ZeRO 3)
    tensor             ranks that divide every matrix
    sequence_parallel  norms and residuals are divided over the tensor ranks too
    pipeline           stages
    virtual            chunks of layers that a stage holds (interleaved schedule)
    schedule           order of micro-batches through the stages
    context            ranks that divide a sequence
    expert             ranks that divide the experts; lies inside shard x context x tensor
    recompute          what the backward pass computes again
    micro_batch        sequences per data rank and pass; price of a plan, training takes training.micro_batch
    precision          number format of the matrix products; price of a plan, training takes training.float8 and training.dtype
    attention          fused (never writes scores) or plain; price of a plan, training is always fused
    kernels            element-wise work between products: fused (compiled) or plain; price of a plan, training takes training.compile
    overlap            data-parallel communication runs beside compute; price of a plan, training always overlaps
    dispatch           number format of tokens on their way to experts; what comes back has 16 bits (fp8 is priced, not trained)
    expert_overlap     tokens travel to and from experts beside the compute of another micro-batch (priced, not trained)
    """

    replicate: int = 1
    shard: int = 1
    sharding: Sharding = "parameters"
    tensor: int = 1
    sequence_parallel: bool = True
    pipeline: int = 1
    virtual: int = 1
    schedule: Schedule = "1f1b"
    context: int = 1
    expert: int = 1
    recompute: Recompute = "none"
    micro_batch: int = 1
    precision: Precision = "bf16"
    attention: Kernels = "fused"
    kernels: Kernels = "plain"
    overlap: bool = True
    dispatch: Dispatch = "bf16"
    expert_overlap: bool = False

    def __post_init__(self) -> None:
        for name in _DEGREES:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"layout.{name}={value!r} must be a whole number of at least 1")
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"layout.{name}={getattr(self, name)!r} is not one of {', '.join(allowed)}")
        if self.virtual > 1 and self.pipeline == 1:
            raise ConfigError(f"layout.virtual={self.virtual} needs pipeline > 1; try virtual=1")
        if self.virtual > 1 and self.schedule != "interleaved":
            raise ConfigError(f"layout.virtual={self.virtual} needs schedule='interleaved', not {self.schedule!r}")
        if self.schedule == "interleaved" and self.virtual == 1 and self.pipeline > 1:
            raise ConfigError("layout.schedule='interleaved' needs virtual >= 2; try virtual=2 or schedule='1f1b'")

    @property
    def data(self) -> int:
        """Ranks that read different sequences."""
        return self.replicate * self.shard

    @property
    def num_accelerators(self) -> int:
        """Ranks of the whole run."""
        return self.data * self.tensor * self.pipeline * self.context

    def num_micro_batches(self, global_batch: int) -> int:
        """Passes of one data rank per step. Raises ConfigError when the batch does not divide."""
        if global_batch % (self.data * self.micro_batch):
            nearest = self.data * self.micro_batch * max(1, round(global_batch / (self.data * self.micro_batch)))
            rows, rest = divmod(global_batch, self.data)
            other = "" if rest else f"micro_batch={nearest_divisor(rows, self.micro_batch)}, or "
            raise ConfigError(f"{self._undivided(global_batch)}; the nearest that does is {other}global_batch={nearest}")
        return global_batch // (self.data * self.micro_batch)

    def check(self, model: ModelConfig | ModelShape, *, seq_len: int, global_batch: int, in_training: bool = False) -> None:
        """Raises ConfigError with the reason and the nearest possible layout when the model cannot be divided so. `in_training` names
        batch and rows by the settings of training."""
        shape = shape_of(model)
        refusal = self.refusal(shape, seq_len=seq_len, global_batch=global_batch)
        if refusal is None:
            return
        place = Place(self, seq_len, global_batch)
        found = nearest_possible(place, shape, refusal)
        reason = refusal.reason
        if in_training and reason == self._undivided(global_batch):
            reason = (
                f"training.batch_tokens={global_batch * seq_len} are {global_batch} rows of {seq_len}, which do not divide over "
                f"{self.data} data ranks with training.micro_batch={self.micro_batch}"
            )
        raise ConfigError(f"{reason}; {in_words(place, found, in_training=in_training)}")

    def refusal(self, shape: ModelShape, *, seq_len: int, global_batch: int) -> Refusal | None:
        """The first rule that forbids it, or None."""
        for name, size, why in self._divisions(shape, seq_len):
            degree = getattr(self, name)
            if size % degree:
                return Refusal(reason=f"layout.{name}={degree} does not divide {why}", fields=((name,),))
        return (
            self._refused_heads(shape)
            or self._refused_positions(shape, seq_len)
            or self._refused_shards(shape)
            or self._refused_stages(shape)
            or self._refused_batch(global_batch)
        )

    def _refused_stages(self, shape: ModelShape) -> Refusal | None:
        if self.pipeline > 1 and self.schedule == "zero_bubble" and self.recompute != "none":
            reason = f"layout.schedule='zero_bubble' takes the backward pass apart, and recompute={self.recompute!r} has it in one piece"
            return Refusal(reason=reason, fields=(("recompute", "schedule"),))
        chunks = self.pipeline * self.virtual
        if chunks > shape.num_layers:
            reason = f"layout.pipeline={self.pipeline} x virtual={self.virtual} needs {chunks} layers, the model has {shape.num_layers}"
            return Refusal(reason=reason, fields=(("pipeline",), ("virtual",)))
        return None

    def _refused_batch(self, global_batch: int) -> Refusal | None:
        """The batch over the data ranks, and what the schedules of torch.distributed.pipelining demand of the number of micro-batches."""
        passes, rest = divmod(global_batch, self.data * self.micro_batch)
        if rest:
            return Refusal(reason=self._undivided(global_batch), fields=(("micro_batch", "global_batch"),))
        if self.nearest_passes(passes) != passes:
            needs = {
                "interleaved": f"a multiple of pipeline={self.pipeline} micro-batches",
                "zero_bubble": f"micro-batches in {max(1, passes // self.pipeline)} rounds of equal size",
                "1f1b": f"at least pipeline={self.pipeline} micro-batches",
            }[self.schedule]
            return Refusal(reason=f"layout.schedule={self.schedule!r} needs {needs}, not {passes}", fields=(("global_batch",),))
        if self.expert_overlap and passes < 2:
            reason = "layout.expert_overlap needs a second micro-batch to compute meanwhile, and a data rank has one"
            return Refusal(reason=reason, fields=(("global_batch", "expert_overlap"),))
        return None

    def _undivided(self, global_batch: int) -> str:
        return f"global_batch={global_batch} sequences do not divide over {self.data} data ranks with micro_batch={self.micro_batch}"

    def check_trainable(self) -> None:
        """Raises ConfigError for what the planner prices and training does not do."""
        if self.dispatch != "bf16" or self.expert_overlap:
            raise ConfigError(
                f"layout.dispatch={self.dispatch!r} with expert_overlap={str(self.expert_overlap).lower()} is priced by the planner and "
                "not done by training; the nearest possible is dispatch='bf16' with expert_overlap=false"
            )

    def nearest_passes(self, passes: int) -> int:
        """The number of micro-batches near `passes` that the schedule can run."""
        return int(possible_passes(passes, self.pipeline, SCHEDULES.index(self.schedule)))

    def _refused_heads(self, shape: ModelShape) -> Refusal | None:
        """Query heads must lie with their key head: tensor divides the key heads, or each key head goes to as many ranks as another."""
        if shape.num_kv_heads % self.tensor == 0 or self.tensor % shape.num_kv_heads == 0:
            return None
        reason = (
            f"layout.tensor={self.tensor} neither divides the {shape.num_kv_heads} key heads nor is a multiple of them, so query heads "
            "of one rank would belong to several"
        )
        return Refusal(reason=reason, fields=(("tensor",),))

    def _refused_positions(self, shape: ModelShape, seq_len: int) -> Refusal | None:
        """A ring gives each rank two pieces of a row; sequence parallel and experts divide the positions of a rank over tensor ranks."""
        if self.context > 1 and seq_len % (2 * self.context):
            reason = (
                f"layout.context={self.context} needs rows of a multiple of {2 * self.context} tokens (two pieces for each rank), not "
                f"seq_len={seq_len}"
            )
            return Refusal(reason=reason, fields=(("seq_len",),))
        here = seq_len // self.context
        if (self.sequence_parallel or shape.num_experts) and here % self.tensor:
            reason = f"layout.tensor={self.tensor} does not divide the {here} positions of a rank, which sequence parallel and experts need"
            return Refusal(reason=reason, fields=(("tensor",), ("seq_len",)))
        return None

    def _refused_shards(self, shape: ModelShape) -> Refusal | None:
        """FSDP2 divides the rows of every matrix: more shards than rows leave ranks empty."""
        rows, shards = shard_rows(shape, self.tensor), self.shard * self.context
        if self.sharding != "none" and self.shard > 1 and shards > rows:
            reason = (
                f"layout.shard={self.shard} x context={self.context} shards are more than the {rows} rows of the smallest matrix, "
                "so ranks would stay empty"
            )
            return Refusal(reason=reason, fields=(("shard",), ("context",)))
        if self.sharding == "none" or experts_divide(shape, shards * self.tensor // self.expert, self.expert):
            return None
        reason = (
            f"layout.shard={self.shard} x context={self.context} x tensor={self.tensor} / expert={self.expert} shards divide neither the "
            f"{shape.num_experts // self.expert} experts of a rank nor the rows of one ({shape.expert_dim} and {shape.dim}), so ranks "
            "would stay empty and others hold everything"
        )
        return Refusal(reason=reason, fields=(("shard",), ("expert", "sharding")))

    def _divisions(self, shape: ModelShape, seq_len: int) -> list[tuple[str, int, str]]:
        """What each degree must divide, and how that is called."""
        divisions = [
            ("tensor", shape.num_heads, f"{shape.num_heads} heads"),
            ("tensor", max(shape.num_kv_heads, self.tensor), f"{shape.num_kv_heads} key heads"),  # more ranks than these share one
            ("tensor", width := shape.hidden_dim or shape.expert_dim, f"the width {width} of feed-forward layers"),
            ("tensor", shape.vocab_size, f"vocab_size={shape.vocab_size}"),
            ("context", seq_len, f"seq_len={seq_len}"),
        ]
        if shape.num_experts == 0:
            divisions.append(("expert", 1, "a dense model, which has no experts"))
        else:
            ranks = self.shard * self.context * self.tensor
            divisions.append(("expert", shape.num_experts, f"{shape.num_experts} experts"))
            divisions.append(("expert", ranks, f"shard x context x tensor = {ranks} ranks"))
        return divisions

    def describe(self) -> str:
        """`replicate 2 x shard 64 x tensor 8 ...`: what differs from a single rank."""
        degrees = [f"{name} {getattr(self, name)}" for name in _DEGREES if getattr(self, name) > 1 or name == "micro_batch"]
        choices = [
            self.sharding if self.shard > 1 else "",
            self.schedule if self.pipeline > 1 else "",
            f"recompute {self.recompute}",
            self.precision,
            f"{self.dispatch} dispatch" if self.dispatch != "bf16" else "",
            "experts overlapped" if self.expert_overlap else "",
        ]
        return ", ".join([*degrees, *(choice for choice in choices if choice)])

    def with_accelerators(self, num_accelerators: int) -> Layout:
        """The same division with more or fewer replicas. Raises ConfigError when the group does not divide the number."""
        group = self.num_accelerators // self.replicate
        if num_accelerators % group:
            nearest = group * max(1, round(num_accelerators / group))
            raise ConfigError(f"{num_accelerators} accelerators are no multiple of the layout's group of {group}; try {nearest}")
        return replace(self, replicate=num_accelerators // group)


def possible_passes(passes: Any, pipeline: Any, schedule: Any) -> Any:
    """Micro-batches near `passes` that the schedule (a number of SCHEDULES, like the others also an array) can run.

    torch.distributed.pipelining: 1F1B takes at least as many as stages, zero bubble passes / stages whole rounds of equal size, interleaved
    the same (whole multiples of the stages here: no chunk waits).
    """
    turns = np.maximum(np.round(np.asarray(passes) / pipeline), 1).astype(np.int64) * pipeline
    is_whole = np.asarray(passes) % np.maximum(np.asarray(passes) // pipeline, 1) == 0
    interleaved, zero_bubble, plain = (SCHEDULES.index(name) for name in ("interleaved", "zero_bubble", "1f1b"))
    found = np.where((schedule == interleaved) | ((schedule == zero_bubble) & ~is_whole), turns, passes)
    return np.where(pipeline > 1, np.where(schedule == plain, np.maximum(passes, pipeline), found), passes)


def shard_rows(shape: ModelShape, tensor: int) -> int:
    """Rows of the smallest weight matrix of a tensor rank."""
    widths = [int(shape.dim), int((shape.query_dim + 2 * shape.kv_dim) // tensor)]
    widths += [int(shape.hidden_dim // tensor)] if shape.hidden_dim else []
    return min(widths + ([int(shape.expert_dim)] if shape.num_experts else []))


def experts_divide(shape: ModelShape, shards: Any, expert: Any) -> Any:
    """Whether fully_shard can spread the experts of a rank over `shards` (with `expert`, also an array): rows of each, or whole ones with
    little left over."""
    held = shape.num_experts // expert
    has_rows = (shape.dim % shards == 0) & (shape.expert_dim % shards == 0)
    return (shape.num_experts == 0) | has_rows | (np.ceil(held / shards) * shards <= _MOST_PADDING * held)


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` that is nearest to `wanted` (the smaller one of two)."""
    return min(divisors(number), key=lambda d: (abs(d - wanted), d))
