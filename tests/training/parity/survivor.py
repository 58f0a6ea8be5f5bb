"""A tiny run for torchrun: python survivor.py FOLDER NAME SETTINGS LAYOUT SECONDS_PER_STEP. Ends with 3 when it was stopped.

SLOW_RANK sleeps inside its steps instead of between them; FLIP_RANK flips a bit of its weights before the sixth step of the first start.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from agora.cluster.layout import Layout
from agora.training import machine
from agora.training.loop import train
from agora.training.sharded_step import ShardedStep
from agora.training.world import is_first_process
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder


def before_each_step(act: Callable[[ShardedStep, int], None]) -> None:
    run, count = ShardedStep.run, itertools.count(1)

    def acting(self: ShardedStep, *arguments: Any) -> Any:
        act(self, next(count))
        return run(self, *arguments)

    ShardedStep.run = acting  # type: ignore[method-assign]


def flip_a_bit(step: ShardedStep) -> None:
    weight: Any = step.part.named_parameters()["layers.1.feed_forward.down.weight"].detach()
    weight.to_local().view(torch.int32)[0, 0] ^= 1 << 12


def main(folder: Path, name: str, settings: dict[str, object], layout: dict[str, int], pause_s: float) -> int:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, format=f"rank {os.environ['RANK']}: %(message)s")
    machine.measure_matmul_limit = lambda device, dtype: 1e12  # type: ignore[attr-defined]
    own = folder / f"shards-{name}-{os.environ['RANK']}"
    own.mkdir(parents=True, exist_ok=True)
    if os.environ.get("SLOW_RANK") == os.environ["RANK"]:
        before_each_step(lambda step, number: time.sleep(pause_s))
    if os.environ.get("FLIP_RANK") == os.environ["RANK"] and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        before_each_step(lambda step, number: flip_a_bit(step) if number == 6 else None)
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
