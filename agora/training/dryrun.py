"""What any rank of any world would hold, send and compute, found on one processor before there is a GPU. Goes in: a model, how it is
trained, a layout, a rank. Comes out: a DryRun: peak memory by kind, every collective, FLOPs.

    agora train dryrun h100_10k --world 10240 --rank 5000

It runs the program itself (parallelize.py, sharded_step.py, pipeline.py, the optimizer) as that rank. Process groups are PyTorch's fake
ones, which answer at once; tensors are fake too: they have a shape and no memory. Meshes are real tensors and made first; the rank's
part is cut from a model on the meta device and wrapped before the fake tensors begin.

Passes of a step beyond those that fill the pipeline repeat; with many of them two shorter steps are recorded, and the rest follows
linearly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

from agora.cluster.accelerator import accelerator
from agora.cluster.columns import Values, stack_layouts
from agora.cluster.facts import load_tables
from agora.cluster.layout import Layout
from agora.cluster.memory import memory_bytes, reserved_bytes
from agora.cluster.step_time import Batch as PlannerBatch
from agora.cluster.wafer import is_wafer
from agora.errors import UsageError
from agora.log import Progress, silent
from agora.model import fast
from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token
from agora.model.operations import rotary_tables
from agora.model.shape import shape_of
from agora.model.transformer import Transformer
from agora.training import parallelize
from agora.training.config import TrainingConfig
from agora.training.recorder import Collective, Recorder, StepRecord
from agora.training.sharded_step import ShardedStep
from agora.training.step import Batch
from agora.training.world import World, layout_for

logger = logging.getLogger(__name__)

NOT_COUNTED: Final = (
    "counted are tensors; what a GPU needs besides is a stated margin: buffers of communicators, the driver's context, workspaces of "
    "libraries, fragmentation (agora/cluster/data/memory.toml). Evaluation and checkpoints are not run."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """One step of one rank. `reserved_bytes` is the margin for what no tensor shows; `planned_bytes` is what the planner's closed form
    says of the fullest rank, margin left out. `model_flops` is the mean over all ranks without recomputation."""

    world: int
    rank: int
    stage: int
    layout: Layout
    num_micro_batches: int
    recorded_micro_batches: tuple[int, ...]
    seq_len: int
    global_batch: int
    num_parameters: int
    record: StepRecord
    reserved_bytes: float
    planned_bytes: float
    model_flops: float

    @property
    def needed_bytes(self) -> float:
        """What a GPU must have."""
        return self.record.peak_bytes + self.reserved_bytes


def dry_run(
    model: ModelConfig, training: TrainingConfig, layout: Layout, *, world: int | None = None, rank: int = 0, progress: Progress = silent
) -> DryRun:
    """One step as `rank` of `world` processes (the layout's own number when not given). As in training, a layout gets as many replicas
    as fit. Raises ConfigError for what cannot be divided and UsageError for a rank that is not there, each with the nearest possible."""
    world = layout.num_accelerators if world is None else world
    _refuse_rank(world, rank)
    if training.float8 != "off":
        logger.warning("training.float8=%s is not in a dry run, which counts products, and what they keep, in 16 bits", training.float8)
    layout = layout_for(World(rank, world), layout, training.micro_batch)
    global_batch = training.batch_tokens // training.seq_len
    parallelize.check(model, layout, seq_len=training.seq_len, global_batch=global_batch)
    num_micro_batches = layout.num_micro_batches(global_batch)
    numbers = recorded_numbers(layout, num_micro_batches)
    with _fake_world(world, rank), progress.step(f"rank {rank} of {world}", total=None, unit="steps"):
        step, records = record_steps(model, training, layout, numbers, fake=FakeTensorMode(allow_non_fake_inputs=True))
        num_parameters = sum(parameter.numel() for parameter in step.optimizer.parameters.values())
        stage = step.axes.pipeline_rank
        del step
    record = extrapolated(records, numbers, num_micro_batches)
    shape, columns = shape_of(model), stack_layouts([layout])
    batch = PlannerBatch(seq_len=training.seq_len, global_batch=global_batch)
    planned = memory_bytes(shape, batch, columns, documents=training.document_aware, optimizer=training.optimizer.name)
    flops = flops_per_token(model, training.seq_len, causal=False) * training.batch_tokens / world
    return DryRun(
        world=world, rank=rank, stage=stage, layout=layout, num_micro_batches=num_micro_batches, recorded_micro_batches=numbers,
        seq_len=training.seq_len, global_batch=global_batch, num_parameters=num_parameters, record=record,
        reserved_bytes=_total(reserved_bytes(columns, record.peak_bytes)), planned_bytes=_total((planned.counted,)),
        model_flops=float(flops),
    )  # fmt: skip


def _refuse_rank(world: int, rank: int) -> None:
    if world < 1:
        raise UsageError(f"--world {world} must be at least 1")
    if not 0 <= rank < world:
        raise UsageError(f"--rank {rank} is not one of the {world} ranks 0 to {world - 1}; the nearest is {0 if rank < 0 else world - 1}")


def _total(columns: Sequence[Values]) -> float:
    return sum(float(np.ravel(column)[0]) for column in columns)


def dry_run_stages(
    model: ModelConfig, training: TrainingConfig, layout: Layout, *, world: int | None = None, rank: int = 0, progress: Progress = silent
) -> Iterator[DryRun]:
    """`dry_run` of one rank for each pipeline stage: those at the place that `rank` has in its stage. Raises as `dry_run` does."""
    world = layout.num_accelerators if world is None else world
    _refuse_rank(world, rank)
    each = max(1, world // layout.pipeline)
    for stage in range(layout.pipeline):
        yield dry_run(model, training, layout, world=world, rank=stage * each + rank % each, progress=progress)


def recorded_numbers(layout: Layout, num_micro_batches: int) -> tuple[int, ...]:
    """Micro-batches of the steps that are recorded: the real number, or two with which a rank is full already.

    Under 1F1B a stage holds at most `pipeline` micro-batches; without stages, the second micro-batch is the first that finds gradients
    there. Interleaved chunks fill their buffers later: only from `3 x pipeline` on does the peak grow by the same for each micro-batch.
    GPipe holds all, so it is never shortened.
    """
    turn = layout.pipeline
    rounds = (3 if layout.schedule == "interleaved" else 2) * turn
    full, step = (turn + 1, 1) if turn == 1 or layout.schedule == "1f1b" else (rounds, turn)
    more = full + step
    if (layout.schedule == "gpipe" and turn > 1) or num_micro_batches <= more:
        return (num_micro_batches,)
    return full, more


def extrapolated(records: Sequence[StepRecord], numbers: Sequence[int], wanted: int) -> StepRecord:
    """The record of `wanted` micro-batches: the last one, or what follows from the last two."""
    last = records[-1]
    if len(records) == 1 or numbers[-1] == wanted:
        return last
    before, ahead = records[-2], (wanted - numbers[-1]) / (numbers[-1] - numbers[-2])
    earlier = {(c.operation, c.group, c.group_size): c for c in before.collectives}

    def further(now: float, then: float) -> float:
        return now + (now - then) * ahead

    collectives = []
    for c in last.collectives:
        then = earlier.get((c.operation, c.group, c.group_size))
        count, num_bytes = (0.0, 0.0) if then is None else (then.count, then.num_bytes)
        collectives.append(replace(c, count=further(c.count, count), num_bytes=further(c.num_bytes, num_bytes)))
    collectives.sort(key=lambda c: (-c.sent_bytes, c.operation, c.group))
    by_kind = {kind: max(0.0, further(num_bytes, before.by_kind[kind])) for kind, num_bytes in last.by_kind.items()}
    return StepRecord(peak_bytes=sum(by_kind.values()), by_kind=by_kind, collectives=collectives, flops=further(last.flops, before.flops))


def record_steps(
    model: ModelConfig,
    training: TrainingConfig,
    layout: Layout,
    numbers: Sequence[int],
    *,
    fake: FakeTensorMode | None = None,
) -> tuple[ShardedStep, list[StepRecord]]:
    """A step of each of `numbers` micro-batches on this rank of the process group. Without `fake` the steps are real, on a
    processor: that is what dry runs are compared with."""
    dtype = "float32" if training.dtype == "float32" else "bfloat16"
    recorder = Recorder()

    @contextmanager
    def recording() -> Iterator[None]:
        mode: AbstractContextManager[object] = nullcontext() if fake is None else fake
        with fast.plain_operations(), mode, recorder:
            yield

    # tables of positions are kept for the whole process: made here, they are real tensors
    rotary_tables(model.head_dim, model.rope_theta, model.max_seq_len, torch.device("cpu"))
    with torch.device("meta"):
        whole = Transformer(model)
    step = ShardedStep(
        whole, training.optimizer, layout, seq_len=training.seq_len, dtype=dtype, grad_clip=training.grad_clip, taking_memory=recording()
    )
    del whole
    recorder.watch(step.part.stages)
    records = []
    with recording():
        if fake is None:
            _fill(step)
        for number in numbers:
            batches = [_batch(model, training, layout) for _ in range(number)]
            recorder.begin()
            step.run(batches)
            records.append(recorder.end(step))
    return step, records


@torch.no_grad()
def _fill(step: ShardedStep) -> None:
    """Some weights; memory as it comes may hold what is no number."""
    for parameter in step.optimizer.parameters.values():
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        local.normal_(std=0.02)


def _batch(model: ModelConfig, training: TrainingConfig, layout: Layout) -> Batch:
    """Rows of two documents, or of one when the run does not tell documents apart."""
    shape = (layout.micro_batch, training.seq_len)
    tokens_BT = torch.randint(0, model.vocab_size, shape)
    documents_BT = None
    if training.document_aware:
        documents_BT = (torch.arange(training.seq_len) >= training.seq_len // 2).to(torch.int32).expand(shape).contiguous()
    return Batch(tokens_BT, tokens_BT.clone(), documents_BT)


@contextmanager
def _fake_world(world: int, rank: int) -> Iterator[None]:
    """This process as one of many that are not there. Raises UsageError inside a run of several processes."""
    if dist.is_initialized():
        raise UsageError("a dry run is of one process, but this one has joined others; start it without torchrun")
    dist.init_process_group("fake", rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]  # another rank's meshes are equal to this one's, but their groups are gone


# ---- whether it fits


def memory_of(name: str) -> float:
    """Bytes of an accelerator. Raises ConfigError naming the nearest that exists."""
    return accelerator(name).base("memory")


def smallest_that_holds(num_bytes: float) -> str | None:
    """The accelerator with the least memory that is enough, or None. A wafer holds no weights, which is what a dry run counts."""
    tables = {name: table for name, table in load_tables("accelerators").items() if not is_wafer(table)}
    enough = [(table.base("memory"), name) for name, table in tables.items() if table.base("memory") >= num_bytes]
    return min(enough)[1] if enough else None


def warnings_for(run: DryRun, name: str) -> list[str]:
    """Why a rank does not fit into the memory of an accelerator, and what takes most there; nothing when it fits."""
    has, needs = memory_of(name), run.needed_bytes
    if needs <= has:
        return []
    kind = max(run.record.by_kind, key=lambda key: run.record.by_kind[key])
    remedies = {
        "weights": "layout.shard", "optimizer": "layout.shard", "gradients": "layout.sharding=gradients and layout.shard",
        "gathered": "layout.sharding=parameters or layout.tensor", "activations": "layout.recompute=full, layout.tensor or layout.context",
        "other": "layout.tensor or training.micro_batch",
    }  # fmt: skip
    holder = smallest_that_holds(needs)
    return [
        f"rank {run.rank} needs {needs / 1e9:.1f} GB with its margin, {name} has {has / 1e9:.1f} GB; {kind} take most "
        f"({run.record.by_kind[kind] / 1e9:.1f} GB): change {remedies[kind]}"
        + (f", or take {holder} ({memory_of(holder) / 1e9:.0f} GB)" if holder else "; no accelerator listed has as much")
    ]


def as_rows(collectives: Sequence[Collective], shown: Callable[[float], str]) -> list[str]:
    """A line for each collective: operation, group and size, count, bytes."""
    return [
        f"{c.operation:<14} {c.group} ({c.group_size:,})  {c.count:,.0f} x  {shown(c.num_bytes)}, sends {shown(c.sent_bytes)}"
        for c in collectives
    ]
