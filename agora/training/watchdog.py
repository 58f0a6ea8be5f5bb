"""Naming what hangs. Goes in: where this process stands, and a store that all processes reach. Comes out: nothing while all is well; when
nothing has moved for `timeout_s`, an error that names the process which does not answer and the operation in which the others wait, a
folder RUN/hang with what each process did, and the end of the process, so that the launcher can start again.

A thread looks at the main thread's stack 50 times a second. That tells where it stands without a word in the code that runs, also inside
a collective of PyTorch's engine, and which share of the time it waits for others (stragglers.py). Once a beat it writes the place into the
store. Only when something hangs is the table of all ranks read, twice: who has not written in between does not answer. No clocks are
compared. Time in which the process itself was stopped does not count as hanging, nor does a checkpoint of which pieces still move, here or
on another rank (movement.py); one of which nothing moves is named.

PyTorch's flight recorder says which collective is not finished. On a GPU, where the main thread waits at the next copy to the host, that
is NCCL's record, and the line of the program says little.
"""

from __future__ import annotations

import contextlib
import json
import linecache
import logging
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Final

import torch.distributed as dist

from agora.errors import TrainingError
from agora.files import write_atomically
from agora.training.beats import Beat, judge, movers
from agora.training.movement import Movement
from agora.training.run_folder import RunFolder
from agora.training.world import World

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.02  # a look at 40 frames takes 8 microseconds (epyc2): a two-thousandth of a core
_LONGEST_LOOK_S: Final = 1.0  # a longer gap between looks means that this process was stopped itself
_RANKS_PER_S: Final = 5000  # beats that one store takes: a TCPStore answers some tens of thousands of requests per second
_FILE_PHASES: Final = ("start", "restore", "checkpoint")  # in which the loop may wait for files
_COLLECTIVES: Final = (
    ".wait(", "wait_tensor", "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "broadcast", "barrier", ".recv(", ".send(",
    "batch_isend_irecv",
)  # fmt: skip
_PASSED_OVER: Final = frozenset({"wrapper", "inner", "_fn", "wrapped_func", "decorate_context"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thread stands: `key` is the same as long as it has not moved."""

    key: tuple[tuple[int, int], ...]
    operation: str
    waits: bool


class Watchdog:
    """Watches the main thread of this process inside a `with` block. `on_hang` ends the process; tests put something else there.

    `timeout_s=None` only measures. With one process there is nobody to wait for and nothing is watched. `files` is where work on
    checkpoints counts its pieces.
    """

    files: Movement | None = None

    def __init__(
        self, world: World, run_dir: Path, timeout_s: float | None, *, on_hang: Callable[[str], None] | None = None
    ) -> None:  # fmt: skip
        self.world, self.run_dir, self._timeout_s = world, run_dir, timeout_s
        self._on_hang = on_hang or _end_process
        self._step, self._phase, self._moves = 0, "start", 0
        self._beats = 0
        self._num_looks = self._num_waits = 0
        self._files_count, self._files_still_s = 0, 0.0
        self._main = threading.get_ident()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._table: Table | None = None
        self._beat_s = max(1.0, world.size / _RANKS_PER_S)
        if timeout_s is not None:
            self._beat_s = max(0.1, min(self._beat_s, timeout_s / 10))

    def __enter__(self) -> Watchdog:
        if self.world.size > 1:
            self._table = Table(self.world)
            self._write_beat()
            self.world.wait()  # from here on everyone is in the table
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def at(self, step: int, phase: str) -> None:
        """The main thread begins `phase` of `step`."""
        self._step, self._phase = step, phase
        self._moves += 1

    def waits_for_files(self) -> None:
        """The main thread waits until a checkpoint is written."""
        self._phase = "checkpoint"

    def waiting_share(self) -> float:
        """Share of the time since the last call that the main thread waited for others."""
        looks, waits = self._num_looks, self._num_waits
        self._num_looks = self._num_waits = 0
        return waits / looks if looks else 0.0

    def dead_ranks(self) -> str:
        """Those of this host whose process is gone, in words; empty when none is. For the message of a lost connection."""
        if self._table is None:
            return ""
        with contextlib.suppress(RuntimeError):
            gone = [beat for beat in self._table.read() if beat.host == socket.gethostname() and not _is_alive(beat.process)]
            return ", ".join(f"rank {beat.rank} (process {beat.process}, last seen in step {beat.step})" for beat in gone)
        return ""

    def _watch(self) -> None:
        key: Any = None
        still_s, looked_s, beat_due_s = 0.0, time.monotonic(), 0.0
        while not self._ended.wait(_LOOK_S):
            place, now_s = self._place(), time.monotonic()
            self._num_looks += 1
            self._num_waits += place.waits
            gap_s = min(now_s - looked_s, _LONGEST_LOOK_S)
            here = (self._moves, place.key, self._look_at_files(gap_s))
            still_s = still_s + gap_s if here == key else 0.0
            key, looked_s = here, now_s
            if now_s >= beat_due_s:
                beat_due_s = now_s + self._beat_s
                with contextlib.suppress(RuntimeError):  # a store that is gone tells nothing of this process
                    self._write_beat(place)
            if self._timeout_s is not None and still_s > self._timeout_s:
                if self._report(still_s):
                    return
                still_s, looked_s = 0.0, time.monotonic()

    def _place(self) -> Place:
        frame = sys._current_frames().get(self._main)
        return place_of(frame) if frame is not None else Place((), "nothing: its main thread has ended", False)

    def _look_at_files(self, gap_s: float) -> int:
        """How many pieces of files have moved, where the main thread waits for that."""
        if self.files is None or self._phase not in _FILE_PHASES:
            return 0
        count = self.files.count
        self._files_still_s = self._files_still_s + gap_s if count == self._files_count else 0.0
        self._files_count = count
        return count

    def _write_beat(self, place: Place | None = None) -> None:
        assert self._table is not None
        self._beats += 1
        place = place or self._place()
        self._table.write(Beat(
            rank=self.world.rank, beat=self._beats, step=self._step, phase=self._phase, moves=self._moves, operation=place.operation,
            waits=place.waits, host=socket.gethostname(), process=os.getpid(), files_still_s=self._files_still_s,
            files=self.files.doing if self.files is not None and self._phase in _FILE_PHASES else "",
        ))  # fmt: skip

    def _report(self, still_s: float) -> bool:
        """Find out who does not answer, tell it, end. False when files move somewhere, for which all wait."""
        message = self._verdict(still_s)
        if message is None:
            return False
        self._keep_what_threads_do()
        logger.error("%s", message)
        self._on_hang(message)
        return True

    def _verdict(self, still_s: float) -> str | None:
        assert self._table is not None and self._timeout_s is not None
        head = f"rank {self.world.rank} has not moved for {still_s:.0f} s (training.hang_timeout_s) in step {self._step} ({self._phase})"
        unfinished = open_collectives(flight_record())
        head += f" with {unfinished[-1]} unfinished" if unfinished else ""
        try:
            if not self._table.claim():  # one of us reads the table for all
                told = self._table.told(patience_s=8 * self._beat_s + 5, meanwhile=self._write_beat)
                if told is not None:
                    return f"{head}: {told}" if told else None
            before = self._table.read()
            until = time.monotonic() + 3 * self._beat_s
            while time.monotonic() < until:
                time.sleep(self._beat_s / 2)
                self._write_beat()
            after = self._table.read()
            moving = movers(before, after, self._timeout_s)
            if moving:
                logger.warning("rank %d waits in %s for what still moves: %s", self.world.rank, self._phase, moving)
                self._table.pass_over()
                return None
            found = judge(before, after, self._timeout_s)
            self._table.tell(found)
        except RuntimeError as error:
            first = "rank 0 or the launcher, which keep the table of the ranks, do not answer"
            return f"{head}: {first} ({str(error).splitlines()[0]}). This rank waits in {self._place().operation}"
        message = f"{head}: {found}"
        with contextlib.suppress(OSError):
            RunFolder(self.run_dir).write("outcome.json", {"state": "failed", "message": message})
        return message

    def _keep_what_threads_do(self) -> None:
        """RUN/hang/rank-N.txt: the stacks of all threads; rank-N.json: the last collectives, by PyTorch's flight recorder."""
        folder = self.run_dir / "hang"
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        stacks = [
            f"thread {names.get(ident, ident)}\n{''.join(traceback.format_stack(frame))}" for ident, frame in sys._current_frames().items()
        ]
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / f"rank-{self.world.rank:05d}.txt", "\n".join(stacks))
            write_atomically(folder / f"rank-{self.world.rank:05d}.json", json.dumps(flight_record()))


class Table:
    """The beats of all ranks in a store, over a connection of its own: a call of the main thread that waits in the store holds up its own.
    Every method may raise RuntimeError when the store does not answer."""

    _PATIENCE: Final = timedelta(seconds=5)

    def __init__(self, world: World) -> None:
        self._world = world
        # one name per watch: the launcher's store outlives the processes that it starts again
        name = world.from_first(f"agora-watch-{os.getpid()}-{time.time_ns()}")
        self._store: Any = dist.distributed_c10d.PrefixStore(name, _own_connection())
        self._store.set_timeout(self._PATIENCE)
        self._round = 0

    def write(self, beat: Beat) -> None:
        """Replace the entry of a rank."""
        self._store.set(str(beat.rank), json.dumps(asdict(beat)))

    def read(self) -> list[Beat]:
        """The entries of all ranks."""
        ranks = [str(rank) for rank in range(self._world.size)]
        entries = self._store.multi_get(ranks) if self._store.has_extended_api() else [self._store.get(rank) for rank in ranks]
        return [Beat(**json.loads(entry)) for entry in entries]

    def claim(self) -> bool:
        """Whether this process is the first to ask since the last alarm that was none."""
        self._round = int(self._store.add("rounds", 0))
        return int(self._store.add(f"claims-{self._round}", 1)) == 1

    def tell(self, verdict: str) -> None:
        """Give the others what was found."""
        self._store.set(f"verdict-{self._round}", verdict)

    def pass_over(self) -> None:
        """Tell the others that nothing hangs; who asks later begins anew."""
        self.tell("")
        self._store.add("rounds", 1)

    def told(self, *, patience_s: float, meanwhile: Callable[[], None]) -> str | None:
        """What the process that claimed the table found (empty: nothing hangs), or None when it says nothing in time. `meanwhile` shows
        that this one is awake."""
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if self._store.check([f"verdict-{self._round}"]):
                return str(self._store.get(f"verdict-{self._round}").decode())
            meanwhile()
            time.sleep(0.1)
        return None


def place_of(frame: FrameType) -> Place:
    """Where a stack stands: the innermost function of PyTorch's engine, and the line of Agora that called for it."""
    innermost, key, names, caller = frame, [], [], ""
    walk: FrameType | None = frame
    while walk is not None:
        code = walk.f_code
        key.append((id(code), walk.f_lineno or 0))
        if not caller:
            if "/agora/" in code.co_filename:
                caller = f"{os.path.basename(code.co_filename)}:{walk.f_lineno} {code.co_qualname}"
            elif "/torch/" in code.co_filename and code.co_name not in _PASSED_OVER:
                names.append(code.co_name)
        walk = walk.f_back
    operation = f"{names[0]}, called from {caller}" if names and caller else caller or (names[0] if names else innermost.f_code.co_name)
    return Place(tuple(key), operation, is_waiting(innermost.f_code, innermost.f_lineno or 0))


_waiting: dict[tuple[CodeType, int], bool] = {}


def is_waiting(code: CodeType, line: int) -> bool:
    """Whether a line of PyTorch's engine, or of ours, is a call of a collective or the wait for one."""
    key = code, line
    if key not in _waiting:
        text = linecache.getline(code.co_filename, line)
        in_engine = "/torch/distributed/" in code.co_filename or "/agora/" in code.co_filename
        _waiting[key] = in_engine and any(word in text for word in _COLLECTIVES)
    return _waiting[key]


def flight_record() -> dict[str, Any]:
    """What PyTorch's flight recorders of this process hold: the last collectives, by gloo and, where there is one, by NCCL."""
    engine, found = sys.modules["torch._C._distributed_c10d"], {}
    for name in ("_dump_fr_trace_json", "_dump_nccl_trace_json"):
        dump = getattr(engine, name, None)
        if dump is not None:
            record = json.loads(dump(includeCollectives=True, onlyActive=False))
            found[name.split("_")[2]] = record
    return found


def open_collectives(record: Mapping[str, Any]) -> list[str]:
    """The collectives of a flight record that were begun and not finished, in words."""
    return [
        f"{entry['profiling_name']} number {entry['collective_seq_id']} of group {entry['process_group'][-1] or entry['process_group'][0]} "
        f"({', '.join(f'{kind} {size}' for kind, size in zip(entry['input_dtypes'], entry['input_sizes'], strict=False))})"
        for part in record.values() for entry in part.get("entries", []) if not entry["retired"] and entry["state"] != "completed"
    ]  # fmt: skip


def lost_connection(error: Exception, watchdog: Watchdog, step: int) -> TrainingError | None:
    """The error to raise for one that PyTorch's engine raised because another process is gone; None when it is about something else."""
    if watchdog.world.size == 1:
        return None
    text = str(error)
    is_lost = isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "Connection closed", "Connection reset", "NCCL"))
    if not is_lost:
        return None
    gone = watchdog.dead_ranks()
    who = f"{gone} died" if gone else "another rank is gone (its own log says why)"
    return TrainingError(
        f"{who}: a collective of step {step} was cut. Weights on disk are those of the last checkpoint; torchrun --max-restarts, or the "
        f"same command, goes on from there ({text.splitlines()[0][:200]})"
    )


def _own_connection() -> Any:
    store = dist.distributed_c10d._get_default_store()
    return store.clone() if hasattr(store, "clone") else store


def _end_process(message: str) -> None:
    logging.shutdown()
    os._exit(1)


def _is_alive(process: int) -> bool:
    """Whether a process of this host runs; one that died and was not yet collected by its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False
