"""Folders of benchmarks that were killed are removed by the next one, those of running ones are not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.chaos_ranks import KINDS, LAYOUTS, shares
from benchmarks.scratch import scratch_folder


def test_only_folders_of_processes_that_are_gone_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    stale, running, other = (
        tmp_path / f"agora-{name}-x1" for name in (f"chaos-{done.stdout.strip()}", f"chaos-{os.getppid()}", "chaos-mine")
    )
    for folder in (stale, running, other):
        (folder / "inside").mkdir(parents=True)
    with scratch_folder("chaos") as folder:
        assert folder.parent == tmp_path and not stale.exists() and running.exists() and other.exists()
    assert not folder.exists()


@pytest.mark.parametrize("count", [16, 30])
def test_every_layout_meets_every_kind_of_disturbance(count: int) -> None:
    found = shares(list(LAYOUTS), count, seed=1)
    assert sum(map(len, found.values())) == count and found.keys() == LAYOUTS.keys()
    assert all(set(kinds) == set(KINDS) for kinds in found.values())
