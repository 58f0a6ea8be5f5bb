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

POLL_S = 0.001
_DRAFT = re.compile(r"\.(?:.*\.part|.*\.draft-.*|(?:writing|deleting|building|posts)-.*|.*\.copying)")
_PASSED_OVER = ".lance"  # the store's tables have no drafts and many files


@dataclass(slots=True)
class Watch:
    """Follows the drafts under `workspace`. `durations_s` holds the writes that were seen to end, in the order of their beginnings."""

    workspace: Path
    durations_s: list[float] = field(default_factory=list)
    _begun: dict[str, tuple[int, float]] = field(default_factory=dict)

    def look(self) -> None:
        """One look at the folders."""
        now = time.perf_counter()
        present = set(drafts(self.workspace))
        for path in [path for path in self._begun if path not in present]:
            number, begun = self._begun.pop(path)
            self.durations_s[number] = now - begun
        for path in present - self._begun.keys():
            self._begun[path] = (len(self.durations_s), now)
            self.durations_s.append(0.0)

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
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return  # moved or removed since its name was read
    for entry in entries:
        if _DRAFT.fullmatch(entry.name):
            yield entry.path
        elif not entry.name.endswith(_PASSED_OVER) and entry.is_dir(follow_symlinks=False):
            yield from drafts(entry.path)


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
