"""Optimizers over float32 master weights. Goes in: a model, whose parameters become the working copy in the training dtype, and
gradients as backward leaves them. Comes out: stepped masters, and the working copy refreshed from them.

All masters lie in one buffer, all gradients in another, all working weights in a third: adding a micro-batch, clipping and
casting are one call each over the whole model. Within a buffer the parameters of one kind lie together, so that AdamW takes
a kind as a single tensor. Muon takes matrix by matrix; the fused projections are cut into query, key, value, gate and up, each
orthogonalised by itself, because Muon's update is defined per linear map (Jordan et al. 2024) and a fused matrix is several.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from agora.errors import CheckpointError, ConfigError
from agora.model.transformer import Transformer, fused_rows

Kind = Literal["matrix", "table", "vector"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """`muon` steps hidden matrices with Muon and everything else with AdamW. `lr` is the peak rate of AdamW; Muon uses
    `muon_lr`, scaled per matrix so that its update is as large as AdamW's would be (Liu et al. 2025, equation 4).
    `weight_decay` spares norms.
    """

    name: Literal["adamw", "muon"] = "muon"
    lr: float = 3e-3
    muon_lr: float = 2e-2
    betas: tuple[float, ...] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    momentum: float = 0.95

    def __post_init__(self) -> None:
        if not (self.lr > 0 and self.muon_lr > 0):
            raise ConfigError(f"optimizer.lr={self.lr} and optimizer.muon_lr={self.muon_lr} must be above 0")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer.betas={self.betas} must be two numbers from 0 up to, not including, 1")
        if not 0 <= self.momentum < 1:
            raise ConfigError(f"optimizer.momentum={self.momentum} must be from 0 up to, not including, 1")
        if self.weight_decay < 0 or self.eps < 0:
            raise ConfigError(
                f"optimizer.weight_decay={self.weight_decay} must not be negative and optimizer.eps={self.eps} must be above 0"
            )


class Optimizer:
    """Masters, gradients and moments of one model. Made by `build_optimizer`."""

    def __init__(self, model: Transformer, config: OptimizerConfig, dtype: torch.dtype) -> None:
        self.config = config
        self._model = model
        named = [(name, parameter) for kind in ("matrix", "table", "vector") for name, parameter in _of_kind(model, kind)]
        self._names = [name for name, _ in named]
        sizes = [parameter.numel() for _, parameter in named]
        device = named[0][1].device
        self.masters = torch.empty(sum(sizes), dtype=torch.float32, device=device)
        self.gradients = torch.zeros_like(self.masters)
        self.working = self.masters if dtype == torch.float32 else torch.empty_like(self.masters, dtype=dtype)
        self._views: dict[str, Tensor] = {}
        self._gradient_views: dict[str, Tensor] = {}
        self._has_gradient: set[str] = set()
        offset = 0
        for (name, parameter), size in zip(named, sizes, strict=True):
            place, shape = slice(offset, offset + size), parameter.shape
            self._views[name] = self.masters[place].view(shape)
            self._views[name].copy_(parameter.detach())
            self._gradient_views[name] = self.gradients[place].view(shape)
            parameter.data = self.working[place].view(shape)
            parameter.register_post_accumulate_grad_hook(self._collector(name))  # type: ignore[no-untyped-call]
            offset += size
        self.refresh()
        self._parts = self._build()

    def _collector(self, name: str) -> object:
        """Takes a parameter's gradient into the float32 buffer as soon as backward has made it, and frees it."""

        def collect(parameter: Tensor) -> None:
            assert parameter.grad is not None
            if name in self._has_gradient:
                self._gradient_views[name].add_(parameter.grad)
            else:
                self._gradient_views[name].copy_(parameter.grad)
                self._has_gradient.add(name)
            parameter.grad = None

        return collect

    def _build(self) -> list[tuple[float, torch.optim.Optimizer, dict[str, nn.Parameter]]]:
        """(peak rate, torch optimizer, its tensors by name) for each kind of parameter."""
        c = self.config
        parts: list[tuple[float, torch.optim.Optimizer, dict[str, nn.Parameter]]] = []
        for kind in ("matrix", "table", "vector"):
            names = [name for name, _ in _of_kind(self._model, kind)]
            decay = 0.0 if kind == "vector" else c.weight_decay
            if kind == "matrix" and c.name == "muon":
                tensors = {label: self._leaf(view, gradient) for label, view, gradient in self._matrices(names)}
                parts.append((c.muon_lr, torch.optim.Muon(
                    list(tensors.values()), lr=c.muon_lr, weight_decay=decay, momentum=c.momentum, adjust_lr_fn="match_rms_adamw"
                ), tensors))  # fmt: skip
                continue
            first, last = self._views[names[0]], self._views[names[-1]]
            place = slice(first.storage_offset(), last.storage_offset() + last.numel())
            tensors = {kind: self._leaf(self.masters[place], self.gradients[place])}
            parts.append((c.lr, torch.optim.AdamW(
                list(tensors.values()), lr=c.lr, betas=(c.betas[0], c.betas[1]), eps=c.eps, weight_decay=decay, fused=True
            ), tensors))  # fmt: skip
        return parts

    def _matrices(self, names: list[str]) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Each linear map by itself: (label, master, gradient)."""
        rows = fused_rows(self._model.config)
        for name in names:
            view, gradient = self._views[name], self._gradient_views[name]
            sizes = rows.get(".".join(name.split(".")[2:]), (view.shape[0],))
            for index, pair in enumerate(zip(torch.split(view, list(sizes)), torch.split(gradient, list(sizes)), strict=True)):
                yield f"{name}.{index}", *pair

    def _leaf(self, view: Tensor, gradient: Tensor) -> nn.Parameter:
        leaf = nn.Parameter(view)
        leaf.grad = gradient
        return leaf

    def zero_grad(self) -> None:
        """Forget the collected gradients."""
        self._has_gradient.clear()

    @torch.no_grad()
    def clip(self, max_norm: float | None) -> float:
        """Scale the collected gradients down to `max_norm`; returns their norm before."""
        for name in self._names:
            if name not in self._has_gradient:
                self._gradient_views[name].zero_()
        norm = float(torch.linalg.vector_norm(self.gradients))
        if max_norm is not None and norm > max_norm:
            self.gradients.mul_(max_norm / norm)
        return norm

    @torch.no_grad()
    def step(self, lr_scale: float = 1.0) -> None:
        """Step every master at `lr_scale` times its peak rate, then refresh the working copy."""
        for peak, optimizer, _ in self._parts:
            for group in optimizer.param_groups:
                group["lr"] = peak * lr_scale
            optimizer.step()
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Copy the masters into the working weights."""
        if self.working is not self.masters:
            self.working.copy_(self.masters)

    def master_weights(self) -> dict[str, Tensor]:
        """Float32 weights by parameter name (views: they change with the next step)."""
        return dict(self._views)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything a resumed run needs, as plain tensors: `weight.NAME` and `optimizer.FIELD.NAME`."""
        result = {f"weight.{name}": view for name, view in self._views.items()}
        for _, optimizer, tensors in self._parts:
            for name, leaf in tensors.items():
                for field, value in optimizer.state[leaf].items():
                    result[f"optimizer.{field}.{name}"] = value
        return result

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue exactly where `state_dict` was taken. Raises CheckpointError when the state is of another model or optimizer."""
        rest = dict(state)
        for name, view in self._views.items():
            value = rest.pop(f"weight.{name}", None)
            if value is None or value.shape != view.shape:
                found = "missing" if value is None else f"of shape {list(value.shape)}"
                raise CheckpointError(f"checkpoint: weight {name} is {found}, but the model needs {list(view.shape)}")
            view.copy_(value)
        for _, optimizer, tensors in self._parts:
            for name, leaf in tensors.items():
                fields = {key.split(".")[1]: key for key in rest if key.startswith("optimizer.") and key.split(".", 2)[2] == name}
                optimizer.state[leaf].clear()
                for field, key in fields.items():
                    value = rest.pop(key)
                    device = value.device if value.ndim == 0 else leaf.device
                    optimizer.state[leaf][field] = value.to(device=device, copy=True)
        if rest:
            raise CheckpointError(f"checkpoint: {sorted(rest)[0]!r} does not belong to optimizer {self.config.name!r}")
        self.refresh()


def weights_in_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The float32 weights by parameter name, out of what `state_dict` returned."""
    return {key.removeprefix("weight."): value for key, value in state.items() if key.startswith("weight.")}


def build_optimizer(model: Transformer, config: OptimizerConfig, *, dtype: torch.dtype = torch.float32) -> Optimizer:
    """Take over `model`: its float32 weights become the masters and its parameters a working copy in `dtype`."""
    return Optimizer(model, config, dtype)


def _of_kind(model: Transformer, kind: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters of one kind, in the model's order: hidden matrices, embedding tables (head included), norm vectors."""
    for name, parameter in model.named_parameters():
        found: Kind = "vector" if parameter.ndim == 1 else "table" if name in ("embedding", "head") else "matrix"
        if found == kind:
            yield name, parameter
