"""The benchmark of a GPU does not break while there is none."""

from __future__ import annotations

import pytest
import torch

from agora.errors import UsageError
from benchmarks import gpu_mfu

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@no_gpu
def test_without_a_gpu_it_says_so_and_measures_nothing() -> None:
    with pytest.raises(UsageError, match="there is none here"):
        gpu_mfu.run(False, {})


@no_gpu
@pytest.mark.slow
def test_every_way_goes_through_a_tiny_model_on_the_processor() -> None:
    what = gpu_mfu.task("cpu", quick=True)
    names = ["plain", "divided", "divided, compiled, float8 rowwise"]
    found = {name: gpu_mfu._process({**what, **gpu_mfu.WAYS[name]}) for name in names}
    assert not any("error" in row for row in found.values()), found
    losses = [row["loss"] for row in found.values()]
    assert max(losses) - min(losses) < 0.05 and all(row["share"] > 0 for row in found.values())


def test_a_way_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    what = gpu_mfu.task("cpu", quick=True)
    monkeypatch.setattr(gpu_mfu.sys, "executable", "/bin/false")
    assert gpu_mfu._process(what) == {"error": "exit code 1"}
