"""The clients of server_load, in a process of their own: python -m benchmarks.server_load_clients < plan.json > found.json

Bare sockets, so that on a small machine the clients take little from the server: a read is kept with its time and looked at only
when the stream has ended. Idle clients connect and say nothing, or keep a connection after one answer; slow ones read a few bytes at a
time, or send their request byte by byte.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

END = b"0\r\n\r\n"
_EVENT = re.compile(rb"data: (.*?)\n\n", re.DOTALL)


@dataclass(slots=True)
class Told:
    """What one stream said. `times` are those of the events with text, seconds after the request."""

    text: str = ""
    ids: set[str] = field(default_factory=set)
    times: list[float] = field(default_factory=list)
    finish: str | None = None
    is_done: bool = False
    error: str = ""


class _Stream(asyncio.Protocol):
    """One connection, one request after the other."""

    def __init__(self) -> None:
        self.reads: list[tuple[float, bytes]] = []
        self.transport: asyncio.Transport | None = None
        self._ended: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # of TCP: it can write

    def data_received(self, data: bytes) -> None:
        self.reads.append((time.perf_counter(), data))
        if data.endswith(END):
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def ask(self, request: bytes) -> Told:
        """The answer to one request."""
        assert self.transport is not None
        self.reads, self._ended = [], asyncio.get_running_loop().create_future()
        begun = time.perf_counter()
        self.transport.write(request)
        await self._ended
        return read(self.reads, begun)


def read(reads: Sequence[tuple[float, bytes]], begun: float) -> Told:
    """The events in what came over a socket, each with the time of the read that completed it."""
    raw, told = b"".join(data for _, data in reads), Told()
    ends = list(accumulate(len(data) for _, data in reads))
    if b" 200 " not in raw[:20]:
        told.error = raw[:300].decode("utf-8", "replace") or "the connection was closed"
        return told
    for match in _EVENT.finditer(raw):
        if match[1] == b"[DONE]":
            told.is_done = True
            continue
        event = json.loads(match[1])
        if "error" in event:
            told.error = str(event["error"])
            continue
        told.ids.add(event["id"])
        choice = event["choices"][0]
        if choice["delta"].get("content"):
            told.text += choice["delta"]["content"]
            told.times.append(reads[bisect_left(ends, match.end())][0] - begun)
        told.finish = choice["finish_reason"] or told.finish
    return told


def request_bytes(body: dict[str, Any]) -> bytes:
    """A request for a streamed chat."""
    content = json.dumps({"model": "bench", "stream": True, **body}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def _idle(port: int, number: int) -> None:
    """Connected, and silent; every second one has asked something before."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(OSError):
            if number % 2:
                writer.write(b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            while await reader.read(4096):  # until the server has had enough of it
                pass
        writer.close()


async def _slow(port: int, number: int, request: bytes) -> None:
    """Reads, or sends, a few bytes at a time."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=256)
        with suppress(OSError):
            if number % 2:
                for start in range(0, len(request), 4):
                    writer.write(request[start : start + 4])
                    await writer.drain()
                    await asyncio.sleep(0.1)
            else:
                writer.write(request)
            while data := await reader.read(64):
                if data.endswith(END):
                    break
                await asyncio.sleep(0.05)
        writer.close()


async def _client(port: int, requests: list[tuple[int, bytes]], found: list[tuple[int, Told]]) -> None:
    """Takes the next request until none is left."""
    _, stream = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    while requests:
        number, request = requests.pop()
        told = await stream.ask(request)
        found.append((number, told))
        if told.error:
            _, stream = await asyncio.get_running_loop().create_connection(_Stream, "127.0.0.1", port)
    assert stream.transport is not None
    stream.transport.close()


async def _run(plan: dict[str, Any]) -> list[dict[str, Any]]:
    port, bodies = plan["port"], plan["bodies"]
    asked = [request_bytes(body) for body in bodies]
    others = [asyncio.ensure_future(_idle(port, number)) for number in range(plan["idle"])]
    slow = request_bytes({**bodies[0], "max_tokens": plan["slow_tokens"]})
    others += [asyncio.ensure_future(_slow(port, number, slow)) for number in range(plan["slow"])]
    if others:
        await asyncio.sleep(2)
    phases = []
    for clients, requests in plan["phases"]:
        left = [(number % len(asked), asked[number % len(asked)]) for number in range(requests)]
        found: list[tuple[int, Told]] = []
        begun, used = time.perf_counter(), _processor_s(plan["server"])
        await asyncio.gather(*(_client(port, left, found) for _ in range(clients)))
        took, used = time.perf_counter() - begun, _processor_s(plan["server"]) - used
        told = [
            {"number": number, "text": one.text, "ids": len(one.ids), "times": one.times, "is_whole": one.is_done and bool(one.finish),
             "error": one.error} for number, one in found
        ]  # fmt: skip
        phases.append({"clients": clients, "seconds": took, "server_s": used, "told": told})
    for other in others:
        other.cancel()
    return phases


def _processor_s(process: int) -> float:
    import psutil

    times = psutil.Process(process).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Reads the plan, asks, tells what came."""
    import uvloop

    json.dump(uvloop.run(_run(json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main()
