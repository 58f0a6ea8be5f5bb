"""What the ranks of test_survival.py do: compare replicas that are healthy or not, and refuse a step."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from agora.cluster.layout import Layout
from agora.training.optimizers import OptimizerConfig
from agora.training.replicas import compare_replicas
from agora.training.sharded_step import ShardedStep
from tests.training.parity.ranks import MICRO_BATCH, NUM_MICRO_BATCHES, SEQ_LEN, batches, model_of, options


class _WrongBackward(torch.autograd.Function):
    """Right forward, a thousandth too much backward: a unit that fails on some operands only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 1.001


def _break(step: ShardedStep, fault: str) -> None:
    """Something of this rank goes wrong, and nothing is said."""
    layer = next(iter(step.part.stages[0].layers.values()))
    if fault == "bit":
        local = step.part.named_parameters()["layers.1.feed_forward.down.weight"].detach().to_local()  # type: ignore[attr-defined]
        local.view(torch.int32)[0, 0] ^= 1 << 12
    elif fault == "moment":
        name = next(name for name in step.state_dict() if name.startswith("optimizer.exp_avg.layers.1"))
        step.state_dict()[name].to_local().view(torch.int32)[0] ^= 1  # type: ignore[attr-defined]
    elif fault == "noise":
        layer.register_forward_hook(lambda module, args, out: (out[0], out[1] + 1e-4 * torch.randn_like(out[1])))
    elif fault == "offset":
        layer.register_forward_hook(lambda module, args, out: (out[0], out[1] + 1e-4))
    elif fault == "backward":
        layer.register_forward_hook(lambda module, args, out: (out[0], _WrongBackward.apply(out[1])))


def compare(case: dict[str, Any]) -> dict[str, Any]:
    """A step, the comparison, another step; case["rank"] has case["fault"]."""
    layout = Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
    step = ShardedStep(model_of(case), OptimizerConfig(name="adamw"), layout, seq_len=SEQ_LEN, **options(case))
    results, found = [], None
    for number in range(2):
        mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
        share = len(mine) // layout.data
        results.append(step.run(mine[step.axes.data_rank * share : (step.axes.data_rank + 1) * share], 1.0))
        if number == 0:
            if int(os.environ["RANK"]) == case.get("rank"):
                _break(step, case["fault"])
            found = compare_replicas(step, mine[:share] if layout.pipeline > 1 else mine[:1])
    return {"found": found, "losses": [result.loss for result in results], "grad_norms": [result.grad_norm for result in results]}


def refuse(case: dict[str, Any]) -> dict[str, Any]:
    """Three batches, of which the second one's step is refused."""
    layout = Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
    step = ShardedStep(model_of(case), OptimizerConfig(name="adamw"), layout, seq_len=SEQ_LEN, **options(case))
    results = []
    for number in range(3):
        mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
        share = len(mine) // layout.data
        mine = mine[step.axes.data_rank * share : (step.axes.data_rank + 1) * share]
        results.append(step.run(mine, 1.0, lambda loss, norm, allowed=number != 1: allowed))
    return {"losses": [result.loss for result in results], "applied": [result.is_applied for result in results]}
