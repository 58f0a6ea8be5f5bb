"""What the OpenAPI page promises, held against the application by schemathesis: no 500, no answer that the page does not describe."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI

from agora.engine import LocalModel
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.server.tables import open_database
from agora.settings import Workspace

pytestmark = pytest.mark.slow
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
LEFT_OUT = r"/v1/(chat/completions|completions|responses)|/ask$|/deletions$"
"""Their answers take a model's or a search's time for each example, or delete; tests of their own ask them."""


def application(tiny_model: LocalModel, square: Workspace, place: Path) -> FastAPI:
    gate = GateConfig(api_key="key", requests_per_minute=1_000_000)
    return create_app([tiny_model], gate=gate, database=open_database(place / "server.db"), place=square)


def test_the_api_keeps_to_its_page(tiny_model: LocalModel, square: Workspace, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks

    schema = schemathesis.openapi.from_asgi("/openapi.json", application(tiny_model, square, tmp_path))
    wanted = [getattr(checks, name, None) or checks.CHECKS.get_one(name) for name in CHECKS]
    asked = 0
    for result in schema.exclude(path_regex=LEFT_OUT).get_all_operations():
        operation = result.ok()

        @settings(max_examples=4, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def ask(case: object) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(checks=wanted, headers={"authorization": "Bearer key"}, timeout=120)  # type: ignore[attr-defined]

        ask()
    assert asked > 80
