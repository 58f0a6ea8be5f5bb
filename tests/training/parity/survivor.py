"""A tiny run for torchrun: python survivor.py FOLDER NAME SETTINGS LAYOUT SECONDS_PER_STEP. Ends with 3 when it was stopped."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from agora.cluster.layout import Layout
from agora.training import machine
from agora.training.loop import train
from agora.training.sharded_step import ShardedStep
from agora.training.world import is_first_process
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder


def main(folder: Path, name: str, settings: dict[str, object], layout: dict[str, int], pause_s: float) -> int:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format=f"rank {os.environ['RANK']}: %(message)s")
    machine.measure_matmul_limit = lambda device, dtype: 1e12  # type: ignore[attr-defined]
    own = folder / f"shards-{name}-{os.environ['RANK']}"
    own.mkdir(parents=True, exist_ok=True)
    if os.environ.get("SLOW_RANK") == os.environ["RANK"]:
        run = ShardedStep.run

        def slowly(self: ShardedStep, *arguments: Any) -> Any:
            time.sleep(pause_s)
            return run(self, *arguments)

        ShardedStep.run = slowly  # type: ignore[method-assign]
    between_s = 0.0 if "SLOW_RANK" in os.environ else pause_s
    summary = train(
        folder / name, model_config=TINY_MODEL, layout=Layout(**layout), shards=some_shards(own), heldout=some_shards(own, seed=2),
        training_config=dataclasses.replace(TINY_TRAINING, **{"batch_tokens": 128, "checkpoint_every_steps": 4, **settings}),
        tokenizer_dir=tokenizer_folder(own / "tokenizer"), progress=EachStep(lambda done: time.sleep(between_s)),
    )  # fmt: skip
    if is_first_process():
        print(f"state: {summary.state}")
    return 0 if summary.state == "finished" else 3


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), json.loads(sys.argv[4]), float(sys.argv[5])))
