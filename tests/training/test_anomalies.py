"""Steps that went wrong: the rule that finds them, and what a run does then, killed and resumed or not."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agora.errors import TrainingError
from agora.training.anomalies import FEWEST, MOST_IN_A_ROW, RollBack, Skip, Skips, SpikeRule
from agora.training.checkpoint import list_checkpoints, load_latest_checkpoint
from agora.training.config import TrainingConfig
from agora.training.loop import train
from agora.training.metrics import DETERMINISTIC, read_metrics
from agora.training.run_folder import run_status
from agora.training.step import StepResult, TrainingStep
from agora.training.summary import TrainingSummary
from tests.training.doubles import TINY_MODEL, TINY_TRAINING, EachStep, some_shards, tokenizer_folder


def curve(rng: np.random.Generator, steps: int = 600) -> list[tuple[float, float]]:
    """A falling loss with the scatter of batches, and gradient norms that scatter by factors, with heavy tails."""
    times = np.arange(steps)
    losses = 3 + 2 * np.exp(-times / 100) + 0.03 * rng.standard_normal(steps)
    norms = np.exp(0.15 * rng.standard_t(8, steps)) * (0.5 + np.exp(-times / 50))
    return list(zip(losses.tolist(), norms.tolist(), strict=True))


def test_ordinary_curves_have_no_spikes() -> None:
    found = 0
    for seed in range(20):
        rule = SpikeRule(7.0)
        for loss, norm in curve(np.random.default_rng(seed)):
            found += rule.judge(loss, norm) is not None
            rule.learn(loss, norm)
    assert found <= 2  # of 12,000 steps: such tails reach that far by themselves


@pytest.mark.parametrize(("loss", "norm", "word"), [(4.0, 0.5, "loss 4"), (3.1, 9.0, "gradient norm 9")])
def test_a_jump_of_loss_or_gradient_is_a_spike_and_does_not_hide_the_next(loss: float, norm: float, word: str) -> None:
    rule = SpikeRule(7.0)
    for one in curve(np.random.default_rng(1), 300):
        rule.learn(*one)
    for _ in range(20):
        found = rule.judge(loss, norm)
        assert found is not None and found.kind == "spike" and word in found.reason
        rule.learn(loss, norm)


def test_few_steps_are_not_judged_but_what_is_no_number_is() -> None:
    rule = SpikeRule(7.0)
    for _ in range(FEWEST - 1):
        rule.learn(1.0, 1.0)
    assert rule.judge(50.0, 1.0) is None
    found = rule.judge(math.nan, 1.0)
    assert found is not None and found.kind == "not a number"
    rule.learn(1.0, 1.0)
    assert rule.judge(50.0, 1.0) is not None


def test_a_rule_goes_on_as_saved() -> None:
    one, other = SpikeRule(7.0), SpikeRule(7.0)
    for step in curve(np.random.default_rng(3), 200):
        one.learn(*step)
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for loss in np.linspace(3, 4, 50).tolist():
        assert one.judge(loss, 0.5) == other.judge(loss, 0.5)


def test_too_many_skips_in_a_row_and_too_many_ways_back_stop_the_run() -> None:
    skips = Skips()
    for step in range(10, 10 + MOST_IN_A_ROW - 1):
        skips.add(step, Skip(why="spike"))
    with pytest.raises(TrainingError, match="it is not the batches"):
        skips.add(10 + MOST_IN_A_ROW - 1, Skip(why="spike"))
    skips.go_back(3, 5, most=1)
    with pytest.raises(TrainingError, match="max_roll_backs"):
        skips.go_back(3, 6, most=1)


def run(folder: Path, config: TrainingConfig, *, name: str = "run", action: Any = lambda done: None) -> TrainingSummary:
    return train(
        folder / name, model_config=TINY_MODEL, training_config=config, shards=some_shards(folder), heldout=some_shards(folder, seed=2),
        tokenizer_dir=tokenizer_folder(folder / "tokenizer"), progress=EachStep(action),
    )  # fmt: skip


def bad_batches(monkeypatch: pytest.MonkeyPatch, folder: Path, bad: set[int], numbers: tuple[float, float]) -> None:
    """The batches that a whole run takes in the steps `bad` give these numbers, whenever they come."""
    probe, tokens = TINY_TRAINING, []
    step = TrainingStep.run

    def record(self: TrainingStep, batches: Any, *rest: Any) -> StepResult:
        tokens.append(batches[0].tokens_BT.numpy().tobytes())
        return step(self, batches, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "run", record)
        run(folder, dataclasses.replace(probe, steps=60), name="probe")
    marked = {tokens[number - 1] for number in bad}

    def spoilt(self: TrainingStep, batches: Any, lr_scale: float, allows: Any) -> StepResult:
        if batches[0].tokens_BT.numpy().tobytes() not in marked:
            return step(self, batches, lr_scale, allows)
        if math.isfinite(numbers[0]) and allows(*numbers):
            return dataclasses.replace(step(self, batches, lr_scale), loss=numbers[0], grad_norm=numbers[1])
        return StepResult(*numbers, 64, is_applied=False)

    monkeypatch.setattr(TrainingStep, "run", spoilt)


@pytest.fixture(autouse=True)
def _known_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agora.training.machine.measure_matmul_limit", lambda device, dtype: 1e12)


def assert_equal_runs(one: Path, other: Path) -> None:
    told = [
        [{key: line[key] for key in (*DETERMINISTIC, "skipped")} for line in read_metrics(path / "metrics.jsonl")] for path in (one, other)
    ]
    assert told[0] == told[1]
    first, second = (load_latest_checkpoint(path / "checkpoints") for path in (one, other))
    assert first is not None and second is not None and first.state["data"] == second.state["data"]
    for name, tensor in first.state["step"].items():
        assert tensor.equal(second.state["step"][name]), name


def skipped(run_dir: Path) -> dict[int, str]:
    return {line["step"]: line["skipped"] for line in read_metrics(run_dir / "metrics.jsonl") if line["skipped"]}


class Killed(BaseException):
    """Ends a run as a kill does: nothing is saved."""


def kill_at(step: int) -> Any:
    def act(done: int) -> None:
        if done == step:
            raise Killed

    return act


NAN, SPIKE = (math.nan, math.nan), (40.0, 90.0)
LONG = dataclasses.replace(TINY_TRAINING, steps=46, checkpoint_every_steps=10, evaluate_every=0, keep=9)


@pytest.mark.parametrize(("setting", "numbers", "why"), [("on_nan", NAN, "not a number"), ("on_spike", SPIKE, "spike")])
def test_a_skipped_batch_stays_skipped_when_the_run_is_killed_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, numbers: tuple[float, float], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    bad_batches(monkeypatch, tmp_path, {36, 42}, numbers)
    config = dataclasses.replace(LONG, **{setting: "skip"})
    assert run(tmp_path, config, name="whole").state == "finished"
    assert skipped(tmp_path / "whole") == {36: why, 42: why}
    assert "step 36" in caplog.text and "its batch is skipped" in caplog.text and "document=" in caplog.text
    with pytest.raises(Killed):
        run(tmp_path, config, name="killed", action=kill_at(38))  # goes on from step 30: the batch comes again
    run(tmp_path, config, name="killed", action=lambda done: os.kill(os.getpid(), signal.SIGINT) if done == 44 else None)
    monkeypatch.undo()  # what was decided needs no second look at the batch
    run(tmp_path, config, name="killed")
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")
    kept = json.loads((tmp_path / "whole" / f"{why.replace(' ', '-')}-step-36.json").read_text())
    assert sum(document["num_tokens"] for document in kept["documents"]) == LONG.batch_tokens
    events = [json.loads(line) for line in (tmp_path / "whole" / "events.jsonl").read_text().splitlines()]
    assert [(event["kind"], event["step"], event["action"]) for event in events] == [(why, 36, "skip"), (why, 42, "skip")]


def test_rolling_back_leaves_out_the_batches_since_the_checkpoint_also_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_batches(monkeypatch, tmp_path, {36}, SPIKE)
    config = dataclasses.replace(LONG, on_spike="roll_back")
    summary = run(tmp_path, config, name="whole")
    assert summary.state == "finished" and skipped(tmp_path / "whole") == dict.fromkeys(range(31, 37), "roll back")
    assert [line["step"] for line in read_metrics(tmp_path / "whole" / "metrics.jsonl")] == list(range(1, 47))
    for number in (33, 38):  # before and after the spike
        with pytest.raises(Killed):
            run(tmp_path, config, name="killed", action=kill_at(number))
    run(tmp_path, config, name="killed")
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")
    (tmp_path / "told").mkdir()
    (tmp_path / "told" / "skipped.json").write_text((tmp_path / "whole" / "skipped.json").read_text())
    run(tmp_path, LONG, name="told")  # a run that knows beforehand which batches to leave out
    assert_equal_runs(tmp_path / "whole", tmp_path / "told")


def test_without_a_checkpoint_the_way_back_leads_to_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_batches(monkeypatch, tmp_path, {3}, NAN)
    config = dataclasses.replace(TINY_TRAINING, on_nan="roll_back")
    run(tmp_path, config)
    assert skipped(tmp_path / "run") == dict.fromkeys((1, 2, 3), "roll back")
    assert list_checkpoints(tmp_path / "run" / "checkpoints") == [f"step-{step:08d}" for step in (4, 8, 12)]


def test_a_run_that_goes_back_too_often_stops_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad_batches(monkeypatch, tmp_path, {5, 6, 7}, NAN)
    with pytest.raises(TrainingError, match="gone back 2 times already"):
        run(tmp_path, dataclasses.replace(TINY_TRAINING, on_nan="roll_back", max_roll_backs=2))
    status = run_status(tmp_path / "run")
    assert status.state == "failed" and "max_roll_backs" in status.message


def test_by_default_a_spike_is_told_and_learned_from_and_stop_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bad_batches(monkeypatch, tmp_path, {36}, SPIKE)
    assert run(tmp_path, LONG).state == "finished"
    assert skipped(tmp_path / "run") == {} and "step 36: loss 40" in caplog.text
    with pytest.raises(TrainingError, match=r"step 36: loss 40 is [\d.]+ deviations above .* training\.on_spike=skip"):
        run(tmp_path, dataclasses.replace(LONG, on_spike="stop"), name="stopping")
    assert run(tmp_path, dataclasses.replace(LONG, on_spike="skip"), name="stopping").state == "finished"  # the policy may change


def test_weights_that_are_not_finite_lead_back_by_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, done = TrainingStep.run, []

    def breaking(self: TrainingStep, batches: Any, *rest: Any) -> StepResult:
        result = step(self, batches, *rest)
        done.append(1)
        if len(done) == 8:
            self.optimizer.masters[3] = float("inf")
        return result

    monkeypatch.setattr(TrainingStep, "run", breaking)
    run(tmp_path, dataclasses.replace(TINY_TRAINING, on_nan="roll_back"))
    assert skipped(tmp_path / "run") == dict.fromkeys((5, 6, 7, 8), "roll back")


def test_a_way_back_is_no_error_a_user_meets() -> None:
    assert not issubclass(RollBack, TrainingError)
