"""A mixture of experts beside the dense block of as many operations per token: forward and backward on this machine.

python -m benchmarks expert_speed --experts 32
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.registry import Benchmark, Result, whole_number


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternates the blocks (A-B-A-B), and grouped products of ours with those of torch on the same rows. The quickest of each counts:
    other programs only make it slower."""
    import torch
    import torch.nn.functional as F

    from agora.model.config import ModelConfig
    from agora.model.experts import MixtureOfExperts
    from agora.model.grouped import grouped_linear
    from agora.model.transformer import FeedForward
    from agora.training.machine import choose_device

    num_experts = whole_number(options, "experts", 8, at_least=2)
    device = choose_device("auto")
    num_tokens, dim, width = (2048, 256, 384) if device == "cpu" else (16_384, 2048, 768)
    config = ModelConfig(dim=dim, num_experts=num_experts, experts_per_token=2, expert_dim=width, hidden_dim=2 * width)
    numbers = torch.Generator().manual_seed(0)
    blocks: dict[str, Any] = {"dense": FeedForward(config), "experts": MixtureOfExperts(config)}
    for block in blocks.values():
        with torch.no_grad():
            for parameter in block.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=numbers) * dim**-0.5)
        block.to(device, torch.bfloat16)
    x_BTC = torch.randn(1, num_tokens, dim, generator=numbers).to(device, torch.bfloat16).requires_grad_()
    counts_E = torch.bincount(torch.randint(num_experts, (2 * num_tokens,), generator=numbers), minlength=num_experts).to(device)
    rows_MC = x_BTC.detach()[0].repeat(2, 1).requires_grad_()
    weight_EFC = blocks["experts"].experts.up

    def of_block(name: str) -> Any:
        return torch.autograd.grad((y := blocks[name](x_BTC)), [x_BTC, *blocks[name].parameters()], torch.ones_like(y).contiguous())

    def of_product(is_ours: bool) -> Any:
        ends_E = counts_E.cumsum(0, dtype=torch.int32)
        y = grouped_linear(rows_MC, weight_EFC, counts_E) if is_ours else F.grouped_mm(rows_MC, weight_EFC.transpose(1, 2), offs=ends_E)
        return torch.autograd.grad(y, [rows_MC, weight_EFC], torch.ones_like(y).contiguous())

    work: dict[str, Any] = {name: lambda name=name: of_block(name) for name in blocks}
    work["our_grouped_product"] = lambda: of_product(True)
    if hasattr(F, "grouped_mm"):
        work["torch_grouped_mm"] = lambda: of_product(False)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(6 if quick else 25):
        for name, call in work.items():
            seconds[name].append(_seconds(call, device))
    found = {name: min(times[1:]) for name, times in seconds.items()}
    value = found["experts"] / found["dense"]
    details = {"seconds": found, "device": device, "tokens": num_tokens, "dim": dim, "expert_dim": width, "experts": num_experts}
    return Result(value=value, holds=value <= 2.0, details=details)


def _seconds(work: Any, device: str) -> float:
    import torch

    started = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - started


BENCHMARK = Benchmark(
    measures="time of 2 of 8 experts over that of a dense block with as many operations per token, forward and backward",
    unit="x", bound="<= 2.0", run=run, options=("experts",),
)  # fmt: skip
