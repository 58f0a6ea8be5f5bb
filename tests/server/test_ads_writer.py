"""Texts of ads by a real model: a small random network through our engine, in this process and through our own OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fastapi.responses import JSONResponse

from agora.ads.brief import Brand, Brief, Fact
from agora.ads.copywriting import Blocked, model_writer, trace, write_variants
from agora.ads.limits import excess, platforms_named
from agora.engine import Generator, LocalModel
from agora.engine.remote import RemoteModel
from agora.model import ModelConfig
from agora.model.transformer import Transformer
from agora.server.app import create_app
from agora.server.gate import GateConfig
from agora.tokenizer import Tokenizer

pytest.importorskip("llguidance")
FACTS = ("weighs 240 g", "for wet rock", "20% off until 30 June")
BRIEF = Brief(
    product="Lynx 2", brand=Brand(name="Norrland"), landing_page="https://a.example", languages=("en",), platforms=("google",),
    facts=tuple(Fact(id=f"fact{at}", text=text, source=f"brief.toml:{at}", language="en") for at, text in enumerate(FACTS)),
)  # fmt: skip


@pytest.fixture(scope="module")
def model(tiny_parts: tuple[Transformer, Tokenizer]) -> LocalModel:
    """A network that has learnt nothing, with room for a brief."""
    torch.manual_seed(3)
    tokenizer = tiny_parts[1]
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, hidden_dim=32, max_seq_len=4096
    )
    return LocalModel("untaught", Generator(Transformer(config).eval(), tokenizer))


def held_to_facts(copy: Any) -> bool:
    statements, chosen = BRIEF.statements("en"), platforms_named(BRIEF.platforms)
    return all(
        excess(text, name, chosen) is None and not any(isinstance(one, Blocked) for one in trace(text, statements, "en"))
        for name, text in copy.texts().items()
    )


@pytest.fixture(autouse=True)
def one_free_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short try in free words, and the last one."""
    monkeypatch.setattr(model_writer, "ATTEMPTS", 2)
    monkeypatch.setattr(model_writer, "_MAX_TOKENS", 80)


@pytest.mark.slow
def test_a_real_model_under_constraints_writes_traceable_texts_within_the_limits(model: LocalModel) -> None:
    written = write_variants(BRIEF, None, writer=model, num_variants=1, seed=1)
    assert [copy.written_by for copy in written.copies] == ["untaught"], written.blocked
    assert held_to_facts(written.copies[0])


def test_the_same_model_let_loose_is_blocked_with_the_reason(model: LocalModel) -> None:
    author = model_writer.ModelWriter(model, BRIEF, "en", (), platforms_named(BRIEF.platforms), is_constrained=False)
    said = author.texts(1)
    assert isinstance(said, Blocked) and said.field == "headline" and said.reason


@pytest.mark.slow
def test_our_own_server_holds_the_same_model_to_the_facts(model: LocalModel, run_app: Callable[[Any], Any]) -> None:
    with run_app(create_app([model], gate=GateConfig(is_open=True))) as address:
        written = write_variants(BRIEF, None, writer=RemoteModel(f"{address}/v1", "untaught"), num_variants=1, seed=1)
    assert [copy.written_by for copy in written.copies] == ["untaught"], written.blocked
    assert held_to_facts(written.copies[0])


def test_an_endpoint_that_knows_no_schema_is_asked_without_and_what_it_makes_up_is_blocked(
    model: LocalModel, run_app: Callable[[Any], Any]
) -> None:
    app = create_app([model], gate=GateConfig(is_open=True))

    @app.middleware("http")
    async def refuse_schemas(request: Any, go_on: Any) -> Any:
        if b"response_format" in await request.body():
            return JSONResponse({"error": {"message": "unknown field", "param": "response_format"}}, 400)
        return await go_on(request)

    with run_app(app) as address:
        written = write_variants(BRIEF, None, writer=RemoteModel(f"{address}/v1", "untaught"), num_variants=1)
    assert not written.copies and written.blocked[0].field == "headline" and written.blocked[0].reason
