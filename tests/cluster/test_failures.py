from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.cluster.failure_simulation import simulate_elastic_goodput, simulate_goodput
from agora.cluster.failures import (
    FailureModel,
    availability,
    best_interval_s,
    elastic_goodput,
    failure_model,
    goodput,
    interruption_rate,
    spare_nodes,
    with_spares,
)

BYTES = 405.9e9 * 14


def model(number: int = 16_384, **changes: float) -> FailureModel:
    return replace(failure_model(num_accelerators=number, checkpoint_bytes=BYTES, accelerators_per_node=8), **changes)


@pytest.mark.parametrize("number", [1_024, 16_384, 100_352])
@pytest.mark.parametrize(("stall_s", "write_s", "restart_s"), [(0.5, 3.0, 420.0), (10.0, 30.0, 60.0), (60.0, 60.0, 900.0)])
def test_the_formula_agrees_with_the_simulation(number: int, stall_s: float, write_s: float, restart_s: float) -> None:
    case = model(number, stall_s=stall_s, write_s=write_s, restart_s=restart_s)
    interval = best_interval_s(case)
    played = simulate_goodput(case, interval, num_failures=20_000, seed=3)
    # 20,000 exponential lives leave a standard error of about 0.3 points where restarts dominate
    assert float(goodput(case, interval)) == pytest.approx(played, abs=0.01)


def test_losing_one_replica_agrees_with_its_simulation() -> None:
    case = model(100_352)
    played = simulate_elastic_goodput(case, 1024, 600.0, 5.0, 60.0, num_failures=20_000, seed=3)
    assert float(elastic_goodput(case, 1024, 600.0, 5.0, 60.0)) == pytest.approx(played, abs=0.002)


@given(st.floats(0.1, 300), st.integers(64, 300_000), st.floats(0.3, 3))
def test_no_other_interval_beats_the_best(stall_s: float, number: int, stretch: float) -> None:
    case = model(number, stall_s=stall_s, write_s=stall_s)
    best = best_interval_s(case)
    if best > case.write_s:
        assert float(goodput(case, best)) >= float(goodput(case, max(best * stretch, case.write_s))) - 1e-12


def test_young_and_daly_come_near_the_best_where_failures_are_rare() -> None:
    case = model(1_024, stall_s=10.0)
    best, d, m = best_interval_s(case), case.stall_s, case.mean_time_s
    young = math.sqrt(2 * d * m)  # Young 1974
    assert young == pytest.approx(best, rel=0.02)
    # Daly 2006, equation 37
    assert young * (1 + math.sqrt(d / (2 * m)) / 3 + d / (2 * m) / 9) - d == pytest.approx(best, rel=0.001)
    # the loss to first order: checkpoints, half an interval for each failure, restarts
    assert 1 - (d / best + best / (2 * m) + case.restart_s / m) == pytest.approx(float(goodput(case, best)), abs=0.002)


def test_fewer_failures_more_spares_and_quicker_restarts_never_hurt() -> None:
    case = model(32_768)
    base = float(goodput(case, 300.0))
    assert float(goodput(replace(case, rate_per_accelerator_s=case.rate_per_accelerator_s / 2), 300.0)) > base
    assert float(goodput(replace(case, restart_s=case.restart_s / 2), 300.0)) > base
    assert availability(with_spares(case, case.num_spare_nodes + 5)) >= availability(case)


def test_spares_are_the_fewest_that_hold_the_wait() -> None:
    case = model(16_384)
    needed = spare_nodes(case, waiting=1e-3)
    assert 1 - availability(with_spares(case, needed)) < 1e-3
    assert needed == 0 or 1 - availability(with_spares(case, needed - 1)) >= 1e-3


def test_a_million_accelerators_cannot_restart_as_a_whole() -> None:
    case = model(1_000_000)
    assert 150 < case.mean_time_s < 210
    assert float(goodput(case, best_interval_s(case))) < 0.2
    # all replicas hang for the minute in which a failure is noticed, every three minutes of work
    assert float(elastic_goodput(case, 8_000, 600.0, 5.0, 60.0)) == pytest.approx(0.71, abs=0.03)
    assert float(elastic_goodput(case, 8_000, 600.0, 5.0, 5.0)) > 0.85


def test_rates_are_those_of_the_llama_3_report() -> None:
    assert math.isclose(interruption_rate() * 86_400 * 16_384 * 54, 419, rel_tol=0.01)


def test_the_same_seed_gives_the_same_simulation() -> None:
    case = model()
    assert simulate_goodput(case, 300.0, num_failures=500, seed=1) == simulate_goodput(case, 300.0, num_failures=500, seed=1)
    assert simulate_goodput(case, 300.0, num_failures=500, seed=1) != simulate_goodput(case, 300.0, num_failures=500, seed=2)
