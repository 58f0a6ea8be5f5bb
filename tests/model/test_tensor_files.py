"""Files that are written from front to back: the safetensors library reads them, and blocks of them come back alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from agora.model.tensor_files import Entry, File, read_entries, read_into, write_tensors

TENSORS = {
    "b": torch.arange(24, dtype=torch.float32).reshape(2, 3, 4), "a": torch.tensor(2.5), "half": torch.arange(5).to(torch.bfloat16),
    "empty": torch.zeros(0, 3), "bytes": torch.arange(7, dtype=torch.uint8), "whole": torch.arange(4), "yes": torch.tensor([True, False]),
}  # fmt: skip


def write(path: Path) -> None:
    with path.open("wb") as file:
        facts = write_tensors(file, {name: (x.dtype, x.shape) for name, x in TENSORS.items()}, TENSORS.__getitem__, {"format": "pt"})
    assert facts.size_bytes == path.stat().st_size and facts.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def block_of(file: File, entry: Entry, offsets: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
    target = torch.empty(tuple(sizes), dtype=entry.dtype)
    read_into(target, file, entry, offsets)
    return target


def whole(file: File, entry: Entry) -> torch.Tensor:
    return block_of(file, entry, [0] * len(entry.shape), entry.shape)


def test_the_library_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path / "ours")
    save_file(TENSORS, tmp_path / "theirs")
    theirs = load_file(tmp_path / "ours")
    with (tmp_path / "theirs").open("rb") as file:
        entries = read_entries(file, (tmp_path / "theirs").stat().st_size)
        ours = {name: whole(file, entry) for name, entry in entries.items()}
    for name, tensor in TENSORS.items():
        for found in (theirs[name], ours[name]):
            assert found.dtype == tensor.dtype and found.shape == tensor.shape and found.equal(tensor), name


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_block_comes_back_alone(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "blocks"
    if not path.exists():
        write(path)
    offsets = [data.draw(st.integers(0, size - 1)) for size in (2, 3, 4)]
    sizes = [data.draw(st.integers(1, size - offset)) for size, offset in zip((2, 3, 4), offsets, strict=True)]
    with path.open("rb") as file:
        block = block_of(file, read_entries(file, path.stat().st_size)["b"], offsets, sizes)
    i, j, k = (slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))
    assert block.equal(TENSORS["b"][i, j, k])


@pytest.mark.parametrize("size", [0, 7, 9, 60, -1])
def test_a_file_that_was_cut_is_refused(tmp_path: Path, size: int) -> None:
    write(tmp_path / "t")
    data = (tmp_path / "t").read_bytes()
    (tmp_path / "t").write_bytes(data[:size])
    with pytest.raises(ValueError), (tmp_path / "t").open("rb") as file:
        for entry in read_entries(file, len(data[:size])).values():
            whole(file, entry)


def test_a_tensor_that_was_not_announced_is_refused(tmp_path: Path) -> None:
    message = r"a is torch.float32 \[2\], but torch.float32 \[3\] was announced"
    with (tmp_path / "t").open("wb") as file, pytest.raises(ValueError, match=message):
        write_tensors(file, {"a": (torch.float32, (3,))}, lambda name: torch.zeros(2))
