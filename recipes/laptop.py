"""A model of about 10M parameters, trained in about 20 minutes on 2 processor cores with bfloat16 units."""

from __future__ import annotations

from agora.corpus.config import CorpusConfig
from agora.model.config import ModelConfig
from agora.training.config import TrainingConfig
from agora.training.optimizers import OptimizerConfig
from agora.training.schedule import ScheduleConfig
from recipes import Recipe

TIMELINE_POSTS = 16  # of about 26 tokens each: a document then fills most of a row of 512


def laptop() -> Recipe:
    """10.5M parameters: untied embeddings cost memory and no operations. Enough to learn the platform's
    language; not the world's knowledge."""
    return Recipe(
        name="laptop",
        purpose="about 10M parameters in about 20 minutes on 2 cores",
        vocab_size=8192,
        corpus=CorpusConfig(timeline_posts=TIMELINE_POSTS, reposts="once"),
        model=ModelConfig(
            vocab_size=8192,
            dim=256,
            num_layers=8,
            num_heads=4,
            num_kv_heads=2,
            head_dim=64,
            hidden_dim=768,
            max_seq_len=1024,
            tie_embeddings=False,
        ),
        training=TrainingConfig(
            steps=1200, batch_tokens=8192, micro_batch=16, seq_len=512, schedule=ScheduleConfig(warmup=0.02, decay=0.5), evaluate_every=150
        ),
        chat=TrainingConfig(
            steps=150,
            batch_tokens=8192,
            micro_batch=16,
            seq_len=512,
            schedule=ScheduleConfig(warmup=0.05, decay=0.95),
            optimizer=OptimizerConfig(lr=1e-3, muon_lr=2e-3),
            evaluate_every=50,
        ),
    )
