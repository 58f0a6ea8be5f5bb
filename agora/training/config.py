"""How a model is trained, as one frozen value. Comes out: a checked `TrainingConfig`; the resolved one is saved in the run folder.

Change a value with `dataclasses.replace` or, on the command line, `training.steps=500`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

from agora.errors import ConfigError
from agora.training.checkpoint_url import check_url
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig

# Keys that change how a run is watched and kept, and not one bit of its weights: a resumed run may change them.
# What is done when a step goes wrong may change too: what was decided before is in the run folder and stays.
OPERATIONAL_KEYS: Final = frozenset({
    "checkpoint_every_steps", "checkpoint_every_s", "keep", "keep_every_steps", "tensorboard", "watts_per_core", "on_nan", "on_spike",
    "spike_deviations", "max_roll_backs", "hang_timeout_s", "stragglers_every", "verify_every",
})  # fmt: skip

# How the rows of a step are cut into passes: the same rows in the same order, sums added up in another order. A resumed run may change it,
# as it may change its layout, so that it can go on with more processes than a step had passes.
DIVISION_KEYS: Final = frozenset({"micro_batch"})


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingConfig:
    """Every setting of a run. Raises ConfigError for values that cannot work together.

    steps                   optimizer steps of the whole run
    batch_tokens            tokens per optimizer step: batch_tokens / (micro_batch * seq_len) micro-batches are accumulated
    micro_batch             rows that go through the model at once; a resumed run may change it
    seq_len                 tokens per row
    schedule                shape of the learning rate, see ScheduleConfig
    optimizer               see OptimizerConfig
    grad_clip               largest norm of the gradient
    seed                    first weights and order of the data
    dtype                   number format of the products; auto takes bfloat16 where it is quick
    device                  cpu, cuda or mps; auto takes what is there
    compile                 torch.compile; auto only where the run outlasts the compilation and no kernel of ours is quicker
    float8                  rounding of the products to 8 bits: tensorwise or rowwise where the GPU can (extra: float8)
    document_aware          documents packed into one row do not see each other
    evaluate_every          steps between held-out losses; 0 for none
    evaluate_tokens         held-out tokens of each
    checkpoint_every_steps  steps between checkpoints, or none
    checkpoint_every_s      seconds between checkpoints, or none
    checkpoint_url          where checkpoints lie, e.g. s3://bucket/path (extra: objects); none for the run's folder
    keep                    whole checkpoints kept, the newest
    keep_every_steps        besides, checkpoints of steps that are a multiple of this are kept for good; none for no others
    tensorboard             write TensorBoard files too (extra: reports)
    on_nan                  after a step whose loss or gradient is no number: stop; skip the batch; roll_back to the last checkpoint and
                            skip the batches since
    on_spike                after a step whose loss or gradient norm is far above those before: warn only, or as on_nan
    spike_deviations        how far: robust standard deviations above the median of the last steps
    max_roll_backs          how often a run may go back before it stops
    hang_timeout_s          seconds in which nothing moves after which the processes that do not answer are named and all end, or none
    stragglers_every        steps between comparisons of the processes' own time; 0 for none
    verify_every            steps between comparisons of replicas, which compute the same micro-batch again; 0 for none
    watts_per_core          assumption of the energy estimate where nothing measures; none takes the documented default
    """

    steps: int = 1000
    batch_tokens: int = 8192
    micro_batch: int = 8
    seq_len: int = 512
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    grad_clip: float = 1.0
    seed: int = 0
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    device: str = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    float8: Literal["off", "tensorwise", "rowwise"] = "off"
    document_aware: bool = True
    evaluate_every: int = 100
    evaluate_tokens: int = 65536
    checkpoint_every_steps: int | None = None
    checkpoint_every_s: float | None = 60.0
    checkpoint_url: str | None = None
    keep: int = 2
    keep_every_steps: int | None = None
    tensorboard: bool = False
    on_nan: Literal["stop", "skip", "roll_back"] = "stop"
    on_spike: Literal["warn", "stop", "skip", "roll_back"] = "warn"
    spike_deviations: float = 7.0
    max_roll_backs: int = 5
    hang_timeout_s: float | None = 600.0
    stragglers_every: int = 50
    verify_every: int = 0
    watts_per_core: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "batch_tokens", "micro_batch", "keep"):
            _require_positive(name, getattr(self, name))
        if self.checkpoint_url is not None:
            check_url(self.checkpoint_url)
        if self.seq_len < 2:
            raise ConfigError(f"training.seq_len={self.seq_len} must be at least 2: a row predicts each next token")
        row_tokens = self.micro_batch * self.seq_len
        if self.batch_tokens % row_tokens:
            nearest = max(row_tokens, round(self.batch_tokens / row_tokens) * row_tokens)
            raise ConfigError(
                f"training.batch_tokens={self.batch_tokens} must be a multiple of training.micro_batch * training.seq_len "
                f"= {self.micro_batch} * {self.seq_len} = {row_tokens}; try training.batch_tokens={nearest}"
            )
        if not 0 < self.grad_clip < math.inf:
            raise ConfigError(f"training.grad_clip={self.grad_clip} must be a number above 0; a large value (1e9) switches clipping off")
        if self.evaluate_every < 0 or self.evaluate_tokens < 0 or self.seed < 0:
            raise ConfigError("training.evaluate_every, training.evaluate_tokens and training.seed must not be negative")
        for name in ("max_roll_backs", "stragglers_every", "verify_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"training.{name}={getattr(self, name)} must not be negative")
        _require_positive("spike_deviations", self.spike_deviations)
        for name in ("checkpoint_every_steps", "checkpoint_every_s", "keep_every_steps", "watts_per_core", "hang_timeout_s"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))

    @property
    def num_micro_batches(self) -> int:
        """Micro-batches accumulated into one optimizer step."""
        return self.batch_tokens // (self.micro_batch * self.seq_len)

    @property
    def num_tokens(self) -> int:
        """Token positions of the whole run."""
        return self.steps * self.batch_tokens


def _require_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ConfigError(f"training.{name}={value} must be above 0 and not infinite")
