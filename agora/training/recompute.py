"""What a layer keeps for the backward pass and what it computes again; and layers that are compiled. Goes in: a layer and a Layout.

recompute(layer, layout)               none, selective or full
compile_layer(layer, layout, "inductor")
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.distributed._composable.checkpoint_activation import checkpoint
from torch.utils.checkpoint import (
    CheckpointPolicy,
    _CachedTorchDispatchMode,
    _CachingTorchDispatchMode,
    create_selective_checkpoint_contexts,
)
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from agora.cluster.layout import Layout
from agora.model.transformer import Positions

_KEPT_OPERATIONS: Final = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
}

_is_keeping = True


@contextmanager
def nothing_kept() -> Iterator[None]:
    """Inside, selective recomputation keeps no result: products of every position with every other are not worth their memory."""
    global _is_keeping
    before, _is_keeping = _is_keeping, False
    try:
        yield
    finally:
        _is_keeping = before


def _keep_products(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in _KEPT_OPERATIONS else CheckpointPolicy.PREFER_RECOMPUTE


class _Keep(_CachingTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the results of kept operations and lets everything else pass."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _KEPT_OPERATIONS or not _is_keeping:
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


class _Recall(_CachedTorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives these results back while the rest is computed again."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _KEPT_OPERATIONS or not _is_keeping:
            return func(*args, **(kwargs or {}))
        return super().__torch_dispatch__(func, types, args, kwargs)  # type: ignore[no-untyped-call]


def _keeping_products() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What create_selective_checkpoint_contexts gives, but for this: PyTorch's modes demand that all other operations are the same both
    times, too, and what moves between ranks inside a layer (experts, fully_shard around them) is not."""
    kept: dict[Any, dict[int, Any]] = defaultdict(dict)
    return _Keep(_keep_products, kept), _Recall(_keep_products, kept)


def recompute(layer: nn.Module, layout: Layout) -> None:
    """`full` keeps a layer's input and computes the rest again; `selective` also keeps the results of products and attention."""
    if layout.recompute == "full":
        checkpoint(layer)
    elif layout.recompute == "selective":
        checkpoint(layer, context_fn=_keeping_products)


def compile_layer(layer: nn.Module, layout: Layout, backend: str) -> None:
    """Compile what a layer computes. The hooks of fully_shard stay outside, and so does full recompute; what the selective one keeps is the
    compiler's to see, so that policy moves inside. All layers of one kind share the compiled code."""
    # the compiler looks whether the stream has a gradient, which autograd takes for a mistake
    warnings.filterwarnings("ignore", message=r"The \.grad attribute of a Tensor that is not a leaf", category=UserWarning)
    plain = layer.forward
    if layout.recompute == "selective":
        contexts = partial(create_selective_checkpoint_contexts, _keep_products)
        compiled = torch.compile(partial(torch_checkpoint, plain, use_reentrant=False, context_fn=contexts), backend=backend)
    else:
        compiled = torch.compile(plain, backend=backend)

    def forward(x_BTC: Tensor, delta_BTC: Tensor | None, positions: Positions, cache: None, index: int) -> Any:
        return compiled(x_BTC, delta_BTC, positions, None, 0)  # the index is the cache's, and a number of its own would be code of its own

    layer.forward = forward
