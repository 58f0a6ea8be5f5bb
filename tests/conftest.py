"""Fixtures of the whole suite. Tests need no network; those marked `shared` need the development data beside the checkout."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from agora.model.transformer import Transformer
    from agora.tokenizer import Tokenizer

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors, and pytest-xdist already fills the cores

# Shared machines stall for seconds: how long one example takes says nothing about the code.
settings.register_profile("agora", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agora")

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: begun last, one would keep a worker busy while the others wait."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data; the test is skipped, saying so, where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the development data at {SHARED_DATA} (not part of the repository)")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def _no_workspace_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGORA_WORKSPACE", raising=False)
    monkeypatch.delenv("AGORA_LOG", raising=False)


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real PostgreSQL of the tests' own, which listens on a socket in a folder and on no port."""
    pgserver = pytest.importorskip("pgserver", reason="needs a PostgreSQL: pip install pgserver")
    pg_ctl = pgserver.postgres_server.pg_ctl
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # it says so when there is no runtime folder
        # pgserver gives a start ten seconds; a busy machine may need more
        patch.setattr(pgserver.postgres_server, "pg_ctl", lambda *given, **more: pg_ctl(*given, **{**more, "timeout": 120}))
        server = pgserver.get_server(tmp_path_factory.mktemp("postgresql"))
    yield server
    server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: Any) -> str:
    """An empty database."""
    name = f"d{uuid.uuid4().hex}"
    postgresql_server.psql(f"CREATE DATABASE {name};")
    return str(postgresql_server.get_uri(name)).replace("postgresql://", "postgresql+psycopg://", 1)


TINY_TEXTS = [
    "The harvest festival begins at noon in the old square; bring bread and music.",
    "Rain again. The trains are late, and nobody at the station knows why.",
    "Did anyone see the match? What a goal in the last minute! ⚽🎉 Привет, мир! こんにちは",
] * 4


@pytest.fixture(scope="session")
def tiny_parts() -> tuple[Transformer, Tokenizer]:
    """A random small network (context of 128 tokens) and a tokenizer of its size. Not trained; do not change it."""
    from agora.model import ModelConfig
    from agora.model.transformer import Transformer
    from agora.tokenizer import Tokenizer

    tokenizer = Tokenizer.train(TINY_TEXTS, vocab_size=320)
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, hidden_dim=64, max_seq_len=128,
        init_std=0.3,
    )  # fmt: skip
    return Transformer(config, seed=3).eval(), tokenizer


@pytest.fixture(scope="session")
def tiny_workspace(tiny_parts: tuple[Transformer, Tokenizer], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose models folder holds `tiny`; do not write into it."""
    from agora.model.hf import save_hf

    model, tokenizer = tiny_parts
    root = tmp_path_factory.mktemp("tiny")
    tokenizer.save(root / "tokenizer" / "tiny")
    save_hf(model, root / "models" / "tiny", tokenizer_dir=root / "tokenizer" / "tiny", model_card=None)
    return root
