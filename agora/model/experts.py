"""Mixture of experts: a feed-forward block of which each token passes through a few parts. Goes in: normed hidden states. Comes out: what
the block adds to the stream.

    block = MixtureOfExperts(ModelConfig(num_experts=8, experts_per_token=2, expert_dim=96)); y_BTC = block(x_BTC)

A router scores the experts, each token takes the best K and adds their results up by score (Qwen3 technical report, 2025, section 2).
No token is dropped: tokens are sorted by expert, and each expert takes as many as come. Two ways keep experts busy, alone or together:
a loss that grows with the imbalance, whose gradient enters at the router (`balance_loss`), and a bias on the choice that follows the
loads from step to step (`end_step`). The loss that training reports is cross-entropy alone.

Nothing here knows of other processes. What divides the experts over ranks replaces `dispatch` and `combine` (tokens travel to their
experts and back), sums `load_E` of the routers over the ranks before `end_step`, and sets their `share`.

Shapes: N tokens, C = dim, E experts, K experts per token, M = N K visits, F = expert_dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from agora.model import fast
from agora.model.config import ModelConfig
from agora.model.grouped import grouped_linear


class Routes(NamedTuple):
    """Which experts each token visits and how much each result counts; `counts` are the visits of each expert."""

    weights_NK: Tensor
    chosen_NK: Tensor
    counts_E: Tensor


class Visits(NamedTuple):
    """Tokens sorted by the expert that they visit. Row i is visit order[i] of the N x K; visit j stands in row inverse[j]."""

    rows_MC: Tensor
    counts_E: Tensor
    order_M: Tensor
    inverse_M: Tensor


class Router(nn.Module):
    """Scores experts and chooses. `load_E` collects the visits of a step; `share` is the part of a step that one forward pass is."""

    load_E: Tensor
    bias_E: Tensor | None

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.dim))
        self.share = 1.0
        self.register_buffer("load_E", torch.zeros(config.num_experts, dtype=torch.int64), persistent=False)
        self.register_buffer("bias_E", torch.zeros(config.num_experts) if config.balance_bias_rate else None)

    def forward(self, x_NC: Tensor) -> Routes:
        """Softmax over all experts, then the best K; the bias moves the choice, not the weights (Wang et al. 2024, equation 3)."""
        c = self.config
        logits_NE = fast.linear(x_NC, self.weight)
        scores_NE = torch.softmax(logits_NE, dim=-1, dtype=torch.promote_types(logits_NE.dtype, torch.float32))
        ranked_NE = scores_NE.detach() if self.bias_E is None else scores_NE.detach() + self.bias_E
        chosen_NK = ranked_NE.topk(c.experts_per_token, dim=-1).indices
        visits_M = chosen_NK.flatten()
        counts_E = torch.zeros_like(self.load_E).scatter_add_(0, visits_M, torch.ones_like(visits_M))
        if self.training and torch.is_grad_enabled():
            self.load_E += counts_E
            if c.balance_loss_weight:
                weight = c.balance_loss_weight * self.share / c.num_expert_layers
                scores_NE = _also_minimize(scores_NE, balance_loss(scores_NE, self.visits_of_pass(counts_E)), weight)
        weights_NK = scores_NE.gather(-1, chosen_NK)
        if c.norm_topk_prob:
            weights_NK = weights_NK / weights_NK.sum(-1, keepdim=True)
        return Routes(weights_NK.to(x_NC.dtype), chosen_NK, counts_E)

    def visits_of_pass(self, counts_E: Tensor) -> Tensor:
        """The visits by which balance is judged. What divides the tokens of a pass over ranks replaces this by the mean over those."""
        return counts_E

    @torch.no_grad()
    def update_bias(self) -> None:
        """Raise the bias of experts below the mean load and lower that of those above it (Wang et al. 2024, algorithm 1)."""
        if self.bias_E is not None:
            missing_E = self.load_E.sum() - self.load_E * self.config.num_experts  # whole numbers: the same on any layout
            self.bias_E += self.config.balance_bias_rate * torch.sign(missing_E)


class Experts(nn.Module):
    """E SwiGLU blocks side by side. The first dimension of every tensor counts experts; a rank may hold fewer than the router knows. Gate
    and up are tensors of their own, so that each can be divided over ranks as it is."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.empty(config.num_experts, config.expert_dim, config.dim))
        self.up = nn.Parameter(torch.empty(config.num_experts, config.expert_dim, config.dim))
        self.down = nn.Parameter(torch.empty(config.num_experts, config.dim, config.expert_dim))

    def forward(self, rows_MC: Float[Tensor, "M C"], counts_E: Int[Tensor, " E"]) -> Float[Tensor, "M C"]:
        """The first counts[0] rows go through the first expert, and so on."""
        gate_MF, up_MF = grouped_linear(rows_MC, self.gate, counts_E), grouped_linear(rows_MC, self.up, counts_E)
        return grouped_linear(F.silu(gate_MF) * up_MF, self.down, counts_E)


class MixtureOfExperts(nn.Module):
    """Router and experts in the place of a feed-forward block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.router = Router(config)
        self.experts = Experts(config)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Transform each position by itself."""
        x_NC = x_BTC.flatten(0, -2)
        routes = self.router(x_NC)
        visits = self.dispatch(x_NC, routes)
        rows_MC = self.experts(visits.rows_MC, visits.counts_E)
        return self.combine(rows_MC, routes, visits).view_as(x_BTC)

    def dispatch(self, x_NC: Tensor, routes: Routes) -> Visits:
        """Each token once for each expert that it visits, sorted by expert; tokens of one expert keep their order."""
        order_M = routes.chosen_NK.flatten().argsort(stable=True)
        inverse_M = torch.empty_like(order_M).scatter_(0, order_M, torch.arange(order_M.shape[0], device=order_M.device))
        return Visits(take_rows(x_NC, order_M, inverse_M), routes.counts_E, order_M, inverse_M)

    def combine(self, rows_MC: Tensor, routes: Routes, visits: Visits) -> Tensor:
        """Back to the order of the tokens, and the weighted sum of each."""
        by_token_MC = take_rows(rows_MC, visits.inverse_M, visits.order_M)
        by_token_NKC = by_token_MC.view(*routes.weights_NK.shape, rows_MC.shape[-1])
        return (by_token_NKC * routes.weights_NK[..., None]).sum(1)


def balance_loss(scores_NE: Float[Tensor, "N E"], counts_E: Int[Tensor, " E"] | Float[Tensor, " E"]) -> Float[Tensor, ""]:
    """E times the sum over experts of their share of visits times their mean score: K when all are equally busy, more when not
    (Fedus et al. 2022, equation 4; as in Qwen3-MoE, shares are of tokens, so that they sum to K)."""
    visits_E = counts_E.to(scores_NE.dtype) / scores_NE.shape[0]
    return scores_NE.shape[1] * (visits_E * scores_NE.mean(0)).sum()


class _AlsoMinimize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, loss: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        ctx.save_for_backward(loss)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (loss,) = ctx.saved_tensors
        return grads[0], torch.full_like(loss, ctx.weight), None


def _also_minimize(x: Tensor, loss: Tensor, weight: float) -> Tensor:
    """`x` itself; backward through it adds the gradient of `weight * loss`, as if that had been added to the loss of the model. So it need
    not travel there, past other layers, stages and ranks."""
    result: Tensor = _AlsoMinimize.apply(x, loss, weight)  # type: ignore[no-untyped-call]
    return result


class _TakeRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, order_M: Tensor, inverse_M: Tensor) -> Tensor:
        ctx.num_rows = x_NC.shape[0]
        ctx.save_for_backward(inverse_M)
        return x_NC.index_select(0, order_M // (order_M.shape[0] // ctx.num_rows))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (inverse_M,) = ctx.saved_tensors
        by_row_MC = grads[0].index_select(0, inverse_M)
        return by_row_MC.view(ctx.num_rows, -1, by_row_MC.shape[-1]).sum(1), None, None


def take_rows(x_NC: Float[Tensor, "N C"], order_M: Int[Tensor, " M"], inverse_M: Int[Tensor, " M"]) -> Float[Tensor, "M C"]:
    """Each row M / N times, put into `order`, whose inverse makes the backward pass a sum in a fixed order (that of indexing adds with
    atomics on a GPU: other last bits in every run)."""
    result: Tensor = _TakeRows.apply(x_NC, order_M, inverse_M)  # type: ignore[no-untyped-call]
    return result


def routers(model: nn.Module) -> Iterator[Router]:
    """Every router of a model, in order."""
    return (module for module in model.modules() if isinstance(module, Router))


def begin_step(model: nn.Module, num_passes: int) -> None:
    """Before the `num_passes` forward passes whose gradients one optimizer step sums up."""
    for router in routers(model):
        router.share = 1.0 / num_passes
        router.load_E.zero_()


def imbalance(model: nn.Module) -> float | None:
    """Visits of the busiest expert over the mean, in the layer where that is worst; 1 = all are equally busy. None without experts, or
    before the first pass of a step."""
    worst = [router.load_E.max() / router.load_E.double().mean() for router in routers(model)]
    return float(torch.stack(worst).max()) if worst and bool(next(routers(model)).load_E.any()) else None


def end_step(model: nn.Module) -> None:
    """After the optimizer step: biases follow the loads."""
    for router in routers(model):
        router.update_bias()
