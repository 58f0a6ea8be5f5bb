"""Numbers for Prometheus at /metrics. Goes in: every request as it passes. Comes out: counts, times, tokens, by route and status.

Routes are the application's patterns, never paths, so no id or name gets into a label.
"""

from __future__ import annotations

import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agora.server.access import needs
from agora.server.records import UsageLog

OTHER: Final = "other"
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PARTS_OF_PAGES: Final = ("/_nicegui", "/assets")
"""Scripts and styles that a page loads: no usage of anybody's."""


class Metrics:
    """The numbers of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("agora_requests", "Requests answered.", ["method", "route", "status"], registry=self.registry)
        self.seconds = Histogram("agora_request_seconds", "Until the last byte of the answer.", ["route"], registry=self.registry)
        self.first_byte = Histogram("agora_first_byte_seconds", "Until the first byte of the answer.", ["route"], registry=self.registry)
        self.running = Gauge("agora_requests_running", "Requests being answered.", registry=self.registry)
        self.tokens = Counter("agora_tokens", "Tokens read and written by models.", ["model", "kind"], registry=self.registry)

    def routes(self) -> APIRouter:
        """GET /metrics, for engineers."""
        router = APIRouter()

        @router.get("/metrics", include_in_schema=False, dependencies=[needs("engineer")])
        def show_metrics(request: Request) -> Response:
            return Response(generate_latest(self.registry), media_type=CONTENT_TYPE_LATEST)

        return router


class Measured:
    """Counts and times every request. Plain ASGI, around everything else."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, usage: UsageLog | None) -> None:
        self.app = app
        self._metrics = metrics
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, first = time.perf_counter(), 500, 0.0

        async def sent(message: Message) -> None:
            nonlocal status, first
            if message["type"] == "http.response.start":
                status, first = message["status"], time.perf_counter() - start
            await send(message)

        metrics = self._metrics
        metrics.running.inc()
        try:
            await self.app(scope, receive, sent)
        finally:
            metrics.running.dec()
            route = getattr(scope.get("route"), "path", OTHER)
            method = scope["method"] if scope["method"] in METHODS else OTHER  # a client may send any word
            metrics.requests.labels(method, route, str(status)).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - start)
            metrics.first_byte.labels(route).observe(first)
            caller = scope.get("state", {}).get("caller")
            if self._usage is not None and caller is not None and route != OTHER and not route.startswith(PARTS_OF_PAGES):
                self._usage.add(caller.name, route, key=caller.key, requests=1)
