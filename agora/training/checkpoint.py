"""Checkpoints of a run. Goes in: a nested state of tensors and plain values. Comes out: the same state, bit for bit, or a refusal by name.

RUN/checkpoints/step-00000120/
  tensors.safetensors   every tensor of the state           state.json   everything else, with a place for each tensor
  manifest.json         step, and size and sha256 of both files (the last thing written)

A checkpoint is written under another name, synced to disk and renamed, so a folder named step-N is whole unless the disk damaged it;
that is what the sums are for. Nothing is ever unpickled. One writer at a time (the trainer holds the run folder's lock).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from agora.errors import CheckpointError
from agora.files import file_sha256, sync
from agora.units import format_bytes

logger = logging.getLogger(__name__)

FORMAT: Final = 1
_NAME: Final = re.compile(r"step-(\d{8,})")
_TENSORS, _STATE, _MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
_SPARE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: tensors are on the CPU."""

    path: Path
    step: int
    state: dict[str, Any]


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write `state` as the checkpoint of `step` into `folder` and delete all but the `keep` newest whole ones.

    Raises CheckpointError when the disk is full or not writable; older checkpoints are then untouched.
    """
    tensors, plain = flatten(state)
    return _write(folder, step, _copies(tensors), plain, keep=keep)


class CheckpointWriter:
    """Writes checkpoints in a thread, so that training only waits for a copy in memory (measured in benchmarks/checkpoint_stall)."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder, self._keep = folder, keep
        self._thread: threading.Thread | None = None
        self._error: CheckpointError | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copy `state` and write it in the background, after the one before is done. Raises what that one met."""
        self.wait()
        tensors, plain = flatten(state)
        copies = _copies(tensors)

        def work() -> None:
            try:
                _write(self._folder, step, copies, plain, keep=self._keep)
            except CheckpointError as error:
                self._error = error

        self._thread = threading.Thread(target=work, name=f"checkpoint-{step}")
        self._thread.start()

    def wait(self) -> None:
        """Until the last checkpoint is on disk. Raises CheckpointError when it could not be written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def load_latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, or None when there is none at all. A damaged one is named in a warning and the one before is taken.

    Raises CheckpointError when there are checkpoints and every one is damaged.
    """
    found = list_checkpoints(folder)
    refused = []
    for path in reversed(found):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            logger.warning("%s; taking the one before", error)
            refused.append(path.name)
    if refused:
        raise CheckpointError(
            f"every checkpoint in {folder} is damaged ({', '.join(refused)}); restore one from a copy, or start again with --fresh"
        )
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Folders that claim to be checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check one checkpoint. Raises CheckpointError naming it and what is wrong with it."""
    manifest = verify_checkpoint(path)
    try:
        plain = json.loads((path / _STATE).read_text(encoding="utf-8"))
        tensors = load_file(path / _TENSORS)
        _refuse_not_finite(path, tensors)
        return Checkpoint(path, int(manifest["step"]), unflatten(tensors, plain))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """Compare sizes and sums with the manifest and return it. Raises CheckpointError."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise CheckpointError(f"checkpoint {path} has format {manifest['format']}, this Agora reads {FORMAT}")
        for name, facts in manifest["files"].items():
            size_bytes = (path / name).stat().st_size
            if size_bytes != facts["size_bytes"]:
                raise CheckpointError(f"checkpoint {path} is corrupt: {name} has {size_bytes} bytes instead of {facts['size_bytes']}")
            if file_sha256(path / name) != facts["sha256"]:
                raise CheckpointError(f"checkpoint {path} is corrupt: the sha256 of {name} differs from its manifest")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path} is corrupt: {type(error).__name__}: {error}") from error
    assert isinstance(manifest, dict)
    return manifest


def clean(folder: Path, newest: Path | None) -> None:
    """Before a trainer writes: remove what a killed writer left, and move checkpoints newer than `newest`, the one that was loaded,
    out of the way (NAME.corrupt): they were refused, and must neither count nor be gone on from."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith((".writing-", ".deleting-")):
            shutil.rmtree(path)
    for path in reversed(list_checkpoints(folder)):
        if path == newest:
            return  # older ones are looked at when they are needed
        target = path.with_name(path.name + ".corrupt")
        shutil.rmtree(target, ignore_errors=True)
        path.rename(target)


def _refuse_not_finite(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """No state that Agora saves holds such numbers; a run that went on from them could only fail at its next step."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(f"checkpoint {path} is corrupt: {name.rpartition('/')[2]} holds numbers that are not finite")


def _copies(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _write(folder: Path, step: int, tensors: Mapping[str, torch.Tensor], plain: Any, *, keep: int) -> Path:
    target = folder / f"step-{step:08d}"
    temporary = folder / f".writing-{target.name}"
    needed_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) + _SPARE_BYTES
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
        if free_bytes < needed_bytes:
            raise OSError(errno.ENOSPC, f"{format_bytes(needed_bytes)} needed, {format_bytes(free_bytes)} free")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        save_file(dict(tensors), temporary / _TENSORS)
        (temporary / _STATE).write_text(json.dumps(plain), encoding="utf-8")
        files = {
            name: {"size_bytes": (temporary / name).stat().st_size, "sha256": file_sha256(temporary / name)} for name in (_TENSORS, _STATE)
        }
        manifest = {"format": FORMAT, "step": step, "files": files}
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
        for name in (_TENSORS, _STATE, _MANIFEST):
            sync(temporary / name)
        sync(temporary)
        if target.exists():
            _remove(target)
        os.replace(temporary, target)
        sync(folder)
        _delete_old(folder, keep)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise CheckpointError(
            f"checkpoint {target} could not be written: {error}; older checkpoints are untouched. "
            "Free some space and run the same command to go on from the last one"
        ) from error
    return target


def _delete_old(folder: Path, keep: int) -> None:
    """Keep the `keep` newest checkpoints that are whole; a damaged one never counts, so the last good one stays."""
    num_whole = 0
    for path in reversed(list_checkpoints(folder)):
        if num_whole >= keep:
            _remove(path)
            continue
        try:
            verify_checkpoint(path)
            num_whole += 1
        except CheckpointError as error:
            logger.warning("%s; it does not count among the %d checkpoints kept", error, keep)


def _remove(path: Path) -> None:
    doomed = path.with_name(f".deleting-{path.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    path.rename(doomed)
    shutil.rmtree(doomed)


def flatten(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], Any]:
    """Split a nested state into named tensors and a JSON value that says where each belongs. Raises CheckpointError for other types."""
    tensors: dict[str, torch.Tensor] = {}

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, torch.Tensor):
            tensors[path] = value
            return {"$tensor": path}
        if isinstance(value, Mapping):
            return {"$items": [[key, plain(item, f"{path}/{key}")] for key, item in value.items()]}
        if isinstance(value, tuple):
            return {"$tuple": [plain(item, f"{path}/{index}") for index, item in enumerate(value)]}
        if isinstance(value, list):
            return [plain(item, f"{path}/{index}") for index, item in enumerate(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise CheckpointError(f"the state holds {type(value).__name__} at {path}, which a checkpoint cannot hold")

    return tensors, plain(state, "")


def unflatten(tensors: Mapping[str, torch.Tensor], plain: Any) -> dict[str, Any]:
    """Inverse of `flatten`. Raises KeyError for a tensor that is missing."""

    def nested(value: Any) -> Any:
        if isinstance(value, list):
            return [nested(item) for item in value]
        if isinstance(value, dict):
            if "$tensor" in value:
                return tensors[value["$tensor"]]
            if "$tuple" in value:
                return tuple(nested(item) for item in value["$tuple"])
            return {key: nested(item) for key, item in value["$items"]}
        return value

    result = nested(plain)
    assert isinstance(result, dict)
    return result
