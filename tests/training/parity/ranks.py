"""Processes that train together over gloo, kept between tests because starting one takes seconds. The file is also what they run.

A case goes in as one line of JSON, every rank answers with one: {"layout": {...}, "optimizer": "adamw", "steps": 20, ...}.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor.debug import _clear_sharding_prop_cache

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.model.experts import Router
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.step import Batch, TrainingStep

ROOT = Path(__file__).resolve().parents[3]
ANSWER = "answer: "
LIMIT_S = 180.0
CASES = 15
MODEL: dict[str, Any] = {
    "vocab_size": 64, "dim": 32, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "hidden_dim": 48, "max_seq_len": 64,
    "tie_embeddings": False,
}  # fmt: skip
SEQ_LEN, MICRO_BATCH, NUM_MICRO_BATCHES = 32, 2, 8


@dataclass(frozen=True, slots=True)
class Rank:
    """One process: what it is told, what it answers."""

    process: int
    told: IO[str]
    said: IO[str]


class Nursery:
    """A process that has imported what ranks need, and forks them: an import takes seconds. It ends when this one does."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-W", "error::UserWarning", __file__, str(theirs.fileno())]
        self._process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        theirs.close()

    def bear(self, rank: int, num_ranks: int, port: int) -> Rank:
        """A new process."""
        (reads, told), (said, writes) = os.pipe(), os.pipe()
        words = {"RANK": str(rank), "WORLD_SIZE": str(num_ranks), "MASTER_PORT": str(port)}
        socket.send_fds(self._line, [json.dumps(words).encode()], [reads, writes])
        process = int(self._line.recv(64))
        os.close(reads)
        os.close(writes)
        return Rank(process, os.fdopen(told, "w", buffering=1), os.fdopen(said))


@cache
def nursery() -> Nursery:
    return Nursery()


class Ranks:
    """`num_ranks` processes. A case that fails ends them, and so do CASES: PyTorch's caches keep groups of earlier ones, each with threads
    that look for messages a hundred times a second."""

    def __init__(self, num_ranks: int) -> None:
        self.num_ranks = num_ranks
        self._ranks: list[Rank] = []
        self._num_cases = 0

    def run(self, case: dict[str, Any]) -> list[dict[str, Any]]:
        """What each rank answers. Raises AssertionError with the trace of a rank that failed."""
        if self._num_cases == CASES:
            self.close()
        if not self._ranks:
            self._store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # no file that would stay behind
            self._ranks = [nursery().bear(rank, self.num_ranks, self._store.port) for rank in range(self.num_ranks)]
        self._num_cases += 1
        for rank in self._ranks:
            with suppress(BrokenPipeError):  # it has ended: no answer will come
                rank.told.write(json.dumps(case) + "\n")
        answers = [self._answer(rank) for rank in self._ranks]
        failed = [answer["error"] for answer in answers if "error" in answer]
        if failed:
            self.close()
            raise AssertionError("\n".join(failed))
        return answers

    def _answer(self, rank: Rank) -> dict[str, Any]:
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            ready, _, _ = select.select([rank.said], [], [], until - time.monotonic())
            line = rank.said.readline() if ready else ""
            if line.startswith(ANSWER):
                answer: dict[str, Any] = json.loads(line.removeprefix(ANSWER))
                return answer
            if not line:
                break
        return {"error": f"a rank gave no answer within {LIMIT_S} s"}

    def close(self) -> None:
        """End the processes."""
        for rank in self._ranks:
            os.kill(rank.process, signal.SIGKILL)  # the nursery has not collected it, so the number is still its own
            with suppress(BrokenPipeError):
                rank.told.close()
            rank.said.close()
        self._ranks, self._num_cases = [], 0


EPSILON = 1e-5


def batches(step: int, num_micro_batches: int = NUM_MICRO_BATCHES, micro_batch: int = MICRO_BATCH, seq_len: int = SEQ_LEN) -> list[Batch]:
    """The micro-batches of one step: some targets ignored, several documents in a row. The same for every division of the rows."""
    generator = torch.Generator().manual_seed(step)
    rows = num_micro_batches * micro_batch
    tokens = torch.randint(0, MODEL["vocab_size"], (rows, seq_len + 1), generator=generator)
    documents = (torch.rand(rows, seq_len, generator=generator) < 0.05).cumsum(1).int()
    targets = tokens[:, 1:].clone()
    targets[torch.rand(rows, seq_len, generator=generator) < 0.1] = -100
    pieces = [x.split(micro_batch) for x in (tokens[:, :-1], targets, documents)]
    return [Batch(*three) for three in zip(*pieces, strict=True)]


def model_of(case: dict[str, Any]) -> Transformer:
    return Transformer(ModelConfig(**{**MODEL, **case.get("model", {})}), seed=case.get("seed", 1))


@contextmanager
def margins(modules: Iterable[nn.Module]) -> Iterator[list[float]]:
    """How near each pass of each router came to choosing otherwise: the smallest distance between the last expert that was chosen and the
    first that was not, as a share of the larger score."""
    found: list[float] = []

    def look(router: Any, arguments: Any) -> None:
        scores_NE = torch.softmax(arguments[0].detach().double() @ router.weight.detach().double().T, -1)
        if router.bias_E is not None:
            scores_NE += router.bias_E
        best = scores_NE.topk(router.config.experts_per_token + 1).values
        found.append(float(((best[:, -2] - best[:, -1]) / best[:, -2].abs()).min()))

    routers = [module for module in modules if isinstance(module, Router)]
    handles = [router.register_forward_pre_hook(look) for router in routers if router.config.experts_per_token < router.config.num_experts]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def options(case: dict[str, Any]) -> dict[str, Any]:
    return {"dtype": case.get("dtype", "float32"), "grad_clip": case.get("grad_clip", 1.0)}


def _optimizer(case: dict[str, Any]) -> OptimizerConfig:
    """AdamW divides a gradient by its own size: where it is near zero, a rounding of 1e-9 decides a whole step. EPSILON keeps that out of
    a comparison, so tolerances can be tight."""
    return OptimizerConfig(name=case.get("optimizer", "adamw"), eps=EPSILON, **({"lr": case["lr"]} if "lr" in case else {}))


def alone(case: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one process with no layout."""
    step = TrainingStep(model_of(case), _optimizer(case), **options(case))
    rows = case.get("micro_batch", MICRO_BATCH)
    with margins(step.model.modules()) as near:
        results = [step.run(batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // rows, rows), 1.0) for number in range(case.get("steps", 2))]
    norms = {name: float(weight.norm()) for name, weight in step.optimizer.master_weights().items()}
    return {
        "losses": [result.loss for result in results], "grad_norms": [result.grad_norm for result in results],
        "num_tokens": [result.num_tokens for result in results], "weight_norms": norms, "margin": min(near, default=1.0),
    }  # fmt: skip


def _weights(case: dict[str, Any]) -> Transformer:
    """The same on every rank, or with `drawn` nothing yet: each rank draws its part."""
    with torch.device("meta" if case.get("drawn") else "cpu"):
        return model_of(case)


def _how(case: dict[str, Any]) -> dict[str, Any]:
    backend = case.get("backend")
    return {"seed": 1 if case.get("drawn") else None, "compile": backend is not None, "backend": backend or "inductor"}


def together(case: dict[str, Any]) -> dict[str, Any]:
    """The numbers of one rank under a layout."""
    from agora.training.sharded_step import ShardedStep

    layout = Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
    optimizer = _optimizer(case)
    step = ShardedStep(_weights(case), optimizer, layout, seq_len=SEQ_LEN, **_how(case), **options(case))
    results = []
    with margins(module for stage in step.part.stages for module in stage.modules()) as near:
        for number in range(case.get("steps", 2)):
            mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
            share = len(mine) // layout.data
            results.append(step.run(mine[step.axes.data_rank * share : (step.axes.data_rank + 1) * share], 1.0))
    norms = {name: float(weight.norm()) for name, weight in step.full_weights().items()}
    return {
        "losses": [result.loss for result in results], "grad_norms": [result.grad_norm for result in results],
        "num_tokens": [result.num_tokens for result in results], "weight_norms": norms, "margin": min(near, default=1.0),
    }  # fmt: skip


@contextmanager
def trouble(kind: str) -> Iterator[None]:
    """While a checkpoint is written: rank 1 has a full disk, or rank 0 dies when all have written."""
    from agora.training import sharded_checkpoint
    from agora.training.checkpoint_store import FolderStore

    def full(*arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        if kind == "full disk" and os.environ["RANK"] == "1":
            patch.setattr(sharded_checkpoint, "write_tensors", full)
        if kind == "death" and os.environ["RANK"] == "0":
            patch.setattr(FolderStore, "commit", lambda self, name: os._exit(9))
        yield


def go_on(case: dict[str, Any]) -> dict[str, Any]:
    """From the newest checkpoint of case["folder"], or the beginning, `steps` steps under a layout, or without one: then a checkpoint,
    which is written while the next step is computed. What that step learns is in no checkpoint. case["trouble"] breaks the writing."""
    import logging

    from agora.errors import CheckpointError
    from agora.training.checkpoint import CheckpointWriter, resume_latest
    from agora.training.checkpoint_store import open_store
    from agora.training.sharded_step import ShardedStep
    from agora.training.world import World

    os.environ.update(case.get("environment", {}))
    warnings: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("agora.training.checkpoint").addHandler(listener)
    optimizer, place = _optimizer(case), case["folder"]
    step: TrainingStep | ShardedStep
    if case["layout"] is None:
        world, layout, share = World(), Layout(micro_batch=case.get("micro_batch", MICRO_BATCH)), 0
        step = TrainingStep(model_of(case), optimizer, **options(case))
    else:
        world, layout = World(dist.get_rank(), dist.get_world_size()), Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]})
        step = ShardedStep(model_of(case), optimizer, layout, seq_len=SEQ_LEN, **options(case))
        share = step.axes.data_rank
    read: list[str] = []
    store = open_store(place)
    reading = store.reading
    store.reading = lambda name, file: (read.append(file), reading(name, file))[1]  # type: ignore[method-assign]
    found = resume_latest(store, {"step": step.state_dict()}, world=world)
    step.finish_loading()
    first = found.step if found else 0

    def run(number: int) -> Any:
        mine = batches(number, NUM_MICRO_BATCHES * MICRO_BATCH // layout.micro_batch, layout.micro_batch)
        each = len(mine) // layout.data
        return step.run(mine[share * each : (share + 1) * each], 1.0)

    results = [run(number) for number in range(first, first + case["steps"])]
    writer = CheckpointWriter(place, keep=2, world=world)
    problem = ""
    with trouble(case.get("trouble", "")):
        writer.save(first + case["steps"], {"step": step.state_dict(), "data": {"position": first + case["steps"]}})
        run(first + case["steps"])
        try:
            writer.wait()
        except CheckpointError as error:
            problem = str(error)
    return {
        "resumed": found.state["data"] if found else None, "warnings": warnings, "problem": problem, "read": read,
        "losses": [result.loss for result in results], "grad_norms": [result.grad_norm for result in results],
    }  # fmt: skip


def muon_differs(case: dict[str, Any]) -> dict[str, Any]:
    """Two steps of Muon on divided matrices, from given gradients, beside torch.optim.Muon on whole ones: the largest difference of a
    weight, as a share of the largest weight of its matrix."""
    from agora.training.sharded_optimizers import _like, whole
    from agora.training.sharded_step import ShardedStep

    config = _optimizer({"optimizer": "muon"})
    step = ShardedStep(model_of({}), config, Layout(**{"micro_batch": MICRO_BATCH, **case["layout"]}), seq_len=SEQ_LEN, dtype="float32")
    divided = {name: weight for name, weight in step.optimizer.parameters.items() if name.startswith("layers.") and weight.ndim == 2}
    plain = {name: nn.Parameter(whole(weight.detach()).clone()) for name, weight in divided.items()}
    peer = torch.optim.Muon(
        list(plain.values()), lr=config.muon_lr, weight_decay=config.weight_decay, momentum=config.momentum, adjust_lr_fn="match_rms_adamw"
    )
    for number in range(2):
        for name, weight in step.optimizer.parameters.items():
            generator = torch.Generator().manual_seed(zlib.crc32(f"{number} {name}".encode()))
            gradient = torch.randn(weight.shape, generator=generator)
            weight.grad = _like(gradient, weight)
            if name in plain:
                plain[name].grad = gradient
        step.optimizer.step(1.0)
        peer.step()
    pairs = [(whole(weight.detach()), plain[name].detach()) for name, weight in divided.items()]
    worst = max(float((mine - theirs).abs().max() / theirs.abs().max()) for mine, theirs in pairs)
    return {"matrices": len(plain), "worst": worst}


def refused(case: dict[str, Any]) -> dict[str, Any]:
    """The message with which a layout is refused."""
    from agora.errors import AgoraError

    try:
        together(case)
    except AgoraError as error:
        return {"message": str(error)}
    return {"message": ""}


def _task(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """One of this file, or `function` of another one: "module:function"."""
    if ":" in name:
        module, function = name.split(":")
        task: Callable[[dict[str, Any]], dict[str, Any]] = getattr(importlib.import_module(module), function)
        return task
    return {"together": together, "refused": refused, "go_on": go_on, "muon_differs": muon_differs}[name]


def _serve() -> None:
    import traceback

    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=False)
    gc.freeze()
    for number, line in enumerate(sys.stdin):
        dist.init_process_group("gloo", store=dist.PrefixStore(str(number), store), rank=rank, world_size=size)
        case = json.loads(line)
        try:
            answer = _task(case.get("task", "together"))(case)
            dist.barrier()
        except Exception:  # noqa: BLE001  (whatever it is, the test shows it)
            answer = {"error": f"rank {rank}: {traceback.format_exc()}"}
        print(ANSWER + json.dumps(answer), flush=True)
        dist.destroy_process_group()
        _clear_sharding_prop_cache()  # type: ignore[no-untyped-call]  # a later case's mesh may be equal, and its groups are others
        gc.collect()


def _bear(line: socket.socket) -> None:
    """Fork a rank for each message, until there is nobody to ask."""
    importlib.import_module("agora.training.loop")
    torch.set_num_threads(1)
    while True:
        words, files, _, _ = socket.recv_fds(line, 1024, 2)
        if not words:
            return
        process = os.fork()
        if process == 0:
            line.close()
            os.environ.update(json.loads(words))
            for number, file in enumerate(files):
                os.dup2(file, number)
                os.close(file)
            _serve()
            os._exit(0)
        for file in files:
            os.close(file)
        line.send(str(process).encode())


if __name__ == "__main__":
    _bear(socket.socket(fileno=int(sys.argv[1])))
