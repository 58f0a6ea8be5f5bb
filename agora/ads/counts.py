"""Counts of people that do not tell who came or went. Goes in: a count, and what is counted. Comes out: the count that may be seen.

    seen = Counts(secret, day).seen(83, "en|bike|gravel")      # 70 or 80: up to 10 less, then rounded down to tens

The noise is 5 +- 5 taken off, the same for one group on one day, and known only to who has the workspace's secret. What is seen is never
above the truth, so a group that is seen with 50 has 50. Not covered: who asks on many days can average, and learns a count to about ten.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Final

STEP: Final = 10
SECRET_FILE: Final = "count_noise.key"
_OF_PROCESS: Final = secrets.token_bytes(32)


def _today() -> date:
    return datetime.now(timezone.utc).date()


@dataclass(frozen=True, slots=True)
class Counts:
    """Noise of one day. Without a `secret` it differs from process to process."""

    secret: bytes = field(default_factory=lambda: _OF_PROCESS, repr=False)
    day: date = field(default_factory=lambda: _today())

    def seen(self, count: int, group: str) -> int:
        """`count` less 0 to 10, rounded down to tens, not below 0."""
        digest = hmac.new(self.secret, f"{self.day.isoformat()}|{group}".encode(), hashlib.sha256).digest()
        noise = int.from_bytes(digest[:8], "big") % (STEP + 1)
        return max(0, count - noise) // STEP * STEP


def workspace_counts(root: Path) -> Counts:
    """With the secret of a workspace, made on first use and readable by its owner alone."""
    path = root / "ads" / SECRET_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        draft = path.with_name(f".{SECRET_FILE}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        try:
            os.link(draft, path)  # the first one stays
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return Counts(path.read_bytes())


__all__ = ["STEP", "Counts", "workspace_counts"]
