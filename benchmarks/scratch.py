"""A temporary folder that does not stay behind: what a killed benchmark left is removed by the next one of the same name."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_folder(name: str) -> Iterator[Path]:
    """A folder inside the block. Its name says whose it is, so that those of processes that are gone can be told from others."""
    remove_stale(name)
    with tempfile.TemporaryDirectory(prefix=f"agora-{name}-{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def remove_stale(name: str) -> None:
    """Remove folders of `name` whose process no longer runs."""
    for path in Path(tempfile.gettempdir()).glob(f"agora-{name}-*"):
        found = re.fullmatch(rf"agora-{re.escape(name)}-(\d+)-\w+", path.name)
        if found and not _runs(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
