"""A real server on a real port, for as long as one test file runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from agora.engine import BatchEngine, Delta, LocalModel, SamplingConfig, Usage, load_local_model, make_network
from agora.integrity.config import IntegrityConfig
from agora.integrity.folder import IntegrityFolder
from agora.model.transformer import Transformer
from agora.posts.simulate import SquareConfig, simulate_into
from agora.posts.store import PostStore
from agora.search.workspace import index_posts
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.run import address_of, bind, config_of
from agora.settings import Workspace
from agora.tokenizer import Tokenizer

Serving = Callable[[FastAPI], "contextmanager[str]"]


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Run `app` in a thread; yields its address."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(config_of(app))
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


class ScriptedModel:
    """Answers with `says`, a few characters at a time."""

    name, created, context_tokens = "scripted", 1, 100_000

    def __init__(self, says: str, *, step: int = 3) -> None:
        self.says, self.step = says, step
        self.messages: list[dict[str, str]] = []
        self.sampling = SamplingConfig()

    def chat(
        self, messages: Sequence[Mapping[str, str]], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        self.messages, self.sampling = [dict(message) for message in messages], sampling
        pieces = [self.says[start : start + self.step] for start in range(0, len(self.says), self.step)] or [""]
        for piece in pieces[:-1]:
            yield Delta(text=piece)
        yield Delta(text=pieces[-1], finish_reason="stop", usage=Usage(prompt_tokens=7, completion_tokens=len(pieces)))

    def complete(
        self, prompt: str | Sequence[int], sampling: SamplingConfig, *, cancelled: threading.Event | None = None
    ) -> Iterator[Delta]:
        return self.chat([{"role": "user", "content": str(prompt)}], sampling)


@pytest.fixture(scope="module")
def scripted_model() -> ScriptedModel:
    """A model whose words a test sets: `says`. It remembers what it was asked."""
    return ScriptedModel("")


@pytest.fixture(scope="session")
def roomy_model(tiny_parts: tuple[Transformer, Tokenizer]) -> LocalModel:
    """`roomy`: as random as `tiny`, with a context that holds the description of functions."""
    network, tokenizer = tiny_parts
    roomy = Transformer(replace(network.config, max_seq_len=4_096), seed=3).eval()
    return LocalModel("roomy", BatchEngine(make_network(roomy, max_active=8), tokenizer))


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
