"""The smallest model worth talking to: pretraining and chat tuning together in 3 to 4 minutes on 2 processor cores."""

from __future__ import annotations

from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def demo() -> Recipe:
    """For `make demo`: every stage of the road, quickly."""
    return Recipe(
        name="demo",
        purpose="every stage of the road in a few minutes on 2 cores",
        vocab_size=4096,
        model=ModelConfig(
            vocab_size=4096, dim=192, num_layers=6, num_heads=3, num_kv_heads=1, head_dim=64, hidden_dim=512, max_seq_len=512
        ),
        training=TrainingConfig(
            steps=350, batch_tokens=8192, micro_batch=32, seq_len=256, schedule=ScheduleConfig(warmup=0.04, decay=0.5),
            evaluate_every=50, evaluate_tokens=32768,
        ),
        chat=TrainingConfig(
            steps=80, batch_tokens=8192, micro_batch=32, seq_len=256, schedule=ScheduleConfig(warmup=0.05, decay=0.95),
            optimizer=OptimizerConfig(lr=1e-3, muon_lr=2e-3),
            evaluate_every=40, evaluate_tokens=32768,
        ),
    )  # fmt: skip
