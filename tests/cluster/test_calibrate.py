from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agora.cluster.calibrate import (
    calibrate,
    cross_validate,
    default_calibration,
    fit_constants,
    fit_published,
    group_weights,
    interval_of,
    load_calibration,
    predict_s,
    save_calibration,
    student_quantile,
    take_runs,
)
from agora.cluster.constants import default_constants, to_logs
from agora.cluster.facts import load_tables
from agora.cluster.runs import Run, read_runs, run_columns
from agora.cluster.validate import compare_runs, history, is_by_hand
from agora.errors import DataError
from benchmarks.planner_order import contradicting, order
from benchmarks.planner_runs import coverage, published, summary

COLUMNS = (
    "run_id",
    "source",
    "accelerator",
    "model_name",
    "params_b",
    "layers",
    "hidden",
    "heads",
    "ffn",
    "vocab",
    "seq_len",
    "global_batch_seqs",
    "micro_batch",
    "tp",
    "dp",
    "pp",
    "zero_stage",
    "recompute",
    "precision",
    "step_time_s",
)


def write_runs(path: Path, number: int = 24) -> None:
    """Made-up measurements: the planner's own prediction under other constants, with 3% of noise."""
    draw = np.random.default_rng(0)
    rows = []
    for row in range(number):
        tensor, pipeline, micro = int(2 ** draw.integers(0, 3)), int(2 ** draw.integers(0, 2)), int(2 ** draw.integers(0, 3))
        rows.append(
            {
                "run_id": f"r{row}",
                "source": f"s{row % 4}",
                "accelerator": "A100-80",
                "model_name": "made up",
                "params_b": 1.3,
                "layers": 24,
                "hidden": 2048,
                "heads": 16,
                "ffn": 8192,
                "vocab": 50304,
                "seq_len": 2048,
                "global_batch_seqs": 16 * micro * 4,
                "micro_batch": micro,
                "tp": tensor,
                "dp": 4,
                "pp": pipeline,
                "zero_stage": 1,
                "recompute": "full",
                "precision": "bf16",
                "step_time_s": 1.0,
            }
        )
    _write(path, rows)
    truth = replace(default_constants(), matmul=0.6, step_s=0.05, up=0.4)
    seconds = predict_s(run_columns(read_runs(path)), truth) * np.exp(0.03 * draw.standard_normal(number))
    _write(path, [{**row, "step_time_s": second} for row, second in zip(rows, seconds, strict=True)])


def _write(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    write_runs(tmp_path / "runs.csv")
    return read_runs(tmp_path / "runs.csv")


def test_the_fit_finds_constants_that_explain_made_up_runs(runs: list[Run]) -> None:
    columns = run_columns(runs)
    before = summary(predict_s(columns, default_constants()) / columns.step_time_s)
    after = summary(predict_s(columns, fit_constants(columns)) / columns.step_time_s)
    assert before["median"] > 0.15 and after["median"] < 0.04


def test_few_rows_leave_constants_that_they_say_nothing_about(runs: list[Run]) -> None:
    constants = fit_constants(take_runs(run_columns(runs), np.arange(5)), start=default_constants())
    assert constants.experts == pytest.approx(default_constants().experts, rel=1e-6)
    assert constants.rate_4 == pytest.approx(default_constants().rate_4, rel=1e-6)


def test_held_out_rows_are_predicted_without_themselves(runs: list[Run]) -> None:
    spoiled = [replace(run, step_time_s=run.step_time_s * 100) if run.source == "s0" else run for run in runs]
    key = [run.source == "s0" for run in runs]
    clean, dirty = (cross_validate(some, lambda run: run.source) for some in (runs, spoiled))
    assert np.allclose(clean[key], dirty[key])


def test_a_calibration_survives_its_file(runs: list[Run], tmp_path: Path) -> None:
    found = calibrate(runs)
    save_calibration(found, tmp_path / "mine.json")
    assert load_calibration(tmp_path / "mine.json") == found
    dense, experts = found.intervals["source"]
    assert dense == experts and dense.low < 1 < dense.high and found.median_error is not None and found.median_error < 0.05


def test_intervals_hold_their_share_and_are_wider_for_fewer_rows() -> None:
    draw = np.random.default_rng(0)
    ratios = np.exp(0.1 * draw.standard_normal(4000))
    narrow = interval_of(ratios)
    assert np.mean((ratios >= narrow.low) & (ratios <= narrow.high)) == pytest.approx(0.8, abs=0.02)
    assert narrow.around(2.0) == (2 * narrow.low, 2 * narrow.high)
    for few in (5, 10, 20):
        found = [interval_of(np.exp(0.1 * draw.standard_normal(few))) for _ in range(300)]
        assert 0.79 < np.mean([np.mean((ratios >= one.low) & (ratios <= one.high)) for one in found]) < 0.92, few


def test_intervals_hold_for_a_group_that_was_not_seen() -> None:
    """Rows that share an error with their group are fewer than they look."""
    draw = np.random.default_rng(1)
    held = []
    for _ in range(300):
        errors = 0.2 * draw.standard_normal((6, 1)) + 0.05 * draw.standard_normal((6, 20))
        interval = interval_of(np.exp(errors[:5].ravel()), np.repeat(np.arange(5), 20).tolist())
        held.append(np.mean((np.exp(errors[5]) >= interval.low) & (np.exp(errors[5]) <= interval.high)))
    assert np.mean(held) == pytest.approx(0.8, abs=0.05)


def test_student_quantiles_are_those_of_the_tables() -> None:
    assert [student_quantile(0.9, freedom) for freedom in (1, 2, 4, 10)] == pytest.approx([3.078, 1.886, 1.533, 1.372], abs=0.002)


def test_what_was_never_measured_has_a_wider_interval() -> None:
    shipped = default_calibration()
    known = shipped.interval(False, "H100", shipped.sources[0])
    for other in (shipped.interval(False, "TPU-v5p", shipped.sources[0]), shipped.interval(False, "H100")):
        assert other.low <= known.low < known.high <= other.high and other != known


def test_rows_of_one_model_count_together(runs: list[Run]) -> None:
    assert group_weights(runs).sum() == pytest.approx(1)
    columns = run_columns(runs)
    alone = fit_constants(columns, row_weights=group_weights(runs))
    assert abs(np.log(alone.matmul / 0.9)) < abs(np.log(fit_constants(columns).matmul / 0.9)), "one model moves less than its rows would"


def test_too_few_or_broken_runs_are_refused(runs: list[Run], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 measured steps are too few"):
        calibrate(runs[:4])
    with pytest.raises(DataError, match="cannot be read"):
        read_runs(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("run_id\n")
    with pytest.raises(DataError, match="holds no row"):
        read_runs(tmp_path / "empty.csv")
    (tmp_path / "short.csv").write_text("run_id,hidden\na,12\n")
    with pytest.raises(DataError, match="line 2: lacks the column"):
        read_runs(tmp_path / "short.csv")
    (tmp_path / "table.parquet").write_bytes(b"PAR1\xff\x00PAR1")
    with pytest.raises(DataError, match="cannot be read as CSV"):
        read_runs(tmp_path / "table.parquet")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(DataError, match="is no calibration"):
        load_calibration(tmp_path / "no.json")


def test_history_holds() -> None:
    failed = [check.name for check in history(default_calibration()) if check.is_bar and not check.holds]
    assert not failed


def test_deepseek_v3_with_its_own_stack_is_priced_near_what_it_took() -> None:
    checks = {check.name: check for check in history(default_calibration())}
    assert checks["DeepSeek V3: accelerator-hours"].holds


def test_known_runs_show_their_spread_and_follow_one_rule() -> None:
    assert [name for name, table in load_tables("history").items() if is_by_hand(table)] == ["BLOOM 176B"]
    for check in history(default_calibration()):
        if "accelerator-hours" in check.name:
            assert re.search(r"[0-9,]+-[0-9,]+ over what else may have been: .", check.assumption)


def test_rows_come_back_with_prediction_and_interval(runs: list[Run]) -> None:
    found = compare_runs(runs, default_calibration())
    assert len(found.rows) == len(runs)
    assert all(row["low_s"] < row["predicted_s"] < row["high_s"] for row in found.rows)


def test_coverage_and_order_of_a_perfect_prediction(runs: list[Run]) -> None:
    measured = np.array([run.step_time_s for run in runs])
    assert coverage([*runs, *(replace(run, shape=replace(run.shape, name="other")) for run in runs)], np.ones(48), "model") == 1.0
    found = order(runs, measured, measured, lambda run: run.accelerator)
    assert found["spearman"] == pytest.approx(1) and found["loss_max"] == 0


def test_measuring_more_of_the_first_layouts_loses_less(runs: list[Run]) -> None:
    measured = np.array([run.step_time_s for run in runs])
    wrong = 1 / measured
    assert order(runs, wrong, measured, lambda run: run.accelerator)["loss_max"] == pytest.approx(measured.max() / measured.min() - 1)
    assert order(runs, wrong, measured, lambda run: run.accelerator, num_measured=len(runs))["loss_max"] == 0


def test_rows_where_twice_the_work_took_less_time_contradict_each_other(runs: list[Run]) -> None:
    once = replace(runs[0], layout=replace(runs[0].layout, micro_batch=1), global_batch=16)
    twice, other = replace(once, layout=replace(once.layout, micro_batch=2), global_batch=32), replace(once, global_batch=32)
    assert contradicting([once, twice, other], np.array([1.0, 0.9, 0.5])).tolist() == [True, True, False]
    assert not contradicting([once, twice, other], np.array([1.0, 1.9, 1.9])).any()


@pytest.mark.shared
def test_public_files_are_read_whole(shared_data: Path) -> None:
    published, steps = read_runs(shared_data / "published_runs.csv"), read_runs(shared_data / "a100_single_node_steps.csv")
    assert (len(published), len(steps)) == (229, 1440)
    assert {run.model for run in published} >= {"Llama-3-405B", "DeepSeek-V3", "Qwen3-30B-A3B", "GPT-OSS-120B", "MPT-7b"}
    assert all(run.layout.sharding == "none" and run.layout.attention == "plain" for run in steps)


@pytest.mark.shared
@pytest.mark.slow
def test_the_shipped_calibration_is_the_fit_of_the_published_runs(shared_data: Path) -> None:
    again, shipped = fit_published(read_runs(shared_data / "published_runs.csv")), default_calibration()
    assert to_logs(again.constants) == pytest.approx(to_logs(shipped.constants), abs=0.01)
    ends = np.array([[(one.low, one.high) for pair in each.intervals.values() for one in pair] for each in (again, shipped)])
    assert ends[0] == pytest.approx(ends[1], rel=0.01)
    assert again.median_error == pytest.approx(shipped.median_error, rel=0.01)
    assert (again.num_rows, again.sources, again.accelerators) == (shipped.num_rows, shipped.sources, shipped.accelerators)


def test_a_file_of_one_table_is_judged_by_the_stated_interval(runs: list[Run]) -> None:
    details = published([replace(run, table="one") for run in runs[:8]], is_public=False, quick=True)
    assert json.loads(json.dumps(details, allow_nan=False))["inside_80_percent_interval"] == details["shipped"]["inside_interval"]


@pytest.mark.shared
def test_single_node_steps_are_met_after_forty_of_them(shared_data: Path) -> None:
    runs = read_runs(shared_data / "a100_single_node_steps.csv")
    columns = run_columns(runs)
    chosen = np.random.default_rng(7).choice(len(runs), 40, replace=False)
    found = summary(predict_s(columns, fit_constants(take_runs(columns, chosen))) / columns.step_time_s)
    assert found["median"] < 0.09 and found["p90"] < 0.25
