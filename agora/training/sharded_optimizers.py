"""Optimizers over weights that are divided over ranks. Goes in: float32 parameters (DTensors) and their gradients. Comes out: stepped ones.

AdamW works on each rank's shards. Muon needs the whole matrix: a step gathers the momentum of one matrix, orthogonalises it, and writes
this rank's part; nothing whole is kept. What is stepped by which, and how, is that of optimizers.py: the fused projections are already
several parameters here (stage.py), so each linear map is one matrix; experts are stacks of matrices (muon.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Placement, Replicate
from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz

from agora.errors import CheckpointError
from agora.training.muon import RMS, StackedMuon, orthogonalize
from agora.training.optimizers import OptimizerConfig


class ShardedAdamW(torch.optim.AdamW):
    """torch.optim.AdamW on what each rank holds: its fused kernel, one pass over memory and no copies, without DTensors around it."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Loshchilov and Hutter 2019, algorithm 2."""
        for group in self.param_groups:
            members = [weight for weight in group["params"] if weight.grad is not None]
            states = [self.state[weight] for weight in members]
            if states:
                torch._foreach_add_([state["step"] for state in states], 1)
            here = [
                (local_part(weight), local_part(weight.grad), local_part(state["exp_avg"]), local_part(state["exp_avg_sq"]), state["step"])
                for weight, state in zip(members, states, strict=True)
            ]
            held = [part for part in here if part[0].numel()]  # there may be more ranks than rows
            if held:
                weights, gradients, first, second, steps = (list(column) for column in zip(*held, strict=True))
                torch._fused_adamw_(
                    weights, gradients, first, second, [], steps, lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1],
                    weight_decay=group["weight_decay"], eps=group["eps"], amsgrad=False, maximize=False,
                )  # fmt: skip


class ShardedMuon(torch.optim.Muon):
    """torch.optim.Muon that gathers a matrix once, where torch's would exchange parts of it in each of its fifteen products."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Jordan et al. 2024; scale of the update by Liu et al. 2025, equation 4."""
        for group in self.param_groups:
            for weight in group["params"]:
                momentum = self.state[weight]["momentum_buffer"]
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = whole(weight.grad.lerp(momentum, group["momentum"]))
                update = _zeropower_via_newtonschulz(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], weight.shape)
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(_like(update, weight), alpha=-rate)


class ShardedStackedMuon(StackedMuon):
    """StackedMuon on divided stacks. What each rank has of whole matrices it orthogonalises alone."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """As StackedMuon.step."""
        for group in self.param_groups:
            for stack_EOI in group["params"]:
                momentum = self.state[stack_EOI]["momentum_buffer"]
                momentum.lerp_(stack_EOI.grad, 1 - group["momentum"])
                update_EOI = orthogonalize(whole_matrices(stack_EOI.grad.lerp(momentum, group["momentum"])))
                rate = group["lr"] * RMS * math.sqrt(max(stack_EOI.shape[-2:]))
                stack_EOI.mul_(1 - group["lr"] * group["weight_decay"])
                stack_EOI.add_(_like_stack(update_EOI, stack_EOI), alpha=-rate)


def local_part(x: Tensor) -> Tensor:
    """What this rank holds of a tensor that may be divided."""
    return x.to_local() if isinstance(x, DTensor) else x


def whole(x: Tensor) -> Tensor:
    """All of a tensor that may be divided. One axis after the other: FSDP divides what the tensor axis divided before."""
    if not isinstance(x, DTensor):
        return x
    placements: list[Placement] = list(x.placements)
    for axis, size in enumerate(x.device_mesh.shape):
        if size > 1:
            placements[axis] = Replicate()
            x = x.redistribute(placements=placements)
    return x.to_local()


def _by_matrix(x: DTensor) -> list[Placement]:
    """How a stack is divided when no matrix of it is."""
    return [placement if placement.is_shard(0) else Replicate() for placement in x.placements]


def whole_matrices(x: Tensor) -> Tensor:
    """Of a divided stack, whole matrices: all of them, or those of this rank where matrices are not cut."""
    return x.redistribute(placements=_by_matrix(x)).to_local() if isinstance(x, DTensor) else x


def _like_stack(x: Tensor, stack: Tensor) -> Tensor:
    if not isinstance(stack, DTensor):
        return x
    placed = DTensor.from_local(
        x, stack.device_mesh, _by_matrix(stack), run_check=False, shape=stack.shape, stride=stack.stride()
    )  # fmt: skip
    return placed.redistribute(placements=stack.placements)


def _like(x: Tensor, weight: Tensor) -> Tensor:
    """This rank's part of `x`, divided as `weight` is."""
    if not isinstance(weight, DTensor):
        return x
    mesh = weight.device_mesh
    return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(placements=weight.placements)


class ShardedOptimizer:
    """AdamW and Muon over `named` parameters; `buffers` are kept with them, not stepped. Moments exist from the start, so that a checkpoint
    can be read into them."""

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig, buffers: Mapping[str, Tensor]) -> None:
        self.config = config
        self.parameters = dict(named)
        self._buffers = dict(buffers)
        self._parts: list[tuple[float, torch.optim.Optimizer, dict[str, nn.Parameter]]] = []
        kinds: dict[str, dict[str, nn.Parameter]] = {"matrix": {}, "stack": {}, "table": {}, "vector": {}}
        for name, parameter in self.parameters.items():
            kinds[_kind(name, parameter)][name] = parameter
        for kind, members in kinds.items():
            if not members:
                continue
            decay = 0.0 if kind == "vector" else config.weight_decay
            if kind == "matrix" and config.name == "muon":
                muon = ShardedMuon(
                    list(members.values()), lr=config.muon_lr, weight_decay=decay, momentum=config.momentum, adjust_lr_fn="match_rms_adamw"
                )
                self._parts.append((config.muon_lr, muon, members))
            elif kind == "stack" and config.name == "muon":
                stacks = ShardedStackedMuon(members.values(), lr=config.muon_lr, weight_decay=decay, momentum=config.momentum)
                self._parts.append((config.muon_lr, stacks, members))
            else:
                adamw = ShardedAdamW(
                    list(members.values()), lr=config.lr, betas=(config.betas[0], config.betas[1]), eps=config.eps, weight_decay=decay
                )
                self._parts.append((config.lr, adamw, members))
        self._begin()

    def _begin(self) -> None:
        for _, optimizer, members in self._parts:
            for parameter in members.values():
                state = optimizer.state[parameter]
                if isinstance(optimizer, (ShardedMuon, ShardedStackedMuon)):
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                else:
                    step = torch.zeros((), device=parameter.device)
                    state.update(step=step, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))

    def zero_grad(self) -> None:
        """Forget the collected gradients."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr_scale: float) -> None:
        """Step every parameter at `lr_scale` times its peak rate."""
        for peak, optimizer, _ in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * lr_scale
            optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        """`weight.NAME`, `optimizer.FIELD.NAME` and, once for all, `optimizer.step`: live tensors, DTensors where they are divided."""
        result: dict[str, Tensor] = {f"weight.{name}": parameter.detach() for name, parameter in self.parameters.items()}
        result.update({f"weight.{name}": value for name, value in self._buffers.items()})
        for _, optimizer, members in self._parts:
            for name, parameter in members.items():
                for field, value in optimizer.state[parameter].items():
                    result["optimizer.step" if field == "step" else f"optimizer.{field}.{name}"] = value
        return result

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy in what `state_dict` gave; whole tensors are cut to this rank's part. Raises CheckpointError for another model."""
        mine = self.state_dict()
        if mine.keys() != state.keys():
            odd = sorted(mine.keys() ^ state.keys())[0]
            where = "is missing in the checkpoint" if odd in mine else "does not belong to this model and optimizer"
            raise CheckpointError(f"checkpoint: {odd!r} {where}")
        for name, target in mine.items():
            value = state[name]
            if value.shape != target.shape:
                raise CheckpointError(f"checkpoint: {name} has shape {list(value.shape)}, but the model needs {list(target.shape)}")
            target.copy_(value if isinstance(value, DTensor) else _like(value.to(target.device), target))
        self.finish_loading()

    @torch.no_grad()
    def finish_loading(self) -> None:
        """After the tensors of `state_dict` were written in place: every parameter counts the same steps."""
        count = self.state_dict()["optimizer.step"]
        for _, optimizer, _ in self._parts:
            for state in optimizer.state.values():
                if "step" in state:
                    state["step"].copy_(count)


def _kind(name: str, parameter: Tensor) -> str:
    if parameter.ndim == 1:
        return "vector"
    return "stack" if parameter.ndim == 3 else "table" if name in ("embedding", "head") else "matrix"
