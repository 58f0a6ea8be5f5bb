"""A dense model of the size of Llama 3 405B, for 100,352 H100. Sizes: Llama 3 report (Grattafiori et al. 2024), table 3; queries and keys
are normed, as in every network here."""

from __future__ import annotations

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def h100_100k() -> Recipe:
    """405.9B parameters; 30 trillion tokens.

    Tokens: 30e12 are 74 for each parameter. Steps: 30e12 / (12,544 rows x 8192) = 292,000. A batch of 103M tokens is large; a smaller one
    would leave stages of the pipeline idle. Compute: 6 x 406e9 x 30e12 = 7.3e25 FLOP; at a third of 100,352 x 989e12 FLOP/s: 26 days.
    Layout: a stage of eight layers over one node's links (tensor 8), 28 shards, 28 replicas of them, 16 passes of a row each; layers are
    recomputed. `agora train dryrun h100_100k --rank 50000` gives memory and messages of a rank. The rates are a start; nobody has tried
    them on this shape here.
    """
    return Recipe(
        name="h100_100k",
        purpose="a dense model of 405B on 100,352 H100",
        vocab_size=128_256,
        model=ModelConfig(
            vocab_size=128_256, dim=16_384, num_layers=126, num_heads=128, num_kv_heads=8, head_dim=128, hidden_dim=53_248,
            max_seq_len=8192, rope_theta=500_000.0, norm_eps=1e-5, tie_embeddings=False,
        ),
        accelerator="H100",
        layout=Layout(replicate=28, shard=28, tensor=8, pipeline=16, recompute="full"),
        training=TrainingConfig(
            steps=292_000, batch_tokens=12_544 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.007, decay=0.2),
            optimizer=OptimizerConfig(name="adamw", lr=8e-5, muon_lr=8e-5),
            evaluate_every=1000, evaluate_tokens=12_544 * 8192, checkpoint_every_s=180.0, keep=3,
        ),
        chat=TrainingConfig(
            steps=1000, batch_tokens=12_544 * 8192, micro_batch=1, seq_len=8192, schedule=ScheduleConfig(warmup=0.03, decay=0.97),
            optimizer=OptimizerConfig(name="adamw", lr=4e-6, muon_lr=4e-6),
            evaluate_every=100, evaluate_tokens=12_544 * 8192, checkpoint_every_s=180.0,
        ),
    )  # fmt: skip
