from __future__ import annotations

import gc

import torch

from agora.model import buffers

SHAPE = (1 << 10, 1 << 10)


def test_memory_comes_back_only_when_the_last_view_is_gone() -> None:
    buffers.release_buffers()
    first = buffers.empty(SHAPE, torch.float32)
    view, address = first[5:].t(), first.data_ptr()
    view.fill_(7)
    del first
    gc.collect()
    other = buffers.empty(SHAPE, torch.float32)
    assert other.data_ptr() != address
    other.fill_(1)
    assert bool((view == 7).all())
    del view
    assert buffers.empty(SHAPE, torch.float32).data_ptr() == address


def test_autograd_keeps_what_it_saved() -> None:
    x = torch.ones(SHAPE, requires_grad=True)
    saved = buffers.empty(SHAPE, torch.float32).fill_(3)
    product = (x * saved).sum()
    del saved
    buffers.empty(SHAPE, torch.float32).fill_(5)
    product.backward()
    assert x.grad is not None and bool((x.grad == 3).all())


def test_small_tensors_are_ordinary_and_shapes_are_kept() -> None:
    assert buffers.empty((3, 4), torch.bfloat16).shape == (3, 4)
    large = buffers.empty((3, 1 << 20), torch.bfloat16)
    assert large.shape == (3, 1 << 20) and large.is_contiguous() and large.data_ptr() % 4096 == 0
    assert buffers.empty_like(large.t()).shape == (1 << 20, 3)


def test_release_gives_back_what_is_free() -> None:
    buffers.release_buffers()
    held = buffers.empty(SHAPE, torch.float32)
    buffers.empty(SHAPE, torch.float32)
    assert buffers.release_buffers() == 1 << 22
    held.fill_(1)
