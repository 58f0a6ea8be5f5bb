"""Training speed of a 63M model against transformers and the machine's matmul limit: python -m benchmarks train_speed_60m"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.registry import Benchmark, Result
from benchmarks.speed_measure import LARGE, THREADS, alternate, describe, make_tokens, profile_step, ratio, share_of_limit
from benchmarks.speed_peers import agora_step, transformers_step

TRANSFORMERS_BAR, SHARE_BAR = 1.8, 0.42


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternate the contestants; both bars must hold. `quick` takes half of the layers."""
    torch.set_num_threads(THREADS)
    config = replace(LARGE, num_layers=4) if quick else LARGE
    made = {"agora": agora_step(config), "transformers": transformers_step(config)}
    steps = {name: step for name, (step, _) in made.items()}
    for step in steps.values():
        step(make_tokens())
    times, limits = alternate(steps, rounds=2 if quick else 6)
    over = ratio(times["transformers"], times["agora"])
    share = share_of_limit(times["agora"], limits, config)
    details = {
        **describe(times, limits, config),
        "times_faster_than_transformers": round(over, 2),
        "by_processor_time": round(ratio(times["transformers"], times["agora"], clock="processor_s"), 2),
        "agora_share_of_limit": round(share, 3),
        "bars": {"transformers": TRANSFORMERS_BAR, "share_of_limit": SHARE_BAR},
        "parameters": {name: count for name, (_, count) in made.items()},
        "agora_profile_percent": profile_step(steps["agora"]),
    }
    return Result(value=over, holds=over >= TRANSFORMERS_BAR and share >= SHARE_BAR, details=details)


BENCHMARK = Benchmark(
    measures="training tokens/s over transformers Qwen3 at 63M parameters (and >= 42% of the measured matmul limit)",
    unit="x",
    bound=f">= {TRANSFORMERS_BAR} and >= {SHARE_BAR} of the matmul limit",
    run=run,
)
