"""Attention over a row whose positions are divided over ranks. Goes in: this rank's queries, keys and values. Comes out: the mixed values
of this rank's queries over the keys of all ranks.

Keys and values travel around a ring of ranks; each rank folds what passes by into a running softmax (Liu et al. 2023, ring attention;
Milakov & Gimelshein 2018 for the running softmax). In the backward pass they travel again, and their gradients with them. Works on any
device; torch's own ring needs a fused kernel that its CPU build cannot divide, and knows no document boundaries.

A rank holds one piece from the front of the row and its mirror image from the back, so that all have the same share of the causal half.

Shapes: B rows, T positions of this rank, S of the rank whose keys are here, H query heads, K key heads, G = H / K, D head_dim.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from agora.errors import ConfigError
from agora.training.recompute import nothing_kept


def positions_of(rank: int, num_ranks: int, length: int) -> Tensor:
    """Which positions of a row of `length` a rank of the ring holds. Raises ConfigError when they do not divide."""
    if length % (2 * num_ranks):
        nearest = 2 * num_ranks * max(1, round(length / (2 * num_ranks)))
        raise ConfigError(
            f"training.seq_len={length} must be a multiple of 2 x layout.context={num_ranks} (each rank holds two pieces of a row); "
            f"try training.seq_len={nearest}"
        )
    pieces = torch.arange(length).chunk(2 * num_ranks)
    return torch.cat([pieces[rank], pieces[2 * num_ranks - 1 - rank]])


def ring_attention(q_BTHD: Tensor, k_BTKD: Tensor, v_BTKD: Tensor, starts_BT: Tensor | None, group: dist.ProcessGroup) -> Tensor:
    """Causal attention; `starts` (positions in the whole row) keeps each query inside its document. Twin: operations.attention."""
    with nullcontext() if torch.compiler.is_compiling() else nothing_kept():
        out: Tensor = _RingAttention.apply(q_BTHD, k_BTKD, v_BTKD, starts_BT, group)  # type: ignore[no-untyped-call]
    return out


def _pass_on(tensors: list[Tensor], group: dist.ProcessGroup) -> list[Tensor]:
    """Send to the next rank of the ring, receive from the one before."""
    rank, size = dist.get_rank(group), dist.get_world_size(group)
    if size == 1:
        return tensors
    to, source = dist.get_global_rank(group, (rank + 1) % size), dist.get_global_rank(group, (rank - 1) % size)
    received = [torch.empty_like(tensor) for tensor in tensors]
    operations = [dist.P2POp(dist.isend, tensor.contiguous(), to, group) for tensor in tensors]
    operations += [dist.P2POp(dist.irecv, tensor, source, group) for tensor in received]
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    return received


def _hidden_from(query_positions_T: Tensor, key_positions_S: Tensor, starts_BT: Tensor | None) -> Tensor:
    """(B or 1, 1, 1, T, S): True where a query may not see a key."""
    hidden = (key_positions_S[None, :] > query_positions_T[:, None])[None]
    if starts_BT is not None:
        hidden = hidden | (key_positions_S[None, None, :] < starts_BT[:, :, None])
    return hidden[:, None, None]


def _heads_first(x: Tensor, num_kv_heads: int) -> Tensor:
    """(B, T, H, D) -> (B, K, G, T, D)."""
    return x.reshape(*x.shape[:2], num_kv_heads, -1, x.shape[3]).permute(0, 2, 3, 1, 4)


class _RingAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, starts_BT: Tensor | None, group: dist.ProcessGroup) -> Tensor:
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        length, num_kv_heads, scale = q.shape[1] * size, k.shape[2], q.shape[3] ** -0.5
        places = [positions_of(index, size, length).to(q.device) for index in range(size)]
        q_BKGTD = _heads_first(q, num_kv_heads)
        biggest = torch.full((*q_BKGTD.shape[:4], 1), -torch.inf, dtype=torch.float32, device=q.device)
        total = torch.zeros_like(biggest)
        mixed = torch.zeros(q_BKGTD.shape, dtype=torch.float32, device=q.device)
        here = [k.contiguous(), v.contiguous()]
        for turn in range(size):
            owner = (rank - turn) % size
            k_BK1SD, v_BK1SD = (_heads_first(x, num_kv_heads) for x in here)
            scores = (q_BKGTD @ k_BK1SD.transpose(-1, -2)).float().mul_(scale)
            scores.masked_fill_(_hidden_from(places[rank], places[owner], starts_BT), -torch.inf)
            new_biggest = torch.maximum(biggest, scores.amax(-1, keepdim=True))
            powers = scores.sub_(new_biggest).exp_()  # first turn: this rank's own; every query sees itself, so nothing is -inf - -inf
            shrink = (biggest - new_biggest).exp_()
            total = total * shrink + powers.sum(-1, keepdim=True)
            mixed = mixed * shrink + (powers.to(q.dtype) @ v_BK1SD).float()
            biggest = new_biggest
            if turn < size - 1:
                here = _pass_on(here, group)
        out = (mixed / total).to(q.dtype).permute(0, 3, 1, 2, 4).flatten(2, 3)
        ctx.save_for_backward(q, k, v, starts_BT, out, biggest + total.log())
        ctx.group = group
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        q, k, v, starts_BT, out, log_total = ctx.saved_tensors
        group: dist.ProcessGroup = ctx.group
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        length, num_kv_heads, scale = q.shape[1] * size, k.shape[2], q.shape[3] ** -0.5
        places = [positions_of(index, size, length).to(q.device) for index in range(size)]
        q_BKGTD, grad_BKGTD = _heads_first(q, num_kv_heads), _heads_first(grads[0], num_kv_heads)
        share = (grad_BKGTD.float() * _heads_first(out, num_kv_heads).float()).sum(-1, keepdim=True)
        grad_q = torch.zeros(q_BKGTD.shape, dtype=torch.float32, device=q.device)
        here = [k.contiguous(), v.contiguous()]
        grad_here = [torch.zeros_like(x, dtype=torch.float32) for x in here]
        for turn in range(size):
            owner = (rank - turn) % size
            k_BK1SD, v_BK1SD = (_heads_first(x, num_kv_heads) for x in here)
            scores = (q_BKGTD @ k_BK1SD.transpose(-1, -2)).float().mul_(scale)
            scores.masked_fill_(_hidden_from(places[rank], places[owner], starts_BT), -torch.inf)
            shares = scores.sub_(log_total).exp_()
            grad_v = (shares.to(q.dtype).transpose(-1, -2) @ grad_BKGTD).float().sum(2)
            grad_scores = (grad_BKGTD @ v_BK1SD.transpose(-1, -2)).float().sub_(share).mul_(shares).mul_(scale).to(q.dtype)
            grad_q += (grad_scores @ k_BK1SD).float()
            grad_k = (grad_scores.transpose(-1, -2) @ q_BKGTD).float().sum(2)
            grad_here = [grad_here[0] + grad_k.transpose(1, 2), grad_here[1] + grad_v.transpose(1, 2)]
            grad_here = _pass_on(grad_here, group)  # after `size` turns the sums are back where the keys live
            if turn < size - 1:
                here = _pass_on(here, group)
        grad_q_BTHD = grad_q.to(q.dtype).permute(0, 3, 1, 2, 4).flatten(2, 3)
        return grad_q_BTHD, grad_here[0].to(k.dtype), grad_here[1].to(v.dtype), None, None
