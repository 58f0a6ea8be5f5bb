"""The arithmetic between the matrix products, written plainly: norms, rotary embedding, attention, SwiGLU.

These are the meaning of the network; each is differentiable by autograd. `agora.model.fast` offers the same functions and, on
a CPU in bfloat16, computes them in fewer passes; its tests compare it with the functions here.

Shapes: B rows, T positions, S keys, C channels, D head_dim, H query heads, K key-value heads, F hidden_dim, R = D / 2,
M rows sorted by expert, E experts, I in, O out.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

IGNORED = -100  # a target that is not learned from


def rms_norm(x_C: Float[Tensor, "*rows C"], weight_C: Float[Tensor, " C"], eps: float) -> Float[Tensor, "*rows C"]:
    """Divide each row by its root mean square (in float32), then scale. Zhang & Sennrich 2019, equation 4."""
    wide_C = x_C.float()
    normed_C = wide_C * torch.rsqrt(wide_C.square().mean(-1, keepdim=True) + eps)
    return weight_C * normed_C.to(x_C.dtype)


def add_rms_norm(
    x_C: Float[Tensor, "*rows C"], delta_C: Float[Tensor, "*rows C"] | None, weight_C: Float[Tensor, " C"], eps: float
) -> tuple[Float[Tensor, "*rows C"], Float[Tensor, "*rows C"]]:
    """Add `delta` to the residual stream, then norm it. Returns (new stream, normed stream)."""
    x_C = x_C if delta_C is None else x_C + delta_C
    return x_C, rms_norm(x_C, weight_C, eps)


def swiglu(gate_up_2F: Float[Tensor, "*rows F2"]) -> Float[Tensor, "*rows F"]:
    """silu(gate) * up, where the first half of the channels is the gate. Shazeer 2020, equation 6."""
    gate_F, up_F = gate_up_2F.chunk(2, dim=-1)
    return F.silu(gate_F) * up_F


@functools.lru_cache(maxsize=8)
def rotary_tables(head_dim: int, theta: float, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of every position below `length`, each (length, head_dim / 2), always float32."""
    if torch.is_inference_mode_enabled():  # they are kept, and training in the same process could not use tensors made so
        with torch.inference_mode(False):
            return _rotary_tables(head_dim, theta, length, device)
    return _rotary_tables(head_dim, theta, length, device)


def _rotary_tables(head_dim: int, theta: float, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    frequencies_R = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim))
    angles_TR = torch.outer(torch.arange(length, dtype=torch.float32), frequencies_R)
    return angles_TR.cos().to(device), angles_TR.sin().to(device)


def rotate(
    x_BTHD: Float[Tensor, "B T H D"], cos_BTR: Float[Tensor, "#B T R"], sin_BTR: Float[Tensor, "#B T R"]
) -> Float[Tensor, "B T H D"]:
    """Turn channel pairs (i, i + D/2) by their position's angles. Su et al. 2021, equation 34, halves instead of neighbours."""
    cos, sin = cos_BTR[:, :, None, :].to(x_BTHD.dtype), sin_BTR[:, :, None, :].to(x_BTHD.dtype)
    low, high = x_BTHD.chunk(2, dim=-1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)


def split_heads(
    qkv_BTX: Float[Tensor, "B T X"],
    query_norm_D: Float[Tensor, " D"],
    key_norm_D: Float[Tensor, " D"],
    cos_BTR: Float[Tensor, "#B T R"],
    sin_BTR: Float[Tensor, "#B T R"],
    *,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
) -> tuple[Float[Tensor, "B T H D"], Float[Tensor, "B T K D"], Float[Tensor, "B T K D"]]:
    """Cut the fused projection into heads; norm and rotate queries and keys."""
    head_dim = query_norm_D.shape[0]
    heads = qkv_BTX.reshape(*qkv_BTX.shape[:2], num_heads + 2 * num_kv_heads, head_dim)
    q_BTHD, k_BTKD, v_BTKD = torch.split(heads, [num_heads, num_kv_heads, num_kv_heads], dim=2)
    q_BTHD = rotate(rms_norm(q_BTHD, query_norm_D, eps), cos_BTR, sin_BTR)
    k_BTKD = rotate(rms_norm(k_BTKD, key_norm_D, eps), cos_BTR, sin_BTR)
    return q_BTHD, k_BTKD, v_BTKD


def document_starts(document_ids_BT: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
    """For each position, where its document begins in the row. A document is a run of equal neighbouring ids."""
    positions_T = torch.arange(document_ids_BT.shape[1], device=document_ids_BT.device)
    is_first_BT = torch.ones_like(document_ids_BT, dtype=torch.bool)
    is_first_BT[:, 1:] = document_ids_BT[:, 1:] != document_ids_BT[:, :-1]
    return torch.where(is_first_BT, positions_T, 0).cummax(dim=1).values


class Documents:
    """Where the document of each position begins in its row (`starts_BT`), and what plain attention makes of that.

    The mask is as large as a row is long, squared. With `keeps_mask` it is made once, for the first layer, and kept for all; otherwise
    each layer makes its own, which is gone with the layer: for layers that are computed again, whose keepsakes would hold it.
    """

    def __init__(self, starts_BT: Int[Tensor, "B T"], *, keeps_mask: bool = True) -> None:
        self.starts_BT, self.keeps_mask = starts_BT, keeps_mask
        self._mask: Tensor | None = None

    def mask(self, dtype: torch.dtype) -> Float[Tensor, "B 1 T T"]:
        """What is added to the scores of queries in `dtype`: 0 where a query may see a key, minus infinity elsewhere."""
        if self._mask is not None and self._mask.dtype == dtype:
            return self._mask
        visible = attention_mask(self.starts_BT)
        mask = torch.where(visible, visible.new_zeros((), dtype=dtype), visible.new_full((), -torch.inf, dtype=dtype))
        if self.keeps_mask and not torch.compiler.is_compiling():  # the compiler sees by itself that layers ask for the same
            self._mask = mask
        return mask


def attention_mask(starts_BT: Int[Tensor, "B T"]) -> Bool[Tensor, "B 1 T T"]:
    """True where a query may see a key: at or before it, and not before its document's start."""
    positions_T = torch.arange(starts_BT.shape[1], device=starts_BT.device)
    causal_TS = positions_T[:, None] >= positions_T[None, :]
    return (causal_TS & (positions_T[None, None, :] >= starts_BT[:, :, None]))[:, None]


def attention(
    q_BTHD: Float[Tensor, "B T H D"],
    k_BSKD: Float[Tensor, "B S K D"],
    v_BSKD: Float[Tensor, "B S K D"],
    mask: Bool[Tensor, "#B 1 T S"] | Float[Tensor, "#B 1 T S"] | None,
) -> Float[Tensor, "B T H D"]:
    """Scaled dot-product attention, each key head serving H / K query heads. Without a mask it is causal with T = S, or T = 1."""
    q, k, v = (x.transpose(1, 2) for x in (q_BTHD, k_BSKD, v_BSKD))
    is_causal = mask is None and q.shape[2] > 1
    out_BHTD = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=is_causal, enable_gqa=q.shape[1] != k.shape[1])
    return out_BHTD.transpose(1, 2)


def causal_attention(
    qkv_BTX: Float[Tensor, "B T X"],
    query_norm_D: Float[Tensor, " D"],
    key_norm_D: Float[Tensor, " D"],
    cos_BTR: Float[Tensor, "#B T R"],
    sin_BTR: Float[Tensor, "#B T R"],
    documents: Documents | None,
    *,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
) -> Float[Tensor, "B T Y"]:
    """From the fused projection of a whole row to the mixed values of all heads (Y = H * D)."""
    q_BTHD, k_BTKD, v_BTKD = split_heads(
        qkv_BTX, query_norm_D, key_norm_D, cos_BTR, sin_BTR, num_heads=num_heads, num_kv_heads=num_kv_heads, eps=eps
    )
    mask = None if documents is None else documents.mask(q_BTHD.dtype)
    return attention(q_BTHD, k_BTKD, v_BTKD, mask).flatten(-2)


def grouped_linear(x_MI: Float[Tensor, "M I"], weight_EOI: Float[Tensor, "E O I"], counts_E: Int[Tensor, " E"]) -> Float[Tensor, "M O"]:
    """The first counts[0] rows times weight[0] transposed, the next counts[1] times weight[1] transposed, and so on."""
    parts = torch.split(x_MI, counts_E.tolist())
    return torch.cat([F.linear(part, weight_OI) for part, weight_OI in zip(parts, weight_EOI.unbind(), strict=True)])


def embedding(tokens_BT: Int[Tensor, "B T"], weight_VC: Float[Tensor, "V C"]) -> Float[Tensor, "B T C"]:
    """The row of each token."""
    return F.embedding(tokens_BT, weight_VC)


def softmax_loss(
    logits_MV: Float[Tensor, "M V"], targets_M: Int[Tensor, " M"], scale: float, needs_grad: bool
) -> tuple[Float[Tensor, ""], Float[Tensor, "M V"]]:
    """Sum of -log softmax(logits)[target] times `scale`, and with `needs_grad` its gradient with respect to the logits, in their dtype."""
    log_probs_MV = torch.log_softmax(logits_MV.float(), dim=-1)
    is_target_M = targets_M != IGNORED
    safe_M = torch.where(is_target_M, targets_M, 0)
    picked_M = log_probs_MV.gather(1, safe_M[:, None])[:, 0]
    loss = -(picked_M * is_target_M).sum() * scale
    if not needs_grad:
        return loss, logits_MV
    grad_MV = log_probs_MV.exp_()
    grad_MV.scatter_add_(1, safe_M[:, None], torch.full_like(picked_M, -1.0)[:, None])
    grad_MV *= (is_target_M * scale)[:, None]
    return loss, grad_MV.to(logits_MV.dtype)
