"""Metrics: whole lines only, each step once after a rewind, TensorBoard on request."""

from __future__ import annotations

import builtins
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from agora.errors import MissingExtraError
from agora.training.metrics import MetricsLog, StepMetrics, draw_loss, read_metrics, rewind_metrics
from tests.training.doubles import full_after


def line(step: int, **more: Any) -> StepMetrics:
    values: dict[str, Any] = {
        "loss": 1.0 / step, "grad_norm": 1.0, "lr_scale": 1.0, "lr": 0.1, "tokens": step * 10, "tokens_per_s": 5.0, "limit_share": 0.1,
        "elapsed_s": 1.0, "eta_s": 1.0, "joules_per_token": 0.1, "energy_measured": False,
    }  # fmt: skip
    return StepMetrics(step=step, **{**values, **more})


def test_rewinding_leaves_each_step_once_and_drops_a_cut_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for step in (1, 2, 3):
            log.write(line(step))
    with path.open("a") as file:
        file.write('{"step": 4, "los')
    assert rewind_metrics(path, 2) == 1
    with MetricsLog(path) as log:
        log.write(line(3))
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2, 3]


def test_a_line_that_does_not_fit_is_taken_back_and_the_file_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        log.write(line(1))
        before = path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("agora.files.os.write", full_after(20))
            with pytest.raises(OSError, match=r"File too large: '.*metrics\.jsonl'"):
                log.write(line(2))
        assert path.read_bytes() == before
        log.write(line(2))
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2]


def test_tensorboard_files_are_written_when_asked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path / "m", tensorboard=tmp_path / "board") as log:
        log.write(line(1, heldout_loss=2.0))
    assert list((tmp_path / "board").glob("events.out.tfevents.*"))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_run_goes_on_when_tensorboard_files_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writer = pytest.importorskip("tensorboard.summary.writer.record_writer")

    writers = []

    def fails(self: Any, data: bytes) -> None:
        writers.append(threading.current_thread())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with MetricsLog(tmp_path / "m", tensorboard=tmp_path / "board") as log:
        monkeypatch.setattr(writer.RecordWriter, "write", fails)
        for step in range(1, 40):
            log.write(line(step))
    writers[0].join()  # what a thread raises is told at its end, and belongs to this test
    assert [entry["step"] for entry in read_metrics(tmp_path / "m")] == list(range(1, 40))
    assert caplog.text.count("No space left on device; the run goes on without TensorBoard") == 1


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith(("torch.utils.tensorboard", "matplotlib")):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"agora\[reports\]"):
        MetricsLog(tmp_path / "m", tensorboard=tmp_path / "board")
    with pytest.raises(MissingExtraError, match=r"agora\[reports\]"):
        draw_loss([], tmp_path, "x")
