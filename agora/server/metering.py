"""Tokens, counted. Goes in: a request and what it used. Comes out: usage by caller, key and day, and Prometheus' counters."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request

from agora.server.metrics import OTHER, Metrics
from agora.server.records import UsageLog


class Meter:
    """Counts the tokens of one application."""

    def __init__(self, usage: UsageLog | None, metrics: Metrics) -> None:
        self._usage = usage
        self._metrics = metrics

    def of(self, request: Request, model: str) -> Callable[[dict[str, int]], None]:
        """What counts the tokens of one request."""
        caller = getattr(request.state, "caller", None)
        route = getattr(request.scope.get("route"), "path", OTHER)

        def count(used: dict[str, int]) -> None:
            read, written = used["prompt_tokens"], used.get("completion_tokens", 0)
            self._metrics.tokens.labels(model, "prompt").inc(read)
            self._metrics.tokens.labels(model, "completion").inc(written)
            if self._usage is not None and caller is not None:
                self._usage.add(caller.name, route, key=caller.key, prompt_tokens=read, completion_tokens=written)

        return count
