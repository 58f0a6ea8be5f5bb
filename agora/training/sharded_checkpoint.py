"""Tensors of a run on disk, whatever it was divided into. Goes in: what each rank holds, as DTensors or plain tensors. Comes out: one file
per rank with what that rank wrote, an index in JSON, and any block of any tensor again.

torch.distributed.checkpoint plans who writes what and which saved blocks a block to be loaded overlaps; its files would be pickles, so the
files are ours: safetensors and JSON. Replicas share the writing before they ask: its coordinator would hear of every copy of every block.

Names and shapes are those of the plain model. A fused matrix that was cut into its linear maps (NAME.0, NAME.1, ...; see stage.py) is
one tensor in the index, whose maps lie one below the other: so one process and any number of ranks read the same checkpoint.

CHECKPOINT/
  tensors-00000.safetensors ...   the blocks that a rank wrote
  index.json                      each tensor: dtype, shape, and its blocks with their files
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.planner_helpers import create_read_items_for_chunk_list
from torch.distributed.checkpoint.state_dict_saver import save as save_together
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.distributed.tensor import DTensor
from torch.futures import Future

from agora.model.tensor_files import DTYPE_NAMES, Entry, FileFacts, SummedFile, read_entries, read_into, write_tensors
from agora.training.checkpoint_store import MANIFEST, Store

FORMAT: Final = 2
INDEX: Final = "index.json"
STATE: Final = "state.json"
_OPEN_FILES: Final = 64  # a process may have some 1,000
_MAP: Final = re.compile(r"(.+)\.(\d+)")
_DTYPES: Final = {name: dtype for dtype, name in DTYPE_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Piece:
    """A block of a tensor that is here: the tensor's name and whole shape, where the block begins, and its numbers."""

    name: str
    shape: tuple[int, ...]
    offsets: tuple[int, ...]
    values: Tensor

    @property
    def index(self) -> MetadataIndex:
        """What torch calls it."""
        return MetadataIndex(self.name, self.offsets)

    @property
    def chunk(self) -> ChunkStorageMetadata:
        """What torch calls its place."""
        return ChunkStorageMetadata(torch.Size(self.offsets), self.values.shape)


@torch.no_grad()
def pieces_of(tensors: Mapping[str, Tensor], only: Container[str] | None = None) -> list[Piece]:
    """The blocks of `tensors` that this rank holds, as views; `only` of those names. Empty ones are left out."""
    maps: dict[str, dict[int, Tensor]] = {}
    result = []
    for name, tensor in tensors.items():
        found = _MAP.fullmatch(name)
        if found:
            maps.setdefault(found[1], {})[int(found[2])] = tensor
        elif only is None or name in only:
            result.append(_piece(name, tensor, 0, tensor.shape))
    for name, parts in maps.items():
        rows = [parts[index].shape[0] for index in range(len(parts))]
        shape = (sum(rows), *parts[0].shape[1:])
        here = [index for index in range(len(parts)) if only is None or f"{name}.{index}" in only]
        result += [_piece(name, parts[index], sum(rows[:index]), shape) for index in here]
    return [piece for piece in result if piece.values.numel()]


def _piece(name: str, tensor: Tensor, first_row: int, shape: Sequence[int]) -> Piece:
    if not isinstance(tensor, DTensor):
        return Piece(name, tuple(shape), (first_row, *[0] * (tensor.ndim - 1)) if tensor.ndim else (), tensor.detach())
    (chunk,) = tensor.__create_chunk_list__()  # type: ignore[no-untyped-call]
    return Piece(name, tuple(shape), (first_row + chunk.offsets[0], *chunk.offsets[1:]), tensor.to_local().detach())


def pieces_to_write(tensors: Mapping[str, Tensor]) -> list[Piece]:
    """Of `pieces_of`, what this rank writes: of what several ranks hold alike, each takes about as many bytes. All decide alike without
    asking each other."""
    alike: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    copies_of: dict[tuple[Any, ...], tuple[int, int]] = {}
    for name, tensor in tensors.items():
        key, place, number = _among_copies(tensor)
        copies_of[key] = place, number
        alike.setdefault(key, []).append((tensor.to_local().nbytes if isinstance(tensor, DTensor) else 0, name))
    mine: set[str] = set()
    for key, members in alike.items():
        place, number = copies_of[key]
        written = [0] * number
        for num_bytes, name in sorted(members, reverse=True):
            writer = written.index(min(written))
            written[writer] += num_bytes
            if writer == place:
                mine.add(name)
    return pieces_of(tensors, mine)


def _among_copies(tensor: Tensor) -> tuple[tuple[Any, ...], int, int]:
    """What is the same for tensors that lie alike on the same ranks; which of the ranks that hold the same block this one is, and how many
    those are. Of a plain tensor every rank has a copy, and who writes it torch decides."""
    if not isinstance(tensor, DTensor):
        return (), 0, 1
    mesh, here = tensor.device_mesh, tensor.device_mesh.get_coordinate()
    assert here is not None
    replicated = [axis for axis, placement in enumerate(tensor.placements) if placement.is_replicate()]
    place, number = 0, 1
    for axis in replicated:
        place, number = place * mesh.shape[axis] + here[axis], number * mesh.shape[axis]
    return (mesh.mesh_dim_names, mesh.shape, *replicated), place, number


def copies(pieces: Iterable[Piece]) -> list[Piece]:
    """The same blocks in memory of their own, on the CPU."""
    return [Piece(piece.name, piece.shape, piece.offsets, piece.values.to("cpu", copy=True).contiguous()) for piece in pieces]


# ---- writing


class _Planner(DefaultSavePlanner):
    """torch's, over pieces instead of a state dict."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self._pieces = {piece.index: piece for piece in pieces}

    def create_local_plan(self) -> SavePlan:
        """Everything that is here; who writes what several have is decided by the coordinator."""
        items = [
            WriteItem(
                index=index, type=WriteItemType.SHARD,
                tensor_data=TensorWriteData(
                    chunk=piece.chunk, properties=TensorProperties(dtype=piece.values.dtype), size=torch.Size(piece.shape)
                ),
            )
            for index, piece in self._pieces.items()
        ]  # fmt: skip
        self.plan = SavePlan(items)
        return self.plan

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        """The numbers of a piece."""
        return self._pieces[index].values


class _Writer(StorageWriter):
    """One checkpoint in a store. The coordinator makes room for it, and in the end makes it count."""

    def __init__(self, store: Store, name: str, step: int, plain: Any, rank: int) -> None:
        self._store, self._name, self._step, self._plain, self._rank = store, name, step, plain, rank

    def reset(self, checkpoint_id: Any = None) -> None:
        """Nothing to do: a writer serves one checkpoint."""

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Nothing to do yet: how much is to be written is not known."""

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Before anybody writes: is there room?"""
        self._store.begin(self._name, sum(_num_bytes(item) for plan in plans for item in plan.items))
        return plans

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """This rank's file."""
        file = f"tensors-{self._rank:05d}.safetensors"
        keys = {_key(item): item for item in plan.items}
        results: list[WriteResult] = []
        if keys:
            announced = {key: (_data(item).properties.dtype, _data(item).chunk.sizes) for key, item in keys.items()}
            with self._store.writing(self._name, file) as stream:
                facts = write_tensors(stream, announced, lambda key: planner.resolve_data(keys[key]))  # type: ignore[arg-type,return-value]
            results = [WriteResult(item.index, _num_bytes(item), (file, key, facts)) for key, item in keys.items()]
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)  # type: ignore[arg-type]
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Index, what is not a tensor, and last the manifest."""
        written = {result.index: result.storage_data for part in results for result in part}
        files: dict[str, FileFacts] = {file: facts for file, _, facts in written.values()}
        tensors = {name: _describe(name, known, written) for name, known in metadata.state_dict_metadata.items()}
        for file, table in {INDEX: {"tensors": tensors}, STATE: self._plain}.items():
            files[file] = self._write(file, json.dumps(table))
        manifest = {
            "format": FORMAT, "step": self._step, "num_ranks": len(results),
            "files": {file: {"size_bytes": facts.size_bytes, "sha256": facts.sha256} for file, facts in sorted(files.items())},
        }  # fmt: skip
        self._write(MANIFEST, json.dumps(manifest, indent=2))
        self._store.commit(self._name)

    def _write(self, file: str, text: str) -> FileFacts:
        with self._store.writing(self._name, file) as stream:
            summed = SummedFile(stream)
            summed.write(text.encode())
        return summed.facts

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        """Checkpoints are named by their store."""
        return False


def write_checkpoint(
    store: Store, name: str, step: int, pieces: Sequence[Piece], plain: Any, group: dist.ProcessGroup | None = None
) -> None:
    """Write one checkpoint, alone or, with `group`, together with the others of it, who call this too. Raises OSError, ValueError, or
    torch's CheckpointException, which every rank gets when one of them met something."""
    planner = _Planner(pieces)
    if group is not None:
        save_together({}, storage_writer=_Writer(store, name, step, plain, dist.get_rank(group)), planner=planner, process_group=group)
        return
    writer = _Writer(store, name, step, plain, 0)
    planner.set_up_planner({}, is_coordinator=True)
    plans, metadata = planner.create_global_plan([planner.create_local_plan()])
    writer.prepare_global_plan(plans)
    results = writer.write_data(planner.finish_plan(plans[0]), planner)
    writer.finish(metadata, [results.wait()])


def _data(item: WriteItem) -> TensorWriteData:
    assert item.tensor_data is not None
    return item.tensor_data


def _num_bytes(item: WriteItem) -> int:
    return math.prod(_data(item).chunk.sizes) * _data(item).properties.dtype.itemsize


def _key(item: WriteItem) -> str:
    """The name in the file: a tensor's own when it is whole."""
    data = _data(item)
    is_whole = data.chunk.sizes == data.size
    return item.index.fqn if is_whole else f"{item.index.fqn}@{','.join(map(str, data.chunk.offsets))}"


def _describe(name: str, known: Any, written: Mapping[MetadataIndex, tuple[str, str, FileFacts]]) -> dict[str, Any]:
    blocks = []
    for chunk in known.chunks:
        file, key, _ = written[MetadataIndex(name, chunk.offsets)]
        blocks.append({"offsets": list(chunk.offsets), "sizes": list(chunk.sizes), "file": file, "key": key})
    return {"dtype": DTYPE_NAMES[known.properties.dtype], "shape": list(known.size), "blocks": blocks}


# ---- reading


class StoredTensors:
    """The tensors of a checkpoint, read block by block. A context: files stay open inside it."""

    def __init__(self, store: Store, name: str, tensors: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        """`tensors` are those of index.json, or some of them, `files` those of the manifest. Raises ValueError, KeyError or TypeError when
        they are not."""
        self._store, self._name, self._facts = store, name, files
        self._files: dict[str, tuple[ExitStack, Any, dict[str, Entry]]] = {}
        self._known: dict[str, TensorStorageMetadata] = {}
        self._places: dict[MetadataIndex, tuple[str, str]] = {}
        for tensor, facts in tensors.items():
            chunks = []
            for block in facts["blocks"]:
                chunk = ChunkStorageMetadata(torch.Size(block["offsets"]), torch.Size(block["sizes"]))
                self._places[MetadataIndex(tensor, chunk.offsets)] = block["file"], block["key"]
                chunks.append(chunk)
            properties = TensorProperties(dtype=_DTYPES[facts["dtype"]])
            self._known[tensor] = TensorStorageMetadata(properties, torch.Size(facts["shape"]), chunks)

    def __enter__(self) -> StoredTensors:
        return self

    def __exit__(self, *error: object) -> None:
        while self._files:
            self._files.popitem()[1][0].close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    @property
    def sha256(self) -> str:
        """Of all tensors."""
        sums = [f"{file} {facts['sha256']}" for file, facts in sorted(self._facts.items()) if file.endswith(".safetensors")]
        return hashlib.sha256("\n".join(sums).encode()).hexdigest()

    def shape(self, name: str) -> tuple[int, ...]:
        """Of the whole tensor. Raises KeyError."""
        return tuple(self._known[name].size)

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor. Raises KeyError."""
        return self._known[name].properties.dtype

    @torch.no_grad()
    def fill(self, piece: Piece) -> None:
        """Read the numbers of a piece into it. Raises KeyError, ValueError and OSError for what cannot be read."""
        items = create_read_items_for_chunk_list(piece.name, self._known[piece.name], [piece.chunk])
        num_read = 0
        for item in items:
            file, key = self._places[MetadataIndex(piece.name, item.storage_index.offset)]
            stream, entries = self._open(file)
            if entries[key].shape != tuple(self._known[piece.name].chunks[item.storage_index.index or 0].sizes):
                raise ValueError(f"{key} in {file} has not the shape that {INDEX} says")
            target = piece.values
            for dim, (start, length) in enumerate(zip(item.dest_offsets, item.lengths, strict=True)):
                target = target.narrow(dim, start, length)
            read_into(target, stream, entries[key], item.storage_offsets)
            num_read += target.numel()
        if num_read != piece.values.numel():
            raise ValueError(f"{piece.name} is not all there: {num_read} of {piece.values.numel()} numbers")

    def rows(self, name: str, first: int = 0, count: int | None = None) -> Tensor:
        """Some rows of a tensor, or all of it."""
        shape = self.shape(name)
        sizes = shape if count is None else (count, *shape[1:])
        result = torch.empty(sizes, dtype=self.dtype(name))
        self.fill(Piece(name, shape, (first, *[0] * (len(shape) - 1)) if shape else (), result))
        return result

    def _open(self, file: str) -> tuple[Any, dict[str, Entry]]:
        if file not in self._files:
            if len(self._files) == _OPEN_FILES:
                self._files.pop(next(iter(self._files)))[0].close()
            size_bytes = int(self._facts[file]["size_bytes"])  # first: only files of the manifest are opened
            with ExitStack() as stack:
                stream = stack.enter_context(self._store.reading(self._name, file))
                entries = read_entries(stream, size_bytes)
                self._files[file] = stack.pop_all(), stream, entries
        _, stream, entries = self._files[file]
        return stream, entries
