"""Random disturbances of runs of four processes; loss curve, weights and data must be those of the undisturbed runs, bit for bit.

    python -m benchmarks chaos_ranks [--quick] [--seed 1] [--disturbances 30] [--folder PLACE]

- kill       kill -9 of a rank
- stop       SIGSTOP of a rank for a whole minute, then SIGCONT: the others find it hanging before that and the launcher starts again, or,
             in the run whose training.hang_timeout_s is longer, nobody notices
- full disk  a rank can write no large file any more (RLIMIT_FSIZE), so that a checkpoint fails
- truncated  a shard of the newest checkpoint loses its end, and a rank is killed: the checkpoint before must be taken

Every layout of LAYOUTS is a run of its own and meets every kind; the runs go on side by side: one computes while another is stopped.
torchrun --max-restarts does the restarting; nobody helps it. With --folder the work is kept and an interrupted benchmark goes on there.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from agora.files import write_atomically
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number
from benchmarks.scratch import scratch_folder

NUM_RANKS: Final = 4
STEPS_EACH: Final = 9  # of the run, for one disturbance
CHECKPOINT_EVERY: Final = 3
STOP_S, STOP_S_QUICK = 60.0, 16.0
NOTICED, UNNOTICED = 0.6, 2.0  # training.hang_timeout_s, times as long as a stop
LARGEST_FILE_BYTES: Final = 300_000  # above the metrics of a run, below a rank's part of a checkpoint
PATIENCE_S: Final = 300.0
KINDS: Final = ("kill", "stop", "full disk", "truncated")
MODEL: Final[dict[str, Any]] = {
    "vocab_size": 512, "dim": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32, "hidden_dim": 256, "max_seq_len": 64,
}  # fmt: skip
EXPERTS: Final[dict[str, Any]] = {"num_experts": 4, "experts_per_token": 2, "expert_dim": 64, "balance_bias_rate": 0.01}


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """How one of the runs is divided; `hang` is its hang_timeout_s, times as long as a stop."""

    layout: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    hang: float = NOTICED


LAYOUTS: Final = {
    "tensor 2 x shard 2": Case(layout={"tensor": 2, "shard": 2}),
    "shard 4": Case(layout={"shard": 4}),
    "pipeline 2 x shard 2": Case(layout={"pipeline": 2, "shard": 2}),
    "replicate 2 x shard 2 x expert 2": Case(layout={"replicate": 2, "shard": 2, "expert": 2}, model=EXPERTS, hang=UNNOTICED),
}


@dataclass(kw_only=True, slots=True)
class Disturbance:
    """One of them, and what became of the run. `stopped_s` is how long a process was stopped; `back_to` the step that the run went on from,
    None when it did not start again."""

    kind: str
    rank: int
    step: int
    seconds: float = 0.0
    detail: str = ""
    stopped_s: float = 0.0
    back_to: int | None = None


def run(quick: bool, options: dict[str, str]) -> Result:
    """Of every layout the undisturbed run, the disturbed one, the comparison."""
    count = whole_number(options, "disturbances", 4 if quick else 30, at_least=1)
    seed, stop_s = whole_number(options, "seed", 0, at_least=0), STOP_S_QUICK if quick else STOP_S
    names = list(LAYOUTS)[: 1 if quick else None]
    with nullcontext(Path(options["folder"])) if "folder" in options else scratch_folder("chaos-ranks") as folder:
        runs = [_Run(folder / name.replace(" ", "-"), name, kinds, seed, stop_s) for name, kinds in shares(names, count, seed).items()]
        started_s, ended = time.perf_counter(), threading.Event()
        with ThreadPoolExecutor(len(runs)) as pool:
            try:
                done = dict(zip((one.name for one in runs), pool.map(lambda one: one.compare(ended), runs), strict=True))
            finally:
                ended.set()  # one that failed ends all
    each = [disturbance for found in done.values() for disturbance in found["each"]]
    by_kind = {kind: sum(one["kind"] == kind for one in each) for kind in KINDS}
    stops = [one["stopped_s"] for one in each if one["kind"] == "stop"]
    is_equal = len(each) == count and not any(found["differences"] for found in done.values()) and all(one >= stop_s for one in stops)
    details = {
        "disturbances": count, "seed": seed, "by_kind": by_kind, "restarts": sum(found["restarts"] for found in done.values()),
        "shortest_stop_s": min(stops, default=None), "wall_s": round(time.perf_counter() - started_s, 1), "layouts": done,
    }  # fmt: skip
    print(f"{by_kind}, {details['restarts']} restarts, stops of at least {details['shortest_stop_s']} s, {details['wall_s']} s in all")
    return Result(value=float(len(each) if is_equal else 0) / count, holds=is_equal, details=details)


def shares(names: list[str], count: int, seed: int) -> dict[str, list[str]]:
    """Kinds of disturbances of each layout, in random order: every kind for every layout before one comes again."""
    result: dict[str, list[str]] = {name: [] for name in names}
    for number in range(count):
        result[names[number // len(KINDS) % len(names)]].append(KINDS[number % len(KINDS)])
    for name, kinds in result.items():
        random.Random(f"{seed} {name}").shuffle(kinds)
    return {name: kinds for name, kinds in result.items() if kinds}


@dataclass(frozen=True, slots=True)
class _Run:
    """One layout, undisturbed and disturbed, in `folder`; what is there already is not done again."""

    folder: Path
    name: str
    kinds: list[str]
    seed: int
    stop_s: float

    def compare(self, ended: threading.Event) -> dict[str, Any]:
        """Both, and what differs. Raises RuntimeError where one does not come to its end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tokens(self.folder / "tokens.bin")
        launched = [Launched(self, kind, STEPS_EACH * (len(self.kinds) + 1), ended) for kind in ("whole", "disturbed")]
        started_s = time.perf_counter()
        launched[0].wait()
        whole_s = time.perf_counter() - started_s
        print(f"{self.name}, undisturbed: {launched[0].steps} steps in {whole_s:.0f} s", flush=True)
        done = disturb(launched[1])
        differences = differing(self.folder / "whole", self.folder / "disturbed")
        print(f"{self.name}: {len(done)} disturbances, differences: {differences or 'none'}", flush=True)
        return {
            "steps": launched[0].steps, "restarts": sum(one.back_to is not None for one in done), "differences": differences,
            "undisturbed_s": round(whole_s, 1), "each": [asdict(one) for one in done],
        }  # fmt: skip


class Launched:
    """torchrun with four ranks of this file; the same command goes on with what is there. `ended`: another run failed."""

    def __init__(self, of: _Run, name: str, steps: int, ended: threading.Event) -> None:
        self.of, self.folder, self.run, self.steps, self._ended = of, of.folder, of.folder / name, steps, ended
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_RANKS), "--max-restarts", "1000",
            "-m", "benchmarks.chaos_ranks", str(self.folder), self.run.name, str(self.steps), self.of.name, str(self.of.stop_s),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}
        with (self.folder / f"{self.run.name}.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True)

    def is_finished(self) -> bool:
        """Whether the first rank has said so."""
        try:
            return bool(json.loads((self.run / "outcome.json").read_text())["state"] == "finished")
        except (OSError, ValueError, KeyError):
            return False

    def wait(self) -> None:
        """To the end. Raises RuntimeError when it does not come."""
        try:
            self.until(self.is_finished)
            if self._process is not None:
                self._process.wait(timeout=PATIENCE_S)
        finally:
            self.stop()

    def until(self, holds: Callable[[], bool]) -> None:
        """Start it where it does not run; PATIENCE_S after the last step without `holds`, raise RuntimeError with the log's end."""
        last, since_s = -1, time.monotonic()
        while not holds():
            if not self.is_finished():
                self.start()
            step = self.step()
            if step != last:
                last, since_s = step, time.monotonic()
            if self._ended.is_set() or time.monotonic() - since_s > PATIENCE_S:
                raise RuntimeError((self.folder / f"{self.run.name}.log").read_text(errors="replace")[-3000:])
            time.sleep(0.05)

    def step(self) -> int:
        """Steps that the first rank has written."""
        path = self.run / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def pid(self, rank: int) -> int | None:
        """Process of a rank, None where it does not run."""
        place = self.run / "ranks" / f"{rank:05d}" if rank else self.run
        try:
            pid = int((place / "lock").read_text().split()[1])
            return pid if b"chaos_ranks" in Path(f"/proc/{pid}/cmdline").read_bytes() else None
        except (OSError, IndexError, ValueError):
            return None

    def starts(self) -> list[int]:
        """The steps at which the launcher's restarts went on."""
        path = self.run / "events.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [int(line["step"]) for line in lines if line["kind"] == "restart"]

    def stop(self) -> None:
        """End all of it."""
        if self._process is not None and self._process.poll() is None:
            pids = [pid for rank in range(NUM_RANKS) if (pid := self.pid(rank)) is not None]
            for end, one in ((os.killpg, self._process.pid), *((os.kill, pid) for pid in pids)):
                try:
                    end(one, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.wait()


def disturb(launched: Launched) -> list[Disturbance]:
    """Disturb a run by every one of its kinds, and let it finish."""
    record, of = launched.folder / "disturbances.json", launched.of
    done = [Disturbance(**one) for one in json.loads(record.read_text())] if record.exists() else []
    rng = random.Random(f"{of.seed} {of.name} {len(done)}")
    try:
        while len(done) < len(of.kinds):
            wanted = len(done) * STEPS_EACH + rng.randint(2, STEPS_EACH - 1)
            launched.until(lambda: launched.step() >= wanted or launched.is_finished())  # noqa: B023
            one = strike(launched, of.kinds[len(done)], rng)
            done.append(one)
            write_atomically(record, json.dumps([asdict(other) for other in done]))
            after = "went on" if one.back_to is None else f"went back to step {one.back_to}"
            count = f"{len(done)}/{len(of.kinds)}"
            print(f"{of.name}, {count} {one.kind}, rank {one.rank}, step {one.step}{one.detail}: {after}, {one.seconds:.0f} s", flush=True)
        launched.wait()
    finally:
        launched.stop()
    return done


def strike(launched: Launched, kind: str, rng: random.Random) -> Disturbance:
    """One disturbance; returns when the run has got beyond the step at which it came."""
    started_s, num_starts, rank = time.monotonic(), len(launched.starts()), rng.randrange(NUM_RANKS)
    while (pid := launched.pid(rank)) is None:
        launched.start()
        time.sleep(0.05)
    one = Disturbance(kind=kind, rank=rank, step=launched.step())
    must_restart = True
    if kind == "stop":
        must_restart = LAYOUTS[launched.of.name].hang < 1
        one.stopped_s = stop_for(pid, launched.of.stop_s)
        one.detail = f" for {one.stopped_s:.0f} s"
    elif kind == "full disk":
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (LARGEST_FILE_BYTES, LARGEST_FILE_BYTES))
    else:
        if kind == "truncated":
            one.detail = f" ({truncate(launched, rng)})"
        os.kill(pid, signal.SIGKILL)
    launched.until(lambda: launched.is_finished() or (launched.step() > one.step and len(launched.starts()) >= num_starts + must_restart))
    starts = launched.starts()
    one.back_to = starts[num_starts] if len(starts) > num_starts else None
    one.seconds = round(time.monotonic() - started_s, 1)
    return one


def stop_for(pid: int, seconds: float) -> float:
    """Stop a process, let it go on, and say how long it was stopped; less than `seconds` when it was killed meanwhile."""
    began_s, state = time.monotonic(), Path(f"/proc/{pid}/stat")
    os.kill(pid, signal.SIGSTOP)
    while (stopped_s := time.monotonic() - began_s) < seconds:
        time.sleep(0.05)
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] in ("Z", "X"):
            return stopped_s
    os.kill(pid, signal.SIGCONT)
    return stopped_s


def truncate(launched: Launched, rng: random.Random) -> str:
    """Cut a shard of the newest of at least two checkpoints; its name."""
    folder = launched.run / "checkpoints"
    whole: list[Path] = []

    def has_two() -> bool:
        whole[:] = sorted(
            path for path in folder.glob("step-*") if re.fullmatch(r"step-\d+", path.name) and (path / "manifest.json").exists()
        )
        return len(whole) >= 2

    launched.until(has_two)
    shard = rng.choice(sorted(whole[-1].glob("tensors-*.safetensors")))
    os.truncate(shard, rng.randrange(shard.stat().st_size))
    return f"{shard.parent.name}/{shard.name}"


def differing(whole: Path, disturbed: Path) -> list[str]:
    """What is not the same in two runs: the lines of every rank, in order and once; last weights, optimizer state and place in the data."""
    from agora.training.checkpoint import load_latest_checkpoint
    from agora.training.metrics import DETERMINISTIC, read_metrics

    found = []
    for rank in range(NUM_RANKS):
        places = [one / "ranks" / f"{rank:05d}" if rank else one for one in (whole, disturbed)]
        expected, lines = ([{key: line[key] for key in DETERMINISTIC} for line in read_metrics(one / "metrics.jsonl")] for one in places)
        if [line["step"] for line in lines] != list(range(1, len(expected) + 1)):
            found.append(f"steps of rank {rank}")
        elif lines != expected:
            first_step = next(one["step"] for one, other in zip(lines, expected, strict=True) if one != other)
            found.append(f"metrics of rank {rank} from step {first_step}")
    first, second = (load_latest_checkpoint(one / "checkpoints") for one in (whole, disturbed))
    assert first is not None and second is not None
    if first.step != second.step or first.state["data"] != second.state["data"]:
        found.append("place in the data")
    found += [name for name, tensor in first.state["step"].items() if not tensor.equal(second.state["step"][name])]
    return found


def write_tokens(path: Path) -> None:
    """Documents of random words that follow each other by rule, so that there is something to learn; the same each time."""
    import numpy as np

    if path.exists():
        return
    rng = np.random.default_rng(0)
    tokens = (np.cumsum(rng.integers(0, 7, size=200_000)) % 511 + 1).astype(np.uint16)
    tokens[49::50] = 0
    write_atomically(path, tokens.tobytes())


class Tokens:
    """The file of `write_tokens` as the loop wants it."""

    def __init__(self, path: Path) -> None:
        import numpy as np

        self._map = np.memmap(path, dtype=np.uint16, mode="r")
        self.num_tokens = len(self._map)
        self.document_starts = np.arange(0, len(self._map), 50, dtype=np.int64)

    def tokens(self, start: int, stop: int) -> Any:
        """As in TokenShards."""
        return self._map[start:stop]


def _rank(folder: Path, name: str, steps: int, case: Case, stop_s: float) -> None:
    """What torchrun starts four times."""
    import torch

    from agora.cluster.layout import Layout
    from agora.log import configure_logging
    from agora.model.config import ModelConfig
    from agora.training.config import TrainingConfig
    from agora.training.loop import train

    torch.set_num_threads(1)
    configure_logging("info")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(exist_ok=True)
    write_atomically(tokenizer / "tokenizer.json", "{}")
    config = TrainingConfig(
        steps=steps, batch_tokens=1024, micro_batch=2, seq_len=64, dtype="float32", compile="off", evaluate_every=10, evaluate_tokens=1024,
        checkpoint_every_steps=CHECKPOINT_EVERY, checkpoint_every_s=None, keep=3, hang_timeout_s=case.hang * stop_s, seed=3,
    )  # fmt: skip
    shards: Any = Tokens(folder / "tokens.bin")
    train(
        folder / name, model_config=ModelConfig(**{**MODEL, **case.model}), training_config=config, shards=shards, heldout=shards,
        tokenizer_dir=tokenizer, layout=Layout(**case.layout),
    )  # fmt: skip


BENCHMARK = Benchmark(
    measures="random disturbances (ranks killed, or stopped for a minute; full disks, truncated checkpoints) of runs of four layouts after "
    "which each is its undisturbed one",
    unit="share", bound="= 1.0", run=run, options=("disturbances", "seed", "folder"),
)  # fmt: skip

if __name__ == "__main__":
    _rank(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), LAYOUTS[sys.argv[4]], float(sys.argv[5]))
