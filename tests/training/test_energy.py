"""Energy: measured where it can be, otherwise an estimate that says so."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agora.training.energy import EnergyMeter


def package(folder: Path, energy_uj: int) -> Path:
    path = folder / "intel-rapl:0"
    path.mkdir(exist_ok=True)
    (path / "max_energy_range_uj").write_text("1000000\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    return path


def test_measured_joules_survive_the_counter_wrapping(tmp_path: Path) -> None:
    package(tmp_path, 900_000)
    meter = EnergyMeter(powercap=tmp_path)
    package(tmp_path, 950_000)
    assert meter.read().joules == pytest.approx(0.05)
    package(tmp_path, 100_000)
    reading = meter.read()
    assert reading.joules == pytest.approx(0.2) and reading.measured and "RAPL" in reading.source


def test_of_several_processes_of_a_host_one_counts_its_processors(tmp_path: Path) -> None:
    package(tmp_path, 100_000)
    first, second = (EnergyMeter(powercap=tmp_path, is_first_of_host=is_first) for is_first in (True, False))
    package(tmp_path, 200_000)
    assert first.read().joules == pytest.approx(0.1) and second.read().joules == 0.0 and second.read().measured


def test_without_a_counter_the_estimate_states_its_assumption(tmp_path: Path) -> None:
    meter = EnergyMeter(watts_per_core=10.0, powercap=tmp_path)
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    reading = meter.read()
    assert not reading.measured and "ESTIMATED" in reading.source and "10 W per busy core" in reading.source
    assert 0.3 < reading.joules < 100
