"""Weak scaling: processor seconds per token of two processes that share the weights, against one, with the same work for each process.

python -m benchmarks weak_scaling

Two cores are all there is and others use them, so wall time says little: processor seconds of a process count its own work, that of the
exchange threads included. Three steps are compared: the plain TrainingStep; ShardedStep on one rank, which adds the engine (gathering,
DTensors); ShardedStep on two ranks, which adds the exchange. The bar is held against both forms of one process: the plain
step, which is what a run alone takes, and the engine on one rank.

Where the time goes: whatever is called last counts, so what FSDP2 gathers and scatters inside a pass is not in that pass. Threads of gloo
send while others compute; their time is in whatever the process was at, mostly the waiting for what they send.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, Final

from benchmarks.registry import REPOSITORY, Benchmark, Result

BOUND: Final = 0.25
PARTS: Final = ("forward", "backward", "gather", "scatter", "norm and clip", "optimizer")
REST: Final = "rest"
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
    details: dict[str, Any] = {"microseconds_per_token": found, "overhead_of_shards": overheads, "steps": steps, "rounds": rounds}
    against = {"two against the plain step": overheads["together"], "two against the engine on one rank": overheads["exchange"]}
    details["bars"] = {name: {"overhead": value, "bound": BOUND, "holds": value <= BOUND} for name, value in against.items()}
    return Result(value=max(against.values()), holds=max(against.values()) <= BOUND, details=details)


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
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp._fully_shard._fsdp_param_group import FSDPParamGroup

    from agora.cluster.layout import Layout
    from agora.model.config import ModelConfig
    from agora.model.transformer import Transformer
    from agora.training import step as plain_step
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
    clock = Clock()
    watched: list[tuple[str, Any, str]] = [
        ("backward", torch.Tensor, "backward"), ("gather", FSDPParamGroup, "unshard"), ("gather", FSDPParamGroup, "wait_for_unshard"),
        ("scatter", FSDPParamGroup, "post_backward"), ("scatter", FSDPParamGroup, "finalize_backward"),
        ("optimizer", step.optimizer, "step"),
    ]  # fmt: skip
    if task["plain"]:
        watched += [("forward", plain_step, "_loss"), ("norm and clip", step.optimizer, "clip")]
    else:
        watched += [("forward", step, "_accumulate"), ("norm and clip", step, "_sum_of_squares"), ("norm and clip", step, "_clip")]
    for part, owner, name in watched:
        clock.watch(part, owner, name)
    tokens_BT = torch.randint(0, config.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(rank))
    batches = [Batch(tokens_BT[:, :-1].contiguous(), tokens_BT[:, 1:].contiguous())] * 2
    step.run(batches)
    clock.start()
    started_s, num_tokens = time.process_time(), task["steps"] * len(batches) * rows * length
    for _ in range(task["steps"]):
        step.run(batches)
    total_s, parts = time.process_time() - started_s, clock.stop()
    dist.destroy_process_group()
    return {"cpu_us_per_token": total_s / num_tokens * 1e6, **{name: seconds / num_tokens * 1e6 for name, seconds in parts.items()}}


class Clock:
    """Processor seconds of this process by part; a part that calls another does not have its time."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys((*PARTS, REST), 0.0)
        self._stack, self._since_s = [REST], 0.0

    def watch(self, part: str, owner: Any, name: str) -> None:
        """Count what the function `name` of a class, an object or a module takes to `part`."""
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self._turn()
            self._stack.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._turn()
                self._stack.pop()

        setattr(owner, name, timed)

    def start(self) -> None:
        """From here on."""
        self._seconds = dict.fromkeys(self._seconds, 0.0)
        self._since_s = time.process_time()

    def stop(self) -> dict[str, float]:
        """Seconds of each part."""
        self._turn()
        return dict(self._seconds)

    def _turn(self) -> None:
        now_s = time.process_time()
        self._seconds[self._stack[-1]] += now_s - self._since_s
        self._since_s = now_s


BENCHMARK = Benchmark(
    measures="processor seconds per token of two processes with sharded weights over those of one with the same work, less 1: the "
    "larger of two against the plain step and against the engine on one rank",
    unit="share", bound="<= 0.25", run=run,
)  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(_rank(sys.argv[1], json.loads(sys.argv[2]))))
