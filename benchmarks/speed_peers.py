"""The networks that train_speed and train_speed_60m compare with Agora, each in the loop its users write: float32 weights, bf16
autocast, fused AdamW, gradients clipped at 1. Same vocabulary, width, depth and heads; parameters as equal as the architecture allows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agora.model.config import ModelConfig
from agora.model.transformer import Transformer
from agora.training.optimizers import OptimizerConfig
from agora.training.step import Batch, TrainingStep

Step = Callable[[Tensor], float]  # tokens (B, T + 1) -> loss
LEARNING_RATE = 1e-3


def agora_step(config: ModelConfig) -> tuple[Step, int]:
    """Agora's own training step with AdamW; returns it with its number of parameters."""
    training = TrainingStep(Transformer(config), OptimizerConfig(name="adamw", lr=LEARNING_RATE))

    def step(tokens: Tensor) -> float:
        return training.run([Batch(tokens[:, :-1], tokens[:, 1:])]).loss

    return step, training.optimizer.masters.numel()


def transformers_step(config: ModelConfig) -> tuple[Step, int]:
    """Qwen3ForCausalLM of transformers with the very same shape, its own loss and torch's fused AdamW."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config(
        vocab_size=config.vocab_size, hidden_size=config.dim, num_hidden_layers=config.num_layers, num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads, head_dim=config.head_dim, intermediate_size=config.hidden_dim,
        max_position_embeddings=config.max_seq_len, tie_word_embeddings=config.tie_embeddings, use_cache=False,
        attn_implementation="sdpa",
    ))  # fmt: skip
    return _autocast_step(model, lambda tokens: model(input_ids=tokens[:, :-1], labels=tokens[:, :-1]).loss)


def gpt2_step(config: ModelConfig, *, compile: bool) -> tuple[Step, int]:
    """A GPT-2-style model as nanoGPT trains it, compiled or not."""
    model = Gpt2(config)
    forward = torch.compile(model) if compile else model
    return _autocast_step(model, lambda tokens: forward(tokens[:, :-1], tokens[:, 1:]))


def _autocast_step(model: nn.Module, loss_of: Callable[[Tensor], Tensor]) -> tuple[Step, int]:
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step(tokens: Tensor) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return float(loss.detach())

    return step, sum(parameter.numel() for parameter in model.parameters())


class Gpt2Block(nn.Module):
    """LayerNorm, attention with as many key heads as query heads, LayerNorm, GELU feed-forward of four times the width."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.up, self.down = nn.Linear(dim, 4 * dim, bias=False), nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """One residual block."""
        batch, length, dim = x.shape
        heads = self.qkv(self.norm_1(x)).view(batch, length, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))  # type: ignore[no-any-return]


class Gpt2(nn.Module):
    """Learned positions, blocks, a head that is tied when Agora's is, and cross-entropy over all logits at once."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.dim)
        self.positions = nn.Embedding(config.max_seq_len, config.dim)
        self.blocks = nn.ModuleList(Gpt2Block(config.dim, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        if config.tie_embeddings:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean loss."""
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.norm(x))
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1))
