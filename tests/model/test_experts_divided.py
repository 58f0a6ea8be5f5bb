"""Experts divided over processes from outside, by other `dispatch` and `combine`: the block itself stays as it is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.distributed._functional_collectives import all_to_all_single_autograd

from agora.model.config import ModelConfig
from agora.model.experts import MixtureOfExperts, Routes, Visits, begin_step, end_step, take_rows
from agora.model.transformer import Transformer

CONFIG = ModelConfig(
    vocab_size=97, dim=32, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=16, hidden_dim=64, max_seq_len=64, num_experts=6,
    experts_per_token=2, expert_dim=16, balance_bias_rate=0.01, balance_loss_weight=0.1,
)  # fmt: skip
NUM_RANKS = 2


class Sent(NamedTuple):
    """Visits on the rank of their expert; `home` is how they lay on the rank of their token."""

    rows_MC: Tensor
    counts_E: Tensor
    order_M: Tensor
    inverse_M: Tensor
    home: Visits
    sent: list[int]
    received: list[int]


class DividedExperts(MixtureOfExperts):
    """Each rank holds the experts after those of the rank before it."""

    def dispatch(self, x_NC: Tensor, routes: Routes) -> Sent:  # type: ignore[override]
        home = super().dispatch(x_NC, routes)
        here_RE = home.counts_E.view(NUM_RANKS, -1)  # my rows for each expert of each rank
        there_RE = torch.empty_like(here_RE)  # rows of each rank for each of my experts
        dist.all_to_all_single(there_RE, here_RE)
        sent, received = here_RE.sum(1).tolist(), there_RE.sum(1).tolist()
        rows_MC = all_to_all_single_autograd(home.rows_MC, received, sent, dist.group.WORLD)
        expert_M = torch.arange(there_RE.shape[1]).repeat(NUM_RANKS).repeat_interleave(there_RE.flatten())
        order_M = expert_M.argsort(stable=True)
        inverse_M = order_M.argsort()
        return Sent(take_rows(rows_MC, order_M, inverse_M), there_RE.sum(0), order_M, inverse_M, home, sent, received)

    def combine(self, rows_MC: Tensor, routes: Routes, visits: Sent) -> Tensor:  # type: ignore[override]
        by_rank_MC = take_rows(rows_MC, visits.inverse_M, visits.order_M)
        home_MC = all_to_all_single_autograd(by_rank_MC, visits.sent, visits.received, dist.group.WORLD)
        return super().combine(home_MC, routes, visits.home)


def a_block() -> MixtureOfExperts:
    block = Transformer(CONFIG).layers[0].feed_forward
    assert isinstance(block, MixtureOfExperts)
    with torch.no_grad():
        block.router.weight.mul_(20)
    return block


def inputs(rank: int) -> Tensor:
    return torch.randn(1, 12 + 3 * rank, 32, generator=torch.Generator().manual_seed(rank))


def results(block: MixtureOfExperts, ranks: list[int]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs for the tokens of each rank, and the gradients of their sum of squares."""
    begin_step(block, NUM_RANKS)
    outputs = [block(inputs(rank)) for rank in ranks]
    torch.stack([output.square().sum() for output in outputs]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in block.named_parameters() if parameter.grad is not None}
    return [output.detach() for output in outputs], gradients


def one_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=NUM_RANKS)
    whole = a_block()
    share = CONFIG.num_experts // NUM_RANKS
    with torch.device("meta"):
        block = DividedExperts(CONFIG)
    block.router = whole.router
    for name, stack in whole.experts.named_parameters():
        part = stack.detach()[rank * share : (rank + 1) * share].clone()
        setattr(block.experts, name, torch.nn.Parameter(part))
    (output,), gradients = results(block, [rank])
    dist.all_reduce(gradients["router.weight"])
    dist.all_reduce(block.router.load_E)
    end_step(block)
    torch.save({"output": output, "gradients": gradients, "bias": block.router.bias_E}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_divided_experts_equal_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]))
    block = a_block()
    outputs, gradients = results(block, list(range(NUM_RANKS)))
    end_step(block)
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(one_rank, args=(folder,), nprocs=NUM_RANKS)  # type: ignore[no-untyped-call]
        found = [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(NUM_RANKS)]
    for output, part in zip(outputs, found, strict=True):
        torch.testing.assert_close(output, part["output"])  # a product of more rows sums in another order
        assert block.router.bias_E is not None and torch.equal(block.router.bias_E, part["bias"])
        torch.testing.assert_close(part["gradients"]["router.weight"], gradients["router.weight"])
    for name in ("gate", "up", "down"):
        # the sum over rows is taken in another order
        torch.testing.assert_close(torch.cat([part["gradients"][f"experts.{name}"] for part in found]), gradients[f"experts.{name}"])
