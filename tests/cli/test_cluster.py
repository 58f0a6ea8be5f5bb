"""The commands of the planner: JSON that programs read, words that people read, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agora.cli import app
from agora.errors import AgoraError

HEADER = (
    "run_id,accelerator,num_accelerators,layers,hidden,heads,seq_len,global_batch_seqs,micro_batch,tp,dp,pp,zero_stage,recompute,precision,"
    "step_time_s"
)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["cluster", *words])


def as_json(*words: str) -> dict[str, object]:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_plan_prints_words_and_json_with_the_same_figures(tmp_path: Path) -> None:
    words = ("plan", "Llama-3-8B", "num_accelerators=64", "tokens=1e12")
    table = as_json(*words)
    text = run(*words, "--explain", "--report", str(tmp_path / "plan.html"), "--trace", str(tmp_path / "step.json"))
    assert text.exit_code == 0
    assert table["layout_in_words"] in text.stdout and "Limit:" in text.stdout and "not covered:" in text.stdout
    assert "ml-engineering" in text.stdout, "--explain names sources"
    assert (tmp_path / "plan.html").read_text().startswith("<!doctype html>")
    assert json.loads((tmp_path / "step.json").read_text())["traceEvents"]


def test_compare_marks_what_nothing_beats() -> None:
    rows = as_json("compare", "Llama-3-8B", "num_accelerators=64", "--on", "H100", "--on", "V100", "--number", "64", "--number", "128")
    assert len(rows) == 4 and any(row.get("is_unbeaten") for row in rows.values())  # type: ignore[attr-defined]


def test_what_if_grow_afford_and_known_answer() -> None:
    assert len(as_json("what-if", "Llama-3-8B", "num_accelerators=64")) == 8
    assert as_json("grow", "Llama-3-8B", "num_accelerators=64", "--to", "128")["survives"]
    assert as_json("afford", "num_accelerators=64", "--days", "30")["sizes"]
    known = as_json("known")
    assert "H100" in known["accelerators"] and "million" in known["questions"]  # type: ignore[operator]
    assert "TFLOP/s" in run("known", "--accelerator", "GB200").stdout


def test_validate_fails_when_a_bound_is_exceeded(tmp_path: Path) -> None:
    assert run("validate").exit_code == 0
    (tmp_path / "runs.csv").write_text(f"{HEADER}\na,H100,8,32,4096,32,2048,64,1,1,8,1,3,none,bf16,1000.0\n")
    result = run("validate", str(tmp_path / "runs.csv"), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["all"]["holds"] is False


def test_calibrate_writes_constants_that_plan_reads(tmp_path: Path) -> None:
    rows = [f"r{n},H100,8,32,4096,32,2048,{16 * n},2,1,8,1,3,full,bf16,{0.9 * n}" for n in range(1, 9)]
    (tmp_path / "steps.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    found = as_json("calibrate", str(tmp_path / "steps.csv"), "--out", str(tmp_path / "mine.json"))
    assert found["rows"] == 8
    table = as_json("plan", "Llama-3-8B", "num_accelerators=8", "seq_len=2048", "--calibration", str(tmp_path / "mine.json"))
    shipped = as_json("plan", "Llama-3-8B", "num_accelerators=8", "seq_len=2048")
    assert table["step_s"] != shipped["step_s"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("plan", "Llama-3-40B"), "the nearest is"),
        (("plan", "accelerator=H10"), "the nearest is"),
        (("plan", "Llama-3-405B", "num_accelerators=8"), "nothing fits"),
        (("plan", "layout.tensor=7", "num_accelerators=7"), "the nearest possible is tensor=8"),
        (("plan", "power_kap=0.5"), "did you mean 'power_cap'"),
        (("compare", "--on", "H999"), "unknown accelerator"),
    ],
)
def test_wrong_questions_are_usage_errors_with_the_nearest(words: tuple[str, ...], reason: str) -> None:
    result = run(*words)
    assert isinstance(result.exception, AgoraError) and result.exception.exit_code == 2
    assert reason in str(result.exception)
