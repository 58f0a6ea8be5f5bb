"""The web application. Goes in: models that answer. Comes out: an ASGI app with OpenAI's endpoints and a chat page.

GET  /                        a page to talk with the models
GET  /health                  {"status": "ok"}
GET  /v1/models, /v1/models/{id}
POST /v1/chat/completions, /v1/completions, /v1/responses     whole or streamed
POST /v1/embeddings
     /api/v1/...              the JSON API (agora/server/api)

agora serve --model main
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

from agora import __version__
from agora.database import Database
from agora.engine import LanguageModel
from agora.errors import UsageError
from agora.server.answering import assistant_of, posts_answerer
from agora.server.areas import Areas, People
from agora.server.asking import Asker
from agora.server.embedding import Embedders, embedding_routes
from agora.server.errors import DOCUMENTED, install_handlers
from agora.server.gate import Gate, GateConfig
from agora.server.generating import generation_routes, model_routes
from agora.server.metering import Meter
from agora.server.metrics import Measured, Metrics
from agora.server.running import Stopping
from agora.server.served import Served
from agora.server.services import Services
from agora.settings import Workspace

OPEN = GateConfig(is_open=True)
PAGE = Path(__file__).with_name("page.html")


def create_app(
    models: Sequence[LanguageModel] | Served, *, gate: GateConfig = OPEN, database: Database | None = None, place: Workspace | None = None,
    with_pages: bool = False,
) -> FastAPI:  # fmt: skip
    """The application serving `models` under their names. `database`: the server's own (tables.py); without one there are no accounts,
    and only the key of `gate` or the machine itself decides who may ask. `place`: the workspace whose posts, campaigns and runs are shown;
    then no model is needed. `with_pages`: the web pages, which one application of a process can have.

    Raises UsageError for no model and no workspace, or two models of one name.
    """
    served = models if isinstance(models, Served) else Served(models)
    if not served and place is None:
        raise UsageError("there is no model to serve, and no workspace; give at least one")
    if gate.api_key is not None and not gate.api_key.strip():
        raise UsageError("the API key is empty; give a real one or none")
    stopping, metrics = Stopping(), Metrics()
    services = Services(place, served) if place is not None else None
    people = People.of(database, services) if database is not None else None
    usage, accounts, audit = (people.usage, people.accounts, people.audit) if people is not None else (None, None, None)
    areas = Areas.of(services, audit) if services is not None else None
    ending = [stopping.stop, *([people.close] if people is not None else []), *([areas.close] if areas is not None else [])]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for end in ending:
            end()

    # No docs pages: they load scripts from elsewhere. /openapi.json has everything.
    app = FastAPI(title="Agora", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, responses=DOCUMENTED)
    app.state.stopping = stopping
    install_handlers(app)
    app.include_router(_health_routes())
    app.include_router(model_routes(served))
    app.include_router(generation_routes(served, stopping, Meter(usage, metrics)))
    app.include_router(embedding_routes(Embedders(), Meter(usage, metrics)))
    app.include_router(metrics.routes())
    if people is not None and areas is not None:
        assistant = assistant_of(areas.services)
        answerer = posts_answerer(areas.services)
        people = people.with_asker(Asker(people.talks, answerer, stopping, personas=assistant.personas.all))
    for router in [*(areas.routes() if areas is not None else []), *(people.routes() if people is not None else [])]:
        app.include_router(router)
    if with_pages and areas is not None and people is not None:
        from agora.server.web.mount import mount_pages

        mount_pages(app, areas, people)
    else:
        app.include_router(_page_routes())
    app.add_middleware(Gate, config=gate, accounts=accounts)
    app.add_middleware(Measured, metrics=metrics, usage=usage)
    return app


def _page_routes() -> APIRouter:
    router = APIRouter()
    page = PAGE.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    # Only the page's own script runs, and it may talk to this server alone.
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    @router.get("/", include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers={"content-security-policy": policy, "x-content-type-options": "nosniff"})

    return router


def _health_routes() -> APIRouter:
    router = APIRouter()

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    return router
