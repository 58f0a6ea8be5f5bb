"""Many clients at once: how evenly their streams grow, and whether each gets its own answer, whole.

python -m benchmarks server_load [--quick] [--requests 1000] [--clients 32] [--pace-ms MS]

A server as `agora serve` runs it, with its database, in a process of its own; a 12M network of random weights, int8; every answer has up
to 64 tokens, drawn at temperature 1 with a seed: each text must be the one that the same request got alone, so that a mixed or lost piece
shows.
One client and many take turns, then the same among 200 idle and 50 slow clients. "Time between tokens" is read in two ways, both at the
95th percentile, many clients over one, and both must hold:
- arrivals (`value`): between two moments at which text came. The server writes to a stream at most every running.PACE_S, as screens show
  no more, and tokens that come together are one arrival. This is the server as it runs.
- tokens: between each token and the next, on a second server that writes a token as soon as it is drawn (`--pace-ms 0`). One client then
  has the network for itself, and a step of 32 rows takes several times as long as one of one row, for its arithmetic alone.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.registry import Benchmark, Result, whole_number

BAR: Final = 3.0
TOKENS: Final = 64
IDLE: Final = 200
SLOW: Final = 50
SLOW_TOKENS: Final = 400
KINDS: Final = 64
"""Different requests; each is asked many times."""
_SERVER: Final = """
import sys
from pathlib import Path
from agora.engine import BatchEngine, LocalModel, make_network
from agora.model.transformer import Transformer
from agora.server import running
from agora.server.gate import GateConfig
from agora.server.run import bind, serve_models
from agora.server.tables import open_database
from benchmarks.engine_peers import SHAPES, sized_tokenizer

folder, port, pace_ms = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if pace_ms:
    running.PACE_S = float(pace_ms) / 1000
shape = SHAPES["12M"]
network = make_network(Transformer(shape, seed=1).eval(), precision="int8", max_active=128)
model = LocalModel("bench", BatchEngine(network, sized_tokenizer(shape.vocab_size), max_active=128))
gate = GateConfig(is_open=True, requests_per_minute=10_000_000)
serve_models([model], bind("127.0.0.1", port), gate=gate, database=open_database(folder / "server.db"), ready=lambda: None)
"""


def _run(quick: bool, options: dict[str, str]) -> Result:
    requests = whole_number(options, "requests", 128 if quick else 1_000, at_least=8)
    clients = whole_number(options, "clients", 32, at_least=2)
    bodies = [
        {"messages": [{"role": "user", "content": f"question {number} of many"}], "seed": number, "max_tokens": TOKENS}
        for number in range(KINDS)
    ]
    alone = max(8, requests // 20)
    rounds = [[1, alone], [clients, requests // 2], [1, alone], [clients, requests - requests // 2]]
    among = [[1, alone], [clients, max(clients, requests // 4)]]
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), options.get("pace-ms", "")) as (port, server):
        plan = {"port": port, "server": server, "bodies": bodies, "idle": 0, "slow": 0, "slow_tokens": SLOW_TOKENS}
        expected = {told["number"]: told["text"] for told in _asked({**plan, "phases": [[1, KINDS]]})[0]["told"]}
        phases = _asked({**plan, "phases": rounds})
        crowded = _asked({**plan, "phases": among, "idle": IDLE, "slow": SLOW})
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder), "0") as (port, server):
        unpaced = _asked({**plan, "port": port, "server": server, "phases": [[1, alone], [clients, max(clients, requests // 4)]] * 2})
    asked = [*phases, *crowded, *unpaced]
    problems = [problem for phase in asked for problem in _problems(phase, expected)]
    one, many = _figures(phases, 1), _figures(phases, clients)
    crowd = _figures(crowded, clients)
    ratio, crowd_ratio = _times(many, one, "wait_p95_ms"), _times(crowd, one, "wait_p95_ms")
    at_once_one, at_once_many = _figures(unpaced, 1), _figures(unpaced, clients)
    token_ratio = _times(at_once_many, at_once_one, "token_p95_ms")
    verdicts = [
        _verdict(f"between arrivals, {clients} clients over one", ratio),
        _verdict(f"between arrivals, {clients} clients among 200 idle and 50 slow over one", crowd_ratio),
        _verdict(f"between tokens, each written as it is drawn, {clients} clients over one", token_ratio),
    ]
    details = {
        "verdicts": verdicts, "one_client": one, f"{clients}_clients": many, f"{clients}_among_200_idle_and_50_slow": crowd,
        "one_among_200_idle_and_50_slow": _figures(crowded, 1), "one_client_without_pace": at_once_one,
        f"{clients}_clients_without_pace": at_once_many, "requests": sum(len(phase["told"]) for phase in asked),
        "lost_or_mixed": len(problems), "problems": problems[:5],
        "pace_ms": options.get("pace-ms", "the server's own"),
    }  # fmt: skip
    print(json.dumps(details, indent=1))
    print(*verdicts, f"lost or mixed: {len(problems)} of {details['requests']} streams", sep="\n")
    return Result(value=ratio, holds=max(ratio, crowd_ratio, token_ratio) <= BAR and not problems, details=details)


def _times(many: dict[str, float], one: dict[str, float], name: str) -> float:
    """How many times as long. Infinite where one client's tokens all came together."""
    return round(many[name] / one[name], 2) if one[name] else float("inf")


def _verdict(what: str, ratio: float) -> str:
    return f"95th percentile {what}: {ratio} times (bar {BAR}: {'holds' if ratio <= BAR else 'MISSED'})"


def _problems(phase: dict[str, Any], expected: dict[int, str]) -> list[str]:
    """Streams that are not what the same request got alone."""
    found = []
    for told in phase["told"]:
        if told["error"] or not told["is_whole"]:
            found.append(f"request {told['number']} was lost: {told['error'] or 'it has no end'}")
        elif told["text"] != expected[told["number"]] or told["ids"] != 1:
            found.append(f"request {told['number']} got another text")
    return found


def _figures(phases: Sequence[dict[str, Any]], clients: int) -> dict[str, float]:
    """What the streams of so many clients were like, in milliseconds and tokens."""
    chosen = [phase for phase in phases if phase["clients"] == clients]
    times = [np.array(told["times"]) for phase in chosen for told in phase["told"] if told["times"]]
    gaps = np.concatenate([np.diff(one) for one in times]) * 1000
    waits = gaps[gaps > 0]
    first = np.array([one[0] for one in times]) * 1000
    tokens = sum(len(one) for one in times)
    return {
        "wait_p50_ms": _p(waits, 50), "wait_p95_ms": _p(waits, 95), "wait_max_ms": _p(waits, 100), "token_p50_ms": _p(gaps, 50),
        "token_p95_ms": _p(gaps, 95), "first_p50_ms": _p(first, 50), "first_p95_ms": _p(first, 95),
        "whole_p50_ms": _p(np.array([one[-1] for one in times]) * 1000, 50), "tokens": tokens,
        "tokens_per_s": round(tokens / sum(phase["seconds"] for phase in chosen)),
        "server_processor_us_per_token": round(1e6 * sum(phase["server_s"] for phase in chosen) / tokens),
    }  # fmt: skip


def _p(values: Any, percentile: int) -> float:
    return round(float(np.percentile(values, percentile)), 2) if len(values) else 0.0


def _asked(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """What the clients found."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.server_load_clients"], input=json.dumps(plan), stdout=subprocess.PIPE, text=True, timeout=280,
        check=True, env=_environment(),
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def _server(folder: Path, pace_ms: str) -> Iterator[tuple[int, int]]:
    """A running server; its port and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, "-c", _SERVER, str(folder), str(port), pace_ms], env=_environment())
    try:
        until = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except OSError:
                if time.monotonic() > until or process.poll() is not None:
                    raise
                time.sleep(0.2)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


BENCHMARK = Benchmark(
    measures=f"time between arrivals of text at the 95th percentile, many clients over one client, {TOKENS} tokens each from a 12M model; "
    "no stream lost or mixed, also among 200 idle and 50 slow clients",
    unit="x",
    bound=f"<= {BAR}",
    run=_run,
    options=("requests", "clients", "pace-ms"),
)
