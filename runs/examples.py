"""The launch files of this folder, made anew: `python -m runs.examples` writes them, and a test compares."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).resolve().parent
COMMANDS: Final = {
    "slurm/gpu8.sbatch": "gpu8 --slurm",
    "slurm/h100_10k.sbatch": "h100_10k --slurm launch.hours=48",
    "slurm/b200_100k.sbatch": "b200_100k --slurm launch.hours=168",
    "kubernetes/gpu8.yaml": "gpu8 --kubernetes",
    "kubernetes/h100_10k.yaml": "h100_10k --kubernetes",
    "kubernetes/h100_10k-trainjob.yaml": "h100_10k --kubernetes launch.kind=trainjob",
    "ray/laptop_2.py": "laptop --ray training.micro_batch=8 launch.num_accelerators=2",
    "ray/gpu8.py": "gpu8 --ray",
    "ray/h100_10k.py": "h100_10k --ray",
}


def write(folder: Path) -> None:
    """Every file, below `folder`."""
    from agora.cli import app

    for name, words in COMMANDS.items():
        app(["train", "launch", *shlex.split(words), "--out", str(folder / name), "--json"], standalone_mode=False)


if __name__ == "__main__":
    write(FOLDER)
