"""Silent corruption: a memory or an arithmetic unit that is wrong and says nothing. Goes in: a step that is divided over ranks, and the
micro-batches of its first data rank. Comes out: nothing when all copies agree; otherwise an error that names the rank.

Two things are compared, bit for bit:
- weights and optimizer state, among the replicas that hold the same piece (`layout.replicate`, or `layout.sharding=none`);
- loss and gradients of one and the same micro-batch, which every data rank computes alone: a checksum of each gradient is taken before
  ranks add theirs up.

Where three copies or more hold something, the majority is right. Where two disagree, each computes twice more: who does not agree with
itself is named, else both are. Where even ranks that agree with each other do not agree with themselves, arithmetic is not deterministic
there, and only losses are compared, by LOSS_TOLERANCE. So it is where tokens travel to experts on other ranks (`layout.expert`): an expert
multiplies the rows of all ranks at once, and a row's result depends on where it lies among them.

Not covered: a flipped bit in weights that only one rank holds (sharded over all ranks, no replica): every rank then gathers the same wrong
number. A checksum is a sum of bits: one flipped bit always shows, an exchange of two numbers does not.
"""

from __future__ import annotations

import hashlib
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from agora.training.sharded_step import ShardedStep
from agora.training.step import Batch

LOSS_TOLERANCE: Final = 1e-3  # relative: bfloat16 keeps 8 bits, and a loss is the mean of many
_NUM_REPEATS: Final = 2
_INTEGERS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by element size


@dataclass(frozen=True, slots=True)
class Witness:
    """What one rank says, in few bytes however many there are: all ranks read what all say. `place` is the same for ranks that do the same
    work: which differ only in the rows they read. `held` are checksums of pieces by the name of the group that holds them, `results` what
    the same work gave each time."""

    rank: int
    host: str
    place: tuple[int, ...]
    held: Mapping[str, str]
    results: tuple[tuple[float, str], ...] = ()
    is_exact: bool = True


def compare_replicas(step: ShardedStep, batches: Sequence[Batch]) -> str | None:
    """Compare all copies; what is wrong in words, the same on every rank, or None. `batches` are the same on all ranks; for a
    pipeline as many as one data rank takes in a step. Weights, optimizer and data are as before afterwards."""
    mine = Witness(
        dist.get_rank(), socket.gethostname(), _place(step), checksums(step), (rehearse(step, batches),), step.layout.expert == 1
    )  # fmt: skip
    witnesses = _gather(mine)
    if find_held(witnesses) is None and find_results(witnesses) is None:
        return None
    repeated = tuple(rehearse(step, batches) for _ in range(_NUM_REPEATS))
    witnesses = _gather(replace(mine, results=(*mine.results, *repeated)))
    return find_held(witnesses) or find_results(witnesses)


def find_held(witnesses: Sequence[Witness]) -> str | None:
    """Whose weights differ from those of the other holders."""
    groups: dict[str, dict[int, str]] = {}
    for witness in witnesses:
        for group, checksum in witness.held.items():
            groups.setdefault(group, {})[witness.rank] = checksum
    for said in groups.values():
        found = _odd_ones(said)
        if found is not None:
            return _told(witnesses, found, "weights or optimizer state of", "holds", said)
    return None


def find_results(witnesses: Sequence[Witness]) -> str | None:
    """Who computes another loss or other gradients from the same micro-batch."""
    unsteady = [witness.rank for witness in witnesses if len(set(witness.results)) > 1]
    places: dict[tuple[int, ...], list[int]] = {}
    for witness in witnesses:
        places.setdefault(witness.place, []).append(witness.rank)
    for peers in places.values():
        said = {rank: repr(witnesses[rank].results[0]) for rank in peers}
        if len(peers) == 1 or _odd_ones(said) is None:
            continue
        shaky = [rank for rank in peers if rank in unsteady]
        if len(shaky) * 2 > len(peers) or not witnesses[peers[0]].is_exact:
            losses = {rank: witnesses[rank].results[0][0] for rank in peers}
            middle = sorted(losses.values())[len(losses) // 2]
            far = [rank for rank, loss in losses.items() if not abs(loss - middle) <= LOSS_TOLERANCE * abs(middle)]
            if far:
                return _told(witnesses, far, "the loss of one micro-batch as computed by", "computes", said)
            continue
        found = shaky or _odd_ones(said)
        assert found is not None
        more = ", and it does not agree with itself when it computes again" if shaky else ""
        return _told(witnesses, found, "loss or gradients of one micro-batch as computed by", "computes", said) + more
    return None


def _odd_ones(said: Mapping[int, str]) -> list[int] | None:
    """The ranks that say something else than the majority; all of them where there is none; None where all agree."""
    counts = Counter(said.values())
    if len(counts) <= 1:
        return None
    value, count = counts.most_common(1)[0]
    return [rank for rank, one in said.items() if one != value] if count * 2 > len(said) else list(said)


def _told(witnesses: Sequence[Witness], found: Sequence[int], what: str, does: str, said: Mapping[int, str]) -> str:
    names = " and ".join(f"rank {rank} (on {witnesses[rank].host})" for rank in found)
    others = [rank for rank in said if rank not in found]
    if others:
        return f"{what} {names} differ from those of {'rank' if len(others) == 1 else 'ranks'} {', '.join(map(str, others))}"
    return f"{what} {names} differ, and with so few copies it cannot be said which one {does} the right ones"


@torch.no_grad()
def checksums(step: ShardedStep) -> dict[str, str]:
    """A checksum of what this rank holds, for each group of replicas that hold the same; pieces without a copy are left out."""
    pieces: dict[tuple[int, ...], list[Tensor]] = {}
    for _, value in sorted(step.state_dict().items()):
        if isinstance(value, DTensor):
            holders = _holders(value)
            if len(holders) > 1:
                pieces.setdefault(holders, []).append(value.to_local())
    return {_digest(enumerate(holders)): _checksum(tensors) for holders, tensors in pieces.items()}


def _holders(value: DTensor) -> tuple[int, ...]:
    """The ranks of the replicate axis that hold the same piece."""
    mesh = value.device_mesh
    names, here = mesh.mesh_dim_names or (), mesh.get_coordinate()
    if here is None or "replicate" not in names or not value.placements[names.index("replicate")].is_replicate():
        return (dist.get_rank(),)
    place: list[Any] = list(here)
    place[names.index("replicate")] = slice(None)
    return tuple(sorted(int(rank) for rank in mesh.mesh[tuple(place)].flatten()))


def _place(step: ShardedStep) -> tuple[int, ...]:
    axes = step.axes
    return axes.pipeline_rank, axes.context_rank, axes.tensor_rank


def rehearse(step: ShardedStep, batches: Sequence[Batch]) -> tuple[float, str]:
    """Forward and backward of `batches`, as this rank computes them, with nothing learned: loss, and a checksum of the gradients."""
    with _own_gradients(step) as sums:
        loss = step.passes(batches)
    return loss, _digest(sums.items())


@contextmanager
def _own_gradients(step: ShardedStep) -> Iterator[dict[str, int]]:
    """Sums of the bits of every gradient, taken where it is whole and not yet added to those of other ranks: at the gathered weights,
    which are there from a layer's forward on. Experts that other ranks send tokens to are left out."""
    sums: dict[str, int] = {}
    handles: list[Any] = []
    seen: set[int] = set()

    def on_gradient(name: str) -> Callable[[Tensor], None]:
        def add(gradient: Tensor) -> None:
            sums[name] = sums.get(name, 0) + int(_bits(gradient).sum(dtype=torch.int64))

        return add

    def on_forward(module: nn.Module, args: Any) -> None:
        for name, parameter in module.named_parameters():
            is_elsewhere = module in stages and name.startswith("layers.")  # gathered when that layer's turn comes
            is_sent_to = step.config.num_experts and "feed_forward" in name
            if id(parameter) not in seen and parameter.requires_grad and not is_elsewhere and not is_sent_to:
                seen.add(id(parameter))
                add = on_gradient(f"{names[id(module)]}.{name}")
                handles.append(parameter.register_hook(add))  # type: ignore[no-untyped-call]

    stages = step.part.stages
    modules: dict[str, Any] = {}
    for index, stage in enumerate(stages):
        modules |= {f"{index}.{name}": module for name, module in stage.named_modules() if isinstance(module, FSDPModule)}
    names = {id(module): name for name, module in modules.items()}
    handles += [module.register_forward_pre_hook(on_forward) for module in modules.values()]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def _bits(x: Tensor) -> Tensor:
    local = x.to_local() if isinstance(x, DTensor) else x
    return local.detach().contiguous().view(_INTEGERS[local.element_size()])


def _checksum(tensors: Sequence[Tensor]) -> str:
    sums = torch.stack([_bits(tensor).sum(dtype=torch.int64) for tensor in tensors])
    return _digest(enumerate(sums.tolist()))


def _digest(items: Iterable[tuple[Any, int]]) -> str:
    return hashlib.sha256(repr(sorted((str(key), value) for key, value in items)).encode()).hexdigest()[:16]


def _gather(mine: Witness) -> list[Witness]:
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, mine)
    return gathered
