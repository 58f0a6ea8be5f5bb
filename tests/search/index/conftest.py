"""An index of each backend, and a store to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from agora.posts.store import PostStore
from agora.search.index import PostIndex
from agora.search.index.embedded import EmbeddedIndex
from agora.search.index.milvus import MilvusIndex


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PostStore]:
    with PostStore.open(tmp_path / "posts", create=True) as opened:
        yield opened


def embedded(folder: Path) -> PostIndex:
    return EmbeddedIndex.open(folder)


def milvus(folder: Path) -> PostIndex:
    pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    folder.mkdir(exist_ok=True)
    return MilvusIndex.open(str(folder / "milvus.db"))


BACKENDS: Mapping[str, Callable[[Path], PostIndex]] = {"embedded": embedded, "milvus": milvus}


@pytest.fixture(params=sorted(BACKENDS))
def open_index(request: pytest.FixtureRequest) -> Callable[[Path], PostIndex]:
    """Opens an index of one of the backends in a folder."""
    return BACKENDS[request.param]


@pytest.fixture
def index(open_index: Callable[[Path], PostIndex], tmp_path: Path) -> Iterator[PostIndex]:
    opened = open_index(tmp_path / "index")
    yield opened
    opened.close()
