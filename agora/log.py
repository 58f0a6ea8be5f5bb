"""Logging and progress. Library code logs through `logging.getLogger(__name__)` and reports progress to a `Progress`;
only the command line decides what reaches a screen.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from agora.errors import UsageError

LEVELS = ("debug", "info", "warning", "error")
_TALKATIVE = ("torchao", "torch.utils._pytree")
"""Libraries that warn, when somebody else imports them, of kernels that nobody asked for."""


class Step(Protocol):
    """One running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Report that `amount` more units are done."""

    def note(self, text: str) -> None:
        """Show `text` beside the bar (a rate, a loss); replaces the previous note."""


class Progress(Protocol):
    """Where long work reports. `silent` is the default everywhere."""

    def step(self, title: str, *, total: int | None = None, unit: str = "") -> AbstractContextManager[Step]:
        """Open a step; `total` in `unit`, None when unknown."""


class _SilentStep:
    def advance(self, amount: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Silent:
    @contextmanager
    def step(self, title: str, *, total: int | None = None, unit: str = "") -> Iterator[Step]:
        yield _SilentStep()


silent: Progress = _Silent()


def configure_logging(level: str | None = None) -> None:
    """Send Agora's log lines to stderr at `level` (or the environment's AGORA_LOG, default warning).

    Raises UsageError for an unknown level: a bad setting is never ignored.
    """
    chosen = (level or os.environ.get("AGORA_LOG") or "warning").lower()
    if chosen not in LEVELS:
        raise UsageError(f"log level {chosen!r} (option --log or environment AGORA_LOG) is not one of {', '.join(LEVELS)}")
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("agora").setLevel(chosen.upper())
    if chosen != "debug":
        for name in _TALKATIVE:
            logging.getLogger(name).setLevel(logging.ERROR)
