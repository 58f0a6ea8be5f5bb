"""The benchmark of a GPU does not break while there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

from agora.errors import UsageError
from agora.model import fast
from agora.model.config import ModelConfig
from agora.training.recorder import Recorder
from agora.training.step import Batch
from benchmarks import gpu_mfu

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    with pytest.raises(UsageError, match="there is none here: nothing was measured"):
        gpu_mfu.run(False, {})


@no_gpu
@pytest.mark.slow
def test_every_way_goes_through_a_tiny_model_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    process = gpu_mfu._process

    def noted(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        seen.extend(process(tasks))
        return seen

    monkeypatch.setattr(gpu_mfu, "_process", noted)
    ways = {name: way for name, way in gpu_mfu.WAYS.items() if way["float8"] != "tensorwise"}  # rowwise goes the same way
    monkeypatch.setattr(gpu_mfu, "WAYS", ways)
    with pytest.raises(UsageError, match="no GPU here, so nothing was measured; all 5 ways go through"):
        gpu_mfu.run(True, {})
    found = dict(zip(ways, seen, strict=True))
    losses = [row["loss"] for row in found.values()]
    assert max(losses) - min(losses) < 0.05 and all(row["share"] > 0 for row in found.values())
    assert [name for name, row in found.items() if row["dry_run_bytes"]] == ["divided"]


def test_the_dry_run_is_of_the_step_that_is_measured() -> None:
    what = {**gpu_mfu.task("cpu", quick=True), **gpu_mfu.WAYS["divided"]}
    what["model"] = {**what["model"], "max_seq_len": 256}  # long enough for a mask of documents to be seen
    config = ModelConfig(**what["model"])
    tokens_BT = torch.zeros(what["rows"], config.max_seq_len, dtype=torch.int64)
    with fast.plain_operations(), Recorder() as recorder:
        step = gpu_mfu._step(what, config)
        recorder.watch(step.part.stages)
        for _ in range(2):
            recorder.begin()
            step.run([Batch(tokens_BT, tokens_BT)] * what["passes"])
        seen = recorder.end(step).peak_bytes
    predicted = gpu_mfu._dry_run(what, config)
    assert not dist.is_initialized()
    assert predicted == pytest.approx(seen, rel=gpu_mfu.MEMORY_BAR / 2)


def test_a_way_that_fails_is_named_and_those_behind_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    what = gpu_mfu.task("cpu", quick=True)
    monkeypatch.setattr(gpu_mfu.sys, "executable", "/bin/false")
    assert gpu_mfu._process([what]) == [{"error": "exit code 1"}]
    assert gpu_mfu._process([what, what])[1] == {"error": "not tried, because the one before it failed"}


GOOD = {name: {"share": 0.6, "dry_run_error": 0.01} for name in gpu_mfu.WAYS}


@pytest.mark.parametrize(
    ("name", "row", "holds"),
    [
        ("plain", GOOD["plain"], True),
        ("divided, compiled, float8 rowwise", {"error": "RuntimeError: no kernel image"}, False),
        ("divided, compiled, float8 rowwise", {"left_out": "A100 has compute capability 8.0"}, True),
        ("divided", {"share": 0.6, "dry_run_error": 0.06}, False),
        ("divided", {"share": 0.6, "dry_run_error": -0.06}, False),
        ("divided", {"error": "OutOfMemoryError"}, False),
    ],
)
def test_the_bar_holds_only_when_every_way_works(name: str, row: dict[str, Any], holds: bool) -> None:
    result = gpu_mfu.judge({**GOOD, name: row}, {"gpu": "any"})
    assert result.holds is holds and result.details["failed"] == ({name: row["error"]} if "error" in row else {})


def test_float8_alone_does_not_reach_the_bar_of_sixteen_bits() -> None:
    slow = {name: {**row, "share": 0.9 if "float8" in name else 0.3} for name, row in GOOD.items()}
    result = gpu_mfu.judge(slow, {})
    assert result.value == 0.3 and not result.holds


def test_a_way_that_failed_in_one_round_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"error": "x"}, *[{"share": 0.6, "dry_run_error": 0.0}] * 20])
    monkeypatch.setattr(gpu_mfu, "_process", lambda tasks: [next(answers) for _ in tasks])
    found = gpu_mfu.measure({}, rounds=2)
    assert found["plain"] == {"error": "x"} and found["divided"]["shares"] == [0.6, 0.6]
