#!/usr/bin/env python3
# h100_10k: 10,240 processes which Ray packs on as few nodes as it can
# layout: replicate 5, shard 32, tensor 2, pipeline 8, virtual 8, context 4, expert 8, micro_batch 1, parameters,
# interleaved, recompute selective, bf16; 10,240 ranks
# predicted on H100: 5.3 s a step, 15.6 GiB on the fullest rank, 36.5 days in all (agora cluster plan)
# an interruption every 4 h 56 min is to be expected
# Made by: agora train launch h100_10k --ray
# Start:   python THIS_FILE on the cluster's head, or: ray job submit --working-dir . -- python THIS_FILE
"""Every node needs the same Python with agora[ray] installed, and sees the workspace under the same path."""

import os
from pathlib import Path

WORKSPACE = Path("workspace").resolve()  # workers start in folders of their own
COMMAND = [
    "train",
    "pretrain",
    "h100_10k",
    "--name",
    "h100_10k",
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
        scaling_config=ScalingConfig(num_workers=10240, use_gpu=True),
        run_config=RunConfig(
            name="h100-10k",
            storage_path=str(WORKSPACE / "ray"),
            failure_config=FailureConfig(max_failures=358),
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise SystemExit(f"training failed: {result.error}")


if __name__ == "__main__":
    main()
