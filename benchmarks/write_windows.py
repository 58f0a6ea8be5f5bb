"""Moments in which a program writes: a draft (agora/files.py and its kin) stands beside the file or folder that it will replace.

Goes in: a running process and its workspace, looked at every millisecond. Comes out: how long each write lasted, or a kill inside one.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

POLL_S = 0.001
_TICK_NS = 20_000_000  # a kernel that ticks 100 times a second gives files made within 10 ms one time
_DRAFT = re.compile(r"\.(?:.*\.part|.*\.draft-.*|(?:writing|deleting|building|posts)-.*|.*\.copying)")
_PASSED_OVER = ".lance"  # the store's tables have no drafts and many files


class _Listing(NamedTuple):
    """What a folder holds."""

    drafts: tuple[str, ...]
    folders: tuple[str, ...]


@dataclass(slots=True)
class Watch:
    """Follows the drafts under `workspace`. `durations_s` holds the writes that were seen to end, in the order of their beginnings."""

    workspace: Path
    durations_s: list[float] = field(default_factory=list)
    _begun: dict[str, tuple[int, float]] = field(default_factory=dict)
    _folders: dict[str, tuple[int, _Listing]] = field(default_factory=dict)

    def look(self) -> None:
        """One look at the folders."""
        now = time.perf_counter()
        present = self._drafts()
        for path in [path for path in self._begun if path not in present]:
            number, begun = self._begun.pop(path)
            self.durations_s[number] = now - begun
        for path in present - self._begun.keys():
            self._begun[path] = (len(self.durations_s), now)
            self.durations_s.append(0.0)

    def _drafts(self) -> set[str]:
        """As `drafts`, but a folder is listed again only when its time has changed, or lately: a file system's clock ticks slowly."""
        present: set[str] = set()
        waiting = [str(self.workspace)]
        while waiting:
            path = waiting.pop()
            try:
                changed_ns = os.stat(path).st_mtime_ns
            except OSError:
                continue  # moved or removed since its name was read
            known_ns, listing = self._folders.get(path, (None, _Listing((), ())))
            if known_ns != changed_ns or time.time_ns() - changed_ns < _TICK_NS:
                listing = _list(path)
                self._folders[path] = (changed_ns, listing)
            present.update(listing.drafts)
            waiting += listing.folders
        return present

    @property
    def num_begun(self) -> int:
        """Writes seen so far."""
        return len(self.durations_s)

    def is_open(self, number: int) -> bool:
        """Whether write `number` (from 0) was under way at the last look."""
        return any(begun == number for begun, _ in self._begun.values())


@dataclass(frozen=True, slots=True)
class Aim:
    """Kill inside write `number` (from 0), `delay_s` after its beginning; when that one ended before, inside the next one."""

    number: int
    delay_s: float


def drafts(folder: Path | str) -> Iterator[str]:
    """Drafts under `folder`; what is inside of one is part of it."""
    listing = _list(folder)
    yield from listing.drafts
    for inner in listing.folders:
        yield from drafts(inner)


def _list(folder: Path | str) -> _Listing:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return _Listing((), ())  # moved or removed since its name was read
    found = [entry.path for entry in entries if _DRAFT.fullmatch(entry.name)]
    others = [entry for entry in entries if entry.path not in found and not entry.name.endswith(_PASSED_OVER)]
    return _Listing(tuple(found), tuple(entry.path for entry in others if entry.is_dir(follow_symlinks=False)))


def watch_until_end(process: subprocess.Popen[bytes], watch: Watch, timeout_s: float) -> int:
    """Wait for the process and note its writes. Returns its exit status."""
    deadline = time.perf_counter() + timeout_s
    _poll(process, watch, lambda: time.perf_counter() > deadline)
    watch.look()
    return process.wait(timeout=max(0.0, deadline - time.perf_counter()))


def kill_inside(process: subprocess.Popen[bytes], watch: Watch, aim: Aim, timeout_s: float) -> bool:
    """Kill -9 the group of `process` inside the aimed write. False when it ended before."""
    started = time.perf_counter()

    def is_time() -> bool:
        if time.perf_counter() - started > timeout_s:
            raise RuntimeError(f"process {process.pid} did not end within {timeout_s} s")
        if watch.num_begun <= aim.number:
            return False
        begun = [begun for number, begun in watch._begun.values() if number >= aim.number]
        return any(time.perf_counter() - at >= (aim.delay_s if watch.is_open(aim.number) else 0.0) for at in begun)

    if not _poll(process, watch, is_time):
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def _poll(process: subprocess.Popen[bytes], watch: Watch, is_time: Callable[[], bool]) -> bool:
    """Look every millisecond. True as soon as `is_time`, False when the process has ended."""
    while process.poll() is None:
        watch.look()
        if is_time():
            return True
        time.sleep(POLL_S)
    return False
