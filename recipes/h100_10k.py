"""A mixture of the size of Grok-1, for 10,240 H100. Sizes: the open release of Grok-1 (xai-org/grok-1, run.py); queries and keys are
normed and the head has no soft cap, as in every network here."""

from __future__ import annotations

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def h100_10k() -> Recipe:
    """316B parameters, of which a token passes 84B; 12 trillion tokens.

    Parameters: experts 64 x 8 x 3 x 6144 x 32768 = 309.2e9, attention 64 x 2 x 6144 x (6144 + 1024) = 5.6e9, table 0.8e9.
    Tokens: 12e12 are 143 for each parameter that a token passes, seven times Hoffmann's 20, because the model will be asked more often
    than it is trained. Steps: 12e12 / (2560 rows x 8192) = 572,000.
    Compute: 6 x 84e9 x 12e12 = 6.0e24 FLOP; at a sixth of 10,240 x 989e12 FLOP/s that is 41 days. With failures, links and bubbles:
    `agora cluster plan Grok-1 accelerator=H100 num_accelerators=10240 tokens=12e12 seq_len=8192 batch_tokens=20971520`.
    Layout: experts lie 8 to a stage and rank group (one node: all-to-all stays on its links); 160 rows side by side, 16 passes each;
    five replicas of 32 shards, because the rows of an expert divide by 32 and not by 160.
    The rates are a start; nobody has tried them on this shape here.
    """
    return Recipe(
        name="h100_10k",
        purpose="a mixture of the size of Grok-1 (314B) on 10,240 H100",
        vocab_size=131_072,
        accelerator="H100",
        model=ModelConfig(
            vocab_size=131_072, dim=6144, num_layers=64, num_heads=48, num_kv_heads=8, head_dim=128, hidden_dim=32_768,
            max_seq_len=8192, rope_theta=10_000.0, norm_eps=1e-5, tie_embeddings=True,
            num_experts=8, experts_per_token=2, expert_dim=32_768,
        ),
        layout=Layout(
            replicate=5, shard=32, tensor=2, context=4, pipeline=8, virtual=8, schedule="interleaved", expert=8, recompute="selective",
        ),
        training=TrainingConfig(
            steps=572_000, batch_tokens=2560 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.004, decay=0.2),
            optimizer=OptimizerConfig(lr=1.5e-4, muon_lr=1.5e-4),
            evaluate_every=1000, evaluate_tokens=2560 * 8192, checkpoint_every_s=180.0, keep=3,
        ),
        chat=TrainingConfig(
            steps=4000, batch_tokens=2560 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.03, decay=0.97),
            optimizer=OptimizerConfig(lr=5e-6, muon_lr=5e-6),
            evaluate_every=200, evaluate_tokens=2560 * 8192, checkpoint_every_s=180.0,
        ),
    )  # fmt: skip
