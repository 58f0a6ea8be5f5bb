"""The network: a Qwen3-compatible decoder. Tokens go in; normed hidden states, logits or a loss come out.

    model = Transformer(ModelConfig(dim=256)); loss = model.loss(tokens_BT, targets_BT); loss.backward()

RMSNorm before each block, grouped-query attention whose queries and keys are normed per head, rotary positions, SwiGLU,
no biases, tied or separate output head (Qwen3 technical report, 2025, section 2). Query, key and value weights are one matrix,
and so are gate and up: fewer, larger products. Each block returns what it adds to the residual stream; the next norm
does the addition, which lets both happen in one pass over memory.

Shapes: B rows, T positions, S keys, C = dim, D = head_dim, H query heads, K key-value heads, R = D / 2, F = hidden_dim,
V vocabulary, N = B * T. Shapes of experts: experts.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from agora.errors import ModelError
from agora.model import fast
from agora.model.cache import KVCache
from agora.model.config import ModelConfig
from agora.model.experts import MixtureOfExperts
from agora.model.initial import draw, initial_std
from agora.model.loss import chunked_cross_entropy
from agora.model.operations import Documents, attention, document_starts, rotary_tables, split_heads


def fused_rows(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """For each fused matrix of a layer, the rows of the linear maps in it: query, key, value; gate, up."""
    return {
        "attention.qkv.weight": (config.query_dim, config.kv_dim, config.kv_dim),
        "feed_forward.gate_up.weight": (config.hidden_dim, config.hidden_dim),
    }


def linear_maps(config: ModelConfig, name: str, parameter: Tensor) -> tuple[Tensor, ...]:
    """Each linear map in a layer's parameter `name` by itself, as views. A stack of experts stays one."""
    return torch.split(parameter, list(fused_rows(config).get(name, (parameter.shape[0],))))


class Norm(nn.Module):
    """RMSNorm with the residual addition that comes before it."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x_BTC: Tensor, delta_BTC: Tensor | None) -> tuple[Tensor, Tensor]:
        """Add `delta` to the stream; returns the stream and its normed copy."""
        return fast.add_rms_norm(x_BTC, delta_BTC, self.weight, self.eps)


class Linear(nn.Linear):
    """A product without bias."""

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__(num_in, num_out, bias=False)
        self.product = fast.linear  # training/float8.py has another one

    def forward(self, input: Tensor) -> Tensor:
        """(..., num_in) -> (..., num_out)."""
        return self.product(input, self.weight)


class Positions:
    """Where each token stands and what it may see: computed once, used by every layer."""

    def __init__(
        self,
        config: ModelConfig,
        tokens_BT: Tensor,
        positions_BT: Tensor | None,
        document_ids_BT: Tensor | None,
        cache: KVCache | None,
    ) -> None:
        length = tokens_BT.shape[1]
        first = 0 if cache is None else cache.length
        if cache is not None and document_ids_BT is not None:
            raise ModelError("document_ids and a cache cannot be used together: generation works on one document per row")
        if first + length > config.max_seq_len:
            raise ModelError(f"{first + length} positions are more than model.max_seq_len={config.max_seq_len}; shorten the text")
        cos_TR, sin_TR = rotary_tables(config.head_dim, config.rope_theta, config.max_seq_len, tokens_BT.device)
        if positions_BT is None:
            self.cos_BTR, self.sin_BTR = cos_TR[None, first : first + length], sin_TR[None, first : first + length]
        else:
            self.cos_BTR, self.sin_BTR = cos_TR[positions_BT], sin_TR[positions_BT]
        self.documents = None if document_ids_BT is None else Documents(document_starts(document_ids_BT))
        self.cache_mask: Tensor | None = None
        if first and length > 1:
            visible_TS = torch.ones(length, first + length, dtype=torch.bool, device=tokens_BT.device)
            self.cache_mask = visible_TS.tril(first)[None, None]


class Attention(nn.Module):
    """Grouped-query attention with normed queries and keys."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.qkv = Linear(config.dim, config.query_dim + 2 * config.kv_dim)
        self.out = Linear(config.query_dim, config.dim)
        self.query_norm = Norm(config.head_dim, config.norm_eps)
        self.key_norm = Norm(config.head_dim, config.norm_eps)

    def forward(self, x_BTC: Tensor, positions: Positions, cache: KVCache | None, layer: int) -> Tensor:
        """Mix positions. With a cache, the new keys and values join it and queries see all of it."""
        c, p = self.config, positions
        qkv_BTX = self.qkv(x_BTC)
        arguments = (qkv_BTX, self.query_norm.weight, self.key_norm.weight, p.cos_BTR, p.sin_BTR)
        if cache is None:
            mixed_BTX = fast.causal_attention(*arguments, p.documents, num_heads=c.num_heads, num_kv_heads=c.num_kv_heads, eps=c.norm_eps)
        else:
            q_BTHD, k_BTKD, v_BTKD = split_heads(*arguments, num_heads=c.num_heads, num_kv_heads=c.num_kv_heads, eps=c.norm_eps)
            k_BSKD, v_BSKD = cache.append(layer, k_BTKD, v_BTKD)
            mixed_BTX = attention(q_BTHD, k_BSKD, v_BSKD, p.cache_mask).flatten(-2)
        return self.out(mixed_BTX)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """SwiGLU with gate and up in one product."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = Linear(config.dim, 2 * config.hidden_dim)
        self.down = Linear(config.hidden_dim, config.dim)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Transform each position by itself."""
        return self.down(fast.swiglu(self.gate_up(x_BTC)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Attention, then feed-forward (dense or a mixture of experts), each on a normed copy of the stream."""

    def __init__(self, config: ModelConfig, index: int = 0) -> None:
        super().__init__()
        self.attention_norm = Norm(config.dim, config.norm_eps)
        self.attention = Attention(config)
        self.feed_forward_norm = Norm(config.dim, config.norm_eps)
        self.feed_forward = MixtureOfExperts(config) if config.is_sparse(index) else FeedForward(config)

    def forward(
        self, x_BTC: Tensor, delta_BTC: Tensor | None, positions: Positions, cache: KVCache | None, index: int
    ) -> tuple[Tensor, Tensor]:
        """Takes the stream and what the layer before adds to it; returns the stream and what this layer adds to it."""
        x_BTC, normed_BTC = self.attention_norm(x_BTC, delta_BTC)
        x_BTC, normed_BTC = self.feed_forward_norm(x_BTC, self.attention(normed_BTC, positions, cache, index))
        return x_BTC, self.feed_forward(normed_BTC)


class Transformer(nn.Module):
    """The whole decoder. Fresh weights depend only on `config` and `seed`."""

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Parameter(torch.empty(config.vocab_size, config.dim))
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_layers))
        self.norm = Norm(config.dim, config.norm_eps)
        self.head = None if config.tie_embeddings else nn.Parameter(torch.empty(config.vocab_size, config.dim))
        if not self.embedding.is_meta:
            self.initialize(seed)

    @property
    def head_weight(self) -> Float[Tensor, "V C"]:
        """The output head's matrix: its own, or the embedding when tied."""
        return self.embedding if self.head is None else self.head

    @torch.no_grad()
    def initialize(self, seed: int) -> None:
        """Draw fresh weights; initial.py says which."""
        for name, parameter in self.named_parameters():
            std = initial_std(self.config, name)
            parameter.copy_(torch.ones(parameter.shape) if std is None else draw(seed, name, parameter.shape, std=std))

    def forward(
        self,
        tokens_BT: Int[Tensor, "B T"],
        *,
        positions_BT: Int[Tensor, "B T"] | None = None,
        document_ids_BT: Int[Tensor, "B T"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T C"]:
        """Hidden states after the last norm. `document_ids` keeps documents that share a row from seeing each other;
        `positions` replaces 0, 1, 2, ... in the rotary embedding; `cache` continues earlier calls. Raises ModelError when too long.
        """
        positions = Positions(self.config, tokens_BT, positions_BT, document_ids_BT, cache)
        x_BTC = fast.embedding(tokens_BT, self.embedding)
        delta_BTC = None
        for index, layer in enumerate(self.layers):
            x_BTC, delta_BTC = layer(x_BTC, delta_BTC, positions, cache, index)
        if cache is not None:
            cache.advance(tokens_BT.shape[1])
        _, hidden_BTC = self.norm(x_BTC, delta_BTC)
        return hidden_BTC  # type: ignore[no-any-return]

    def logits(self, hidden_BTC: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows V"]:
        """Scores of every next token, in the dtype of `hidden`."""
        return F.linear(hidden_BTC, self.head_weight)

    def loss(
        self,
        tokens_BT: Int[Tensor, "B T"],
        targets_BT: Int[Tensor, "B T"],
        document_ids_BT: Int[Tensor, "B T"] | None = None,
        *,
        divisor: float | None = None,
    ) -> Float[Tensor, ""]:
        """Mean cross-entropy in nats over targets other than -100 (or their sum over `divisor`), float32."""
        hidden_BTC = self(tokens_BT, document_ids_BT=document_ids_BT)
        return chunked_cross_entropy(hidden_BTC.flatten(0, 1), self.head_weight, targets_BT.flatten(), divisor=divisor)
