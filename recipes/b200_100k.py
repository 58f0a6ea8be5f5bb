"""A mixture of a trillion parameters, for 100,352 B200. The shape is Agora's own."""

from __future__ import annotations

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def b200_100k() -> Recipe:
    """1.004T parameters, of which a token passes 136B; 30 trillion tokens.

    Parameters: experts 64 x 64 x 3 x 8192 x 9856 = 992.1e9, attention 64 x 2 x 8192 x (8192 + 1024) = 9.7e9, tables 2.1e9.
    Tokens: 30e12 are 221 for each parameter that a token passes. Steps: 30e12 / (12,544 rows x 8192) = 292,000. A batch of 103M tokens is
    large; a smaller one leaves each of 100,352 GPUs with less than a row, and the links with all the work.
    Compute: 6 x 136e9 x 30e12 = 2.4e25 FLOP; at a sixth of 100,352 x 2.25e15 FLOP/s that is 7.5 days; `agora cluster plan`, given these
    sizes as model.dim=8192 and so on, adds failures, links and bubbles. Experts are wide because compute is plenty: at 8 of 384 narrow
    ones the same machine would run out of text before it ran out of days.
    Layout: what the planner's search found for this batch. Balance: a bias keeps 64 experts busy without a loss that competes with
    learning, so the weight of that loss is small (as DeepSeek-V3, 2024, section 2.1.2). The rates are a start; nobody has tried them on
    this shape here.
    """
    return Recipe(
        name="b200_100k",
        purpose="a mixture of a trillion parameters on 100,352 B200",
        vocab_size=131_072,
        accelerator="B200",
        model=ModelConfig(
            vocab_size=131_072, dim=8192, num_layers=64, num_heads=64, num_kv_heads=8, head_dim=128, hidden_dim=9856,
            max_seq_len=8192, rope_theta=500_000.0, norm_eps=1e-6, tie_embeddings=False,
            num_experts=64, experts_per_token=8, expert_dim=9856, balance_loss_weight=1e-4, balance_bias_rate=1e-3,
        ),
        layout=Layout(
            replicate=49, shard=32, sharding="optimizer", tensor=2, context=4, pipeline=8, virtual=8, schedule="interleaved", expert=16
        ),
        training=TrainingConfig(
            steps=292_000, batch_tokens=12_544 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.007, decay=0.2),
            optimizer=OptimizerConfig(lr=1.2e-4, muon_lr=1.2e-4),
            evaluate_every=1000, evaluate_tokens=12_544 * 8192, checkpoint_every_s=60.0, keep=3,
        ),
        chat=TrainingConfig(
            steps=1000, batch_tokens=12_544 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.03, decay=0.97),
            optimizer=OptimizerConfig(lr=5e-6, muon_lr=5e-6),
            evaluate_every=100, evaluate_tokens=12_544 * 8192, checkpoint_every_s=60.0,
        ),
    )  # fmt: skip
