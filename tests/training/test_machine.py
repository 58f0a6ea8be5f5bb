"""Machine decisions: measured once, kept, and a missing device refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from agora.errors import ConfigError, TrainingError
from agora.training import machine
from agora.training.config import TrainingConfig
from agora.training.machine import check_machine, choose_device, decide_machine, matmul_limit, measure_matmul_limit
from agora.training.run_folder import RunFolder


def test_measured_limit_is_a_rate() -> None:
    assert 1e8 < measure_matmul_limit("cpu", "float32", shapes=[(128, 64, 128), (64, 64, 64)], budget_s=0.02) < 1e15


def test_limit_is_measured_once_for_each_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, dtype: float(calls.append(dtype) or len(calls)))
    assert [matmul_limit(RunFolder(tmp_path), "cpu", dtype) for dtype in ("bfloat16", "bfloat16", "float32")] == [1.0, 1.0, 2.0]
    assert calls == ["bfloat16", "float32"]


@pytest.mark.parametrize(("fast", "flops", "dtype", "compiled"), [("bfloat16", 1e9, "bfloat16", False), ("float32", 1e18, "float32", True)])
def test_the_faster_format_is_taken_and_only_long_runs_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: str, flops: float, dtype: str, compiled: bool
) -> None:
    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, name: 2e12 if name == fast else 1e12)
    monkeypatch.setattr(machine, "_has_compiler", lambda device: True)
    monkeypatch.setattr(machine, "compile_problem", lambda device: "")
    monkeypatch.setattr(machine, "_has_kernels", lambda device, dtype: False)
    decided = decide_machine(RunFolder(tmp_path), TrainingConfig(device="cpu"), flops)
    assert (decided.dtype, decided.compile, decided.limit_flops_per_s) == (dtype, compiled, 2e12)


def test_fused_kernels_take_the_place_of_compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, name: 1e12)
    monkeypatch.setattr(machine, "_has_kernels", lambda device, dtype: True)
    decided = decide_machine(RunFolder(tmp_path), TrainingConfig(device="cpu", dtype="bfloat16"), 1e18)
    assert decided.has_kernels and not decided.compile


def test_a_change_that_changes_bits_is_told_on_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, name: 1e12)
    monkeypatch.setattr(machine, "_has_kernels", lambda device, dtype: False)
    decided = decide_machine(RunFolder(tmp_path), TrainingConfig(device="cpu", dtype="float32"), 1e9)
    check_machine(decided)
    assert caplog.text == ""
    check_machine(dataclasses.replace(decided, num_threads=decided.num_threads + 1, has_kernels=True))
    assert "threads" in caplog.text and "fused kernels" in caplog.text
    with pytest.raises(TrainingError, match="was started on tpu"):
        check_machine(dataclasses.replace(decided, device="tpu"))


@pytest.mark.parametrize("device", ["tpu", "cpu:foo", "cpu:3", "cuda:99", "cpu:", ""])
def test_a_device_that_is_not_here_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match=rf"training\.device='{device}' is not on this machine"):
        choose_device(device)


def test_the_first_processor_is_the_processor() -> None:
    assert choose_device("cpu:0") == "cpu"


def test_compiling_without_a_compiler_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, name: 1e12)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    on = TrainingConfig(device="cpu", dtype="float32", compile="on")
    with pytest.raises(ConfigError, match=r"training\.compile=on cannot work here: no C\+\+ compiler.*install .*training\.compile=off"):
        decide_machine(RunFolder(tmp_path), on, 1e9)
    off = decide_machine(RunFolder(tmp_path), dataclasses.replace(on, compile="off"), 1e9)
    with pytest.raises(TrainingError, match=r"was started compiled.*no C\+\+ compiler"):
        check_machine(dataclasses.replace(off, compile=True))


def test_a_compiler_that_does_not_work_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(function: object) -> object:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\n\nmore")

    monkeypatch.setattr(machine, "measure_matmul_limit", lambda device, name: 1e12)
    monkeypatch.setattr(machine, "_has_compiler", lambda device: True)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ConfigError, match=r"No working C\+\+ compiler found; install"):
        decide_machine(RunFolder(tmp_path), TrainingConfig(device="cpu", dtype="float32", compile="on"), 1e9)
    assert not decide_machine(RunFolder(tmp_path), TrainingConfig(device="cpu", dtype="float32"), 1e18).compile
    assert "not compiled" in caplog.text
