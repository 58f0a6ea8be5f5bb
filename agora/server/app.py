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
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from agora import __version__
from agora.database import Database
from agora.engine import Delta, LanguageModel, SamplingConfig
from agora.engine.sampling import MAX_SEED
from agora.errors import UsageError
from agora.server.answering import assistant_of, posts_answerer
from agora.server.answers import ChatForm, CompletionForm, Plan, event_lines, first_line, whole_body
from agora.server.areas import Areas, People
from agora.server.asking import Asker
from agora.server.embedding import Embedders, embedding_routes
from agora.server.errors import DOCUMENTED, install_handlers, unknown_model
from agora.server.gate import Gate, GateConfig
from agora.server.metering import Meter
from agora.server.metrics import Measured, Metrics
from agora.server.requests import ChatRequest, CompletionRequest
from agora.server.responses import ResponsesRequest, response_lines, whole_response
from agora.server.running import Prepared, Stopping, unless_disconnected
from agora.server.served import Served
from agora.server.services import Services
from agora.settings import Workspace

OPEN = GateConfig(is_open=True)
PAGE = Path(__file__).with_name("page.html")

Ask = Callable[[SamplingConfig, threading.Event], Iterator[Delta]]
"""One model and one prompt; gives the Deltas of an answer."""


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
    people = People.of(database) if database is not None else None
    usage, accounts, audit = (people.usage, people.accounts, people.audit) if people is not None else (None, None, None)
    areas = Areas.of(Services(place, served), audit) if place is not None else None
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
    app.include_router(_model_routes(served))
    app.include_router(_generation_routes(served, stopping, Meter(usage, metrics)))
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


def _model_routes(served: Served) -> APIRouter:
    router = APIRouter(prefix="/v1")

    def describe(model: LanguageModel) -> dict[str, Any]:
        listed = {"id": model.name, "object": "model", "created": model.created, "owned_by": "agora"}
        return {**listed, "max_model_len": model.context_tokens, **served.about(model.name)}

    @router.get("/models")
    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [describe(model) for model in served.values()]}

    @router.get("/models/{model_id:path}")
    async def show_model(model_id: str) -> dict[str, Any]:
        if model_id not in served:
            raise unknown_model(model_id, served)
        return describe(served[model_id])

    return router


def _generation_routes(served: Served, stopping: Stopping, meter: Meter) -> APIRouter:
    router = APIRouter(prefix="/v1")

    def find(name: str) -> LanguageModel:
        if name not in served:
            raise unknown_model(name, served)
        return served[name]

    async def answer(request: Request, plan: Plan, stream: bool | None) -> Response:
        if not stream:
            return JSONResponse(await unless_disconnected(request, whole_body(plan, stopping, meter.of(request, plan.model))))
        return await streamed(request, event_lines(plan, stopping, meter.of(request, plan.model)))

    async def streamed(request: Request, events: AsyncGenerator[str, None]) -> Response:
        first, rest = await unless_disconnected(request, first_line(events))

        async def lines() -> AsyncIterator[str]:
            try:
                yield first
                async for line in rest:
                    yield line
            finally:
                await rest.aclose()

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})

    @router.post("/chat/completions")
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        model, sampling = find(body.model), body.sampling()
        messages = [message.plain() for message in body.messages]

        def ask(sampling: SamplingConfig, cancelled: threading.Event) -> Iterator[Delta]:
            return model.chat(messages, sampling, cancelled=cancelled)

        prepared = await run_in_threadpool(_prepare, ask, sampling, body.choices_per_prompt)
        count = len(prepared)
        plan = Plan(ChatForm(), model.name, prepared, [""] * count, [0] * count, bool(body.logprobs), body.include_usage)
        return await answer(request, plan, body.stream)

    @router.post("/responses")
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        model, sampling, messages = find(body.model), body.sampling(), body.messages()

        def ask(sampling: SamplingConfig, cancelled: threading.Event) -> Iterator[Delta]:
            return model.chat(messages, sampling, cancelled=cancelled)

        prepared = (await run_in_threadpool(_prepare, ask, sampling, 1))[0]
        counted = meter.of(request, model.name)
        if body.stream:
            return await streamed(request, response_lines(body, prepared, stopping, counted))
        return JSONResponse(await unless_disconnected(request, whole_response(body, prepared, stopping, counted)))

    @router.post("/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        model, sampling, prompts = find(body.model), body.sampling(), body.prompts()
        prepared: list[Prepared] = []
        for prompt in prompts:

            def ask(sampling: SamplingConfig, cancelled: threading.Event, prompt: str | list[int] = prompt) -> Iterator[Delta]:
                return model.complete(prompt, sampling, cancelled=cancelled)

            prepared += await run_in_threadpool(_prepare, ask, sampling, body.choices_per_prompt)
        owners = [index for index in range(len(prompts)) for _ in range(body.choices_per_prompt)]
        before = [str(prompts[index]) if body.echo else "" for index in owners]
        plan = Plan(CompletionForm(), model.name, prepared, before, owners, body.logprobs is not None, body.include_usage)
        return await answer(request, plan, body.stream)

    return router


def _prepare(ask: Ask, sampling: SamplingConfig, count: int) -> list[Prepared]:
    """`count` answers ready to run, of different seeds. Raises what is wrong with the request before any work is done."""
    prepared = []
    for index in range(count):
        seed = None if sampling.seed is None else (sampling.seed + index) % MAX_SEED
        cancelled = threading.Event()
        prepared.append(Prepared(ask(replace(sampling, seed=sampling.seed if index == 0 else seed), cancelled), cancelled))
    return prepared
