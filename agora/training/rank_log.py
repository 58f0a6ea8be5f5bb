"""What every process of a run tells, as JSON lines. Comes out: RUN/logs/rank-00007.jsonl with one table per line: rank, host, step, time
(UTC, ISO), level, what, and numbers with their units. The first process also writes to the screen; the others only their errors.

    {"rank": 7, "host": "node3", "step": 120, "time": "2026-11-22T10:00:00.123+00:00", "level": "info", "what": "step", "seconds": 1.9, ...}

Lines of one process stand in the order in which they happened, also over restarts: `step` falls back there. A line that a kill has cut is
skipped by `read_rank_logs`. A log that cannot be written any more does not end a run: the screen says which, once, and the run goes on.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agora.files import LineFile, remedy

logger = logging.getLogger(__name__)

FOLDER = "logs"


class RankLog(logging.Handler):
    """Writes what this process does, and every log line of Agora, into its file below `run_dir`. `step` is the step at work."""

    def __init__(self, run_dir: Path, rank: int) -> None:
        super().__init__(level=logging.INFO)
        self.rank, self.step = rank, 0
        self._host = socket.gethostname()
        folder = run_dir / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        self._file = LineFile(folder / f"rank-{rank:05d}.jsonl")

    def tell(self, what: str, *, level: str = "info", **more: Any) -> None:
        """One line, handed to the system at once."""
        now = datetime.now(timezone.utc).isoformat(timespec="microseconds")
        line = {"rank": self.rank, "host": self._host, "step": self.step, "time": now, "level": level, "what": what, **more}
        if not self._file.closed:
            try:
                self._file.write(json.dumps(line, default=str))
            except OSError as error:
                self._file.close()  # first: what is said now comes here too
                advice = remedy(error)
                logger.error(
                    "%s: %s; this log ends here and the run goes on%s", self._file.path, error.strerror, f" ({advice})" if advice else ""
                )

    def emit(self, record: logging.LogRecord) -> None:
        """A log line of the program."""
        self.tell(record.getMessage(), level=record.levelname.lower(), source=record.name)

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()
        super().close()


@contextmanager
def rank_log(run_dir: Path, rank: int) -> Iterator[RankLog]:
    """The log of this process while a run lasts. The end, by an error or not, is its last line."""
    log, agora = RankLog(run_dir, rank), logging.getLogger("agora")
    screen = _ErrorsOnly()
    handlers = [handler for handler in logging.getLogger().handlers if rank > 0]
    agora.addHandler(log)
    for handler in handlers:
        handler.addFilter(screen)
    try:
        yield log
    except BaseException as error:
        log.tell("ended", level="error", error=f"{type(error).__name__}: {error}")
        raise
    else:
        log.tell("ended")
    finally:
        for handler in handlers:
            handler.removeFilter(screen)
        agora.removeHandler(log)
        log.close()


class _ErrorsOnly(logging.Filter):
    """Ten thousand processes say the same warning; one is enough."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it reaches the screen."""
        return record.levelno >= logging.ERROR or not record.name.startswith("agora")


def read_rank_logs(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of all processes, in the order of their time."""
    lines = []
    for path in sorted((run_dir / FOLDER).glob("rank-*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError:
                continue  # being written, or cut by a kill
    return sorted(lines, key=lambda line: str(line["time"]))
