"""Peak memory that dry runs predict beside what the same recorder sees in real runs of two and four processes over gloo.

python -m benchmarks dryrun_memory

Real runs use the plain operations, as a GPU does: those are what a dry run counts (kernels for processors keep less).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.registry import REPOSITORY, Benchmark, Result

BOUND = 0.05
SEQ_LEN, NUM_ROWS = 128, 8
DENSE: dict[str, Any] = {
    "vocab_size": 512, "dim": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32, "hidden_dim": 384,
    "max_seq_len": SEQ_LEN, "tie_embeddings": False,
}  # fmt: skip
EXPERTS = {**DENSE, "num_experts": 4, "experts_per_token": 2, "expert_dim": 128}
CASES: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "FSDP": {"shard": 2},
        "FSDP, optimizer states only": {"shard": 2, "sharding": "optimizer"},
        "tensor": {"tensor": 2},
        "pipeline 1f1b": {"pipeline": 2},
        "pipeline interleaved": {"pipeline": 2, "virtual": 2, "schedule": "interleaved"},
        "pipeline zero bubble": {"pipeline": 2, "schedule": "zero_bubble"},
        "context": {"context": 2},
        "experts": {"shard": 2, "expert": 2},
        "FSDP, full recompute, muon": {"shard": 2, "recompute": "full"},
    },
    4: {
        "HSDP": {"replicate": 2, "shard": 2},
        "FSDP x tensor": {"shard": 2, "tensor": 2},
        "FSDP x pipeline": {"shard": 2, "pipeline": 2},
    },
}
QUICK = ("FSDP", "tensor", "pipeline 1f1b")


def run(quick: bool, options: dict[str, str]) -> Result:
    """The largest error over all layouts and ranks."""
    rows: dict[str, Any] = {}
    for num_ranks, cases in CASES.items():
        chosen = {name: layout for name, layout in cases.items() if not quick or name in QUICK}
        if not chosen:
            continue
        seen = _real_peaks(num_ranks, chosen)
        for name, layout in chosen.items():
            predicted = [_predicted(name, layout, rank) for rank in range(num_ranks)]
            errors = [one / other - 1 for one, other in zip(predicted, seen[name], strict=True)]
            rows[name] = {"layout": layout, "predicted_bytes": predicted, "seen_bytes": seen[name], "errors": errors}
    worst = max(abs(error) for row in rows.values() for error in row["errors"])
    return Result(value=worst, holds=worst <= BOUND, details={"layouts": rows})


def _task(name: str, layout: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Model, training and layout of a case. How many rows visit an expert is for the router to say; a dry run takes all as equally busy."""
    from agora.cluster.layout import Layout
    from agora.model.config import ModelConfig
    from agora.training.config import TrainingConfig
    from agora.training.optimizers import OptimizerConfig

    training = TrainingConfig(
        batch_tokens=NUM_ROWS * SEQ_LEN, micro_batch=1, seq_len=SEQ_LEN, dtype="bfloat16",
        optimizer=OptimizerConfig(name="muon" if "muon" in name else "adamw"),
    )  # fmt: skip
    return ModelConfig(**(EXPERTS if "expert" in layout else DENSE)), training, Layout(**layout)


def _predicted(name: str, layout: dict[str, Any], rank: int) -> float:
    from agora.training.dryrun import dry_run

    return dry_run(*_task(name, layout), rank=rank).record.peak_bytes


def _real_peaks(num_ranks: int, cases: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as meeting:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "WORLD_SIZE": str(num_ranks)}
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.dryrun_memory", meeting, json.dumps(cases)], env={**environment, "RANK": str(rank)},
                cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
            )
            for rank in range(num_ranks)
        ]  # fmt: skip
        answers = [json.loads(process.communicate(timeout=600)[0].strip().splitlines()[-1]) for process in processes]
    return {name: [answer[name] for answer in answers] for name in cases}


def _rank(meeting: str, cases: dict[str, dict[str, Any]]) -> dict[str, float]:
    """What the recorder sees on this process."""
    import torch
    import torch.distributed as dist

    from agora.training.dryrun import record_steps

    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{meeting}/store", rank=rank, world_size=size)
    peaks = {}
    for name, words in cases.items():
        model, training, layout = _task(name, words)
        _, records = record_steps(model, training, layout, (NUM_ROWS // layout.data,))
        peaks[name] = records[0].peak_bytes
    dist.destroy_process_group()
    return peaks


BENCHMARK = Benchmark(
    measures="predicted peak memory against what the same recorder sees in real runs of 2 and 4 processes: largest error",
    unit="relative error", bound=f"<= {BOUND}", run=run,
)  # fmt: skip

if __name__ == "__main__":
    print(json.dumps(_rank(sys.argv[1], json.loads(sys.argv[2]))))
