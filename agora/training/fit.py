"""Whether a run can fit at all. Goes in: a network, a layout, the memory there is. Comes out: nothing, or a ConfigError that says at once
what would be needed, what is there and what to do, instead of a process that the system kills later.

Only what is certain is refused: masters, gradients and moments, by the planner's count (agora.cluster.memory) and the optimizer of the run.
Activations are an estimate that recomputing and smaller passes change, so they only warn.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from agora.cluster.columns import stack_layouts
from agora.cluster.layout import Layout
from agora.cluster.memory import memory_bytes
from agora.cluster.step_time import Batch
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.counts import num_parameters
from agora.model.shape import shape_of
from agora.training.config import TrainingConfig
from agora.training.machine import choose_device
from agora.units import format_bytes, format_si

logger = logging.getLogger(__name__)

_CGROUP_LIMITS: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, version 1


def refuse_what_cannot_fit(
    model: ModelConfig, training: TrainingConfig, layout: Layout, *, recipe: str = "", memory: float | None = None
) -> None:
    """Raises ConfigError when the state of `model` alone is more than a process has; warns when the whole step probably is.

    `layout` is what the recipe asks for; the processes that were started decide what each must hold. `memory` replaces what is found.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    state, total = needed_bytes(model, training, _layout_here(layout, num_processes, training.micro_batch))
    there = memory_here(training.device) if memory is None else memory
    if state > there:
        raise ConfigError(_refusal(model, layout, state, there, num_processes, recipe))
    if total > there:
        logger.warning(
            "a step probably needs %s a process and %s are there: take a smaller training.micro_batch, or layout.recompute=full on several",
            format_bytes(total), format_bytes(there),
        )  # fmt: skip


def needed_bytes(model: ModelConfig, training: TrainingConfig, layout: Layout) -> tuple[float, float]:
    """Bytes of the fullest rank: of weights, gradients and optimizer state; of everything."""
    shape = shape_of(model)
    batch = Batch(seq_len=training.seq_len, global_batch=max(1, training.batch_tokens // training.seq_len))
    needed = memory_bytes(shape, batch, stack_layouts([layout]), documents=training.document_aware, optimizer=training.optimizer.name)
    state, total = (float(np.ravel(value)[0]) for value in (needed.weights + needed.gradients + needed.optimizer, needed.total))
    return state, total


def _layout_here(layout: Layout, num_processes: int, micro_batch: int) -> Layout:
    """How `num_processes` would share the work; as if the weights were spread over all of them where the layout does not divide."""
    if num_processes == 1:
        return Layout(micro_batch=micro_batch)
    if layout.num_accelerators > 1 and num_processes % (layout.num_accelerators // layout.replicate) == 0:
        return replace(layout.with_accelerators(num_processes), micro_batch=micro_batch)
    return Layout(shard=num_processes, micro_batch=micro_batch)


def _refusal(model: ModelConfig, layout: Layout, state: float, there: float, num_processes: int, recipe: str) -> str:
    number, name = layout.num_accelerators, recipe or "RECIPE"
    where = "one process" if num_processes == 1 else f"each of {num_processes:,} processes"
    parameters = format_si(num_parameters(model).total, "parameters")
    said = (
        f"{recipe or 'this model'} cannot be trained here: weights, gradients and optimizer state of {parameters} need "
        f"{format_bytes(state)} in {where}, and {format_bytes(there)} are there. "
    )
    if number > num_processes:
        said += (
            f"Its layout is for {number:,} accelerators: `agora train launch {name} --slurm --out job.sbatch` (or --kubernetes, --ray) "
            f"writes the job, `agora train dryrun {name} --world {number} --rank 0` runs one rank of it here, without its memory. "
        )
    else:
        said += "Start it on more processes (torchrun --nproc-per-node N), which share the state. "
    return said + "A recipe for this machine: agora train pretrain laptop"


def memory_here(device: str) -> float:
    """Bytes that a process may use: those of its GPU, or its share of the machine's (of the container's, where that is less)."""
    chosen = choose_device(device)
    if chosen.startswith("cuda"):
        index = torch.device(chosen).index
        local = int(os.environ.get("LOCAL_RANK", "0")) if index is None else index
        return float(torch.cuda.get_device_properties(local).total_memory)
    sizes = [float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES")]
    for place in _CGROUP_LIMITS:
        text = Path(place).read_text(encoding="ascii").strip() if Path(place).exists() else ""
        sizes += [float(text)] if text.isdecimal() else []
    return min(sizes) / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
