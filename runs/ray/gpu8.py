#!/usr/bin/env python3
# gpu8: 8 processes which Ray packs on as few nodes as it can
# layout: shard 8, expert 8, micro_batch 2, parameters, recompute selective, bf16; 8 ranks
# predicted on H200: 32.4 s a step, 62.3 GiB on the fullest rank, 12.0 days in all (agora cluster plan)
# an interruption every 6333 h 07 min is to be expected
# Made by: agora train launch gpu8 --ray
# Start:   python THIS_FILE on the cluster's head, or: ray job submit --working-dir . -- python THIS_FILE
"""Every node needs the same Python with agora[ray] installed, and sees the workspace under the same path."""

import os
from pathlib import Path

WORKSPACE = Path("workspace").resolve()  # workers start in folders of their own
COMMAND = [
    "train",
    "pretrain",
    "gpu8",
    "--name",
    "gpu8",
    "--data",
    "main",
    "--workspace",
    str(WORKSPACE),
]


def train() -> None:
    """What each worker does. Ray has set RANK, LOCAL_RANK and WORLD_SIZE and joined the process group."""
    from agora.cli import app

    code = app(COMMAND, standalone_mode=False)
    if code:
        raise RuntimeError(f"agora ended with code {code}")


def main() -> None:
    """Start the workers and wait for them."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        train,
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl"),
        scaling_config=ScalingConfig(num_workers=8, use_gpu=True),
        run_config=RunConfig(
            name="gpu8",
            storage_path=str(WORKSPACE / "ray"),
            failure_config=FailureConfig(max_failures=4),
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise SystemExit(f"training failed: {result.error}")


if __name__ == "__main__":
    main()
