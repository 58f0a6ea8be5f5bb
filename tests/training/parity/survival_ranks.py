"""What the ranks of test_survival.py do: compare replicas that are healthy or not, refuse a step, train past bad batches."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from agora.cluster.layout import Layout
from agora.training import loop, machine
from agora.training.checkpoint import CheckpointWriter
from agora.training.checkpoint_store import FolderStore
from agora.training.movement import Counted
from agora.training.optimizers import OptimizerConfig
from agora.training.replicas import compare_replicas
from agora.training.sharded_step import ShardedStep
from agora.training.step import StepResult
from agora.training.watchdog import Watchdog
from agora.training.world import World
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder
from tests.training.parity.ranks import EPSILON, MICRO_BATCH, NUM_MICRO_BATCHES, SEQ_LEN, batches, model_of, options


class _WrongBackward(torch.autograd.Function):
    """Right forward, a thousandth too much backward: a unit that fails on some operands only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 1.001


def _break(step: ShardedStep, fault: str) -> None:
    """Something of this rank goes wrong, and nothing is said."""
    layer = next(iter(step.part.stages[0].layers.values()))
    if fault == "bit":
        local = step.part.named_parameters()["layers.1.feed_forward.down.weight"].detach().to_local()  # type: ignore[attr-defined]
        local.view(torch.int32)[0, 0] ^= 1 << 12
    elif fault == "moment":
        name = next(name for name in step.state_dict() if name.startswith("optimizer.exp_avg.layers.1"))
        step.state_dict()[name].to_local().view(torch.int32)[0] ^= 1  # type: ignore[attr-defined]
    elif fault == "noise":
        layer.register_forward_hook(lambda module, args, out: (out[0], out[1] + 1e-4 * torch.randn_like(out[1])))
    elif fault == "offset":
        layer.register_forward_hook(lambda module, args, out: (out[0], out[1] + 1e-4))
    elif fault == "backward":
        layer.register_forward_hook(lambda module, args, out: (out[0], _WrongBackward.apply(out[1])))


def compare(case: dict[str, Any]) -> dict[str, Any]:
    """A step, the comparison, another step; case["rank"] has case["fault"]."""
    layout = Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
    step = ShardedStep(model_of(case), OptimizerConfig(name="adamw", eps=EPSILON), layout, seq_len=SEQ_LEN, **options(case))
    results, found = [], None
    for number in range(2):
        mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
        share = len(mine) // layout.data
        results.append(step.run(mine[step.axes.data_rank * share : (step.axes.data_rank + 1) * share], 1.0))
        if number == 0:
            if int(os.environ["RANK"]) == case.get("rank"):
                _break(step, case["fault"])
            found = compare_replicas(step, mine[:share] if layout.pipeline > 1 else mine[:1])
    return {"found": found, "losses": [result.loss for result in results], "grad_norms": [result.grad_norm for result in results]}


def refuse(case: dict[str, Any]) -> dict[str, Any]:
    """Three batches, of which the second one's step is refused."""
    layout = Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
    step = ShardedStep(model_of(case), OptimizerConfig(name="adamw", eps=EPSILON), layout, seq_len=SEQ_LEN, **options(case))
    results = []
    for number in range(3):
        mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
        share = len(mine) // layout.data
        mine = mine[step.axes.data_rank * share : (step.axes.data_rank + 1) * share]
        results.append(step.run(mine, 1.0, lambda loss, norm, allowed=number != 1: allowed))
    return {"losses": [result.loss for result in results], "applied": [result.is_applied for result in results]}


def upload(case: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of which one rank's file takes longer than the watchdog waits: piece by piece, or, with case["stuck"], in one."""
    world, folder, told = World(dist.get_rank(), dist.get_world_size()), Path(case["folder"]), threading.Event()
    messages: list[str] = []

    def tell(message: str) -> None:
        messages.append(message)
        told.set()

    def write(self: Counted, data: Any) -> None:
        self._stream.write(data)
        if os.environ["RANK"] == "1" and len(data) == 4096:
            told.wait(20) if case["stuck"] else time.sleep(0.5)
        self._movement.count += 1

    store = FolderStore(folder / "checkpoints")
    state = {f"{rank}-{number}": torch.ones(1024) for rank in (world.rank,) for number in range(8)}
    with pytest.MonkeyPatch.context() as patch, Watchdog(world, folder, 1.5, on_hang=tell) as watchdog:
        patch.setattr(Counted, "write", write)
        watchdog.files, writer = store.movement, CheckpointWriter(store, world=world)
        watchdog.at(1, "checkpoint")
        writer.save(1, state)
        writer.wait()
        if case["stuck"]:
            told.wait(20)
        world.wait()
    return {"messages": messages, "checkpoints": store.names()}


def train_on(case: dict[str, Any]) -> dict[str, Any]:
    """Train the run in case["folder"] in the world that is there, up to case["stop"]; with case["steady"] by what rounds least."""
    folder = Path(case["folder"])
    own = folder / f"shards-{dist.get_world_size()}-{os.environ['RANK']}"
    own.mkdir(parents=True, exist_ok=True)
    optimizer = OptimizerConfig(name="adamw", eps=EPSILON) if case.get("steady") else TINY_TRAINING.optimizer
    config = dataclasses.replace(TINY_TRAINING, **{"batch_tokens": 128, "optimizer": optimizer, **case["settings"]})
    stop = EachStep(lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == case.get("stop") else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "measure_matmul_limit", lambda device, dtype: 1e12)
        summary = loop.train(
            folder / "run", model_config=TINY_MODEL, training_config=config, shards=some_shards(own), heldout=some_shards(own, seed=2),
            tokenizer_dir=tokenizer_folder(own / "tokenizer"), layout=Layout(**case["layout"]), progress=stop,
        )  # fmt: skip
    return {"state": summary.state, "step": summary.step}


def train_past_bad_batches(case: dict[str, Any]) -> dict[str, Any]:
    """A run in the world that is there; the batches of case["bad"] steps give no number, whenever they are taken."""
    own = Path(case["folder"]) / f"shards-{os.environ['RANK']}"
    own.mkdir(parents=True, exist_ok=True)
    taken = [0]
    share_of_step, run = loop.share_of_step, ShardedStep.run

    def take(source: Any, *arguments: Any) -> Any:
        taken[0] = source.state_dict()["position"] // 128 + 1
        return share_of_step(source, *arguments)

    def spoilt(self: ShardedStep, *arguments: Any) -> Any:
        result = run(self, *arguments) if taken[0] not in case["bad"] else None
        return result or StepResult(math.nan, math.nan, 128, is_applied=False)

    config = dataclasses.replace(TINY_TRAINING, batch_tokens=128, **case["settings"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "measure_matmul_limit", lambda device, dtype: 1e12)
        patch.setattr(loop, "share_of_step", take)
        patch.setattr(ShardedStep, "run", spoilt)
        summary = loop.train(
            Path(case["folder"]) / "run", model_config=TINY_MODEL, training_config=config, shards=some_shards(own),
            heldout=some_shards(own, seed=2), tokenizer_dir=tokenizer_folder(own / "tokenizer"), layout=Layout(**case["layout"]),
        )  # fmt: skip
    return {"state": summary.state}
