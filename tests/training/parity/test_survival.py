"""Runs of several processes that lose one, hang, are told to stop, or are served wrong numbers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agora.training.checkpoint import list_checkpoints
from agora.training.metrics import DETERMINISTIC, read_metrics
from agora.training.run_folder import run_status
from tests.training.parity.ranks import EPSILON, MICRO_BATCH, NUM_MICRO_BATCHES, Ranks, alone, batches, model_of
from tests.training.parity.test_parity import EXPERTS, FIRST

pytestmark = pytest.mark.parity

ROOT = Path(__file__).resolve().parents[3]
TASKS = "tests.training.parity.survival_ranks"
HEALTHY: dict[str, dict[str, Any]] = {
    "replicas": {"replicate": 4},
    "replicas of shards": {"replicate": 2, "shard": 2},
    "no shards": {"shard": 4, "sharding": "none"},
    "replicas x tensor": {"replicate": 2, "tensor": 2, "micro_batch": 8},
    "replicas x stages": {"replicate": 2, "pipeline": 2},
    "shards x context": {"shard": 2, "context": 2, "micro_batch": 4},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_replicas_agree_and_comparing_them_changes_nothing(name: str, four_ranks: Ranks) -> None:
    expected = alone({"steps": 2})
    for answer in four_ranks.run({"task": f"{TASKS}:compare", "layout": HEALTHY[name]}):
        assert answer["found"] is None
        assert answer["losses"][0] == pytest.approx(expected["losses"][0], rel=FIRST)
        assert answer["losses"][1] == pytest.approx(expected["losses"][1], rel=1e-5)
        assert answer["grad_norms"][1] == pytest.approx(expected["grad_norms"][1], rel=1e-4)


def test_healthy_replicas_agree_with_experts_and_in_bfloat16(four_ranks: Ranks) -> None:
    for more in (
        {"model": EXPERTS, "layout": {"replicate": 2, "shard": 2, "expert": 2}},
        {"model": EXPERTS, "layout": {"replicate": 2, "shard": 2}},
        {"dtype": "bfloat16", "layout": {"replicate": 4}},
    ):
        assert [answer["found"] for answer in four_ranks.run({"task": f"{TASKS}:compare", **more})] == [None] * 4


FAULTS: dict[str, tuple[dict[str, Any], str, int, str]] = {
    "a bit of the weights": ({"replicate": 4}, "bit", 2, r"optimizer state of rank 2 \(on .*\) differ from .* ranks 0, 1, 3$"),
    "a bit of a moment": ({"shard": 4, "sharding": "none"}, "moment", 0, r"optimizer state of rank 0 \(on .*\) differ .* ranks 1, 2, 3$"),
    "one of two copies": ({"replicate": 2, "shard": 2}, "bit", 3, r"of rank 1 \(on .*\) and rank 3 \(on .*\) differ, and with so few"),
    "a unit that errs at times": ({"shard": 4}, "noise", 1, r"by rank 1 \(on .*\) differ .* 2, 3, and it does not agree with itself"),
    "a unit that always errs": ({"shard": 4}, "offset", 3, r"computed by rank 3 \(on .*\) differ from those of ranks 0, 1, 2$"),
    "gradients alone": ({"shard": 4}, "backward", 2, r"loss or gradients .* by rank 2 \(on .*\) differ from those of ranks 0, 1, 3$"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_rank_that_holds_or_computes_something_else_is_named(name: str, four_ranks: Ranks) -> None:
    layout, fault, rank, message = FAULTS[name]
    found = {answer["found"] for answer in four_ranks.run({"task": f"{TASKS}:compare", "layout": layout, "fault": fault, "rank": rank})}
    assert len(found) == 1 and re.search(message, str(found.pop()))


def test_a_refused_step_leaves_the_weights_of_all_ranks_as_they_were(four_ranks: Ranks) -> None:
    from agora.training.optimizers import OptimizerConfig
    from agora.training.step import TrainingStep

    step = TrainingStep(model_of({}), OptimizerConfig(name="adamw", eps=EPSILON), dtype="float32")
    expected = [step.run(batches(number, NUM_MICRO_BATCHES, MICRO_BATCH)).loss for number in (0, 2)]
    for answer in four_ranks.run({"task": f"{TASKS}:refuse", "layout": {"shard": 2, "tensor": 2}}):
        assert answer["applied"] == [True, False, True]
        assert [answer["losses"][0], answer["losses"][2]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("policy", "layout", "expected"),
    [("roll_back", {"replicate": 2, "shard": 2}, dict.fromkeys((5, 6, 7), "roll back")),
     ("skip", {"shard": 2, "pipeline": 2}, {7: "not a number"})],
)  # fmt: skip
def test_all_ranks_leave_out_the_same_batches(
    policy: str, layout: dict[str, int], expected: dict[int, str], tmp_path: Path, four_ranks: Ranks
) -> None:
    case = {
        "task": f"{TASKS}:train_past_bad_batches",
        "folder": str(tmp_path),
        "layout": layout,
        "bad": [7],
        "settings": {"on_nan": policy},
    }
    assert [answer["state"] for answer in four_ranks.run(case)] == ["finished"] * 4
    run = tmp_path / "run"
    lines = [read_metrics(place / "metrics.jsonl") for place in (run, *sorted((run / "ranks").iterdir()))]
    for rank in lines:
        assert [line["step"] for line in rank] == list(range(1, 13))
        assert {line["step"]: line["skipped"] for line in rank if line["skipped"]} == expected
        assert [line["loss"] for line in rank] == [line["loss"] for line in lines[0]]
    assert {int(step) for step in json.loads((run / "skipped.json").read_text())["steps"]} == set(expected)


def test_an_upload_that_moves_is_no_hang_and_one_that_stands_still_is_named(tmp_path: Path, two_ranks: Ranks) -> None:
    """Four seconds of pieces where the alarm takes one and a half; then one piece that never ends."""
    case = {"task": f"{TASKS}:upload", "folder": str(tmp_path / "slow"), "stuck": False}
    assert [answer["messages"] for answer in two_ranks.run(case)] == [[], []] and not (tmp_path / "slow" / "hang").exists()
    for answer in two_ranks.run({**case, "folder": str(tmp_path / "stuck"), "stuck": True}):
        (message,) = answer["messages"]
        assert re.search(r"^rank \d has not moved for \d s .*\(checkpoint\)", message)
        assert re.search(r"rank 1 is stuck writing .*/step-00000001/tensors-00001\.safetensors: nothing of it has moved for \d s", message)


class Launched:
    """torchrun with survivor.py."""

    def __init__(
        self, folder: Path, name: str, num_ranks: int, settings: dict[str, Any], pause_s: float = 0.1, restarts: int = 2, **environment: str
    ) -> None:  # fmt: skip
        layout = {"replicate": 2, "shard": num_ranks // 2}
        words = [str(folder), name, json.dumps({"steps": 16, **settings}), json.dumps(layout), str(pause_s)]
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks), "--max-restarts", str(restarts)]
        command = [sys.executable, *launcher, str(Path(__file__).with_name("survivor.py")), *words]
        self.run, self.num_ranks = folder / name, num_ranks
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables, start_new_session=True)

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def until(self, holds: Callable[[], bool], seconds: float = 120) -> None:
        end, has_ended = time.monotonic() + seconds, False
        while not holds():
            assert not has_ended and time.monotonic() < end, self.log[-3000:]
            has_ended = self.process.poll() is not None  # what it did last is looked at once more
            time.sleep(0.05)

    def after_steps(self, count: int) -> None:
        self.until(lambda: len(read_metrics(self.run / "metrics.jsonl")) >= count)

    def pid(self, rank: int) -> int:
        place = self.run / "ranks" / f"{rank:05d}" if rank else self.run
        return int((place / "lock").read_text().split()[1])

    def end(self, seconds: float = 120) -> int:
        return self.process.wait(timeout=seconds)

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def launch() -> Any:
    launched: list[Launched] = []

    def start(*words: Any, **more: Any) -> Launched:
        launched.append(Launched(*words, **more))
        return launched[-1]

    yield start
    for one in launched:
        one.close()


def told(run: Path) -> list[dict[str, Any]]:
    return [{key: line[key] for key in DETERMINISTIC} for line in read_metrics(run / "metrics.jsonl")]


def test_after_silent_corruption_and_a_killed_rank_the_curve_is_that_of_an_undisturbed_run(
    tmp_path: Path, launch: Any, two_ranks: Ranks
) -> None:
    """One story, as every start takes seconds: a flipped bit is found, its checkpoint put aside, the run starts again, a rank is killed."""
    settings = {"steps": 20, "verify_every": 5}
    whole = tmp_path / "undisturbed" / "run"
    case = {"task": f"{TASKS}:train_on", "folder": str(whole.parent), "layout": {"replicate": 2}}
    assert two_ranks.run({**case, "settings": {**settings, "checkpoint_every_steps": 4}})[0]["state"] == "finished"
    run = launch(tmp_path, "disturbed", 2, settings, FLIP_RANK="1")
    events = run.run / "events.jsonl"
    run.until(lambda: events.exists() and "restart" in events.read_text())
    found = json.loads(events.read_text().splitlines()[0])
    assert found["kind"] == "corruption" and found["step"] == 10
    assert re.search(r"weights or optimizer state of rank 0 \(on .*\) and rank 1 \(on .*\) differ.*agreed last after step 5", found["text"])
    assert "put aside (step-00000008)" in found["text"] and (run.run / "checkpoints" / "step-00000008.corrupt").exists()
    run.after_steps(11)
    pid = run.pid(1)
    os.kill(pid, signal.SIGKILL)
    assert run.end() == 0, run.log
    assert re.search(rf"rank 1 \(process {pid}, last seen in step \d+\) died: a collective of step \d+ was cut", run.log)
    assert "rank 0: start 2 of the processes: going on from step 4, 6 steps are computed again" in run.log
    assert re.search(r"rank 0: start 3 of the processes: going on from step (8|12|16), \d steps are computed again", run.log)
    assert told(whole) == told(run.run)
    assert told(whole / "ranks" / "00001") == told(run.run / "ranks" / "00001")


def test_a_stopped_rank_is_named_with_the_operation_the_others_wait_in(tmp_path: Path, launch: Any) -> None:
    run = launch(tmp_path, "hung", 4, {"hang_timeout_s": 8})
    run.after_steps(5)
    pid = run.pid(2)
    os.kill(pid, signal.SIGSTOP)
    try:
        run.until(lambda: (run.run / "outcome.json").exists())
    finally:
        os.kill(pid, signal.SIGCONT)
    message = run_status(run.run).message or json.loads((run.run / "outcome.json").read_text())["message"]
    assert re.search(rf"rank \d has not moved for 8 s .*rank 2 does not answer \(last seen in step \d+, .*; process {pid} on ", message)
    assert (
        re.search(r"ranks 0, 1, 3 wait in step \d+, .*all_reduce, called from \w+\.py:\d+", message) and "gloo:all_reduce number" in message
    )
    assert run.end() == 0, run.log
    assert [line["step"] for line in told(run.run)] == list(range(1, 17))
    assert {path.name for path in (run.run / "hang").iterdir()} >= {"rank-00000.txt", "rank-00000.json"}


def test_a_stop_shorter_than_the_timeout_goes_unnoticed_and_sigterm_of_one_rank_saves_all(tmp_path: Path, launch: Any) -> None:
    run = launch(tmp_path, "stopped", 4, {"hang_timeout_s": 20, "steps": 400, "checkpoint_every_steps": 100}, restarts=0)
    run.after_steps(3)
    os.kill(run.pid(1), signal.SIGSTOP)
    time.sleep(1.5)
    os.kill(run.pid(1), signal.SIGCONT)
    run.after_steps(len(told(run.run)) + 3)
    os.kill(run.pid(3), signal.SIGTERM)
    started_s = time.monotonic()
    run.until(lambda: bool(list_checkpoints(run.run / "checkpoints")), seconds=30)
    assert time.monotonic() - started_s < 30  # what torchrun, Slurm and Kubernetes give a process
    own = run.run / "logs" / "rank-00003.jsonl"  # what only one rank has to say is not on the screen
    run.until(lambda: "s after the signal" in own.read_text())
    match = re.search(r"SIGTERM on rank 3: step (\d+) is saved, [\d.]+ s after the signal", own.read_text())
    assert match and list_checkpoints(run.run / "checkpoints") == [f"step-{int(match[1]):08d}"]
    assert "hang" not in run.log and run_status(run.run).state in ("stopped", "running")


def test_a_slow_rank_is_reported_with_what_it_costs(tmp_path: Path, launch: Any) -> None:
    run = launch(tmp_path, "slow", 2, {"stragglers_every": 12, "steps": 24, "evaluate_every": 0}, pause_s=0.3, SLOW_RANK="1")
    assert run.end() == 0, run.log
    line = read_metrics(run.run / "metrics.jsonl")[-1]
    assert line["slow_rank"] == 1 and 0.2 < line["lost_share"] <= 1
    assert re.search(r"step 24: rank 1 takes \d+\.\d\d times as long as the others: \d+% of every step is lost", run.log)
