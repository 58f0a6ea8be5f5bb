"""How train_speed and train_speed_60m measure: the same tokens go through every contestant in turn, round after round, in one
process; a ratio is the median over rounds of paired times, so that a machine that slows down for a while slows all of them.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agora.model.config import ModelConfig
from agora.model.counts import flops_per_token
from agora.training.machine import measure_matmul_limit
from benchmarks.speed_peers import Step

BATCH, LENGTH = 8, 512
THREADS = 2
SMALL = ModelConfig(vocab_size=8192, dim=256, num_layers=8, num_heads=4, num_kv_heads=2, hidden_dim=768, tie_embeddings=False)
LARGE = ModelConfig(vocab_size=8192, dim=768, num_layers=8, num_heads=12, num_kv_heads=6, hidden_dim=2304, tie_embeddings=True)

# (rows, inner, columns) of the products of a step; the best one is the limit, so that a share is not flattered
LIMIT_SHAPES = (
    (2048, 2048, 2048), (4096, 256, 256), (4096, 256, 1536), (4096, 768, 256), (4096, 768, 1536), (4096, 768, 4608), (4096, 2304, 768),
    (512, 768, 8192),
)  # fmt: skip

# which part of a step an operator of the profile belongs to (time inside it, without the operators it calls)
# fmt: off
PARTS = {
    "weight products": (
        "aten::mm", "aten::addmm", "aten::linear", "agora::multiply", "agora::pack_right", "agora::pack_right_transposed",
    ),
    "attention products": ("aten::bmm", "aten::baddbmm_"),
    "attention softmax, heads, rotary": (
        "agora::heads_forward", "agora::heads_backward", "agora::swap_heads", "agora::softmax_forward", "agora::softmax_backward",
    ),
    "swiglu": ("agora::swiglu_forward", "agora::swiglu_backward"),
    "norms and residual": ("agora::add_norm_forward", "agora::add_norm_backward"),
    "cross-entropy": ("agora::softmax_loss",),
    "optimizer": ("aten::_fused_adamw_", "aten::linalg_vector_norm", "agora::adamw", "agora::sum_squares"),
    "copies, casts, sums": ("aten::copy_", "aten::add_", "aten::mul", "aten::mul_", "aten::fill_", "aten::sum", "aten::cat"),
}
# fmt: on


@dataclass
class Times:
    """Seconds of each round of one contestant, on the clock and of the processor."""

    wall_s: list[float] = field(default_factory=list)
    processor_s: list[float] = field(default_factory=list)


def make_tokens(seed: int = 0) -> Tensor:
    """Random tokens, one more per row than positions; speed does not depend on what they say."""
    return torch.randint(0, SMALL.vocab_size, (BATCH, LENGTH + 1), generator=torch.Generator().manual_seed(seed))


def alternate(steps: dict[str, Step], *, rounds: int, steps_per_round: int = 1) -> tuple[dict[str, Times], list[float]]:
    """Run every contestant in turn; returns their times per step and the matmul limit measured in each round."""
    tokens = make_tokens()
    times = {name: Times() for name in steps}
    limits = []
    for _ in range(rounds):
        limits.append(measure_matmul_limit("cpu", "bfloat16", shapes=LIMIT_SHAPES, budget_s=0, repeats=5))
        for name, step in steps.items():
            wall, processor = time.perf_counter(), time.process_time()
            for _ in range(steps_per_round):
                step(tokens)
            times[name].wall_s.append((time.perf_counter() - wall) / steps_per_round)
            times[name].processor_s.append((time.process_time() - processor) / steps_per_round)
    return times, limits


def ratio(peer: Times, ours: Times, *, clock: str = "wall_s") -> float:
    """How many times faster than the peer we are: median over rounds."""
    return statistics.median(float(a / b) for a, b in zip(getattr(peer, clock), getattr(ours, clock), strict=True))


def describe(times: dict[str, Times], limits: list[float], config: ModelConfig) -> dict[str, Any]:
    """Tokens per second and share of the matmul limit of each contestant. FLOPs are those Agora's shape needs, causal half only."""
    limit, flops = max(limits), flops_per_token(config, LENGTH)
    table = {}
    for name, measured in times.items():
        speed = BATCH * LENGTH / statistics.median(measured.wall_s)
        table[name] = {
            "tokens_per_s": round(speed),
            "best_tokens_per_s": round(BATCH * LENGTH / min(measured.wall_s)),
            "tokens_per_processor_s": round(BATCH * LENGTH / statistics.median(measured.processor_s)),
            "share_of_matmul_limit": round(speed * flops / limit, 3),
        }
    return {"matmul_limit_tflops": round(limit / 1e12, 3), "contestants": table}


def share_of_limit(times: Times, limits: list[float], config: ModelConfig) -> float:
    """Median over rounds of our FLOP rate, over the best limit measured in any round."""
    needed = BATCH * LENGTH * flops_per_token(config, LENGTH)
    return float(needed / statistics.median(times.wall_s) / max(limits))


def profile_step(step: Step) -> dict[str, float]:
    """Share of each part in the time of one step, in percent, largest first."""
    from torch.profiler import ProfilerActivity, profile

    tokens = make_tokens()
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        step(tokens)
    events = {event.key: event.self_cpu_time_total for event in recorded.key_averages()}
    total = sum(events.values())
    shares = {part: 100 * sum(events.get(key, 0) for key in keys) / total for part, keys in PARTS.items()}
    shares["everything else"] = 100 - sum(shares.values())
    return {part: round(share, 1) for part, share in sorted(shares.items(), key=lambda item: -item[1])}
