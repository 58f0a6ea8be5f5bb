"""Long work in processes of their own, one at a time, so that pages stay quick. Goes in: a folder with a request. Comes out: how far it is.

The process (work.py) writes `outcome.json` into the folder when it is done. A folder without one, on which nobody works, was interrupted:
the server or the machine stopped. Starting it again goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import agora
from agora.files import write_atomically
from agora.server.studio.served_writer import ASK, Find, answered

OUTCOME: Final = "outcome.json"
LOG: Final = "work.log"
LOCK: Final = ".lock"
WAITING, RUNNING, FINISHED, FAILED, CANCELLED, INTERRUPTED = "waiting", "running", "finished", "failed", "cancelled", "interrupted"
_STOP_S: Final = 10


@dataclass(slots=True)
class Task:
    """Work that waits or runs. `done` of `total` in `title`; `note`: what it is at."""

    state: str = WAITING
    title: str = ""
    done: int = 0
    total: int | None = None
    note: str = ""
    process: subprocess.Popen[str] | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class Workshop:
    """Threads may share it. `find`: the served model of a name, for work that has one write."""

    def __init__(self, find: Find = lambda name: None) -> None:
        self._find = find
        self._mutex = threading.Lock()
        self._turn = threading.Lock()
        self._tasks: dict[Path, Task] = {}
        self._is_closing = False

    def start(self, folder: Path) -> Task:
        """Work on a folder, or the task that does already."""
        with self._mutex:
            if folder in self._tasks:
                return self._tasks[folder]
            task = self._tasks[folder] = Task()
        (folder / OUTCOME).unlink(missing_ok=True)
        threading.Thread(target=self._run, args=(folder, task), name="workshop", daemon=True).start()
        return task

    def look(self, folder: Path) -> Task | None:
        """What is being done with a folder now."""
        with self._mutex:
            return self._tasks.get(folder)

    def cancel(self, folder: Path) -> bool:
        """End the work; what is made stays. Gives whether there was any."""
        task = self.look(folder)
        if task is None:
            return False
        with self._mutex:
            task.cancelled.set()
            process = task.process
        if process is not None:
            process.terminate()
        task.ended.wait(_STOP_S)
        return True

    def close(self) -> None:
        """End everything; it counts as interrupted."""
        with self._mutex:
            self._is_closing = True
            folders = list(self._tasks)
        for folder in folders:
            self.cancel(folder)

    def _run(self, folder: Path, task: Task) -> None:
        try:
            with self._turn:
                if not task.cancelled.is_set():
                    self._work(folder, task)
            if not self._is_closing and not (folder / OUTCOME).is_file() and folder.is_dir():
                message = "" if task.cancelled.is_set() else f"The work ended without a word; see {LOG} in its folder"
                write_outcome(folder, CANCELLED if task.cancelled.is_set() else FAILED, message=message)
        finally:
            with self._mutex:
                del self._tasks[folder]
            task.ended.set()

    def _work(self, folder: Path, task: Task) -> None:
        paths = [str(Path(agora.__file__).parents[1]), os.environ.get("PYTHONPATH")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        command = [sys.executable, "-m", "agora.server.studio.work", str(folder)]
        with (folder / LOG).open("w", encoding="utf-8") as log:
            # It ends when its input does, so none outlives a server that was killed.
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, encoding="utf-8"
            )
        with self._mutex:
            task.process, task.state = process, RUNNING
            if task.cancelled.is_set():
                process.terminate()
        with process:
            assert process.stdout is not None and process.stdin is not None
            for line in process.stdout:
                told = json.loads(line)
                if ASK in told:
                    with contextlib.suppress(BrokenPipeError):  # it was cancelled meanwhile
                        process.stdin.write(answered(told[ASK], self._find, task.cancelled) + "\n")
                        process.stdin.flush()
                    continue
                task.title, task.done, task.total, task.note = told["title"], told["done"], told["total"], told["note"]


def is_worked_on(folder: Path) -> bool:
    """Whether a process works on a folder, of this server or of another one on the same workspace."""
    try:
        with (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def write_outcome(folder: Path, state: str, **more: Any) -> None:
    """How the work on a folder ended."""
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    write_atomically(folder / OUTCOME, json.dumps({"state": state, "at": at, **more}, ensure_ascii=False) + "\n")


def read_outcome(folder: Path) -> dict[str, Any]:
    """How it ended; `interrupted` where nothing says."""
    path = folder / OUTCOME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {"state": INTERRUPTED}


__all__ = [
    "CANCELLED", "FAILED", "FINISHED", "INTERRUPTED", "LOCK", "RUNNING", "WAITING", "Task", "Workshop", "is_worked_on", "read_outcome",
    "write_outcome",
]  # fmt: skip
