"""The shape of Qwen3-30B-A3B, for one node of 8 GPUs with 141 GB. Sizes: config.json of Qwen/Qwen3-30B-A3B on Hugging Face.

Its own weights load with `agora.model.hf.load_hf`; this recipe trains the shape from nothing.
"""

from __future__ import annotations

from agora.cluster.layout import Layout
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe


def gpu8() -> Recipe:
    """30.5B parameters, of which a token passes 3.35B; 67 billion tokens.

    Tokens: 20 for each parameter that a token passes (Hoffmann et al. 2022, table 3, for dense models): 20 x 3.35e9 = 67e9, which are
    32,000 steps of 2^21. Memory: 18 bytes of state for each parameter over 8 GPUs, 30.5e9 x 18 / 8 = 69e9 bytes.
    `agora cluster plan Qwen3-30B-A3B accelerator=H200 num_accelerators=8 tokens=67e9 seq_len=4096 batch_tokens=2097152`
    prices it. The rates are a start; nobody has tried them here.
    """
    return Recipe(
        name="gpu8",
        purpose="the shape of Qwen3-30B-A3B from nothing on 8 GPUs of 141 GB",
        vocab_size=151_936,
        accelerator="H200",
        model=ModelConfig(
            vocab_size=151_936, dim=2048, num_layers=48, num_heads=32, num_kv_heads=4, head_dim=128, hidden_dim=6144,
            max_seq_len=40_960, rope_theta=1_000_000.0, norm_eps=1e-6, tie_embeddings=False,
            num_experts=128, experts_per_token=8, expert_dim=768,
        ),
        layout=Layout(shard=8, expert=8, recompute="selective"),
        training=TrainingConfig(
            steps=32_000, batch_tokens=2**21, micro_batch=2, seq_len=4096, schedule=ScheduleConfig(warmup=0.01, decay=0.2),
            optimizer=OptimizerConfig(lr=4e-4, muon_lr=4e-4),
            evaluate_every=500, evaluate_tokens=4_194_304, checkpoint_every_s=1800.0, keep=3,
        ),
        chat=TrainingConfig(
            steps=1000, batch_tokens=2**18, micro_batch=2, seq_len=4096, schedule=ScheduleConfig(warmup=0.03, decay=0.97),
            optimizer=OptimizerConfig(lr=1e-5, muon_lr=1e-5),
            evaluate_every=100, evaluate_tokens=524_288, checkpoint_every_s=1800.0,
        ),
    )  # fmt: skip
