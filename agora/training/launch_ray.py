"""A Ray Train program for a Job. Goes in: a Job. Comes out: Python text for `python FILE` on a Ray cluster's head, or `ray job submit`.

Ray starts a worker for each accelerator, joins them in a process group and names their ranks; each then runs the same command as under
torchrun. When a worker is lost Ray starts all of them anew, and the run goes on from its checkpoint.
"""

from __future__ import annotations

from agora.training.launch import Job, header


def program(job: Job) -> str:
    """The whole program."""
    command = job.command(job.config.workspace or "workspace")
    fields = {
        "command": "\n".join(f"    {_literal(word)}," for word in command[:-1]), "workspace": _literal(command[-1]),
        "num_workers": job.num_ranks, "use_gpu": bool(job.resource), "backend": "cpu:gloo,cuda:nccl" if job.resource else "gloo",
        "name": job.name, "restarts": job.restarts,
    }  # fmt: skip
    comments = header(job, "python THIS_FILE on the cluster's head, or: ray job submit --working-dir . -- python THIS_FILE")
    return "\n".join(["#!/usr/bin/env python3", *comments, _PROGRAM.format(**fields)])


def _literal(word: str) -> str:
    """Text as Python reads it, in double quotes where that is possible."""
    return ascii(word) if '"' in word else f'"{ascii(word)[1:-1]}"'


_PROGRAM = '''"""Every node needs the same Python with agora[ray] installed, and sees the workspace under the same path."""

import os
from pathlib import Path

WORKSPACE = Path({workspace}).resolve()  # workers start in folders of their own
COMMAND = [
{command}
    str(WORKSPACE),
]


def train() -> None:
    """What each worker does. Ray has set RANK, LOCAL_RANK and WORLD_SIZE and joined the process group."""
    from agora.cli import app

    code = app(COMMAND, standalone_mode=False)
    if code:
        raise RuntimeError(f"agora ended with code {{code}}")


def main() -> None:
    """Start the workers and wait for them."""
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        train,
        torch_config=TorchConfig(backend="{backend}"),
        scaling_config=ScalingConfig(num_workers={num_workers}, use_gpu={use_gpu}),
        run_config=RunConfig(
            name="{name}",
            storage_path=str(WORKSPACE / "ray"),
            failure_config=FailureConfig(max_failures={restarts}),
        ),
    )
    result = trainer.fit()
    if result.error is not None:
        raise SystemExit(f"training failed: {{result.error}}")


if __name__ == "__main__":
    main()
'''
