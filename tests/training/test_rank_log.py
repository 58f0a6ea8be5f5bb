"""What each process tells, as JSON lines."""

from __future__ import annotations

import io
import logging
from datetime import datetime
from pathlib import Path

import pytest

from agora.training.rank_log import rank_log, read_rank_logs
from tests.training.doubles import full_after


def test_lines_of_all_processes_are_read_in_the_order_of_time(tmp_path: Path) -> None:
    with rank_log(tmp_path, 0) as first, rank_log(tmp_path, 12) as other:
        for step in (1, 2):
            for log in (other, first):
                log.step = step
                log.tell("step", tokens_per_s=3.5)
    lines = read_rank_logs(tmp_path)
    assert sorted({line["rank"] for line in lines}) == [0, 12]
    steps = [line["step"] for line in lines if line["what"] == "step"]
    assert steps == [1, 1, 2, 2] and all(line["host"] and datetime.fromisoformat(line["time"]).tzinfo for line in lines)
    assert [line["what"] for line in lines[-2:]] == ["ended", "ended"]


def test_warnings_of_the_program_are_in_it_and_only_the_first_process_shows_them(tmp_path: Path) -> None:
    screen, root, agora = io.StringIO(), logging.getLogger(), logging.getLogger("agora.training.somewhere")
    handler = logging.StreamHandler(screen)
    root.addHandler(handler)
    try:
        for rank in (0, 1):
            with rank_log(tmp_path, rank):
                agora.warning("slow %d", rank)
                agora.error("broken %d", rank)
        agora.warning("after")
    finally:
        root.removeHandler(handler)
    assert screen.getvalue().split("\n")[:-1] == ["slow 0", "broken 0", "broken 1", "after"]
    told = [(line["rank"], line["level"], line["what"]) for line in read_rank_logs(tmp_path) if line["what"] != "ended"]
    assert sorted(told) == [(0, "error", "broken 0"), (0, "warning", "slow 0"), (1, "error", "broken 1"), (1, "warning", "slow 1")]


def test_a_log_that_can_grow_no_more_is_named_once_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with rank_log(tmp_path, 0) as log:
        log.tell("before")
        with monkeypatch.context() as patch:
            patch.setattr("agora.files.os.write", full_after(10))
            for _ in range(3):
                log.tell("lost")
        log.tell("after")
    path = tmp_path / "logs" / "rank-00000.jsonl"
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: File too large; this log ends here and the run goes on (allow larger files (ulimit -f unlimited))"
    ]
    assert [line["what"] for line in read_rank_logs(tmp_path)] == ["before"] and path.read_text().count("\n") == 1


def test_an_error_is_the_last_line_and_a_cut_line_is_skipped(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lost"), rank_log(tmp_path, 3) as log:
        log.step = 7
        raise ValueError("lost")
    with (tmp_path / "logs" / "rank-00003.jsonl").open("a") as file:
        file.write('{"rank": 3, "ti')
    (line,) = read_rank_logs(tmp_path)
    assert (line["step"], line["what"], line["level"], line["error"]) == (7, "ended", "error", "ValueError: lost")
