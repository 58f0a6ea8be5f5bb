"""The routes by which models are asked. Goes in: models and what counts their tokens. Comes out: OpenAI's endpoints.

GET  /v1/models, /v1/models/{id}
POST /v1/chat/completions, /v1/completions, /v1/responses     whole or streamed
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from agora.engine import Delta, LanguageModel, SamplingConfig
from agora.engine.sampling import MAX_SEED
from agora.server.answers import ChatForm, CompletionForm, Plan, event_lines, first_line, whole_body
from agora.server.errors import unknown_model
from agora.server.metering import Meter
from agora.server.requests import ChatRequest, CompletionRequest
from agora.server.response_events import Response as Made
from agora.server.response_events import response_lines, whole_response
from agora.server.responses import ResponsesRequest
from agora.server.running import Prepared, Stopping, unless_disconnected
from agora.server.served import Served

ANSWERED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The answer; with `stream` its events", "content": {"application/json": {}, "text/event-stream": {}}}
}
Ask = Callable[[SamplingConfig, threading.Event], Iterator[Delta]]
"""One model and one prompt; gives the Deltas of an answer."""


def model_routes(served: Served) -> APIRouter:
    """What is served."""
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


def generation_routes(served: Served, stopping: Stopping, meter: Meter) -> APIRouter:
    """Answers."""
    router = APIRouter(prefix="/v1")

    def find(name: str) -> LanguageModel:
        if name not in served:
            raise unknown_model(name, served)
        return served[name]

    async def answer(request: Request, plan: Plan, stream: bool | None) -> Response:
        if not stream:
            return JSONResponse(await unless_disconnected(request, whole_body(plan, stopping, meter.of(request, plan.model))))
        return await _streamed(request, event_lines(plan, stopping, meter.of(request, plan.model)))

    @router.post("/chat/completions", responses=ANSWERED)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        def prepare() -> Plan:
            model, structure = find(body.model), body.structure()
            messages = structure.messages(body.plain_messages())
            prepared = _prepare(_chat(model, messages), structure.sampling(body.sampling()), body.choices_per_prompt)
            count, form = len(prepared), ChatForm(structure.tools)
            return Plan(form, model.name, prepared, [""] * count, [0] * count, bool(body.logprobs), body.include_usage)

        return await answer(request, await run_in_threadpool(prepare), body.stream)

    @router.post("/responses", responses=ANSWERED)
    async def responses(body: ResponsesRequest, request: Request) -> Response:
        def prepare() -> tuple[Made, Prepared]:
            model, structure = find(body.model), body.structure()
            messages = structure.messages(body.messages())
            prepared = _prepare(_chat(model, messages), structure.sampling(body.sampling()), 1)[0]
            return Made(body, structure.tools), prepared

        made, prepared = await run_in_threadpool(prepare)
        counted = meter.of(request, body.model)
        if body.stream:
            return await _streamed(request, response_lines(made, prepared, stopping, counted))
        return JSONResponse(await unless_disconnected(request, whole_response(made, prepared, stopping, counted)))

    @router.post("/completions", responses=ANSWERED)
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


async def _streamed(request: Request, events: AsyncGenerator[bytes, None]) -> Response:
    first, rest = await unless_disconnected(request, first_line(events))

    async def lines() -> AsyncIterator[bytes]:
        try:
            yield first
            async for line in rest:
                yield line
        finally:
            await rest.aclose()

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"cache-control": "no-cache"})


def _chat(model: LanguageModel, messages: list[dict[str, str]]) -> Ask:
    def ask(sampling: SamplingConfig, cancelled: threading.Event) -> Iterator[Delta]:
        return model.chat(messages, sampling, cancelled=cancelled)

    return ask


def _prepare(ask: Ask, sampling: SamplingConfig, count: int) -> list[Prepared]:
    """`count` answers ready to run, of different seeds. Raises what is wrong with the request before any work is done."""
    prepared = []
    # Beside each other: generators may look at the lowest 32 bits alone, in which -1 and 2 ** 63 - 1 are the same.
    step = 1 if (sampling.seed or 0) <= MAX_SEED - count else -1
    for index in range(count):
        seed = None if sampling.seed is None else sampling.seed + step * index
        cancelled = threading.Event()
        prepared.append(Prepared(ask(replace(sampling, seed=seed), cancelled), cancelled))
    return prepared
