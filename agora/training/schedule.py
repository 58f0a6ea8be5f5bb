"""The learning rate over a run: warm-up, stable, decay. Goes in: a step and the number of steps. Comes out: a factor of the peak rate.

The shape (a long stable part, then a short decay) follows Hu et al. 2024, MiniCPM, section 4; the `one_minus_sqrt` decay follows
Hagele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from agora.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Shape of the learning rate; what warm-up and decay leave runs at the peak rate.

    warmup       fraction of all steps
    decay        fraction of all steps
    final        factor of the peak rate at the end
    decay_shape  linear or one_minus_sqrt
    """

    warmup: float = 0.02
    decay: float = 0.4
    final: float = 0.0
    decay_shape: Literal["linear", "one_minus_sqrt"] = "linear"

    def __post_init__(self) -> None:
        for name in ("warmup", "decay", "final"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"schedule.{name}={value} must be a fraction between 0 and 1")
        if self.warmup + self.decay > 1.0:
            raise ConfigError(f"schedule.warmup={self.warmup} + schedule.decay={self.decay} exceed 1; the rest is the stable part")


def lr_scale(step: int, num_steps: int, config: ScheduleConfig) -> float:
    """Factor of the peak learning rate for step `step` (from 0) of `num_steps`; never above 1, above 0 while training."""
    assert 0 <= step < num_steps, (step, num_steps)
    num_warmup = math.ceil(config.warmup * num_steps)
    num_decay = math.ceil(config.decay * num_steps)
    if step < num_warmup:
        return (step + 1) / num_warmup
    steps_left = num_steps - step
    if steps_left > num_decay:
        return 1.0
    done = 1.0 - steps_left / (num_decay + 1)
    shape = 1.0 - done if config.decay_shape == "linear" else 1.0 - math.sqrt(done)
    return config.final + (1.0 - config.final) * shape
