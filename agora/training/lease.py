"""One writer at a place for checkpoints (training.checkpoint_url). Goes in: a store and the id of a run. Comes out: a lease beside the
checkpoints, renewed while the run lives, or a refusal that names who holds it.

    lease.json   run, host, process, time, and how often it was renewed

A run folder has a lock of the system; an object store has none, and two folders, on two machines, may name the same place. A lease whose
process is gone from this host is taken over at once; that of another host after WAIT_S seconds in which nobody renewed it, whatever the
clocks say. Who finds another's lease in the place of its own writes nothing more there.

Not covered: object stores have no exclusive writing that all of them share, so two runs that start within the same fraction of a second may
both begin; at the first renewal one of them ends.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from agora.errors import CheckpointError, TrainingError
from agora.training.checkpoint_store import Store, TakenOverError
from agora.training.world import World

logger = logging.getLogger(__name__)

FILE: Final = "lease.json"
RENEW_S: Final = 15.0
WAIT_S: Final = 4 * RENEW_S  # three renewals may be late: a process that was stopped for half a minute goes on
_LOOK_S: Final = 1.0
_PATIENCE_S: Final = 10.0  # at the end, with a renewal that is under way
_SETTLE_S: Final = 0.3  # between writing and reading back: longer than a request takes


class Lease:
    """Holds the place until `release`. Only the first process of a run has one; the others ask for its token (ask_before_writing)."""

    def __init__(self, store: Store, run: str) -> None:
        self._store, self._run, self.token = store, run, uuid.uuid4().hex
        self._renewals = 0
        self._lost = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def take(self, *, wait_s: float = WAIT_S) -> None:
        """Raises TrainingError when another trainer holds the place, CheckpointError when that cannot be found out."""
        try:
            found = self._store.read_record(FILE)
            if found:
                self._wait_for_end(found, wait_s)
            self._write()
            time.sleep(_SETTLE_S)
            now = self._store.read_record(FILE)
            if now.get("token") != self.token:
                raise self._refusal(now)
        except ValueError as error:
            raise CheckpointError(f"{self._store.place(FILE)} is damaged ({error}); delete it if no run writes there") from error
        except OSError as error:
            raise CheckpointError(f"{self._store.place(FILE)} cannot be used: {error}") from error
        self._store.may_write = self.check
        self._thread.start()

    def check(self) -> None:
        """Raises TakenOverError when another run has taken the place over."""
        if self._lost:
            raise TakenOverError(self._lost)

    def release(self) -> None:
        """Give the place free."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S)
        with suppress(OSError, ValueError):  # it ends by itself where it cannot be removed
            if self._store.read_record(FILE).get("token") == self.token:
                self._store.remove_record(FILE)

    def _wait_for_end(self, found: Mapping[str, Any], wait_s: float) -> None:
        """Until the lease that was found is known to be stale."""
        if is_here(found):
            if is_alive(found):
                raise self._refusal(found)
            logger.warning("%s: taking over the lease of %s, which has ended", self._store.place(FILE), _who(found))
            return
        logger.warning("%s is held by %s; waiting up to %.0f s for a sign of life", self._store.place(FILE), _who(found), wait_s)
        until = time.monotonic() + wait_s
        with self._store.movement.of(f"waiting whether {_who(found)} still writes to {self._store.place(FILE)}"):
            while time.monotonic() < until:
                time.sleep(min(_LOOK_S, wait_s / 4))
                self._store.movement.count += 1
                now = self._store.read_record(FILE)
                if now and now != found:
                    raise self._refusal(now)
                if not now:
                    return
        logger.warning("%s: taking over the lease of %s, which did not renew it for %.0f s", self._store.place(FILE), _who(found), wait_s)

    def _refusal(self, found: Mapping[str, Any]) -> TrainingError:
        return TrainingError(
            f"another trainer ({_who(found)}, last seen {found.get('at')}) is writing checkpoints to {self._store.place('').rstrip('/')}; "
            "wait for it, set another training.checkpoint_url=..., or train under another --name"
        )

    def _write(self) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._store.write_record({"run": self._run, "token": self.token, "at": now, "renewals": self._renewals, **_here()}, FILE)

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S):
            try:
                found = self._store.read_record(FILE)
                if found and found.get("token") != self.token:
                    self._lost = _taken_over(found)
                    logger.error("%s: %s", self._store.place(FILE), self._lost)
                    return
                self._renewals += 1
                self._write()
            except (OSError, ValueError) as error:
                logger.warning("%s could not be renewed: %s", self._store.place(FILE), error)


@contextmanager
def leased(store: Store, run: str, world: World) -> Iterator[None]:
    """Hold `store` for the run inside the block. Collective: what refuses the first process, all raise."""
    lease = Lease(store, run)

    def take() -> str:
        lease.take()
        return lease.token

    try:
        token = world.first_does(take, TrainingError, CheckpointError)
        if not world.is_first:
            ask_before_writing(store, token)
        yield
    finally:
        if world.is_first:
            lease.release()


def ask_before_writing(store: Store, token: str) -> None:
    """Let `store` look, before each file, whether the place still has the lease with this token."""

    def check() -> None:
        try:
            found = store.read_record(FILE)
        except (OSError, ValueError):
            return  # the holder says so
        if found and found.get("token") != token:
            raise TakenOverError(_taken_over(found))

    store.may_write = check


def _taken_over(found: Mapping[str, Any]) -> str:
    return f"{_who(found)} has taken this place over at {found.get('at')}; this run no longer writes here"


def _here() -> dict[str, Any]:
    """This process, so that it is not taken for a later one of the same number or for one in another container."""
    return {"host": socket.gethostname(), "space": _process_space(), "process": os.getpid(), "birth": _birth(os.getpid())}


def is_here(holder: Mapping[str, Any]) -> bool:
    """Whether the holder's process is, or was, one of those that can be seen from here."""
    return holder.get("host") == socket.gethostname() and holder.get("space") == _process_space()


def is_alive(holder: Mapping[str, Any]) -> bool:
    """Whether the holder's process, which `is_here`, still runs. Raises ValueError when the holder does not say its number."""
    process = holder.get("process")
    if not isinstance(process, int) or isinstance(process, bool) or process < 1:
        raise ValueError(f"process {process!r} is no number of a process")
    birth = _birth(process)
    return birth != "" and birth == holder.get("birth")


def _process_space() -> str:
    """What numbers of processes mean: a boot of a machine, and a container of it."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{boot.read_text().strip()} {os.readlink(space)}"
    except OSError:
        return ""  # no Linux: only the host's name tells


def _birth(process: int) -> str:
    """When a process began, empty when it is gone."""
    try:
        state, *rest = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state in ("Z", "X") else rest[18]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except OSError:
        return ""
    return "unknown"


def _who(holder: Mapping[str, Any]) -> str:
    return f"process {holder.get('process')} on {holder.get('host')}, run {str(holder.get('run'))[:8]}"
