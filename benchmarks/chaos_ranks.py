"""Random disturbances of a run of four processes; its loss curve, weights and data must be those of the undisturbed run, bit for bit.

    python -m benchmarks chaos_ranks [--quick] [--seed 1] [--disturbances 30] [--folder PLACE]

- kill       kill -9 of a rank
- stop       SIGSTOP of a rank: for a minute, so that the others find it hanging and the launcher starts again; or for two seconds,
             which nobody may notice
- full disk  a rank can write no large file any more (RLIMIT_FSIZE), so that a checkpoint fails
- truncated  a shard of the newest checkpoint loses its end, and a rank is killed: the checkpoint before must be taken

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
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agora.files import write_atomically
from benchmarks.registry import REPOSITORY, Benchmark, Result, whole_number

NUM_RANKS: Final = 4
STEPS_EACH: Final = 9  # of the run, for one disturbance
CHECKPOINT_EVERY: Final = 3
HANG_S: Final = 10.0
LONG_STOP_S, LONG_STOP_S_QUICK, SHORT_STOP_S = 60.0, 14.0, 2.0
LONG_STOPS: Final = 0.75  # share of the stops
LARGEST_FILE_BYTES: Final = 300_000  # above the metrics of a run, below a rank's part of a checkpoint
PATIENCE_S: Final = 300.0
KINDS: Final = ("kill", "stop", "full disk", "truncated")
MODEL: Final[dict[str, Any]] = {
    "vocab_size": 512, "dim": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32, "hidden_dim": 256, "max_seq_len": 64,
}  # fmt: skip


@dataclass(kw_only=True, slots=True)
class Disturbance:
    """One of them, and what became of the run. `back_to` is the step that the run went on from, None when it did not start again."""

    kind: str
    rank: int
    step: int
    seconds: float = 0.0
    detail: str = ""
    back_to: int | None = None


def run(quick: bool, options: dict[str, str]) -> Result:
    """The undisturbed run, the disturbed one, the comparison."""
    count = whole_number(options, "disturbances", 4 if quick else 30, at_least=1)
    seed = whole_number(options, "seed", 0, at_least=0)
    if "folder" in options:
        return compare(Path(options["folder"]), count, seed, LONG_STOP_S_QUICK if quick else LONG_STOP_S)
    with tempfile.TemporaryDirectory(prefix="chaos-ranks-") as name:
        return compare(Path(name), count, seed, LONG_STOP_S_QUICK if quick else LONG_STOP_S)


def compare(folder: Path, count: int, seed: int, long_stop_s: float) -> Result:
    """Both runs in `folder`; what is there already is not done again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tokens(folder / "tokens.bin")
    plan = {"disturbances": count, "seed": seed, "steps": STEPS_EACH * (count + 1)}
    started_s = time.perf_counter()
    undisturbed = Launched(folder, "whole", plan["steps"])
    undisturbed.wait()
    whole_s = time.perf_counter() - started_s
    print(f"undisturbed: {plan['steps']} steps in {whole_s:.0f} s", flush=True)
    done = disturb(folder, count, seed, long_stop_s, plan["steps"])
    differences = differing(folder / "whole", folder / "disturbed")
    by_kind = {kind: sum(one.kind == kind for one in done) for kind in KINDS}
    details = {
        **plan, "by_kind": by_kind, "restarts": sum(one.back_to is not None for one in done), "differences": differences,
        "undisturbed_s": round(whole_s, 1), "each": [asdict(one) for one in done],
    }  # fmt: skip
    print(f"{by_kind}, {details['restarts']} restarts; differences: {differences or 'none'}")
    is_equal = not differences and len(done) == count
    return Result(value=float(len(done) if is_equal else 0) / count, holds=is_equal, details=details)


class Launched:
    """torchrun with four ranks of this file; the same command goes on with what is there."""

    def __init__(self, folder: Path, name: str, steps: int) -> None:
        self.folder, self.run, self._steps = folder, folder / name, steps
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(NUM_RANKS), "--max-restarts", "1000",
            "-m", "benchmarks.chaos_ranks", str(self.folder), self.run.name, str(self._steps),
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
            if time.monotonic() - since_s > PATIENCE_S:
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


def disturb(folder: Path, count: int, seed: int, long_stop_s: float, steps: int) -> list[Disturbance]:
    """Disturb a run `count` times, and let it finish."""
    record = folder / "disturbances.json"
    done = [Disturbance(**one) for one in json.loads(record.read_text())] if record.exists() else []
    rng = random.Random(f"{seed} {len(done)}")
    kinds = [KINDS[number % len(KINDS)] for number in range(count)]
    random.Random(seed).shuffle(kinds)
    launched = Launched(folder, "disturbed", steps)
    try:
        while len(done) < count:
            wanted = len(done) * STEPS_EACH + rng.randint(2, STEPS_EACH - 1)
            launched.until(lambda: launched.step() >= wanted or launched.is_finished())  # noqa: B023
            one = strike(launched, kinds[len(done)], rng, long_stop_s)
            done.append(one)
            write_atomically(record, json.dumps([asdict(other) for other in done]))
            after = "went on" if one.back_to is None else f"went back to step {one.back_to}"
            print(f"{len(done)}/{count} {one.kind}, rank {one.rank}, step {one.step}{one.detail}: {after}, {one.seconds:.0f} s", flush=True)
        launched.wait()
    finally:
        launched.stop()
    return done


def strike(launched: Launched, kind: str, rng: random.Random, long_stop_s: float) -> Disturbance:
    """One disturbance; returns when the run has got beyond the step at which it came."""
    started_s, num_starts, rank = time.monotonic(), len(launched.starts()), rng.randrange(NUM_RANKS)
    while (pid := launched.pid(rank)) is None:
        launched.start()
        time.sleep(0.05)
    one = Disturbance(kind=kind, rank=rank, step=launched.step())
    must_restart = True
    if kind == "stop":
        is_long = rng.random() < LONG_STOPS
        one.detail, must_restart = f" for {long_stop_s if is_long else SHORT_STOP_S:.0f} s", is_long
        stop_for(launched, rank, pid, long_stop_s if is_long else SHORT_STOP_S)
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


def stop_for(launched: Launched, rank: int, pid: int, seconds: float) -> None:
    """Stop a process, and let it go on if it is still there."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + seconds
    while time.monotonic() < until and launched.pid(rank) == pid:
        time.sleep(0.05)
    if launched.pid(rank) == pid:
        os.kill(pid, signal.SIGCONT)


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


def _rank(folder: Path, name: str, steps: int) -> None:
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
        checkpoint_every_steps=CHECKPOINT_EVERY, checkpoint_every_s=None, keep=3, hang_timeout_s=HANG_S, seed=3,
    )  # fmt: skip
    shards: Any = Tokens(folder / "tokens.bin")
    layout = Layout(replicate=2, shard=2)
    train(
        folder / name, model_config=ModelConfig(**MODEL), training_config=config, shards=shards, heldout=shards, tokenizer_dir=tokenizer,
        layout=layout,
    )  # fmt: skip


BENCHMARK = Benchmark(
    measures="random disturbances (killed and stopped ranks, full disks, truncated checkpoints) after which a run is the undisturbed one",
    unit="share", bound="= 1.0", run=run, options=("disturbances", "seed", "folder"),
)  # fmt: skip

if __name__ == "__main__":
    _rank(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
