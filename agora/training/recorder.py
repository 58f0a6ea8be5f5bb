"""What a step takes: memory by kind, every collective, FLOPs. Goes in: a step that runs, on real or on fake tensors. Comes out: a
StepRecord.

    with Recorder() as recorder:
        step = ShardedStep(...); step.run(batches); recorder.begin(); step.run(batches); record = recorder.end(step)

It sees every operation that reaches the device (a dispatch mode of torch), also inside the backward pass, DTensor and FSDP2. A storage
counts from the operation that makes it until it is freed or resized, rounded up as PyTorch's CUDA allocator does. What the peak
consisted of is settled afterwards, when it is known what became of each storage.

Not seen: memory that torch does not manage (contexts, communicators, workspaces of libraries), fragmentation, the scratch of a kernel.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import _resolve_process_group
from torch._guards import active_fake_mode
from torch.distributed.distributed_c10d import GroupName
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._sharding_prop import ShardingPropagator
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from agora.training.sharded_step import ShardedStep
from agora.training.stage import Stage

Kind = Literal["weights", "gathered", "gradients", "optimizer", "activations", "other"]
KINDS: Final[tuple[Kind, ...]] = ("weights", "gathered", "gradients", "optimizer", "activations", "other")
"""weights: masters. gathered: working copies and what all-gathers write. gradients: also on their way to their shards. activations: what
forward passes make, also when they are recomputed. other: gradients of activations, buffers, scratch of the optimizer."""

_ROUNDED_TO: Final = 512  # bytes of the smallest block of PyTorch's CUDA allocator
_ATEN: Final = torch.ops.aten
_MAKES_GATHERED: Final = {"_allgather_base_"}
_NAMES: Final[Mapping[str, str]] = {
    "allreduce_": "all-reduce", "all_reduce": "all-reduce", "all_reduce_": "all-reduce",
    "_allgather_base_": "all-gather", "all_gather_into_tensor": "all-gather", "all_gather_into_tensor_out": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter", "reduce_scatter_tensor": "reduce-scatter",
    "reduce_scatter_tensor_out": "reduce-scatter",
    "alltoall_base_": "all-to-all", "alltoall_": "all-to-all", "all_to_all_single": "all-to-all", "shard_dim_alltoall": "all-to-all",
    "send": "send", "recv_": "receive", "broadcast_": "broadcast", "broadcast": "broadcast",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Collective:
    """One kind of message of a step. `num_bytes` is the largest tensor that an operation reads or writes (all-gather: its result;
    reduce-scatter: its input), summed over `count` operations."""

    operation: str
    group: str
    group_size: int
    count: float
    num_bytes: float

    @property
    def sent_bytes(self) -> float:
        """What this rank sends when the operation is a ring; a receiver sends nothing."""
        share = (self.group_size - 1) / self.group_size
        factor = {"all-reduce": 2 * share, "send": 1.0, "receive": 0.0, "broadcast": 1.0}.get(self.operation, share)
        return factor * self.num_bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """One step of one rank. FLOPs are those of products, attention as a full square, recomputation included."""

    peak_bytes: float
    by_kind: dict[str, float]
    collectives: list[Collective]
    flops: float


@dataclass(slots=True, eq=False)
class _Block:
    """A storage."""

    num_bytes: int
    kind: Kind
    alive: weakref.ref[torch.UntypedStorage]


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records from its first operation on; a record is of what lies between `begin` and `end`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._blocks: dict[int, _Block] = {}
        self._events: list[tuple[_Block, int]] = []  # bytes added to or taken from a block, in order
        self._messages: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0, 0])
        self._flops = 0
        self._num_forward = 0  # forward passes that are going on, one inside the other
        self._fake_mode: Any = None
        self._resize = torch.UntypedStorage.resize_
        self._num_muted = 0

    def __enter__(self) -> Recorder:
        self._fake_mode = active_fake_mode()
        self._watch_resizing()
        ShardingPropagator._fake_mode_lock = _Muted(self)  # type: ignore[assignment]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)  # type: ignore[no-untyped-call]
        ShardingPropagator._fake_mode_lock = nullcontext()
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]

    def watch(self, stages: list[Stage]) -> None:
        """Tell activations from the rest: whatever the stages and their layers make in a forward pass, also in the backward pass."""

        def begin(*_: Any) -> None:
            self._num_forward += 1

        def end(*_: Any) -> None:
            self._num_forward -= 1

        for stage in stages:
            for module in (stage, *stage.layers.values()):
                module.register_forward_pre_hook(begin, prepend=True)
                module.register_forward_hook(end, always_call=True)

    def begin(self) -> None:
        """From here on."""
        self._events = [(block, block.num_bytes) for block in self._blocks.values()]
        self._messages.clear()
        self._flops = 0

    def end(self, step: ShardedStep) -> StepRecord:
        """What happened since `begin`; `step` tells what the storages are."""
        self._name_blocks(step)
        total = peak = 0
        at = 0
        for index, (_, change) in enumerate(self._events):
            total += change
            if total > peak:
                peak, at = total, index
        by_kind: dict[str, float] = dict.fromkeys(KINDS, 0.0)
        for block, change in self._events[: at + 1]:
            by_kind[block.kind] += change
        names = step.axes.group_names()
        collectives = [
            Collective(operation=operation, group=names.get(group, "world"), group_size=size, count=count, num_bytes=num_bytes)
            for (operation, group, size), (count, num_bytes) in self._messages.items()
        ]
        collectives.sort(key=lambda c: (-c.sent_bytes, c.operation, c.group))
        return StepRecord(peak_bytes=float(peak), by_kind=by_kind, collectives=collectives, flops=float(self._flops))

    def _name_blocks(self, step: ShardedStep) -> None:
        for parameter in step.optimizer.parameters.values():
            self._name(parameter, "weights")
            self._name(parameter.grad, "gradients")
        state = step.state_dict()
        for name, value in state.items():
            if name.startswith("optimizer."):
                self._name(value, "optimizer")
        for stage in step.part.stages:
            for module in stage.modules():
                for tensor in _gathered_by(module):
                    self._name(tensor, "gathered")

    def _name(self, tensor: Tensor | None, kind: Kind) -> None:
        for storage in () if tensor is None else _storages(tensor):
            block = self._blocks.get(storage._cdata)
            if block is not None:
                block.kind = kind

    # ---- what the mode sees

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # DTensor goes first; its operations on local tensors come here
        kwargs = kwargs or {}
        if self._num_muted:
            return func(*args, **kwargs)
        if func is torch.ops._c10d_functional.wait_tensor.default and self._fake_mode is not None:
            return args[0]  # as on real tensors; the rule for fake ones would make a new tensor
        if func is _ATEN._local_scalar_dense.default and self._fake_mode is not None:
            return _value_of_fake(args[0])
        result = func(*args, **kwargs)
        if func.namespace in ("c10d", "_c10d_functional", "_dtensor"):
            self._note_message(func, args, result)
        self._add_flops(func, args, kwargs, result)
        kind: Kind = "activations" if self._num_forward else "other"
        for leaf in (result,) if isinstance(result, Tensor) else tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf, kind, (args, kwargs))
        if func.namespace == "fsdp" or func._opname in _MAKES_GATHERED:
            self._note_sharding(func, args, kwargs)
        return result

    def _note(self, tensor: Tensor, kind: Kind, given: object) -> None:
        """A result whose storage nobody knows, unless it is that of an argument: gloo looks at buffers of its own, which it alone has."""
        if tensor.device.type == "meta":
            return
        for storage in _storages(tensor):
            key = storage._cdata
            if key in self._blocks or any(key == one._cdata for x in tree_leaves(given) if isinstance(x, Tensor) for one in _storages(x)):
                continue
            block = _Block(_rounded(storage.size()), kind, weakref.ref(storage, lambda _, key=key: self._free(key)))  # type: ignore[misc]
            self._blocks[key] = block
            self._events.append((block, block.num_bytes))

    def _free(self, key: int) -> None:
        block = self._blocks.pop(key, None)
        if block is not None and block.num_bytes:
            self._events.append((block, -block.num_bytes))

    def _watch_resizing(self) -> None:
        """FSDP2 frees and takes back working copies by resizing their storage, which is no operation."""
        resize = self._resize

        @wraps(resize)
        def watched(storage: torch.UntypedStorage, size: int) -> Any:
            result = resize(storage, size)
            block = self._blocks.get(storage._cdata)
            if block is not None and block.num_bytes != _rounded(storage.size()):
                change = _rounded(storage.size()) - block.num_bytes
                block.num_bytes += change
                self._events.append((block, change))
            return result

        torch.UntypedStorage.resize_ = watched  # type: ignore[method-assign,assignment]

    def _note_sharding(self, func: Any, args: Any, kwargs: Any) -> None:
        """Buffers on the way from shards to working copies, and from gradients to shards."""
        if func._opname == "_allgather_base_":
            self._name(args[0], "gathered")
        elif func._opname == "chunk_cat":
            for gradient in args[0]:
                self._name(gradient, "gradients")
            self._name(kwargs.get("out"), "gradients")

    def _note_message(self, func: Any, args: Any, result: Any) -> None:
        operation = _NAMES.get(func._opname)
        if operation is None:
            return
        group = _group_of(func, args)
        if group is None or group.size() == 1:
            return
        entry = self._messages[operation, group.group_name, group.size()]
        entry[0] += 1
        entry[1] += max(_message_bytes(x) for x in (*args, result))

    def _add_flops(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        packet = func._overloadpacket
        if packet in flop_registry:
            self._flops += flop_registry[packet](*args, **kwargs, out_val=result)
        elif packet is _ATEN._scaled_dot_product_flash_attention_for_cpu:
            self._flops += sdpa_flop_count(*(x.shape for x in args[:3]))  # type: ignore[no-untyped-call]
        elif packet is _ATEN._scaled_dot_product_flash_attention_for_cpu_backward:
            self._flops += sdpa_backward_flop_count(*(x.shape for x in args[:4]))  # type: ignore[no-untyped-call]


class _Muted:
    """Entered by DTensor where it works out the shape of a result with whole tensors: those take no memory in a run."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        self._recorder._num_muted += 1

    def __exit__(self, *args: object) -> None:
        self._recorder._num_muted -= 1


def _value_of_fake(x: Tensor) -> float | int | bool:
    """What the program is told that asks a fake tensor for its number: 1, and that no flag is raised."""
    return False if x.dtype == torch.bool else 1.0 if x.is_floating_point() else 1


def _rounded(num_bytes: int) -> int:
    return -(-num_bytes // _ROUNDED_TO) * _ROUNDED_TO


def _storages(tensor: Tensor) -> Iterator[torch.UntypedStorage]:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            inner = getattr(tensor, name)
            if isinstance(inner, Tensor):
                yield from _storages(inner)
    else:
        yield tensor.untyped_storage()


def _gathered_by(module: nn.Module) -> Iterator[Tensor]:
    """The working copies of a module's parameters, also those that are freed now."""
    group = module._get_fsdp_state()._fsdp_param_group if isinstance(module, FSDPModule) else None
    for parameter in group.fsdp_params if group is not None else ():
        yield from getattr(parameter, "all_gather_outputs", ())
        unsharded = getattr(parameter, "_unsharded_param", None)
        if unsharded is not None:
            yield unsharded


def _group_of(func: Any, args: Any) -> dist.ProcessGroup | None:
    """The group of ranks of an operation: c10d's take the group, functional ones its name, which is their last word."""
    for arg in args:
        if isinstance(arg, dist.ProcessGroup):
            return arg
        if isinstance(arg, torch.ScriptObject) and "ProcessGroup" in str(arg._type()):
            return dist.ProcessGroup.unbox(arg)
    names = [arg for arg in args if isinstance(arg, str)]
    return _resolve_process_group(GroupName(names[-1])) if names else None


def _message_bytes(x: Any) -> int:
    if isinstance(x, Tensor):
        return x.numel() * x.itemsize
    return sum(_message_bytes(part) for part in x if isinstance(part, Tensor)) if isinstance(x, (list, tuple)) else 0
