"""The laws of benchmarks/planner_properties.py on fewer cases, and those of energy and money."""

from __future__ import annotations

import pytest

from agora.cluster.accelerator import accelerator, network
from agora.cluster.energy import clock_share, cost, node_power_w, power_draw
from benchmarks.planner_properties import check_law, laws


@pytest.mark.parametrize("name", laws())
def test_the_law_holds_on_random_cases(name: str) -> None:
    assert check_law(laws()[name], 40) >= 40


def test_a_busy_h100_node_draws_what_was_metered() -> None:
    assert 7750 <= node_power_w(accelerator("H100"), 0.93) <= 8480
    assert node_power_w(accelerator("H100"), 0.0) == pytest.approx(0.25 * 10_200)


def test_a_cap_slows_the_clock_by_less_than_it_saves() -> None:
    assert clock_share(1.0) == 1.0
    assert 0.7 < clock_share(0.7) < 1.0
    assert clock_share(0.5) < clock_share(0.8)


def test_costs_follow_time_and_given_prices() -> None:
    chip, net = accelerator("H100"), network("infiniband")
    draw = power_draw(chip, net, 1024, 0.9)
    hour = cost(chip, net, 1024, draw, 3600, rent_usd_per_h=2.0)
    assert hour.rent_usd == pytest.approx(2048)
    twice = cost(chip, net, 1024, draw, 7200, rent_usd_per_h=2.0)
    assert twice.own_usd is not None and hour.own_usd is not None and twice.own_usd == pytest.approx(2 * hour.own_usd)
    assert cost(accelerator("TPU-v4"), net, 8, draw, 3600).own_usd is None
