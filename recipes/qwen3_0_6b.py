"""The shape of Qwen3-0.6B, for a machine with one large GPU. Sizes: config.json of Qwen/Qwen3-0.6B on Hugging Face.

Weights of Qwen3-0.6B itself load with `agora.model.hf.load_hf`; this recipe trains its shape from nothing, or tunes it.
"""

from __future__ import annotations

from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def qwen3_0_6b() -> Recipe:
    """596M parameters, 12 billion tokens: 20 tokens for each parameter (Hoffmann et al. 2022, table 3). Four rows at a
    time fill half of an H100. The rates are a start; nobody has tried them on this shape here."""
    return Recipe(
        name="qwen3_0_6b",
        purpose="the shape of Qwen3-0.6B from nothing on one large GPU",
        vocab_size=151_936,
        accelerator="H100",
        model=ModelConfig(
            vocab_size=151_936, dim=1024, num_layers=28, num_heads=16, num_kv_heads=8, head_dim=128, hidden_dim=3072,
            max_seq_len=40_960, rope_theta=1_000_000.0, norm_eps=1e-6, tie_embeddings=True,
        ),
        training=TrainingConfig(
            steps=23_000, batch_tokens=524_288, micro_batch=4, seq_len=4096, schedule=ScheduleConfig(warmup=0.01, decay=0.2),
            optimizer=OptimizerConfig(lr=6e-4, muon_lr=6e-4),
            evaluate_every=250, evaluate_tokens=4_194_304, checkpoint_every_s=900.0, keep=3,
        ),
        chat=TrainingConfig(
            steps=1000, batch_tokens=131_072, micro_batch=4, seq_len=4096, schedule=ScheduleConfig(warmup=0.03, decay=0.97),
            optimizer=OptimizerConfig(lr=2e-5, muon_lr=2e-5),
            evaluate_every=100, evaluate_tokens=524_288, checkpoint_every_s=900.0,
        ),
    )  # fmt: skip
