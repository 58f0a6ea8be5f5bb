"""The folder of one run: what is in it, who may write it, and what another shell can see of it.

RUN/
  run.json          what the run was started with: model, training, data identity, source (what it is made from, for model cards),
                    machine decisions (dtype, compile), command
  metrics.jsonl     one line per step            checkpoints/   see checkpoint.py
  outcome.json      how it ended: finished, stopped or failed (absent while running)
  matmul_limit.json measured once per machine and dtype, raised when a step shows more
  lock              held by the trainer as long as it lives
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from agora.config import from_dict
from agora.errors import ConfigError, TrainingError, UsageError
from agora.files import write_atomically
from agora.training.checkpoint_url import place_under
from agora.training.metrics import describe_last, read_metrics

_LOCK_PATIENCE_S = 1.0  # a `status` in another shell holds the lock for microseconds

_REMEDY = "start again with --fresh or under another --name"

State = Literal["running", "finished", "stopped", "failed", "dead", "damaged"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Decisions of one run. `limit_flops_per_s` is the measured matmul limit of `dtype` on `device`; `has_kernels` says whether the
    fused operations of `agora.model.fast` do the work. Other kernels or another number of threads add up in another order."""

    device: str
    dtype: str
    compile: bool
    limit_flops_per_s: float
    has_kernels: bool
    num_threads: int


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths and small files of a run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def checkpoint_place(self, url: str | None) -> Path | str:
        """Where the run's checkpoints lie: in the folder, or under `url` (training.checkpoint_url) by the run's name."""
        return self.checkpoints if url is None else place_under(url, self.path.name)

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one trainer. Raises TrainingError when another one has it; the system frees it when that one dies."""
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX, _LOCK_PATIENCE_S):
                owner = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
                raise TrainingError(f"another trainer ({owner}) is using {self.path}; wait for it, or train under another --name")
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def is_locked(self) -> bool:
        """Whether a trainer holds the folder now."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            return not _try_lock(descriptor, fcntl.LOCK_SH, 0.0)
        finally:
            os.close(descriptor)

    def holds_run(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / "run.json").exists()

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; empty when absent. Raises TrainingError when it is damaged."""
        path = self.path / name
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise TrainingError(f"{path} is damaged ({error}); {_REMEDY}") from error
        if not isinstance(table, dict):
            raise TrainingError(f"{path} is damaged (a table was expected, not {type(table).__name__}); {_REMEDY}")
        return table

    def machine(self, run: Mapping[str, Any]) -> Machine:
        """The machine decisions in `run`, the content of run.json. Raises TrainingError when it lacks them."""
        try:
            return from_dict(Machine, run["machine"], "machine")
        except (KeyError, AttributeError, ConfigError) as error:
            raise TrainingError(f"{self.path / 'run.json'} is damaged ({error}); {_REMEDY}") from error

    def write(self, name: str, table: Mapping[str, Any]) -> None:
        """Write a JSON file: the old one or the new one, never half."""
        write_atomically(self.path / name, json.dumps(table, indent=2, default=str) + "\n")

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self.path / name).unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run as seen from another shell. `dead` = killed without a word; the same command goes on from its last checkpoint.
    `damaged` = its files cannot be read; `message` says which."""

    name: str
    kind: str
    state: State
    step: int
    steps: int
    loss: float | None
    heldout_loss: float | None
    tokens_per_s: float | None
    limit_share: float | None
    eta_s: float | None
    joules_per_token: float | None
    message: str
    command: str


def run_status(path: Path) -> RunStatus:
    """Read the state of a run. Raises UsageError when there is no run in `path`, TrainingError when a file of it is damaged."""
    folder = RunFolder(path)
    run = folder.read("run.json")
    if not run:
        raise UsageError(f"there is no run in {path}; `agora train list` shows those that exist")
    outcome = folder.read("outcome.json")
    state: State = "running" if folder.is_locked() else outcome.get("state", "dead")
    if state not in get_args(State):
        raise TrainingError(f"{path / 'outcome.json'} is damaged (state {state!r}); {_REMEDY}")
    try:
        kind, steps = str(run["kind"]), int(run["training"]["steps"])
    except (KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path / 'run.json'} is damaged (kind and training.steps: {error!r}); {_REMEDY}") from error
    try:
        last = describe_last(list(read_metrics(folder.metrics)))
        step = int(last.get("step", 0))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise TrainingError(f"{folder.metrics} is damaged ({error!r}); {_REMEDY}") from error
    share = last.get("limit_share")
    return RunStatus(
        name=path.name, kind=kind, state=state, step=step, steps=steps,
        loss=last.get("loss"), heldout_loss=last.get("heldout_loss"), tokens_per_s=last.get("tokens_per_s"),
        limit_share=None if share is None else min(1.0, share), eta_s=last.get("eta_s") if state == "running" else None,
        joules_per_token=last.get("joules_per_token"), message=str(outcome.get("message", "")), command=str(run.get("command", "")),
    )  # fmt: skip


def list_runs(runs: Path) -> list[RunStatus]:
    """Every run of a workspace, by name; one that cannot be read is listed as damaged."""
    if not runs.is_dir():
        return []
    return [_status_or_damaged(path) for path in sorted(runs.iterdir()) if RunFolder(path).holds_run()]


def _status_or_damaged(path: Path) -> RunStatus:
    try:
        return run_status(path)
    except (TrainingError, UsageError) as error:
        return RunStatus(
            name=path.name, kind="", state="damaged", step=0, steps=0, loss=None, heldout_loss=None, tokens_per_s=None,
            limit_share=None, eta_s=None, joules_per_token=None, message=str(error), command="",
        )  # fmt: skip


def _try_lock(descriptor: int, kind: int, patience_s: float) -> bool:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
