#!/usr/bin/env python3
# laptop: 2 processes which Ray packs on as few nodes as it can
# layout: shard 2, micro_batch 8, parameters, recompute none, bf16; 2 ranks
# Made by: agora train launch laptop --ray training.micro_batch=8 launch.num_accelerators=2
# Start:   python THIS_FILE on the cluster's head, or: ray job submit --working-dir . -- python THIS_FILE
"""Every node needs the same Python with agora[ray] installed, and sees the workspace under the same path."""

import os
from pathlib import Path

WORKSPACE = Path("workspace").resolve()  # workers start in folders of their own
COMMAND = [
    "train",
    "pretrain",
    "laptop",
    "training.micro_batch=8",
    "--name",
    "laptop",
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
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, use_gpu=False),
        run_config=RunConfig(
            name="laptop",
            storage_path=str(WORKSPACE / "ray"),
            failure_config=FailureConfig(max_failures=3),
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise SystemExit(f"training failed: {result.error}")


if __name__ == "__main__":
    main()
