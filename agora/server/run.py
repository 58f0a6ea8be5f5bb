"""Run the application until a signal ends it. Goes in: models, an address. Comes out: nothing; `ready` gets the URL."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from agora.database import Database
from agora.engine import LanguageModel
from agora.errors import UsageError
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.served import Served
from agora.settings import Workspace

GRACE_S = 5


def bind(host: str, port: int) -> socket.socket:
    """A listening address, taken before any model is loaded. Raises UsageError when it is in use or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen on {host} port {port}: {reason}; try --port {port + 1 if port < 65535 else 8000}") from error
    return listener


def address_of(listener: socket.socket) -> str:
    """`http://127.0.0.1:8000`."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def config_of(app: FastAPI) -> uvicorn.Config:
    """How `app` is served. Who asks is the address of the connection: X-Forwarded-For, which any client can write, is not read."""
    return uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S, server_header=False, proxy_headers=False
    )


class _Server(uvicorn.Server):
    """Tells when it listens; on a signal ends running answers at once instead of waiting for the last token."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.stopping.stop()
        super().handle_exit(sig, frame)


def serve_models(
    models: Sequence[LanguageModel] | Served,
    listener: socket.socket,
    *,
    gate: GateConfig,
    database: Database | None = None,
    place: Workspace | None = None,
    with_pages: bool = False,
    ready: Callable[[], None],
    hung_up: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then return; SIGHUP calls `hung_up`, if given. Must run in the main thread."""
    app = create_app(models, gate=gate, database=database, place=place, with_pages=with_pages)
    config = config_of(app)

    def passed(number: int, frame: FrameType | None) -> None:
        """uvicorn raises the signal again after it has shut down; the work is done then."""

    before: dict[int, Any] = {number: signal.signal(number, passed) for number in (signal.SIGINT, signal.SIGTERM)}
    if hung_up is not None:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda number, frame: hung_up())
    # A search for garbage among all that the libraries made takes 0.17 s (epyc2), in which every stream stands still. None of it becomes
    # garbage while the server runs.
    gc.freeze()
    try:
        _Server(config, app, ready).run(sockets=[listener])
    finally:
        gc.unfreeze()
        for number, handler in before.items():
            signal.signal(number, handler)
