"""A real server on a real port, for as long as one test file runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from agora.engine import LocalModel, load_local_model
from agora.integrity.config import IntegrityConfig
from agora.integrity.folder import IntegrityFolder
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.run import address_of, bind
from agora.settings import Workspace

Serving = Callable[[FastAPI], "contextmanager[str]"]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run `app` in a thread; yields its address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline and thread.is_alive()
        time.sleep(0.01)
    try:
        yield address_of(listener)
    finally:
        app.state.stopping.stop()
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()
        assert not thread.is_alive()


@pytest.fixture(scope="session")
def tiny_model(tiny_workspace: Path) -> LocalModel:
    return load_local_model(tiny_workspace / "models" / "tiny")


@pytest.fixture(scope="session")
def address(tiny_model: LocalModel) -> Iterator[str]:
    """A server without a key that serves `tiny`."""
    with serving(create_app([tiny_model], gate=GateConfig(is_open=True, max_body_bytes=100_000))) as url:
        yield url


@pytest.fixture(scope="session")
def run_app() -> Callable[[FastAPI], object]:
    """`with run_app(app) as address:` for a server of one's own."""
    return serving


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with 3,000 posts of the simulated square, indexed by words, scanned and labelled. Tests may rule and delete a little."""
    place = Workspace(tmp_path_factory.mktemp("square")).create()
    with PostStore.open(place.folder("posts"), create=True) as store:
        simulate_into(store, SquareConfig(num_posts=3_000, num_accounts=360))
        folder = IntegrityFolder.of(place)
        folder.scan_store(store, IntegrityConfig())
    with folder.ledger() as ledger:
        folder.publish(ledger)
    index_posts(place, embeddings="none")
    return place
