"""A step through the stages of a pipeline. Goes in: a Part and micro-batches. Comes out: gradients on every stage, the loss on the last.

The schedules are PyTorch's (torch.distributed.pipelining): GPipe (Huang et al. 2019), 1F1B and interleaved (Narayanan et al. 2021),
zero bubble (Qi et al. 2024, ZB1P).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import (
    PipelineStage,
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
)
from torch.distributed.pipelining._backward import stage_backward
from torch.distributed.pipelining.schedules import _batch_p2p, _wait_batch_p2p

from agora.cluster.layout import Layout
from agora.model.operations import IGNORED

if TYPE_CHECKING:
    from agora.training.parallelize import Part


_SENDS_APART: Final = ("interleaved", "zero_bubble")  # schedules that put no receive into one batch with a send


class Pipeline:
    """This rank's stages under one schedule."""

    def __init__(self, part: Part, *, seq_len: int) -> None:
        self._part, self._layout = part, part.layout
        self._sends = _Sends(part.layout.pipeline)
        self._stages = [
            _LeanStage(
                part.layout, self._sends, stage, index, part.num_stages, part.device, group=part.axes.pipeline_group,
                input_args=(_example(part, seq_len, is_tokens=stage.is_first),),
                output_args=(torch.empty((), device="meta") if stage.is_last else _example(part, seq_len, is_tokens=False),),
            )
            for stage, index in zip(part.stages, part.stage_indices, strict=True)
        ]  # fmt: skip
        self._schedules: dict[int, Any] = {}

    def run(self, batches: Sequence[dict[str, Tensor | None]], divisor: float) -> Tensor:
        """Forward and backward of all micro-batches; the loss on the rank of the last stage, elsewhere zero."""
        schedule = self._schedule(len(batches))
        return self._pass(partial(schedule.step, return_outputs=False), _rows(batches), divisor)

    def evaluate(self, batches: Sequence[dict[str, Tensor | None]], divisor: float, *, num_rows: int) -> Tensor:
        """Forward alone; the loss as `run` gives it, float64. Batches are filled up to whole rounds of `num_rows` rows with rows that have
        no target. A round is as many micro-batches as there are ranks in the pipeline: what they hold is let go after each."""
        rows, num_passes = _rows(batches), self._layout.pipeline
        each = num_passes * self._layout.micro_batch
        num_rounds = -(-num_rows // each)
        filled = {name: None if x is None else _filled(name, x, num_rounds * each) for name, x in rows.items()}
        total = torch.zeros((), dtype=torch.float64, device=self._part.device)
        for first in range(0, num_rounds * each, each):
            here = {name: None if x is None else x[first : first + each] for name, x in filled.items()}
            total += self._pass(partial(self._schedule(num_passes).eval, return_outputs=False), here, divisor)
            for stage in self._stages:
                stage.clear_runtime_states()
        return total

    def _pass(self, step: Callable[..., Any], rows: dict[str, Tensor | None], divisor: float) -> Tensor:
        keywords = {"targets_BT": rows["targets_BT"], "starts_BT": rows["starts_BT"], "divisor": divisor}
        tokens = (rows["tokens_BT"],) if self._part.stages[0].is_first else ()
        losses: list[Tensor] = []
        target = rows["targets_BT"] if self._part.stages[-1].is_last else None
        step(*tokens, target=target, losses=losses, **keywords)
        self._sends.finish()
        return torch.stack([loss.detach() for loss in losses]).sum() if losses else torch.zeros((), device=self._part.device)

    def _schedule(self, num_micro_batches: int) -> Any:
        if num_micro_batches not in self._schedules:
            make = schedule_class(self._layout)
            stages = self._stages if self._layout.schedule in _SENDS_APART else self._stages[0]
            self._schedules[num_micro_batches] = make(stages, num_micro_batches, loss_fn=_already_a_loss, scale_grads=False)
        return self._schedules[num_micro_batches]


def _rows(batches: Sequence[dict[str, Tensor | None]]) -> dict[str, Tensor | None]:
    """All rows in one tensor for each name."""
    parts = {name: [x for batch in batches if (x := batch[name]) is not None] for name in batches[0]}
    return {name: torch.cat(tensors) if tensors else None for name, tensors in parts.items()}


def _filled(name: str, x_BT: Tensor, num_rows: int) -> Tensor:
    empty = IGNORED if name == "targets_BT" else 0
    return torch.cat([x_BT, x_BT.new_full((num_rows - x_BT.shape[0], x_BT.shape[1]), empty)])


class _Sends:
    """What a rank has sent and the next may not have yet: at most `most` messages, the tensors with them. PyTorch's interleaved schedules
    wait for none before the end of the step, and hold every tensor that they sent until then.

    Waiting blocks no one for ever: a message is received before the receiver needs anything that this rank does after sending it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._under_way: deque[tuple[list[dist.P2POp], list[dist.Work]]] = deque()

    def send(self, operations: list[dist.P2POp]) -> None:
        """Start, and wait for the oldest when there are too many."""
        if operations:
            self._under_way.append((operations, _batch_p2p(operations)))
        while len(self._under_way) > self._most:
            _wait_batch_p2p(self._under_way.popleft()[1])

    def finish(self) -> None:
        """Wait for all."""
        while self._under_way:
            _wait_batch_p2p(self._under_way.popleft()[1])


class _LeanStage(PipelineStage):
    """PyTorch's stage with less memory. What arrives has a buffer from its arrival to its use; PyTorch's own keeps two for every
    micro-batch of a step. What was sent is let go (_Sends). And where the layout divides gradients, those of a micro-batch are divided at
    once; PyTorch's own keeps them whole, in float32, and all layers gathered, until the last one. Zero bubble, which makes gradients of
    weights later, still does."""

    def __init__(self, layout: Layout, sends: _Sends, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sends = sends if layout.schedule in _SENDS_APART else None
        self._sharding = layout.sharding
        self._divides = layout.sharding in ("gradients", "parameters") and layout.schedule != "zero_bubble"

    def backward_maybe_with_nosync(
        self, backward_type: str, bwd_kwargs: dict[str, Any], last_backward: bool = False
    ) -> tuple[tuple[Tensor | None, ...], list[dict[str, Any]] | None]:
        if not self._divides:
            return super().backward_maybe_with_nosync(backward_type, bwd_kwargs, last_backward)
        assert backward_type == "full" and isinstance(self.submod, FSDPModule)
        self.submod.set_is_last_backward(True)
        self.submod.set_requires_gradient_sync(True)
        self.submod.set_requires_all_reduce(last_backward)
        self.submod.set_reshard_after_backward(self._sharding == "parameters" or last_backward)
        return stage_backward(bwd_kwargs["stage_output"], bwd_kwargs["output_grads"], bwd_kwargs["input_values"]), None

    def perform_reduce_grad(self, grad_scale_factor: int) -> None:
        if not self._divides:
            super().perform_reduce_grad(grad_scale_factor)

    def _setup_forward_recv_info(self, num_microbatches: int, has_backward: bool) -> None:
        with self._without_memory():
            super()._setup_forward_recv_info(num_microbatches, has_backward)

    def _create_grad_recv_info(self, act_send_info: dict[Any, Any]) -> tuple[Any, ...]:
        with self._without_memory():
            return super()._create_grad_recv_info(act_send_info)

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[dist.P2POp]:
        return self._sent(super().get_fwd_send_ops(fwd_chunk_id))

    def get_bwd_send_ops(self, bwd_chunk_id: int) -> list[dist.P2POp]:
        return self._sent(super().get_bwd_send_ops(bwd_chunk_id))

    def _sent(self, operations: list[dist.P2POp]) -> list[dist.P2POp]:
        """What is left for the schedule to send."""
        if self._sends is None:
            return operations
        self._sends.send(operations)
        return []

    def _get_recv_ops(self, recv_infos: tuple[Any, ...]) -> list[Any]:
        for info in recv_infos:
            if info.buffer is not None and info.buffer.device.type == "meta":
                info.buffer = torch.empty_like(info.buffer, device=self.device, requires_grad=False)
        return super()._get_recv_ops(recv_infos)

    def _retrieve_recv_activations(self, fwd_chunk_id: int) -> tuple[Any, ...]:
        arrived: tuple[Any, ...] = super()._retrieve_recv_activations(fwd_chunk_id)
        _empty(self.args_recv_info[fwd_chunk_id])
        return arrived

    def _retrieve_recv_grads(self, bwd_chunk_id: int) -> tuple[Any, ...]:
        arrived: tuple[Any, ...] = super()._retrieve_recv_grads(bwd_chunk_id)
        _empty(self.grad_recv_info[bwd_chunk_id])
        return arrived

    @contextmanager
    def _without_memory(self) -> Iterator[None]:
        device, self.device = self.device, torch.device("meta")
        try:
            yield
        finally:
            self.device = device


def _empty(infos: tuple[Any, ...]) -> None:
    for info in infos:
        if info.buffer is not None:
            info.buffer = torch.empty_like(info.buffer, device="meta", requires_grad=False)


def schedule_class(layout: Layout) -> Callable[..., Any]:
    """PyTorch's class for the layout's schedule."""
    classes: dict[str, Callable[..., Any]] = {
        "gpipe": ScheduleGPipe,
        "1f1b": Schedule1F1B,
        "interleaved": ScheduleInterleaved1F1B,
        "zero_bubble": ScheduleInterleavedZeroBubble,
    }
    return classes[layout.schedule]


def _already_a_loss(output: Tensor, target: Tensor) -> Tensor:
    """The last stage gives the loss itself: the head's logits need never be whole."""
    return output


def _example(part: Part, seq_len: int, *, is_tokens: bool) -> Tensor:
    """Shape and dtype of what goes between stages."""
    layout = part.layout
    length = seq_len // layout.context
    if is_tokens:
        return torch.empty(layout.micro_batch, length, dtype=torch.int64, device="meta")
    length //= layout.tensor if layout.sequence_parallel else 1
    return torch.empty(layout.micro_batch, length, part.config.dim, dtype=part.dtype, device="meta", requires_grad=True)
