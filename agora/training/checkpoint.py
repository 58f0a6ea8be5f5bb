"""Checkpoints of a run. Goes in: a nested state of tensors and plain values, on one process or divided over many. Comes out: the same
state, bit for bit, or a refusal by name.

RUN/checkpoints/step-00000120/, or the same under training.checkpoint_url
  tensors-00000.safetensors ...   what each rank wrote          index.json   which tensor lies where (sharded_checkpoint.py)
  state.json                      everything that is no tensor, with a place for each tensor
  manifest.json                   step, and size and sha256 of every other file (the last thing written)

A checkpoint counts once its manifest is there, which the first rank writes after all ranks have written (checkpoint_store.py); killed
before, the older ones stay. The sums are for disks that damage files. Nothing is ever unpickled. One run writes at a time (the trainer
holds the run folder's lock, and the lease of a URL).
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from agora.errors import CheckpointError
from agora.files import remedy
from agora.training.checkpoint_store import MANIFEST, Store, TakenOverError, checkpoint_name, open_store, step_of
from agora.training.nested_state import flatten, unflatten
from agora.training.sharded_checkpoint import (
    FORMAT,
    INDEX,
    STATE,
    Piece,
    StoredTensors,
    copies,
    pieces_of,
    pieces_to_write,
    write_checkpoint,
)
from agora.training.world import World

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PATIENCE: Final = timedelta(days=1)  # of ranks whose upload is done with those whose is not: who hangs, the watchdog tells
Where = Path | str | Store  # a folder, a URL, or what was made of them
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: `name` and `place` (for people), its step and its state."""

    name: str
    place: str
    step: int
    state: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Keep:
    """Which checkpoints stay: the `newest` whole ones, and for good those of every `every_steps` steps. Besides, where replicas are
    compared, the newest whole one up to `verified`, the last step after which they agreed: all later ones may be put aside."""

    newest: int = 2
    every_steps: int | None = None
    verified: int | None = None


class _Damaged(CheckpointError):
    """Files are not what was written; another checkpoint may be whole."""


def save_checkpoint(where: Where, step: int, state: Mapping[str, Any], *, keep: int = 2) -> str:
    """Write `state`, that of one process, as the checkpoint of `step` and delete all but the `keep` newest whole ones. Returns its name.

    Raises CheckpointError when the disk is full or not writable; older checkpoints are then untouched.
    """
    tensors, plain = flatten(state)
    return _write(_store(where), step, copies(pieces_of(tensors)), plain, keep=Keep(newest=keep), known=set(), group=None)


class CheckpointWriter:
    """Writes checkpoints in a thread, so that training only waits for a copy in memory (measured in benchmarks/checkpoint_stall).

    On several processes every one makes a writer, and all call `save` with what they hold after the same steps. The threads talk over a
    group of their own, so they never meet the exchanges of training.
    """

    def __init__(self, where: Where, *, keep: int = 2, keep_every: int | None = None, world: World | None = None) -> None:
        self._store, self._keep = _store(where), Keep(newest=keep, every_steps=keep_every)
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if world is not None and world.size > 1 else None
        self._known: set[str] = set()  # what this run has written itself
        self._thread: threading.Thread | None = None
        self._error: CheckpointError | None = None

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._thread is not None and self._thread.is_alive()

    def save(self, step: int, state: Mapping[str, Any], *, verified: int | None = None) -> None:
        """Copy `state` and write it in the background, after the one before is done; `verified` as in Keep. Raises what that one met."""
        self.wait()
        keep = replace(self._keep, verified=verified)
        tensors, plain = flatten(state)
        pieces = copies(pieces_to_write(tensors))

        def work() -> None:
            try:
                _write(self._store, step, pieces, plain, keep=keep, known=self._known, group=self._group)
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


def resume_latest(where: Where, state: Mapping[str, Any], *, world: World | None = None) -> Checkpoint | None:
    """Read the newest whole checkpoint into the tensors of `state`, in place; what is returned holds these tensors. None when there is no
    checkpoint at all. A damaged one is named in a warning and the one before is taken.

    On several processes each gives what it holds, however the checkpoint was divided. Raises CheckpointError, on all of them, when there
    are checkpoints and every one is damaged or put aside, or when the state is of another model or optimizer.
    """
    world, store = world or World(), _store(where)
    tensors, _ = flatten(state)
    found = _newest(store, world, lambda name: _fill(store, name, tensors, world))
    if found is None:
        _raise_together(world, _only_put_aside(store) if world.is_first else None, CheckpointError)
    return found


def load_latest_checkpoint(where: Where) -> Checkpoint | None:
    """The newest whole checkpoint with whole tensors on the CPU, or None when there is none. Warns and raises as `resume_latest`."""
    store = _store(where)
    return _newest(store, World(), lambda name: load_checkpoint(store, name))


def open_latest_checkpoint(where: Where) -> tuple[Checkpoint, StoredTensors] | None:
    """The newest whole checkpoint without its tensors, and those on disk: read them inside a `with`. Raises as `resume_latest`."""
    store = _store(where)
    return _newest(store, World(), lambda name: _open(store, name)[:2])


def list_checkpoints(where: Where) -> list[str]:
    """Names of what claims to be a checkpoint, oldest first. Raises OSError when the place cannot be read."""
    return _store(where).names()


def load_checkpoint(where: Where, name: str) -> Checkpoint:
    """Read and check one checkpoint. Raises CheckpointError naming it and what is wrong with it."""
    store = _store(where)
    found, stored, plain = _open(store, name)
    try:
        with stored:
            tensors = {tensor: stored.rows(tensor) for tensor in stored}
        _refuse_not_finite(found.place, tensors)
        return replace(found, state=unflatten(tensors, plain))
    except _UNREADABLE as error:
        raise _Damaged(f"checkpoint {found.place} cannot be read: {error}") from error


def verify_checkpoint(where: Where, name: str) -> None:
    """Compare sizes and sums with the manifest. Raises CheckpointError."""
    _open(_store(where), name)


def clean(where: Where, newest: str | None) -> None:
    """Before a trainer writes: remove what a killed writer left, and move checkpoints newer than `newest`, the one that was loaded,
    out of the way (NAME.corrupt): they were refused, and must neither count nor be gone on from. Raises CheckpointError."""
    store = _store(where)
    try:
        store.clean()
        for name in reversed(store.names()):
            if name == newest:
                return  # older ones are looked at when they are needed
            store.set_aside(name)
    except OSError as error:
        raise CheckpointError(f"what is left of older checkpoints cannot be moved away: {error}") from error


def _store(where: Where) -> Store:
    return open_store(where) if isinstance(where, (Path, str)) else where


def _newest(store: Store, world: World, load: Callable[[str], T]) -> T | None:
    found: list[str] = []
    problem = None
    if world.is_first:
        try:
            found = store.names()
        except OSError as error:
            problem = f"checkpoints cannot be listed: {error}"
    _raise_together(world, problem, CheckpointError)
    refused = []
    for name in reversed(world.from_first(found)):
        try:
            return load(name)
        except _Damaged as error:
            logger.warning("%s; taking the one before", error)
            refused.append(name)
    if refused:
        where = store.place(refused[0]).rpartition("/")[0]
        raise CheckpointError(
            f"every checkpoint in {where} is damaged ({', '.join(refused)}); restore one from a copy, or start again with --fresh"
        )
    return None


def _only_put_aside(store: Store) -> str | None:
    """Why a run without a checkpoint must not begin at step 0, when it had some."""
    try:
        aside = store.names_set_aside()
    except OSError as error:
        return f"checkpoints cannot be listed: {error}"
    if not aside:
        return None
    where = store.place("").rstrip("/")
    return (
        f"every checkpoint in {where} was put aside as corrupt or doubtful ({', '.join(aside)}), so that the run would "
        "begin again at step 0 and lose its metrics; do so with --fresh, or restore a checkpoint from a copy"
    )


def _raise_together(world: World, problem: str | None, kind: type[CheckpointError]) -> None:
    """What one process met, all raise: they must go on from the same checkpoint."""
    first = world.first_text(problem)
    if first is not None:
        raise kind(first)


def _open(
    store: Store, name: str, world: World | None = None, only: Container[str] | None = None
) -> tuple[Checkpoint, StoredTensors, Any]:  # fmt: skip
    """A checkpoint without its tensors, those on disk, and state.json; all sums compared, of several processes each a share of the files.
    `only`: what this process will read, where it is not everything. Collective. Raises CheckpointError."""
    world, place = world or World(), store.place(name)
    manifest, texts = _contents(store, name, world)
    try:
        for number, (file, facts) in enumerate(sorted(manifest["files"].items())):
            if number % world.size == world.rank and file not in texts:
                with store.reading(name, file) as stream:
                    _compare_sum(place, file, hashlib.file_digest(stream, "sha256").hexdigest(), facts)
        plain, tensors = json.loads(texts[STATE]), json.loads(texts[INDEX])["tensors"]
        stored = StoredTensors(store, name, {key: tensors[key] for key in tensors if only is None or key in only}, manifest["files"])
        return Checkpoint(name, place, int(manifest["step"]), unflatten(None, plain)), stored, plain
    except _UNREADABLE as error:
        raise _Damaged(f"checkpoint {place} cannot be read: {type(error).__name__}: {error}") from error


def _contents(store: Store, name: str, world: World) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the files that say what is where. The first process reads them and looks at the sizes, for all: 100,000 that list
    one folder are more than a file system stands."""

    def read() -> tuple[dict[str, Any], dict[str, bytes]]:
        manifest = _check_sizes(store, name)
        try:
            return manifest, {file: _read_checked(store, name, file, manifest) for file in (INDEX, STATE)}
        except _UNREADABLE as error:
            raise _Damaged(f"checkpoint {store.place(name)} is corrupt: {type(error).__name__}: {error}") from error

    return world.first_does(read, CheckpointError)


def _read_checked(store: Store, name: str, file: str, manifest: Mapping[str, Any]) -> bytes:
    with store.reading(name, file) as stream:
        data: bytes = stream.read()
    _compare_sum(store.place(name), file, hashlib.sha256(data).hexdigest(), manifest["files"][file])
    return data


def _compare_sum(place: str, file: str, found: str, facts: Mapping[str, Any]) -> None:
    if found != facts["sha256"]:
        raise _Damaged(f"checkpoint {place} is corrupt: the sha256 of {file} differs from its manifest")


def _fill(store: Store, name: str, tensors: Mapping[str, Tensor], world: World) -> Checkpoint:
    """Three things can be wrong, and each must be so for all processes: the files, what is asked of them, the numbers in them."""
    opened, pieces, problem = None, pieces_of(tensors), None
    try:
        opened = _open(store, name, world, None if world.size == 1 else {piece.name for piece in pieces})
    except _Damaged as error:
        problem = str(error)
    _raise_together(world, problem, _Damaged)
    assert opened is not None
    found, stored, plain = opened
    _raise_together(world, _difference(found.place, pieces, stored, is_whole=world.size == 1), CheckpointError)
    try:
        with stored:
            for piece in pieces:
                stored.fill(piece)
        _refuse_not_finite(found.place, {piece.name: piece.values for piece in pieces})
    except _Damaged as error:
        problem = str(error)
    except _UNREADABLE as error:
        problem = f"checkpoint {found.place} cannot be read: {error}"
    _raise_together(world, problem, _Damaged)
    return replace(found, state=unflatten(tensors, plain))


def _difference(place: str, pieces: Sequence[Piece], stored: StoredTensors, *, is_whole: bool) -> str | None:
    """Why these pieces cannot be read from there."""
    for piece in pieces:
        label = piece.name.rpartition("/")[2]
        if piece.name not in stored:
            return f"checkpoint {place}: {label} is missing; it is of another model or optimizer"
        if stored.shape(piece.name) != piece.shape or stored.dtype(piece.name) != piece.values.dtype:
            kind = f"{stored.dtype(piece.name)} {list(stored.shape(piece.name))}"
            return f"checkpoint {place}: {label} is {kind}, but the model needs {piece.values.dtype} {list(piece.shape)}"
    more = sorted(set(stored) - {piece.name for piece in pieces}) if is_whole else []
    return f"checkpoint {place}: {more[0]} does not belong to this model and optimizer" if more else None


def _check_sizes(store: Store, name: str) -> dict[str, Any]:
    """The manifest, when every file is there and as long as it says."""
    place = store.place(name)
    try:
        with store.reading(name, MANIFEST) as stream:
            manifest = json.loads(stream.read())
        sizes = store.sizes(name)
        if manifest["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {place} has format {manifest['format']}, this Agora reads {FORMAT}; end the run with the Agora that began it, "
                "or start again with --fresh"
            )
        for file, facts in manifest["files"].items():
            if file not in sizes:
                raise _Damaged(f"checkpoint {place} is corrupt: {file} is missing")
            if sizes[file] != facts["size_bytes"]:
                raise _Damaged(f"checkpoint {place} is corrupt: {file} has {sizes[file]} bytes instead of {facts['size_bytes']}")
    except _UNREADABLE as error:
        raise _Damaged(f"checkpoint {place} is corrupt: {type(error).__name__}: {error}") from error
    assert isinstance(manifest, dict)
    return manifest


def _refuse_not_finite(place: str, tensors: Mapping[str, Tensor]) -> None:
    """No state that Agora saves holds such numbers; a run that went on from them could only fail at its next step."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise _Damaged(f"checkpoint {place} is corrupt: {name.rpartition('/')[2]} holds numbers that are not finite")


def _write(
    store: Store, step: int, pieces: Sequence[Piece], plain: Any, *, keep: Keep, known: set[str], group: dist.ProcessGroup | None
) -> str:
    name = checkpoint_name(step)
    is_first = group is None or dist.get_rank(group) == 0
    try:
        write_checkpoint(store, name, step, pieces, plain, group)
        known.add(name)
        if is_first:
            _delete_old(store, keep, known, only_sizes=group is not None)
    except (OSError, ValueError, RuntimeError, CheckpointException) as error:
        if is_first:
            with suppress(OSError):
                store.abandon(name)
        raise CheckpointError(f"checkpoint {store.place(name)} could not be written: {_reason(error)}; {_what_to_do(error)}") from error
    return name


def _what_to_do(error: BaseException) -> str:
    causes = [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
    if any(isinstance(cause, TakenOverError) for cause in causes):
        return "end the run that writes there, or train under another --name or training.checkpoint_url"
    advice = next(filter(None, (remedy(cause) for cause in causes if isinstance(cause, OSError))), "see to that")
    return f"older checkpoints are untouched. {advice.capitalize()} and run the same command to go on from the last one"


def _reason(error: BaseException) -> str:
    if isinstance(error, CheckpointException):
        return "; ".join(f"rank {rank}: {cause}" for rank, (cause, _) in sorted(error.failures.items()))
    return str(error)


def _delete_old(store: Store, keep: Keep, known: set[str], *, only_sizes: bool) -> None:
    """Keep the newest checkpoints that are whole; a damaged one never counts, so the last good one stays. Of those that this run wrote,
    and of all in a divided run, whose checkpoints are too large for one process to read, only the sizes are compared."""
    num_whole, needs_verified = 0, keep.verified is not None
    for name in reversed(store.names()):
        is_verified = needs_verified and step_of(name) <= (keep.verified or 0)
        if num_whole >= keep.newest and not is_verified:
            if not keep.every_steps or step_of(name) % keep.every_steps:
                store.remove(name)
            continue
        try:
            if only_sizes or name in known:
                _check_sizes(store, name)
            else:
                verify_checkpoint(store, name)
            num_whole, needs_verified = num_whole + 1, needs_verified and not is_verified
        except CheckpointError as error:
            logger.warning("%s; it does not count among the %d checkpoints kept", error, keep.newest)
