"""A workspace of the simulated square, and `agora serve` over it as a user starts it, in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agora.errors import UsageError
from agora.integrity.config import IntegrityConfig
from agora.integrity.folder import IntegrityFolder
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.settings import Workspace
from benchmarks.registry import REPOSITORY


def indexed_square(root: Path, num_posts: int) -> Workspace:
    """A workspace with posts, an index of their words and published labels."""
    place = Workspace(root).create()
    with PostStore.open(place.folder("posts"), create=True) as store:
        simulate_into(store, SquareConfig(num_posts=num_posts, num_accounts=max(400, num_posts // 10)))
        folder = IntegrityFolder.of(place)
        folder.scan_store(store, IntegrityConfig())
    with folder.ledger() as ledger:
        folder.publish(ledger)
    index_posts(place, embeddings="none")
    return place


@contextmanager
def served(place: Workspace) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a running server, and its process, which is killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "agora", "serve", "--port", str(port), "-w", str(place.root)]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise UsageError("the server did not start") from error
                time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.wait()
