"""Experts on several ranks: tokens travel to them and back. Goes in: a MixtureOfExperts and a group of ranks. Comes out: the same block, of
which this rank computes its experts for the tokens of all ranks of the group; no token is dropped.

Two exchanges (all-to-all) each way carry how many rows come, then the rows. The twin is the block itself, whole on one rank.

Shapes as in agora.model.experts; L experts of this rank.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import is_fake
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.tensor import DTensor

from agora.model.experts import Experts, MixtureOfExperts, Routes, Visits
from agora.model.grouped import grouped_linear


class HeldExperts(nn.Module):
    """The experts of this rank; parameters keep their names."""

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.gate, self.up, self.down = experts.gate, experts.up, experts.down

    def forward(self, rows_MC: Tensor, counts_L: Tensor) -> Tensor:
        """The first counts[0] rows go through this rank's first expert, and so on."""
        gate, up, down = (_here(weight) for weight in (self.gate, self.up, self.down))
        gate_MF, up_MF = grouped_linear(rows_MC, gate, counts_L), grouped_linear(rows_MC, up, counts_L)
        return grouped_linear(nn.functional.silu(gate_MF) * up_MF, down, counts_L)


def _here(weight: Tensor) -> Tensor:
    return weight.to_local() if isinstance(weight, DTensor) else weight


class _Arrived(Visits):
    """Visits of this rank's experts, and what is needed to send their results home."""

    home: Visits
    sent: list[int]
    received: list[int]


def send_to_experts(block: MixtureOfExperts, group: dist.ProcessGroup) -> None:
    """Make `block` send tokens to the experts of the group's ranks; rank r holds the r-th of equal parts."""
    size = dist.get_world_size(group)
    sort, add_up = block.dispatch, block.combine

    def dispatch(x_NC: Tensor, routes: Routes) -> Visits:
        home = sort(x_NC, routes)
        counts_RL = home.counts_E.view(size, -1)
        arriving_RL = torch.empty_like(counts_RL)
        dist.all_to_all_single(arriving_RL, counts_RL.contiguous(), group=group)
        sent, received = _rows_of(counts_RL, home), _rows_of(arriving_RL, home)
        rows_MC = all_to_all_single_autograd(home.rows_MC, received, sent, group)
        order_M = _expert_of_each(arriving_RL, sum(received)).argsort(stable=True)
        inverse_M = torch.empty_like(order_M).scatter_(0, order_M, torch.arange(order_M.shape[0], device=order_M.device))
        arrived = _Arrived(rows_MC.index_select(0, order_M), arriving_RL.sum(0), order_M, inverse_M)
        arrived.home, arrived.sent, arrived.received = home, sent, received
        return arrived

    def combine(rows_MC: Tensor, routes: Routes, visits: Visits) -> Tensor:
        assert isinstance(visits, _Arrived)
        back_MC = all_to_all_single_autograd(rows_MC.index_select(0, visits.inverse_M), visits.sent, visits.received, group)
        return add_up(back_MC, routes, visits.home)

    block.dispatch, block.combine = dispatch, combine  # type: ignore[method-assign]


def _rows_of(counts_RL: Tensor, home: Visits) -> list[int]:
    """Rows that go to, or come from, each rank. Fake tensors have no numbers: all ranks are then taken to be equally busy."""
    if is_fake(counts_RL):
        each, more = divmod(home.order_M.shape[0], counts_RL.shape[0])
        return [each + (1 if rank < more else 0) for rank in range(counts_RL.shape[0])]
    numbers: list[int] = counts_RL.sum(1).tolist()
    return numbers


def _expert_of_each(arriving_RL: Tensor, num_rows: int) -> Tensor:
    """Which of this rank's experts each arriving row visits: rows come rank by rank, and from each rank expert by expert."""
    num_ranks, num_experts = arriving_RL.shape
    experts = torch.arange(num_experts, device=arriving_RL.device).repeat(num_ranks)
    return torch.repeat_interleave(experts, arriving_RL.flatten(), output_size=num_rows)


def judge_balance_together(block: MixtureOfExperts, group: dist.ProcessGroup) -> None:
    """A pass whose tokens lie on several ranks: the balance is that of all of them."""
    size = dist.get_world_size(group)

    def mean_visits(counts_E: Tensor) -> Tensor:
        total_E = counts_E.clone()
        dist.all_reduce(total_E, group=group)
        return total_E / size

    block.router.visits_of_pass = mean_visits  # type: ignore[method-assign]
