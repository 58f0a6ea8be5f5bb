"""Training speed of a 10.5M model against transformers and a compiled GPT-2-style model: python -m benchmarks train_speed"""

from __future__ import annotations

import time
from dataclasses import replace

import torch

from benchmarks.registry import Benchmark, Result
from benchmarks.speed_measure import SMALL, THREADS, alternate, describe, make_tokens, profile_step, ratio, share_of_limit
from benchmarks.speed_peers import agora_step, gpt2_step, transformers_step

TRANSFORMERS_BAR, GPT2_BAR = 2.0, 1.25


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternate the contestants; both bars must hold. `quick` takes half of the layers, mostly to compile the peer in time."""
    torch.set_num_threads(THREADS)
    config = replace(SMALL, num_layers=4) if quick else SMALL
    made = {
        "agora": agora_step(config),
        "transformers": transformers_step(config),
        "gpt2 compiled": gpt2_step(config, compile=True),
    }
    if not quick:
        made["gpt2"] = gpt2_step(config, compile=False)
    warm_up_s = {}
    for name, (step, _) in made.items():
        started = time.perf_counter()
        step(make_tokens())
        warm_up_s[name] = round(time.perf_counter() - started, 1)
    steps = {name: step for name, (step, _) in made.items()}
    times, limits = alternate(steps, rounds=3 if quick else 9, steps_per_round=1 if quick else 2)
    over = {name: round(ratio(times[name], times["agora"]), 2) for name in steps if name != "agora"}
    over_processor = {name: round(ratio(times[name], times["agora"], clock="processor_s"), 2) for name in steps if name != "agora"}
    details = {
        **describe(times, limits, config),
        "agora_share_of_limit": round(share_of_limit(times["agora"], limits, config), 3),
        "times_faster_than": over,
        "times_faster_than_by_processor_time": over_processor,
        "bars": {"transformers": TRANSFORMERS_BAR, "gpt2 compiled": GPT2_BAR},
        "parameters": {name: count for name, (_, count) in made.items()},
        "first_step_s": warm_up_s,
        "agora_profile_percent": profile_step(steps["agora"]),
    }
    holds = over["transformers"] >= TRANSFORMERS_BAR and over["gpt2 compiled"] >= GPT2_BAR
    return Result(value=over["transformers"], holds=holds, details=details)


BENCHMARK = Benchmark(
    measures="training tokens/s over transformers Qwen3 at 10.5M parameters (and >= 1.25 over compiled GPT-2 style)",
    unit="x",
    bound=f">= {TRANSFORMERS_BAR} and >= {GPT2_BAR} over compiled GPT-2",
    run=run,
)
