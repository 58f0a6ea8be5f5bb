"""Local servers that speak the real protocols: Jetstream (WebSocket, zstd) and Mastodon's streaming API (server-sent events, WebSocket)."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import zstandard
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

POST = "app.bsky.feed.post"
T0 = 1_700_000_000_000_000


def post_event(
    number: int, *, did: str = "did:plc:ann", operation: str = "create", text: str = "", rev: str = "", **record: Any
) -> dict[str, Any]:
    """A Jetstream event about post `number`, whose time is `number` seconds after T0."""
    commit: dict[str, Any] = {"rev": rev or f"{number:013d}", "operation": operation, "collection": POST, "rkey": f"k{number}"}
    if operation != "delete":
        commit["record"] = {"$type": POST, "text": text or f"text {number}", "createdAt": "2023-11-14T22:13:20Z", **record}
    return {"did": did, "time_us": T0 + number * 1_000_000, "kind": "commit", "commit": commit}


def uri(number: int, did: str = "did:plc:ann") -> str:
    return f"at://{did}/{POST}/k{number}"


def account_event(did: str, number: int) -> dict[str, Any]:
    account = {"active": False, "did": did, "seq": number, "time": "2023-11-14T22:13:20Z", "status": "deleted"}
    return {"did": did, "time_us": T0 + number * 1_000_000, "kind": "account", "account": account}


class Jetstream:
    """Replays `events` (or raw messages) from the cursor on, then stays open. `drop_after` cuts the connections after so many messages
    (the last number counts for all later ones; None never); `shuffle` swaps neighbours; `repeat` sends some twice; `wait` is called
    before each message."""

    def __init__(
        self, events: Sequence[Any], *, drop_after: Sequence[int | None] = (None,), shuffle: int = 1, repeat: float = 0.0,
        dictionary: bytes | None = None, wait: Callable[[int], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self.events, self.drop_after, self.shuffle, self.repeat, self.wait = list(events), drop_after, shuffle, repeat, wait
        self.paths: list[str] = []
        self.sent = 0
        self._random = random.Random(7)
        self._ending = threading.Event()
        self._compress: Any = None
        if dictionary is not None:
            self._compress = zstandard.ZstdCompressor(dict_data=zstandard.ZstdCompressionDict(dictionary)).compress

    def handle(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        number = len(self.paths)
        self.paths.append(connection.request.path)
        query = parse_qs(urlsplit(connection.request.path).query)
        cursor = int(query.get("cursor", ["0"])[0])
        compress = self._compress if query.get("compress") == ["true"] else None
        limit = self.drop_after[min(number, len(self.drop_after) - 1)]
        try:
            for sent, message in enumerate(self._order([e for e in self.events if _time(e) >= cursor and _wanted(e, query)])):
                if limit is not None and sent >= limit:
                    connection.socket.close()  # no closing handshake: the line is cut
                    return
                self.wait(self.sent)
                raw = message if isinstance(message, (str, bytes)) else json.dumps(message)
                connection.send(compress(raw.encode()) if compress and isinstance(raw, str) else raw)
                self.sent += 1
            while not self._ending.wait(0.05):
                if connection.protocol.state.name != "OPEN":
                    return
        except (ConnectionClosed, OSError):
            return

    def _order(self, events: list[Any]) -> Iterator[Any]:
        for start in range(0, len(events), self.shuffle):
            group = events[start : start + self.shuffle]
            group += [event for event in group if self._random.random() < self.repeat]
            self._random.shuffle(group) if self.shuffle > 1 else None
            yield from group

    @contextmanager
    def running(self) -> Iterator[str]:
        with _serving(self.handle) as port:
            try:
                yield f"ws://127.0.0.1:{port}/subscribe"
            finally:
                self._ending.set()


def _time(event: Any) -> int:
    return int(event["time_us"]) if isinstance(event, Mapping) and isinstance(event.get("time_us"), int) else 1 << 62


def _wanted(event: Any, query: Mapping[str, Sequence[str]]) -> bool:
    """As Jetstream filters: commits by collection; account and identity events always."""
    commit = event.get("commit") if isinstance(event, Mapping) else None
    collection = commit.get("collection") if isinstance(commit, Mapping) else None
    return collection is None or collection in query.get("wantedCollections", [collection])


@contextmanager
def _serving(handle: Callable[[ServerConnection], None], process: Any = None) -> Iterator[int]:
    server: Server = serve(handle, "127.0.0.1", 0, process_request=process, close_timeout=1)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()


def status(number: int, text: str = "", *, host: str = "m.example", **fields: Any) -> dict[str, Any]:
    """A status of Mastodon's API; `number` counts up and is shifted as the server's own numbers are."""
    return {
        "id": str(status_number(number)), "uri": f"https://{host}/users/ann/statuses/{number}",
        "created_at": "2024-03-05T09:30:00Z",
        "visibility": "public", "spoiler_text": "", "language": "en", "favourites_count": 2,
        "content": f"<p>{text or f'text {number}'}</p>",
        "account": {"id": "9", "acct": "ann", "uri": f"https://{host}/users/ann"}, **fields,
    }  # fmt: skip


def status_number(number: int) -> int:
    return (1_709_631_000_000 + number * 1000) << 16


class Mastodon:
    """Sends `messages` [(event, payload)] over both transports, a connection at a time, and answers the timeline with `timeline`.
    `cuts` are the places in `messages` where a connection is cut; the next one goes on after it: what was sent is never repeated."""

    def __init__(
        self, messages: Sequence[tuple[str, Any]], *, cuts: Sequence[int] = (), timeline: Sequence[Mapping[str, Any]] = (),
        token: str | None = None, redirect: str | None = None,
    ) -> None:  # fmt: skip
        self.messages, self.cuts, self.timeline, self.token, self.redirect = list(messages), list(cuts), list(timeline), token, redirect
        self.position = 0
        self.paths: list[str] = []
        self._ending = threading.Event()

    def page(self, path: str) -> bytes:
        query = parse_qs(urlsplit(path).query)
        after, limit = int(query["min_id"][0]), int(query["limit"][0])
        newer = sorted((s for s in self.timeline if int(s["id"]) > after), key=lambda s: int(s["id"]))[:limit]
        return json.dumps(newer[::-1]).encode()

    def refuses(self, authorization: str | None) -> bool:
        return self.token is not None and authorization != f"Bearer {self.token}"

    def play(self, send: Callable[[str, str], None]) -> None:
        """Send until the next cut or the end; then wait for the end of the test."""
        while self.position < len(self.messages):
            if self.cuts and self.position >= self.cuts[0]:
                self.cuts.pop(0)
                return
            name, payload = self.messages[self.position]
            self.position += 1
            send(name, payload if isinstance(payload, str) else json.dumps(payload))
        self._ending.wait(20)

    @contextmanager
    def server_events(self) -> Iterator[str]:
        mastodon = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mastodon.paths.append(self.path)
                if mastodon.redirect or mastodon.refuses(self.headers.get("Authorization")):
                    self.send_response(301 if mastodon.redirect else 401)
                    self.send_header("Location", mastodon.redirect or "")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                if self.path.startswith("/api/v1/timelines/"):
                    body = mastodon.page(self.path)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    return
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self._chunk(b":)\n")
                mastodon.play(lambda name, data: self._chunk(f":thump\nevent: {name}\ndata: {data}\n\n".encode()))
                self.close_connection = True

            def _chunk(self, data: bytes) -> None:
                for part in (data[: len(data) // 2], data[len(data) // 2 :]):  # events do not end where chunks end
                    if part:
                        self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
                        self.wfile.flush()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        with Quiet(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                self._ending.set()
                server.shutdown()
                thread.join()

    @contextmanager
    def websocket(self) -> Iterator[str]:
        def process(connection: ServerConnection, request: Request) -> Response | None:
            self.paths.append(request.path)
            if self.redirect:
                return Response(301, "Moved", Headers({"Location": self.redirect, "Content-Length": "0"}), b"")
            if self.refuses(request.headers.get("Authorization")):
                return Response(401, "Unauthorized", Headers({"Content-Length": "0"}), b"")
            if request.path.startswith("/api/v1/timelines/"):
                body = self.page(request.path)
                return Response(200, "OK", Headers({"Content-Length": str(len(body)), "Connection": "close"}), body)
            return None

        def handle(connection: ServerConnection) -> None:
            try:
                self.play(lambda name, data: connection.send(json.dumps({"stream": ["public"], "event": name, "payload": data})))
            except (ConnectionClosed, OSError):
                return

        with _serving(handle, process) as port:
            try:
                yield f"ws://127.0.0.1:{port}"
            finally:
                self._ending.set()


def at_times(base: float, speed: float, times_us: Sequence[int]) -> Callable[[int], None]:
    """Waits so that messages come when they came, `speed` times faster."""

    def wait(sent: int) -> None:
        if sent < len(times_us):
            time.sleep(max(0.0, base + (times_us[sent] - times_us[0]) / 1e6 / speed - time.monotonic()))

    return wait
