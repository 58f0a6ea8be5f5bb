"""Optimizers over float32 master weights. Goes in: a model, whose parameters become the working copy in the training dtype, and
gradients as backward leaves them. Comes out: stepped masters, and the working copy refreshed from them.

All masters lie in one buffer, all working weights in another; gradients.py keeps the gradients. Within a buffer the parameters
of one kind lie together, so that AdamW takes a kind as a single tensor. Muon takes matrix by matrix, because its update is defined per
linear map (Jordan et al. 2024): fused projections are cut into query, key, value, gate and up; muon.py takes stacks of experts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agora.errors import CheckpointError, ConfigError
from agora.model import fast, kernels
from agora.model.transformer import Transformer, linear_maps
from agora.training.gradients import Gradients
from agora.training.muon import StackedMuon

Kind = Literal["matrix", "table", "vector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """How weights follow gradients. Raises ConfigError for a value outside its range.

    name          muon steps hidden matrices with Muon and everything else with AdamW; adamw steps everything with AdamW
    lr            peak rate of AdamW
    muon_lr       peak rate of Muon, scaled per matrix so that its update is as large as AdamW's would be (Liu et al. 2025, equation 4)
    betas         how much AdamW keeps of its running mean of gradients, and of their squares
    eps           added to the root of AdamW's running mean of squares
    weight_decay  share of a weight taken off per step and unit of rate; norms are spared
    momentum      how much Muon keeps of its running mean of gradients
    """

    name: Literal["adamw", "muon"] = "muon"
    lr: float = 3e-3
    muon_lr: float = 2e-2
    betas: tuple[float, ...] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    momentum: float = 0.95

    def __post_init__(self) -> None:
        for name in ("lr", "muon_lr", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"optimizer.{name}={getattr(self, name)} must be above 0 and not infinite")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas={self.betas} must be two numbers from 0 up to, not including, 1")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"optimizer.momentum={self.momentum} must be from 0 up to, not including, 1")
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"optimizer.weight_decay={self.weight_decay} must be 0 or more and not infinite")


class HeldAdamW(torch.optim.AdamW):
    """torch's fused AdamW over the flat masters of one kind of parameters. Held gradients are read where backward left them, and the
    working weights are written in the same pass: 30 bytes per weight move instead of 44.
    """

    def __init__(self, masters: list[nn.Parameter], gradients: Gradients, names: list[str], working: Tensor, **options: Any) -> None:
        super().__init__(masters, fused=True, **options)
        self._gradients, self._names, self._working = gradients, names, working
        for flat in masters:  # as torch would in the first step
            self.state[flat].update(
                step=torch.zeros((), device=flat.device), exp_avg=torch.zeros_like(flat), exp_avg_sq=torch.zeros_like(flat)
            )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Loshchilov & Hutter 2019, algorithm 2. With held gradients the working weights are stepped too."""
        if not self._gradients.are_held:
            super().step()
            return
        (group,) = self.param_groups
        (masters,) = group["params"]
        state, (beta1, beta2) = self.state[masters], group["betas"]
        state["step"] += 1
        count = float(state["step"])
        numbers = (
            self._gradients.scale, beta1, beta2, 1 - group["lr"] * group["weight_decay"], group["lr"] / (1 - beta1**count),
            1 / math.sqrt(1 - beta2**count), group["eps"],
        )  # fmt: skip
        offset = 0
        for gradient in self._gradients.held(self._names):
            place = slice(offset, offset + gradient.numel())
            buffers = (buffer[place] for buffer in (masters, state["exp_avg"], state["exp_avg_sq"]))
            kernels.call("adamw", *buffers, gradient, self._working[place], gradient.numel(), *numbers)
            offset = place.stop


class Optimizer:
    """Masters, gradients and moments of one model. Made by `build_optimizer`."""

    def __init__(self, model: Transformer, config: OptimizerConfig, dtype: torch.dtype) -> None:
        self.config = config
        self._model = model
        named = [(name, parameter) for kind in ("matrix", "table", "vector") for name, parameter in _of_kind(model, kind)]
        sizes = [parameter.numel() for _, parameter in named]
        device = named[0][1].device
        self.masters = torch.empty(sum(sizes), dtype=torch.float32, device=device)
        self.working = self.masters if dtype == torch.float32 else torch.empty_like(self.masters, dtype=dtype)
        can_hold = config.name == "adamw" and fast.usable(self.working)
        self._views: dict[str, Tensor] = {}
        self._buffers = {name: value for name, value in model.state_dict().items() if name not in dict(named)}
        offset = 0
        for (name, parameter), size in zip(named, sizes, strict=True):
            place, shape = slice(offset, offset + size), parameter.shape
            self._views[name] = self.masters[place].view(shape)
            self._views[name].copy_(parameter.detach())
            parameter.data = self.working[place].view(shape)
            offset += size
        self.gradients = Gradients(named, can_hold=can_hold)
        self.refresh()
        self._moments: dict[str, Tensor] = {}
        self._parts = self._build()
        states = [state for _, part in self._parts for state in part.state.values()]
        self._counts = [state["step"] for state in states if "step" in state]

    def _build(self) -> list[tuple[float, torch.optim.Optimizer]]:
        """(peak rate, torch optimizer) for each kind of parameter. Moments exist from the start, so that a checkpoint can be read in."""
        c = self.config
        parts: list[tuple[float, torch.optim.Optimizer]] = []
        for kind in ("matrix", "table", "vector"):
            names = [name for name, _ in _of_kind(self._model, kind)]
            decay = 0.0 if kind == "vector" else c.weight_decay
            if kind == "matrix" and c.name == "muon":
                parts += self._build_muon(names)
                continue
            first, last = self._views[names[0]], self._views[names[-1]]
            place = slice(first.storage_offset(), last.storage_offset() + last.numel())
            flat = self._leaf(self.masters[place], self.gradients.flat[place])
            adamw = HeldAdamW(
                [flat], self.gradients, names, self.working[place],
                lr=c.lr, betas=(c.betas[0], c.betas[1]), eps=c.eps, weight_decay=decay,
            )  # fmt: skip
            parts.append((c.lr, adamw))
            for field in ("exp_avg", "exp_avg_sq"):
                pieces = adamw.state[flat][field].split([self._views[name].numel() for name in names])
                for name, piece in zip(names, pieces, strict=True):
                    self._moments[f"optimizer.{field}.{name}"] = piece.view(self._views[name].shape)
        return parts

    def _build_muon(self, names: list[str]) -> Iterator[tuple[float, torch.optim.Optimizer]]:
        """Matrices, and stacks of matrices."""
        c = self.config
        options: dict[str, Any] = {"lr": c.muon_lr, "weight_decay": c.weight_decay, "momentum": c.momentum}
        momenta: dict[nn.Parameter, Tensor] = {}
        for name in names:
            momentum = self._moments[f"optimizer.momentum_buffer.{name}"] = torch.zeros_like(self._views[name])
            for view, gradient, part in self._linear_maps(name, momentum):
                momenta[self._leaf(view, gradient)] = part
        matrices, stacks = ([leaf for leaf in momenta if leaf.ndim == ndim] for ndim in (2, 3))
        optimizers: list[torch.optim.Optimizer] = [torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw", **options)]
        if stacks:
            optimizers.append(StackedMuon(stacks, **options))
        for optimizer, leaves in zip(optimizers, (matrices, stacks), strict=False):
            for leaf in leaves:
                optimizer.state[leaf]["momentum_buffer"] = momenta[leaf]
            yield c.muon_lr, optimizer

    def _linear_maps(self, name: str, momentum: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Each linear map in a matrix by itself, experts as stacks: (master, gradient, momentum)."""
        place, tensors = ".".join(name.split(".")[2:]), (self._views[name], self.gradients.views[name], momentum)
        yield from zip(*(linear_maps(self._model.config, place, tensor) for tensor in tensors), strict=True)

    def _leaf(self, view: Tensor, gradient: Tensor) -> nn.Parameter:
        leaf = nn.Parameter(view)
        leaf.grad = gradient
        return leaf

    def zero_grad(self) -> None:
        """Forget the collected gradients."""
        self.gradients.clear()

    @torch.no_grad()
    def clip(self, max_norm: float | None) -> float:
        """Scale the collected gradients down to `max_norm`; returns their norm before."""
        return self.gradients.clip(max_norm)

    @torch.no_grad()
    def step(self, lr_scale: float = 1.0) -> None:
        """Step every master at `lr_scale` times its peak rate, then refresh the working copy."""
        for peak, optimizer in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * lr_scale
            optimizer.step()
        if not self.gradients.are_held:
            self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the working weights."""
        if self.working is not self.masters:
            self.working.copy_(self.masters)

    def master_weights(self) -> dict[str, Tensor]:
        """Float32 weights by parameter name, and what the model keeps beside them (views: they change with the next step)."""
        return {**self._views, **self._buffers}

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as views by the names of the model: `weight.NAME`, `optimizer.FIELD.NAME` and, once for all,
        `optimizer.step`."""
        weights = {f"weight.{name}": view for name, view in self.master_weights().items()}
        return {**weights, **self._moments, "optimizer.step": self._counts[0]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken. Raises CheckpointError when the state is of another model or optimizer."""
        mine = self.state_dict()
        more = sorted(name for name in state.keys() - mine.keys() if name.startswith("optimizer."))
        for name, view in mine.items():
            value, (kind, _, label) = state.get(name), name.partition(".")
            if kind == "optimizer" and more:
                raise CheckpointError(f"checkpoint: {more[0]!r} does not belong to optimizer {self.config.name!r}")
            if value is None or value.shape != view.shape:
                found = "missing" if value is None else f"of shape {list(value.shape)}"
                raise CheckpointError(f"checkpoint: {kind} {label} is {found}, but the model needs {list(view.shape)}")
            view.copy_(value)
        self.finish_loading()

    @torch.no_grad()
    def finish_loading(self) -> None:
        """After the tensors of `state_dict` were written in place."""
        for count in self._counts[1:]:
            count.copy_(self._counts[0])
        self.refresh()


def build_optimizer(model: Transformer, config: OptimizerConfig, *, dtype: torch.dtype = torch.float32) -> Optimizer:
    """Take over `model`: its float32 weights become the masters and its parameters a working copy in `dtype`."""
    return Optimizer(model, config, dtype)


def _of_kind(model: Transformer, kind: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of one kind, in the model's order: hidden matrices, embedding tables (head included), norm vectors."""
    for name, parameter in model.named_parameters():
        found: Kind = "vector" if parameter.ndim == 1 else "table" if name in ("embedding", "head") else "matrix"
        if found == kind:
            yield name, parameter
