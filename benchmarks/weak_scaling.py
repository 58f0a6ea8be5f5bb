"""Weak scaling: processor seconds per token of two processes that share the weights, against one, with the same work for each process.

python -m benchmarks weak_scaling

Two cores are all there is and others use them, so wall time says little: processor seconds of a process count its own work, that of the
exchange threads included. Three steps are compared: the plain TrainingStep; ShardedStep on one rank, which adds the engine (gathering,
DTensors, an unfused AdamW); ShardedStep on two ranks, which adds the exchange.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

LAYOUTS: dict[str, dict[str, Any]] = {
    "shards": {"shard": 2},
    "replicas": {"replicate": 2},
    "shards, gathered once": {"shard": 2, "sharding": "gradients"},
}


def run(quick: bool, options: dict[str, str]) -> Result:
    """Alternates the three, so that a busy minute meets all of them."""
    steps, rounds = (3, 1) if quick else (6, 3)
    names = list(LAYOUTS)[:1] if quick else list(LAYOUTS)
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in ("plain", "one rank", *names)}
    for _ in range(rounds):
        samples["plain"] += _measure(1, {}, steps, is_plain=True)
        samples["one rank"] += _measure(1, {}, steps, is_plain=False)
        for name in names:
            samples[name] += _measure(2, LAYOUTS[name], steps, is_plain=False)
    found = {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in samples.items()}
    plain, one, two = (found[name]["cpu_us_per_token"] for name in ("plain", "one rank", "shards"))
    overheads = {"engine": one / plain - 1, "exchange": two / one - 1, "together": two / plain - 1}
    details = {"microseconds_per_token": found, "overhead_of_shards": overheads, "steps": steps, "rounds": rounds}
    return Result(value=overheads["exchange"], holds=overheads["exchange"] <= 0.25, details=details)


def _measure(num_ranks: int, layout: dict[str, Any], steps: int, *, is_plain: bool) -> list[dict[str, float]]:
    task = json.dumps({"layout": layout, "steps": steps, "plain": is_plain})
    with tempfile.TemporaryDirectory() as meeting:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "WORLD_SIZE": str(num_ranks)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.weak_scaling", meeting, task], env={**environment, "RANK": str(rank)}, cwd=REPOSITORY,
                stdout=subprocess.PIPE, text=True,
            )
            for rank in range(num_ranks)
        ]  # fmt: skip
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    return [json.loads(output.strip().splitlines()[-1]) for output in outputs]


def _rank(meeting: str, task: dict[str, Any]) -> dict[str, float]:
    """Processor seconds per token of this process, and where they go."""
    import time

    import torch
    import torch.distributed as dist

    from agora.cluster.layout import Layout
    from agora.model.config import ModelConfig
    from agora.model.transformer import Transformer
    from agora.training.optimizers import OptimizerConfig
    from agora.training.sharded_step import ShardedStep
    from agora.training.step import Batch, TrainingStep

    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=size)
    config = ModelConfig(dim=256, num_layers=4, tie_embeddings=False)
    model, optimizer, rows, length = Transformer(config), OptimizerConfig(name="adamw"), 4, 512
    step: Any
    if task["plain"]:
        step = TrainingStep(model, optimizer, dtype="bfloat16")
    else:
        step = ShardedStep(model, optimizer, Layout(micro_batch=rows, **task["layout"]), seq_len=length, dtype="bfloat16")
    parts = {"optimizer": _watch(step.optimizer, "step"), "norm and clip": _watch(step, "_sum_of_squares") if not task["plain"] else [0.0]}
    tokens_BT = torch.randint(0, config.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(rank))
    batches = [Batch(tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous())] * 2
    step.run(batches)
    for seconds in parts.values():
        seconds[0] = 0.0
    started_s, num_tokens = time.process_time(), task["steps"] * len(batches) * rows * length
    for _ in range(task["steps"]):
        step.run(batches)
    total_s = time.process_time() - started_s
    dist.destroy_process_group()
    per_token = {name: seconds[0] / num_tokens * 1e6 for name, seconds in parts.items()}
    rest = total_s / num_tokens * 1e6 - sum(per_token.values())
    return {"cpu_us_per_token": total_s / num_tokens * 1e6, "forward, backward, gather and scatter": rest, **per_token}


def _watch(owner: Any, name: str) -> list[float]:
    """Add up the processor seconds of a method."""
    import time

    seconds, method = [0.0], getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        started_s = time.process_time()
        result = method(*args, **kwargs)
        seconds[0] += time.process_time() - started_s
        return result

    setattr(owner, name, timed)
    return seconds


BENCHMARK = Benchmark(
    measures="processor seconds per token of two processes with sharded weights over those of one with the same work, less 1",
    unit="share", bound="<= 0.25", run=run,
)  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(_rank(sys.argv[1], json.loads(sys.argv[2]))))
