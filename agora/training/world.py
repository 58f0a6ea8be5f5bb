"""The processes of one run. Goes in: what a launcher set (RANK, WORLD_SIZE, LOCAL_RANK). Comes out: this process's place.

    torchrun --nproc-per-node 2 -m agora train pretrain laptop training.micro_batch=8

Without those variables, or with one process, nothing is started and every question is answered alone.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar, cast

import torch
import torch.distributed as dist

from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.training.machine import choose_device
from agora.training.meeting import meet, needs_meeting

T = TypeVar("T")

_REMEMBERED_COLLECTIVES: Final = "256"  # by PyTorch's flight recorder, for watchdog.py: a few passes through the model
_FEW: Final = 256  # processes that may each be connected with every other, in each group; 1,024 open files are usual


@dataclass(frozen=True, slots=True)
class World:
    """This process among `size`. The first one writes what there is once: run files, checkpoints, the screen."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where what is exchanged must lie."""
        return _device() if self.size > 1 else torch.device("cpu")

    def folder(self, run_dir: Path) -> Path:
        """Where this process keeps its metrics and decisions: the run's folder, or one of its own in it."""
        return run_dir if self.is_first else run_dir / "ranks" / f"{self.rank:05d}"

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Each flag, raised when any process raised it."""
        if self.size == 1:
            return flags
        raised = torch.tensor([int(flag) for flag in flags], device=_device())
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in raised.tolist())

    def sum(self, *values: float) -> tuple[float, ...]:
        """Each value, added up over all processes."""
        if self.size == 1:
            return values
        added = torch.tensor(values, dtype=torch.float64, device=_device())
        dist.all_reduce(added)
        return tuple(added.tolist())

    @property
    def is_first_of_host(self) -> bool:
        """Whether no process of this host has a lower rank."""
        return self.size == 1 or int(os.environ.get("LOCAL_RANK", "0")) == 0

    def from_first(self, value: T) -> T:
        """What the first process has."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def first_does(self, action: Callable[[], T], *errors: type[Exception]) -> T:
        """What `action` gives on the first process, which alone carries it out. What of `errors` it raises there, all raise."""
        found, problem = None, None
        if self.is_first:
            try:
                found = action()
            except errors as error:
                problem = error
        found, problem = self.from_first((found, problem))
        if problem is not None:
            raise problem
        return cast(T, found)

    def first_text(self, text: str | None) -> str | None:
        """What the first process says that says anything."""
        if self.size == 1:
            return text
        texts: list[str | None] = [None] * self.size
        dist.all_gather_object(texts, text)
        return next((one for one in texts if one is not None), None)

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def place_among_processes() -> tuple[int, int]:
    """Rank and number of the processes that a launcher started, before any world is joined."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process may write to the screen, before any world is joined."""
    return place_among_processes()[0] == 0


@contextmanager
def joined_world(device: str) -> Iterator[World]:
    """Join the processes that a launcher started; leave them at the end. Raises ConfigError for half-set variables, and for a device that
    all of a node would share."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if "RANK" not in os.environ:
        raise ConfigError(f"WORLD_SIZE={size} is set and RANK is not; start with torchrun, or unset WORLD_SIZE to train alone")
    if device.startswith("cuda:"):
        raise ConfigError(f"training.device={device!r} is one GPU, and {size} processes run, each on its own; use training.device=cuda")
    is_cuda = choose_device(device).startswith("cuda")
    if is_cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    begins_here = not dist.is_initialized()
    if begins_here:
        os.environ.setdefault("TORCH_FR_BUFFER_SIZE", _REMEMBERED_COLLECTIVES)
        if size > _FEW:
            _allow_many()
        backend, rank = "cpu:gloo,cuda:nccl" if is_cuda else "gloo", int(os.environ["RANK"])
        if needs_meeting():
            dist.init_process_group(backend, store=meet(rank, size), rank=rank, world_size=size)
        else:
            dist.init_process_group(backend)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        if begins_here:
            dist.destroy_process_group()


def _allow_many() -> None:
    """gloo connects every process of a group with every other one when the group is made, unless told to connect who talks. The first
    process still hears of all (what each writes of a checkpoint), so as many files may be open as the system allows."""
    os.environ.setdefault("TORCH_GLOO_LAZY_INIT", "1")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def layout_for(world: World, layout: Layout, micro_batch: int) -> Layout:
    """`layout` for the processes there are: one that names no division shards over all; another keeps its division and gets as many
    replicas as fit. Raises ConfigError when that does not divide, or when one process is asked for a division."""
    layout = replace(layout, micro_batch=micro_batch)
    if world.size == 1 and layout.num_accelerators > 1:
        raise ConfigError(
            f"the layout ({layout.describe()}) is for {layout.num_accelerators} processes and one runs; start it with torchrun "
            f"--nproc-per-node {layout.num_accelerators}, or set its degrees to 1 (layout.shard=1 ...)"
        )
    if layout.num_accelerators == 1:
        return replace(layout, shard=world.size)
    return layout.with_accelerators(world.size)


def _device() -> torch.device:
    """On GPUs NCCL: gloo sums around a ring of all ranks, a turn for each. (The group has both: get_backend says cpu:gloo,cuda:nccl.)"""
    return torch.device("cuda", torch.cuda.current_device()) if "nccl" in dist.get_backend() else torch.device("cpu")
