"""What the OpenAPI page promises, held against the application by schemathesis: no 500, no answer that the page does not describe."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import strategies as st

from agora.engine import LocalModel
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.tables import open_database
from agora.settings import Workspace

pytestmark = pytest.mark.slow
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
EXAMPLES = 8
GENERATED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
LEFT_OUT = r"/v1/(chat/completions|completions|responses)|/ask$|/deletions$"
"""Models are asked below, of a model that is there; searches and deletions have tests of their own."""


@pytest.fixture(scope="module", autouse=True)
def ended() -> Iterator[None]:
    """What the applications hold open, and the thread with an event loop in which schemathesis ran them, end with this file: else both
    stay until the process does, and whatever then drops that loop is blamed for it."""
    yield
    asgi = sys.modules.get("schemathesis.python.asgi")
    if asgi is not None:
        asgi._shutdown()


def application(tiny_model: LocalModel, square: Workspace, place: Path) -> FastAPI:
    gate = GateConfig(api_key="key", requests_per_minute=1_000_000)
    return create_app([tiny_model], gate=gate, database=open_database(place / "server.db"), place=square)


def test_the_api_keeps_to_its_page(tiny_model: LocalModel, square: Workspace, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks
    from schemathesis.python import asgi

    app = application(tiny_model, square, tmp_path)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    wanted = [getattr(checks, name, None) or checks.CHECKS.get_one(name) for name in CHECKS]
    asked = 0
    with asgi.get_client(app) as session:  # one application for all cases: without it each would open the index anew
        for result in schema.exclude(path_regex=LEFT_OUT).get_all_operations():
            operation = result.ok()

            @settings(max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                nonlocal asked
                asked += 1
                case.call_and_validate(checks=wanted, headers={"authorization": "Bearer key"}, timeout=120, session=session)

            ask()
    assert asked > 80


@pytest.mark.parametrize("path", GENERATED)
def test_whatever_a_model_is_asked_is_answered_or_refused_as_the_page_says(
    roomy_model: LocalModel, square: Workspace, tmp_path: Path, path: str
) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks
    from schemathesis.python import asgi

    app = application(roomy_model, square, tmp_path)
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path]["POST"]
    wanted = [getattr(checks, name, None) or checks.CHECKS.get_one(name) for name in CHECKS]
    codes = Counter[int]()
    limit = "max_output_tokens" if path.endswith("responses") else "max_tokens"
    with asgi.get_client(app) as session:

        @settings(max_examples=40, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(), tokens=st.integers(1, 3))
        def ask(case: Any, tokens: int) -> None:
            if isinstance(case.body, dict):  # of a model that is there, and short
                case.body.pop("max_completion_tokens", None)
                case.body |= {"model": "roomy", limit: tokens}
                for turn in case.body.get("messages", []) if tokens > 1 else []:  # most are turns that can be
                    turn |= {"role": "user" if turn["role"] == "tool" else turn["role"], "content": turn.get("content") or "x"}
                    turn.pop("tool_call_id", None), turn.pop("tool_calls", None)
            response = case.call_and_validate(checks=wanted, headers={"authorization": "Bearer key"}, timeout=120, session=session)
            codes[response.status_code] += 1

        ask()
    assert codes[200] and codes[400] and set(codes) <= {200, 400}, codes
