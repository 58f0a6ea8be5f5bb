"""Vectors of the embedded index that another process adds to while searches run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from agora.search.index import near
from agora.search.index.near import Near


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form from a few hundred vectors on."""
    for name, value in {"_CODE_FROM": 200, "_TAIL_ROWS": 50, "_EXACT_ROWS": 20, "_CANDIDATES": 10, "_CANDIDATES_PER_HIT": 2}.items():
        monkeypatch.setattr(near, name, value)


def some_vectors(count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    made = np.random.default_rng(seed).normal(size=(count, 12)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def test_a_reader_follows_vectors_and_their_short_form(tmp_path: Path) -> None:
    vectors = some_vectors(900, 0)
    writer, reader = Near(tmp_path, 12, 0), Near(tmp_path, 12, 0)
    for stop in (300, 340, 900):
        writer.append(vectors[writer.num_rows : stop])
        writer.sync()
        reader.follow(stop)
        writer.code()  # after the seal that a reader sees
        reader.follow(stop)
        assert (reader._codes is None) == (writer._codes is None) and reader._codes is not None
        assert writer._codes is not None and reader._codes.num_rows == writer._codes.num_rows
        for row in (0, stop - 1):
            found, scores = reader.search(vectors[row], np.ones(stop, np.bool_), 3)
            assert found[0] == row and scores[0] == pytest.approx(1, abs=0.02)
    writer.close()


def test_a_search_that_began_before_the_short_form_grew_ends_on_what_it_knew(tmp_path: Path) -> None:
    vectors = some_vectors(900, 1)
    writer = Near(tmp_path, 12, 0)
    writer.append(vectors)
    writer.sync()
    writer.code()
    found, _ = writer.search(vectors[850], np.ones(400, np.bool_), 5)
    assert len(found) == 5 and (found < 400).all()
    writer.close()
