"""Options of the benchmarks are checked before any work, and the bars are those of the bound."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.__main__ import main, names
from benchmarks.bits_per_byte import is_met
from benchmarks.muon_vs_adamw import FULL, Text, at_edge, compare
from benchmarks.speed_measure import BATCH, LENGTH, SMALL, Times, flops_per_token, share_of_limit


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kill_resume", "--kills", "0"], "--kills '0' must be a whole number of at least 1"),
        (["kill_resume", "--kills", "many"], "--kills 'many' must be"),
        (["kill_resume", "--stages", "training", "dance"], "--stages 'dance' is not one of import, corpus"),
        (["kill_resume", "--seed", "1.5"], "--seed '1.5' must be a whole number"),
        (["corpus_speed", "--posts", "many"], "--posts 'many' must be a whole number"),
        (["corpus_speed", "--keep"], "--keep needs a value"),
        (["corpus_speed", "--kepe", "x"], "unknown option --kepe; this benchmark takes --posts, --keep"),
        (["integrity_simulated", "--squares", "0"], "--squares '0' must be a whole number of at least 1"),
        (["integrity_organic", "--squares", "few"], "--squares 'few' must be"),
        (["integrity_calibration", "--runs", "-1"], "--runs '-1' must be"),
        (["integrity_speed", "--posts", "9"], "--posts '9' must be a whole number of at least 10000"),
        (["integrity_memory", "--posts", "all"], "--posts 'all' must be"),
        (["integrity_real", "--posts", "a.parquet"], "--posts needs --truth COLUMN"),
        (["integrity_real", "--truth", "is_bad"], "--truth 'is_bad' goes with --posts FILES"),
        (["integrity_real", "--posts", "nowhere.parquet", "--truth", "is_bad"], "--posts nowhere.parquet is not a file"),
        (["integrity_real", "--data", "nowhere"], "does not exist; give the folder of the data with --data"),
        (["parity", "--suite", "now"], "unexpected word 'now'"),
        (["cli_start", "fast"], "unexpected word 'fast'"),
        (["bits_per_byte", "--data", "nowhere"], "does not exist; give the folder of the data with --data"),
        (["import_raw", "--data", "nowhere"], "does not exist; give the folder of the data with --data"),
    ],
)
def test_wrong_options_are_one_clear_line_and_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_steps_are_checked_once_the_data_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("posts/ordinary_archives.parquet", "text/books_public_domain.parquet"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert main(["bits_per_byte", "--data", str(tmp_path), "--steps", "-3"]) == 2
    assert "--steps '-3' must be" in capsys.readouterr().err


def test_list_has_two_lines_for_each_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[::2]] == names()
    assert all(line.startswith("    ") for line in lines[1::2])


def test_bits_per_byte_holds_only_with_its_size_and_time() -> None:
    assert is_met(0.3, 10_500_000, 25)
    assert not is_met(0.2, 10_500_000, 25) and not is_met(0.3, 2_000_000, 1) and not is_met(0.3, 10_500_000, 31)


def test_share_is_of_the_best_limit_of_the_run() -> None:
    needed = BATCH * LENGTH * flops_per_token(SMALL, LENGTH)
    assert share_of_limit(Times([1.0, 1.0]), [needed, 4 * needed], SMALL) == pytest.approx(0.25)


@pytest.mark.parametrize(("best", "holds"), [(1e-3, True), (5e-4, False)])
def test_muon_is_compared_with_the_best_of_all_rates_on_every_seed(monkeypatch: pytest.MonkeyPatch, best: float, holds: bool) -> None:
    def fake(plan: Any, text: Any, name: str, rate: float, seed: int, share: float) -> dict[str, Any]:
        loss = 2.0 + abs(rate - best) if name == "adamw" else 2.5 - share + abs(rate - 2e-2)
        return {"optimizer": name, "rate": rate, "seed": seed, "share": share, "final_loss": loss}

    monkeypatch.setattr("benchmarks.muon_vs_adamw.train", fake)
    empty = np.zeros(0, dtype=np.uint8)
    result = compare(FULL, Text(empty, empty, "none"), lambda run: None)
    assert result.holds is holds and result.value == 0.5
    swept = {(run["optimizer"], run["rate"], run["seed"]) for run in result.details["runs"]}
    assert len(swept) == 3 * (len(FULL.adamw_rates) + len(FULL.muon_rates))
    assert not at_edge(4e-3, (4e-3,))
