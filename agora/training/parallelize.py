"""From a plain model and a Layout to what this rank holds. The only file that knows device meshes; PyTorch's own engine does the work:
DTensor for tensor and sequence parallel, fully_shard (FSDP2) for replicas and shards, torch.distributed.pipelining for stages.

    axes = make_axes(layout, device_type="cpu"); part = parallelize(Transformer(config), layout, axes, seq_len=512)

Goes in: a whole model, the same on every rank, or one on the meta device, which takes no memory: then `part.allocate` comes next, and
`part.initialize` or weights from a checkpoint. Comes out: a Part, whose stages hold float32 masters as DTensors. Every rank of a run calls
the same functions in the same order.

Ranks are numbered with tensor fastest, then context, shard, replicate, and pipeline slowest: the ranks that talk most are neighbours.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard, distribute_tensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from agora.cluster.layout import Layout
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.model.experts import MixtureOfExperts, begin_step, end_step
from agora.model.initial import draw, initial_std
from agora.model.transformer import Layer, Transformer
from agora.training.expert_parallel import HeldExperts, judge_balance_together, send_to_experts
from agora.training.float8 import use_float8
from agora.training.recompute import compile_layer, recompute
from agora.training.ring_attention import positions_of
from agora.training.stage import Stage, place_in_model
from agora.training.tensor_parallel import DividedAttention, TensorRanks

DTYPES: Final = {"bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True, slots=True)
class Axes:
    """This rank's place on each axis of a layout, and the groups of ranks along them.

    world    pipeline x replicate x shard (with context) x tensor; of one rank only shard
    context  the ranks of a ring
    experts  pipeline x replicate x shard x expert: what is left of shard x context x tensor when experts are divided
    parts    the ranks among which the tokens of one pass lie: context x tensor
    tokens   what fully_shard works on for the routers: every rank of a stage sees tokens of its own
    """

    layout: Layout
    device_type: str
    world: DeviceMesh
    context: dist.ProcessGroup | None
    experts: DeviceMesh | None
    parts: dist.ProcessGroup | None
    tokens: DeviceMesh | None

    @property
    def pipeline_rank(self) -> int:
        """Which stage."""
        return self._rank_on("pipeline")

    @property
    def pipeline_group(self) -> dist.ProcessGroup:
        """The ranks that together hold one copy of the layers."""
        return self.world.get_group("pipeline")

    @property
    def data_rank(self) -> int:
        """Which share of the batch this rank reads, out of layout.data."""
        return self._flat_rank // self.layout.context

    @property
    def context_rank(self) -> int:
        """Which part of each row."""
        return self._flat_rank % self.layout.context

    @property
    def tensor_rank(self) -> int:
        """Which part of every matrix."""
        return self._rank_on("tensor")

    @property
    def tensor(self) -> DeviceMesh:
        """The ranks that divide every matrix, where there are several."""
        return self.world["tensor"]

    @property
    def data(self) -> DeviceMesh:
        """What fully_shard works on: with several replicas, replicate x shard."""
        return _replicas_and_shards(self.world)

    def group_names(self) -> dict[str, str]:
        """What each process group is for, by PyTorch's name of the group; groups of the same ranks may be one."""
        groups = [("context", self.context), ("context x tensor", self.parts)]
        for mesh, prefix in ((self.experts, "experts: "), (self.tokens, "routers: "), (self.world, "")):
            if mesh is not None:
                groups += [(name if name == "expert" else prefix + name, mesh.get_group(name)) for name in mesh.mesh_dim_names or ()]
        names: dict[str, list[str]] = {}
        for name, group in groups:
            if group is not None:
                names.setdefault(group.group_name, []).append(name)
        return {group: " = ".join(dict.fromkeys(known)) for group, known in names.items()}

    @property
    def _flat_rank(self) -> int:
        return self._rank_on("replicate") * self.world["shard"].size() + self._rank_on("shard")

    def _rank_on(self, name: str) -> int:
        return self.world.get_local_rank(name) if name in (self.world.mesh_dim_names or ()) else 0


def make_axes(layout: Layout, *, device_type: str = "cpu", has_experts: bool = False) -> Axes:
    """The meshes of `layout` over all ranks of the process group. Raises ConfigError when their number differs."""
    if dist.get_world_size() != layout.num_accelerators:
        raise ConfigError(
            f"the layout ({layout.describe()}) is for {layout.num_accelerators} ranks, but {dist.get_world_size()} run; "
            f"start {layout.num_accelerators}, or change layout.replicate"
        )
    shards = layout.shard * layout.context
    world = _mesh(device_type, layout, shards, "tensor", layout.tensor)
    context = _group_along(layout.pipeline * layout.data, layout.context, layout.tensor) if layout.context > 1 else None
    return Axes(layout, device_type, world, context, *(_expert_axes(layout, device_type) if has_experts else (None, None, None)))


def _expert_axes(layout: Layout, device_type: str) -> tuple[DeviceMesh | None, dist.ProcessGroup | None, DeviceMesh | None]:
    """Axes of experts, parts and tokens; those that would add nothing are left out."""
    inside = layout.shard * layout.context * layout.tensor
    experts = parts = tokens = None
    if layout.expert * layout.tensor > 1:
        experts = _mesh(device_type, layout, inside // layout.expert, "expert", layout.expert)
    if layout.context * layout.tensor > 1:
        parts = _group_along(layout.pipeline * layout.data, layout.context * layout.tensor, 1)
    if layout.tensor > 1:
        whole = experts if layout.expert == 1 else _mesh(device_type, layout, inside, "expert", 1)
        assert whole is not None
        tokens = _replicas_and_shards(whole)
    return experts, parts, tokens


def _mesh(device_type: str, layout: Layout, shards: int, last: str, size: int) -> DeviceMesh:
    """All ranks, as pipeline x replicate x shard x `last`. Axes of one rank are left out, as each would be a group of its own for every
    rank; only shards are always there, as fully_shard gathers over them."""
    replicas, shards = (layout.replicate * shards, 1) if layout.sharding == "none" else (layout.replicate, shards)
    sizes = {"pipeline": layout.pipeline, "replicate": replicas, "shard": shards, last: size}
    sizes = {name: size for name, size in sizes.items() if size > 1 or name == "shard"}
    return init_device_mesh(device_type, tuple(sizes.values()), mesh_dim_names=tuple(sizes))


def _replicas_and_shards(mesh: DeviceMesh) -> DeviceMesh:
    return mesh["replicate", "shard"] if "replicate" in (mesh.mesh_dim_names or ()) else mesh["shard"]


def _group_along(before: int, size: int, after: int) -> dist.ProcessGroup:
    """This rank's group along the middle one of three axes of all ranks."""
    ranks = torch.arange(before * size * after).view(before, size, after).transpose(1, 2).reshape(-1, size)
    group: dist.ProcessGroup | None
    group, _ = dist.new_subgroups_by_enumeration(ranks.tolist())  # type: ignore[no-untyped-call]
    assert group is not None
    return group


def check(config: ModelConfig, layout: Layout, *, seq_len: int, global_batch: int) -> None:
    """Raises ConfigError with the reason and the nearest possible layout when `config` cannot be divided so."""
    layout.check_trainable()
    layout.check(config, seq_len=seq_len, global_batch=global_batch, in_training=True)


@dataclass(frozen=True, slots=True)
class Part:
    """What this rank holds: its stages in order (several only with an interleaved schedule)."""

    config: ModelConfig
    layout: Layout
    axes: Axes
    stages: list[Stage]
    stage_indices: list[int]
    dtype: torch.dtype
    device: torch.device

    @property
    def num_stages(self) -> int:
        """Stages of the whole model."""
        return self.layout.pipeline * self.layout.virtual

    @torch.no_grad()
    def allocate(self) -> None:
        """Give memory to a part that was cut from a model on the meta device. Weights hold whatever was there."""
        for stage in self.stages:
            stage.to_empty(device=self.device)
            for buffer in stage.buffers():
                buffer.zero_()

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw this rank's part of fresh weights, which are those of one process, in time proportional to the part."""
        for name, parameter in self.named_parameters().items():
            assert isinstance(parameter, DTensor)
            home, first_row, rows = place_in_model(name, self.config)
            std, here = initial_std(self.config, home), parameter.to_local()
            if std is None:
                here.fill_(1.0)
                continue
            size, offset = compute_local_shape_and_global_offset(parameter.shape, parameter.device_mesh, parameter.placements)
            begins = (offset[0] + first_row, *offset[1:])
            part = [slice(begin, begin + length) for begin, length in zip(begins, size, strict=True)]
            here.copy_(draw(seed, home, (rows or parameter.shape[0], *parameter.shape[1:]), std=std, part=part))

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """Masters by name."""
        return {name: parameter for stage in self.stages for name, parameter in stage.named_parameters()}

    def named_buffers(self) -> dict[str, Tensor]:
        """What a checkpoint keeps beside the weights: biases of routers, the same on all ranks of a stage."""
        names = {name: buffer for stage in self.stages for name, buffer in stage.named_buffers()}
        return {name: buffer for name, buffer in names.items() if any(name in stage.state_dict() for stage in self.stages)}

    def end_step(self) -> None:
        """After the optimizer step: biases of routers follow the loads."""
        for stage in self.stages:
            end_step(stage)

    def copies(self, parameter: Tensor) -> int:
        """Ranks of one pipeline stage that hold the same numbers of a parameter."""
        assert isinstance(parameter, DTensor)
        divided = 1
        for placement, size in zip(parameter.placements, parameter.device_mesh.shape, strict=True):
            divided *= 1 if placement.is_replicate() else size
        return self.axes.world.size() // self.layout.pipeline // divided

    def begin_step(self, num_micro_batches: int) -> None:
        """Before the passes of one step; `num_micro_batches` are those of one data rank."""
        parts = self.layout.context * self.layout.tensor
        for stage in self.stages:
            begin_step(stage, num_micro_batches * self.layout.data * parts)

    def sum_loads(self) -> float | None:
        """Sum up how often each expert was visited, over the ranks: all then move their biases alike. Returns the worst imbalance."""
        if not self.config.num_experts:
            return None
        mine = {
            int(index): layer.feed_forward.router for stage in self.stages for index, layer in stage.layers.items()
            if isinstance(layer.feed_forward, MixtureOfExperts)
        }  # fmt: skip
        loads_LE = torch.zeros(self.config.num_layers, self.config.num_experts, dtype=torch.int64, device=self.device)
        for index, router in mine.items():
            loads_LE[index] = router.load_E
        dist.all_reduce(loads_LE)
        for index, router in mine.items():
            router.load_E.copy_(loads_LE[index])
        means_L = loads_LE.double().mean(1).clamp(min=1e-9)
        return float((loads_LE.amax(1) / means_L).max())

    def begin_micro_batch(self, *, is_last: bool) -> None:
        """With sharding=optimizer gradients are kept whole until the last micro-batch; otherwise each is divided at once. Replicas add
        theirs after the last one."""
        wait = self.layout.sharding in ("none", "optimizer")
        for stage in self.stages:
            assert isinstance(stage, FSDPModule)
            stage.set_requires_gradient_sync(is_last or not wait)
            stage.set_requires_all_reduce(is_last)
            stage.set_reshard_after_backward(is_last or self.layout.sharding == "parameters")


def parallelize(
    model: Transformer, layout: Layout, axes: Axes, *, seq_len: int, dtype: str = "bfloat16", device: torch.device | str = "cpu",
    backend: str | None = None, float8: str = "off",
) -> Part:  # fmt: skip
    """Divide `model` by `layout`; it must not be used afterwards. With `backend` each layer is compiled by that backend of torch.compile.
    `float8`: see float8.py. Raises ConfigError for a model that cannot be divided so."""
    # what leaves a DTensor or a view_as is a view; nothing here changes one in place, which is what FSDP2 warns of at every layer
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
    config, is_meta = model.config, model.embedding.is_meta
    indices = [axes.pipeline_rank + layout.pipeline * turn for turn in range(layout.virtual)]
    # zero bubble finds the weights whose gradients it puts off in the forward graph, so they must stay gathered until then
    keeps = layout.sharding != "parameters" or layout.schedule == "zero_bubble"
    stages, data = [], axes.data
    for index in indices:
        stage = Stage.cut(model, stage_layers(config.num_layers, layout.pipeline * layout.virtual, index))
        stage = stage if is_meta else stage.to(device)
        stage.keeps_mask = layout.recompute == "none"
        if layout.tensor > 1 or layout.context > 1:
            _divide_work(stage, axes, seq_len, torch.device(device))
        with _shared_meshes():
            for layer in stage.layers.values():
                if isinstance(layer.feed_forward, MixtureOfExperts):
                    _divide_experts(layer.feed_forward, axes, DTYPES[dtype], keeps=keeps)
                if float8 != "off":
                    use_float8(layer, float8, torch.device(device))
                if backend is not None:
                    compile_layer(layer, layout, backend)
                if backend is None or layout.recompute == "full":
                    recompute(layer, layout)
                _shard(layer, data, DTYPES[dtype], keeps=keeps)
            _shard(stage, data, DTYPES[dtype], keeps=True)
        stages.append(stage)
    return Part(config, layout, axes, stages, indices, DTYPES[dtype], torch.device(device))


def stage_layers(num_layers: int, num_stages: int, index: int) -> range:
    """Layers of a stage: as even as possible, the longer stages first (the last one also has the head)."""
    each, more = divmod(num_layers, num_stages)
    first = index * each + min(index, more)
    return range(first, first + each + (1 if index < more else 0))


@contextmanager
def _shared_meshes() -> Iterator[None]:
    """FSDP2 joins its mesh with that of the tensor axis anew for every parameter, and each mesh lists all ranks: with 100,000 of them,
    megabytes and milliseconds. Equal joints become one."""
    join, made = DeviceMesh._concatenate, {}  # type: ignore[var-annotated]

    def shared(meshes: list[DeviceMesh]) -> DeviceMesh:
        key = tuple((id(mesh._get_root_mesh()), mesh.mesh_dim_names) for mesh in meshes)
        if key not in made:
            made[key] = join(meshes)
        return made[key]

    DeviceMesh._concatenate = staticmethod(shared)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        DeviceMesh._concatenate = staticmethod(join)  # type: ignore[method-assign,assignment]


def _shard(module: nn.Module, mesh: DeviceMesh, dtype: torch.dtype, *, keeps: bool) -> None:
    """Masters stay divided in float32; the working copy is gathered in `dtype`, gradients are summed in float32."""
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    num_shards = mesh.shape[-1]

    def placement(parameter: nn.Parameter) -> Shard:
        """Rows, or the rows of each expert when there are not enough experts for all ranks."""
        local = parameter.to_local() if isinstance(parameter, DTensor) else parameter
        by_rows = local.ndim == 3 and local.shape[0] % num_shards != 0 and local.shape[1] % num_shards == 0
        return Shard(1 if by_rows else 0)

    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=not keeps, shard_placement_fn=placement)
    assert isinstance(module, FSDPModule)
    module.set_gradient_divide_factor(1.0)  # losses are divided by the targets of all ranks, so gradients are added, not averaged
    module.set_force_sum_reduction_for_comms(True)


# ---- experts


def _divide_experts(block: MixtureOfExperts, axes: Axes, dtype: torch.dtype, *, keeps: bool) -> None:
    """Experts over the expert axis; tensor ranks, which hold different positions, work as ranks of their own here."""
    layout = axes.layout
    if axes.parts is not None:
        judge_balance_together(block, axes.parts)
    if layout.tensor > 1 and not layout.sequence_parallel:
        tensor = axes.tensor
        block.register_forward_pre_hook(lambda _, args: (_change(args[0], tensor, Replicate(), Shard(1)),))
        block.register_forward_hook(lambda _, args, out: _change(out, tensor, Shard(1), Replicate()))
    if axes.experts is None:
        return
    experts = HeldExperts(block.experts)
    if layout.expert > 1:
        send_to_experts(block, axes.experts.get_group("expert"))
        for name in ("gate", "up", "down"):
            whole = getattr(experts, name)
            divided = distribute_tensor(whole.detach(), axes.experts["expert"], [Shard(0)], src_data_rank=None)
            experts.register_parameter(name, nn.Parameter(divided))
    block.experts = experts  # type: ignore[assignment]
    _shard(experts, _replicas_and_shards(axes.experts), dtype, keeps=keeps)
    if axes.tokens is not None:
        _shard(block.router, axes.tokens, dtype, keeps=keeps)


def _change(x: Tensor, mesh: DeviceMesh, before: Placement, after: Placement) -> Tensor:
    return DTensor.from_local(x, mesh, [before], run_check=False).redistribute(placements=[after]).to_local()


# ---- tensor, sequence and context parallel


def _divide_work(stage: Stage, axes: Axes, seq_len: int, device: torch.device) -> None:
    tensor = TensorRanks(axes.tensor, sequence_parallel=axes.layout.sequence_parallel) if axes.layout.tensor > 1 else None
    if axes.context is not None:
        stage.positions_T = positions_of(axes.context_rank, axes.layout.context, seq_len).to(device)
    for layer in stage.layers.values():
        assert isinstance(layer, Layer)
        attention = DividedAttention(layer.attention, tensor, axes.context)
        layer.attention = attention  # type: ignore[assignment]
        if tensor is not None:
            tensor.divide_layer(layer, attention)
    if tensor is not None:
        tensor.divide_ends(stage)
