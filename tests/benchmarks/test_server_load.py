"""How server_load reads its streams."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.server_load import _figures, _problems, _times, _verdict
from benchmarks.server_load_clients import END, read, request_bytes


def event(text: str, *, id: str = "a", finish: str | None = None) -> bytes:
    return b"data: " + json.dumps({"id": id, "choices": [{"delta": {"content": text}, "finish_reason": finish}]}).encode() + b"\n\n"


def test_events_get_the_time_of_the_read_that_completed_them() -> None:
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + event("a") + event("b") + event("c", finish="stop") + b"data: [DONE]\n\n" + END
    cut = raw.index(b'"b"')
    told = read([(1.0, raw[:cut]), (3.0, raw[cut:])], begun=0.5)
    assert (told.text, told.times, told.finish, told.is_done, told.ids) == ("abc", [0.5, 2.5, 2.5], "stop", True, {"a"})
    assert read([(1.0, b"HTTP/1.1 429 Too Many\r\n\r\n{}")], 0.5).error and read([], 0.5).error
    body = json.loads(request_bytes({"seed": 1}).split(b"\r\n\r\n")[1])
    assert body["seed"] == 1 and body["stream"]


def test_lost_and_mixed_streams_are_seen_and_tokens_that_came_together_are_one_arrival() -> None:
    def told(**changes: Any) -> dict[str, Any]:
        good = {"number": 0, "text": "ab", "ids": 1, "is_whole": True, "error": "", "times": [0.1, 0.1, 0.12, 0.12]}
        return {**good, **changes}

    phase = {
        "clients": 2,
        "seconds": 1.0,
        "server_s": 0.5,
        "told": [told(), told(text="ba"), told(ids=2), told(is_whole=False), told(error="x")],
    }
    assert len(_problems(phase, {0: "ab"})) == 4
    found = _figures([phase], 2)
    assert (found["wait_p95_ms"], found["tokens"], found["first_p50_ms"]) == (20.0, 20, 100.0)
    assert 0 <= found["token_p50_ms"] < found["wait_p95_ms"]


def test_verdicts_name_the_bar_and_whether_it_holds() -> None:
    one, many = {"wait_p95_ms": 2.0, "token_p95_ms": 0.0}, {"wait_p95_ms": 6.0, "token_p95_ms": 1.0}
    assert _verdict("x", _times(many, one, "wait_p95_ms")).endswith("3.0 times (bar 3.0: holds)")
    assert _verdict("x", _times(many, one, "token_p95_ms")).endswith("inf times (bar 3.0: MISSED)")
