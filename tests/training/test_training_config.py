"""TrainingConfig: what cannot work is refused with a remedy; the saved form round-trips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from agora.config import apply_overrides, load_config, save_config
from agora.errors import ConfigError
from agora.model.config import ModelConfig
from agora.training.config import DIVISION_KEYS, OPERATIONAL_KEYS, TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_tokens": 5000}, r"batch_tokens=5000 must be a multiple .* = 8 \* 512 = 4096; try training.batch_tokens=4096"),
        ({"steps": 0}, "training.steps=0 must be above 0"),
        ({"seq_len": 1}, "seq_len=1"),
        ({"grad_clip": 0.0}, "grad_clip"),
        ({"keep": 0}, "training.keep=0"),
        ({"checkpoint_every_s": 0.0}, "checkpoint_every_s"),
        ({"seed": -1}, "negative"),
    ],
)
def test_values_that_cannot_work_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**values)


@pytest.mark.parametrize(
    ("part", "area", "keys"),
    [
        (TrainingConfig, "training", ("grad_clip", "checkpoint_every_s", "watts_per_core")),
        (OptimizerConfig, "optimizer", ("lr", "muon_lr", "eps", "weight_decay", "momentum")),
        (ScheduleConfig, "schedule", ("warmup", "decay", "final")),
        (ModelConfig, "model", ("rope_theta", "norm_eps", "init_std")),
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_setting_is_infinite_or_not_a_number(part: type, area: str, keys: tuple[str, ...], value: float) -> None:
    for key in keys:
        with pytest.raises(ConfigError, match=rf"{area}\.{key}={value}"):
            part(**{key: value})


@pytest.mark.parametrize("key", ["lr", "muon_lr", "eps"])
def test_zero_rates_and_a_zero_divisor_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"optimizer\.{key}=0"):
        OptimizerConfig(**{key: 0.0})


def test_unknown_keys_are_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        apply_overrides(TrainingConfig(), {"stepps": 3}, "command line")
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        apply_overrides(TrainingConfig(), {"optimizer.lrr": 3}, "command line")


def test_saved_configuration_is_the_same(tmp_path: Path) -> None:
    config = TrainingConfig(steps=7, checkpoint_every_s=None, compile="off")
    save_config(config, tmp_path / "c.json")
    assert load_config(TrainingConfig, tmp_path / "c.json") == config


def test_operational_keys_exist() -> None:
    assert set(TrainingConfig.__dataclass_fields__) >= OPERATIONAL_KEYS | DIVISION_KEYS
