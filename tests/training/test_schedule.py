"""The learning rate: golden values, bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import ConfigError
from agora.training.schedule import ScheduleConfig, lr_scale


def test_golden_values_of_a_linear_decay() -> None:
    config = ScheduleConfig(warmup=0.2, decay=0.4)
    assert [round(lr_scale(step, 10, config), 6) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]


def test_golden_values_of_a_square_root_decay_to_a_floor() -> None:
    config = ScheduleConfig(warmup=0.0, decay=0.5, final=0.1, decay_shape="one_minus_sqrt")
    assert [round(lr_scale(step, 6, config), 6) for step in range(6)] == [1, 1, 1, 0.55, 0.363604, 0.220577]


@given(st.integers(1, 300), st.floats(0, 0.5), st.floats(0, 0.5), st.floats(0, 1), st.sampled_from(["linear", "one_minus_sqrt"]))
def test_rate_rises_then_falls_and_stays_within_bounds(steps: int, warmup: float, decay: float, final: float, shape: str) -> None:
    config = ScheduleConfig(warmup=warmup, decay=decay, final=final, decay_shape=shape)  # type: ignore[arg-type]
    values = [lr_scale(step, steps, config) for step in range(steps)]
    assert all(0 < value <= 1 for value in values)
    peak = values.index(max(values))
    assert values[: peak + 1] == sorted(values[: peak + 1]) and values[peak:] == sorted(values[peak:], reverse=True)


@pytest.mark.parametrize("values", [{"warmup": 1.5}, {"decay": -0.1}, {"warmup": 0.6, "decay": 0.6}])
def test_impossible_fractions_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="schedule"):
        ScheduleConfig(**values)
