"""The loop: killed and resumed it computes the same bits; it stops cleanly, refuses what it must, and says how it stands."""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agora.cluster.layout import Layout
from agora.errors import CheckpointError, ConfigError, TrainingError, UsageError
from agora.model import kernels
from agora.tokenizer.bpe import Tokenizer
from agora.training.checkpoint import list_checkpoints, load_latest_checkpoint, save_checkpoint
from agora.training.config import TrainingConfig
from agora.training.loop import train
from agora.training.metrics import DETERMINISTIC, read_metrics
from agora.training.run_folder import RunFolder, list_runs, run_status
from agora.training.same_run import tell_division
from agora.training.step import TrainingStep
from agora.training.summary import TrainingSummary
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, FileShards, some_shards, tokenizer_folder

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(autouse=True)
def _known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring this machine takes a second in every run; test_machine.py does it."""
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)


def run(
    folder: Path, config: TrainingConfig = TINY_TRAINING, *, name: str = "run", action: Any = lambda done: None, **more: Any
) -> TrainingSummary:
    """Train the tiny model in `folder/name` on shards in `folder`."""
    return train(
        folder / name, model_config=TINY_MODEL, training_config=config, shards=some_shards(folder), heldout=some_shards(folder, seed=2),
        tokenizer_dir=tokenizer_folder(folder / "tokenizer"), progress=EachStep(action), **more,
    )  # fmt: skip


def weights(run_dir: Path) -> dict[str, torch.Tensor]:
    checkpoint = load_latest_checkpoint(run_dir / "checkpoints")
    assert checkpoint is not None
    return dict(checkpoint.state["step"])


def told(run_dir: Path) -> list[dict[str, Any]]:
    """The part of the metrics that does not depend on the clock."""
    return [{key: line[key] for key in DETERMINISTIC} for line in read_metrics(run_dir / "metrics.jsonl")]


def assert_equal_runs(one: Path, other: Path) -> None:
    assert told(one) == told(other)
    assert [line["step"] for line in told(one)] == list(range(1, len(told(one)) + 1))
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert tensor.equal(second[name]), name


def in_another_process(folder: Path, name: str, *, kill_at: int | None) -> subprocess.Popen[bytes]:
    """The same run in a fresh process; with `kill_at` it sends itself SIGKILL after that many steps."""
    code = (
        "import os, signal, sys, time; from pathlib import Path; from tests.training.test_loop import run\n"
        "folder, name, kill_at = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])\n"
        "run(folder, name=name, action=lambda done: os.kill(os.getpid(), signal.SIGKILL) if done == kill_at else time.sleep(0.1))"
    )
    words = [sys.executable, "-c", code, str(folder), name, str(-1 if kill_at is None else kill_at)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_loss_falls_and_the_folder_holds_what_it_should(tmp_path: Path) -> None:
    summary = run(tmp_path, dataclasses.replace(TINY_TRAINING, steps=60))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert [line["step"] for line in lines if line["heldout_loss"] is not None] == list(range(4, 61, 4))
    assert summary.state == "finished" and summary.tokens == 60 * 64 and 0 < summary.limit_share < 1
    assert {path.name for path in summary.pictures} == {"loss.png", "loss.svg"}
    assert all(path.stat().st_size > 1000 for path in summary.pictures)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["steps"] == 60
    assert "ESTIMATED" in summary.energy_source or summary.energy_measured


@pytest.mark.slow
@pytest.mark.parametrize("kill_at", [2, 7])
def test_a_run_killed_at_a_step_and_resumed_equals_the_undisturbed_one(tmp_path: Path, kill_at: int) -> None:
    run(tmp_path, name="whole")
    killed = in_another_process(tmp_path, "killed", kill_at=kill_at)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert run_status(tmp_path / "killed").state == "dead"
    run(tmp_path, name="killed")
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_a_second_trainer_is_refused_and_an_outside_kill_frees_the_folder(tmp_path: Path) -> None:
    other = in_another_process(tmp_path, "run", kill_at=None)
    try:
        until = time.monotonic() + 60
        while not read_metrics(tmp_path / "run" / "metrics.jsonl"):
            assert other.poll() is None and time.monotonic() < until
            time.sleep(0.02)
        status = run_status(tmp_path / "run")
        assert status.state == "running" and status.step >= 1 and status.steps == 12 and status.eta_s is not None
        with pytest.raises(TrainingError, match=rf"another trainer \(process {other.pid} on"):
            run(tmp_path)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    run(tmp_path)
    run(tmp_path, name="whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_with_a_checkpoint_and_the_run_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    summary = run(tmp_path, action=lambda done: os.kill(os.getpid(), number) if done == 5 else None, command="agora train pretrain")
    assert summary.state == "stopped" and summary.step == 5 and summary.stopped_by == number.name
    status = run_status(tmp_path / "run")
    assert status.state == "stopped" and status.step == 5 and status.command == "agora train pretrain"
    assert run(tmp_path).state == "finished"
    run(tmp_path, name="whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_a_run_whose_files_may_grow_no_more_ends_by_name_and_goes_on_later(tmp_path: Path) -> None:
    metrics, before = tmp_path / "run" / "metrics.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(done: int) -> None:
        if done == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (metrics.stat().st_size + 100, before[1]))

    try:
        with pytest.raises(TrainingError, match=r"step \d: .*metrics\.jsonl: File too large\. Allow larger files \(ulimit -f"):
            run(tmp_path, action=limit)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (status,) = list_runs(tmp_path)
    assert status.state == "failed" and status.step == 6 and "metrics.jsonl: File too large" in status.message
    assert metrics.read_text().count("\n") == 6 and metrics.read_text().endswith("\n")
    assert run(tmp_path).state == "finished"
    run(tmp_path, name="whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_a_signal_that_comes_after_the_look_at_it_still_ends_with_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("agora.training.loop._Trainer._is_checkpoint_due", lambda self, writer: False)
        run(tmp_path, action=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 5 else None)
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == ["step-00000005"]


def test_a_damaged_checkpoint_is_refused_and_the_run_goes_on_from_the_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, action=lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 9 else None)
    newest = list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    with (tmp_path / "run" / "checkpoints" / newest / "tensors-00000.safetensors").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x55")
    run(tmp_path)
    assert f"{newest} is corrupt" in caplog.text
    run(tmp_path, name="whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_with_every_checkpoint_damaged_the_run_stops_twice(tmp_path: Path) -> None:
    run(tmp_path)
    for path in (tmp_path / "run" / "checkpoints").iterdir():
        (path / "state.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="every checkpoint"):
            run(tmp_path)


def test_a_loss_that_is_not_a_number_stops_with_the_batch_saved(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY_TRAINING, optimizer=dataclasses.replace(TINY_TRAINING.optimizer, name="adamw", lr=1e38))
    with pytest.raises(TrainingError, match=r"step \d+: loss .* document=\d+ shard_offset_tokens=\d+ .* is written to .*not-a-number"):
        run(tmp_path, config)
    saved = json.loads(next((tmp_path / "run").glob("not-a-number-step-*.json")).read_text())
    assert sum(document["num_tokens"] for document in saved["documents"]) == TINY_TRAINING.batch_tokens
    assert run_status(tmp_path / "run").state == "failed"


@pytest.mark.parametrize(("name", "checkpoint_every"), [("adamw", 4), ("adamw", 1), ("muon", 1)])
def test_weights_that_are_not_finite_are_never_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: Any, checkpoint_every: int
) -> None:
    """Also when only the very last step breaks them, which no later loss would show."""
    config = dataclasses.replace(
        TINY_TRAINING, steps=4, evaluate_every=0, checkpoint_every_steps=checkpoint_every,
        optimizer=dataclasses.replace(TINY_TRAINING.optimizer, name=name),
    )  # fmt: skip
    step = TrainingStep.run

    done: list[float] = []

    def breaking(self: TrainingStep, batches: Any, *rest: Any) -> Any:
        result = step(self, batches, *rest)
        done.append(result.loss)
        if len(done) == 4:
            self.optimizer.masters[3] = float("inf")
        return result

    monkeypatch.setattr(TrainingStep, "run", breaking)
    with pytest.raises(TrainingError, match=r"step 4: loss [\d.]+, .* the weights it left are not finite.* is written to"):
        run(tmp_path, config)
    kept = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert kept == ([] if checkpoint_every == 4 else ["step-00000001", "step-00000002", "step-00000003"])
    assert (tmp_path / "run" / "not-a-number-step-4.json").exists() and run_status(tmp_path / "run").state == "failed"
    assert all(line["heldout_loss"] is None for line in read_metrics(tmp_path / "run" / "metrics.jsonl"))


def test_an_update_that_overflows_in_the_only_step_is_refused(tmp_path: Path) -> None:
    optimizer = dataclasses.replace(TINY_TRAINING.optimizer, name="adamw", lr=1e38)
    with pytest.raises(TrainingError, match="the weights it left are not finite"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, steps=1, optimizer=optimizer))
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == []


def test_a_broken_batch_is_kept_with_the_words_it_is_made_of(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["no text"], vocab_size=264)
    tokenizer.save(tmp_path / "words")
    numbers = [[*tokenizer.encode(f"document {index} " + "\u20ac" * 300), tokenizer.special["<|endoftext|>"]] for index in range(5)]
    shards = FileShards(tmp_path / "tokens.bin", [len(ids) for ids in numbers])
    np.concatenate(numbers).astype(np.uint16).tofile(tmp_path / "tokens.bin")
    config = dataclasses.replace(TINY_TRAINING, optimizer=dataclasses.replace(TINY_TRAINING.optimizer, name="adamw", lr=1e38))
    with pytest.raises(TrainingError, match=r"how each begins\) is written to .*not-a-number-step-\d+\.json"):
        train(
            tmp_path / "run", model_config=dataclasses.replace(TINY_MODEL, vocab_size=tokenizer.vocab_size), training_config=config,
            shards=shards, tokenizer_dir=tmp_path / "words",
        )  # fmt: skip
    saved = json.loads(next((tmp_path / "run").glob("not-a-number-step-*.json")).read_text())
    for document in saved["documents"]:
        assert document["text"] == f"document {document['document']} " + "\u20ac" * 189 and len(document["text"]) == 200


def test_a_checkpoint_with_numbers_that_are_not_finite_is_refused_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, action=lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 9 else None)
    checkpoints = tmp_path / "run" / "checkpoints"
    newest = load_latest_checkpoint(checkpoints)
    assert newest is not None and newest.step == 9
    newest.state["step"]["weight.embedding"][3] = float("nan")
    save_checkpoint(checkpoints, 9, newest.state, keep=9)
    run(tmp_path)
    assert "step-00000009 is corrupt: weight.embedding holds numbers that are not finite; taking the one before" in caplog.text
    assert (checkpoints / "step-00000009.corrupt").exists()
    run(tmp_path, name="whole")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_compiling_without_a_compiler_leaves_the_old_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    before = content(tmp_path / "run")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"training\.compile=on cannot work here"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, compile="on"), resume=False)
    assert content(tmp_path / "run") == before


def test_tensorboard_of_a_run_holds_what_was_learned_how_fast_and_at_which_rate(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = dataclasses.replace(TINY_TRAINING, tensorboard=True)
    run(tmp_path, config, action=lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 5 else None)
    run(tmp_path, config)
    board = accumulators.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    board.Reload()
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    for name in ("loss", "tokens_per_s", "lr", "muon_lr", "grad_norm"):
        told = [(event.step, event.value) for event in board.Scalars(name)]
        assert [step for step, _ in told] == list(range(1, 13)), name
        assert [value for _, value in told] == pytest.approx([line[name] for line in lines]), name
    assert lines[5]["lr"] == config.optimizer.lr * lines[5]["lr_scale"]


def test_a_run_without_kernels_learns_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(TINY_TRAINING, dtype="bfloat16", steps=40)
    losses = {}
    for setting in ("on", "off"):
        monkeypatch.setenv("AGORA_KERNELS", setting)
        kernels.library.cache_clear()
        try:
            losses[setting] = run(tmp_path, config, name=setting).heldout_loss
            assert RunFolder(tmp_path / setting).read("run.json")["machine"]["has_kernels"] is (kernels.library() is not None)
        finally:
            kernels.library.cache_clear()
    # bfloat16 keeps 8 bits, and the two round in other places: a loss of 4 may differ in its third digit
    assert losses["off"] == pytest.approx(losses["on"], abs=0.02)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"
    }


def test_a_refused_fresh_start_leaves_the_old_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path)
    before = content(tmp_path / "run")
    with pytest.raises(ConfigError, match="tpu"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, device="tpu"), resume=False)
    assert content(tmp_path / "run") == before

    def no_memory(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("agora.training.loop.TrainingStep", no_memory)
    with pytest.raises(MemoryError):
        run(tmp_path, resume=False)
    assert content(tmp_path / "run") == before


def test_a_refused_start_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tpu"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, device="tpu"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"kind": "pretrain"}', '{"kind": "pretrain", "training": []}'])
def test_a_damaged_run_is_listed_as_damaged_beside_the_whole_ones(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "runs" / "broken"
    broken.mkdir(parents=True)
    run(tmp_path / "runs", dataclasses.replace(TINY_TRAINING, steps=1), name="whole")
    (broken / "run.json").write_text(text)
    listed = {status.name: status for status in list_runs(tmp_path / "runs")}
    assert listed["broken"].state == "damaged" and "run.json" in listed["broken"].message and listed["whole"].state == "finished"
    with pytest.raises(TrainingError, match=r"run\.json is damaged"):
        run_status(broken)


def test_a_run_without_its_machine_names_the_file(tmp_path: Path) -> None:
    run(tmp_path)
    saved = RunFolder(tmp_path / "run").read("run.json")
    del saved["machine"]
    RunFolder(tmp_path / "run").write("run.json", saved)
    with pytest.raises(TrainingError, match=r"run\.json is damaged .'machine'"):
        run(tmp_path)


def test_another_configuration_is_refused_by_key_and_operational_keys_may_change(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(ConfigError, match=r"training\.optimizer\.lr is .* here.*--fresh"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, optimizer=dataclasses.replace(TINY_TRAINING.optimizer, lr=0.5)))
    assert run(tmp_path, dataclasses.replace(TINY_TRAINING, keep=1)).state == "finished"
    fresh = dataclasses.replace(TINY_TRAINING, steps=4)
    assert run(tmp_path, fresh, resume=False).step == 4


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    done: list[int] = []
    second = run(tmp_path, action=done.append)
    assert done == [] and second.state == "finished"
    assert (second.tokens, second.loss, second.heldout_loss) == (first.tokens, first.loss, first.heldout_loss)


def test_accumulated_micro_batches_count_as_one_batch(tmp_path: Path) -> None:
    one = run(tmp_path, dataclasses.replace(TINY_TRAINING, steps=3, micro_batch=4, schedule=TINY_TRAINING.schedule), name="one")
    two = run(tmp_path, dataclasses.replace(TINY_TRAINING, steps=3, micro_batch=2), name="two")
    assert one.loss is not None and two.loss is not None
    assert abs(one.loss - two.loss) < 1e-4  # float32 sums in another order


def test_checkpoints_by_time_do_not_change_the_run(tmp_path: Path) -> None:
    run(tmp_path, name="steps")
    run(tmp_path, dataclasses.replace(TINY_TRAINING, checkpoint_every_steps=None, checkpoint_every_s=0.001), name="time")
    assert_equal_runs(tmp_path / "steps", tmp_path / "time")


def test_a_folder_without_a_run_has_no_status(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run in"):
        run_status(tmp_path)
    assert list_runs(tmp_path / "absent") == []


def test_a_status_reader_does_not_keep_a_trainer_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        assert folder.is_locked()
    assert not folder.is_locked()
    with folder.locked():
        pass


def test_a_run_that_is_faster_than_the_measured_limit_raises_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine was busy when it was measured; a share above 1 says nothing."""
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1.0)
    summary = run(tmp_path)
    assert 0 < summary.limit_share <= 1
    shares = [line["limit_share"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")]
    assert max(shares) == shares[0] == 1.0
    kept = json.loads((tmp_path / "run" / "matmul_limit.json").read_text())
    saved = json.loads((tmp_path / "run" / "run.json").read_text())["machine"]["limit_flops_per_s"]
    assert list(kept.values()) == [saved] and saved > 1e6


def test_a_share_that_an_older_run_wrote_is_never_shown_above_one(tmp_path: Path) -> None:
    run(tmp_path)
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_text("".join(json.dumps({**json.loads(line), "limit_share": 4.06}) + "\n" for line in file.read_text().splitlines()))
    assert run_status(tmp_path / "run").limit_share == 1.0


def test_a_resumed_run_may_cut_its_steps_into_other_micro_batches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The same rows in the same order; sums of float32 in another order, which Muon's bfloat16 makes 1e-4 of."""
    run(tmp_path, name="whole")
    run(tmp_path, action=lambda done: os.kill(os.getpid(), signal.SIGTERM) if done == 5 else None)
    assert run(tmp_path, dataclasses.replace(TINY_TRAINING, micro_batch=1)).step == TINY_TRAINING.steps
    whole, cut = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "run"))
    assert [line["tokens"] for line in cut] == [line["tokens"] for line in whole]
    assert [line["loss"] for line in cut[:5]] == [line["loss"] for line in whole[:5]]
    assert [line["loss"] for line in cut] == pytest.approx([line["loss"] for line in whole], rel=1e-4)
    states = [load_latest_checkpoint(tmp_path / name / "checkpoints") for name in ("whole", "run")]
    assert states[0] is not None and states[1] is not None and states[0].state["data"] == states[1].state["data"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["micro_batch"] == 1 and "balance" not in caplog.text


def test_experts_are_told_that_their_balance_is_judged_otherwise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = {"model": {"num_experts": 4, "balance_loss_weight": 0.01}, "training": {"micro_batch": 2}}
    tell_division(record, record)
    assert not caplog.text
    tell_division(record, {**record, "training": {"micro_batch": 1}})
    assert "training.micro_batch was 2 and is 1: the balance of experts is judged micro-batch by micro-batch" in caplog.text


def test_a_layout_that_contradicts_a_setting_is_refused(tmp_path: Path) -> None:
    for layout, words in (
        (Layout(micro_batch=4), r"training\.micro_batch decides"),
        (Layout(precision="fp8"), r"try training\.float8=rowwise"),
    ):
        with pytest.raises(ConfigError, match=words):
            run(tmp_path, layout=layout)
    assert not (tmp_path / "run").exists()
