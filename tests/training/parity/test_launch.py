"""`agora train pretrain` alone and under torchrun: the same run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agora.settings import Workspace
from agora.training.metrics import read_metrics
from agora.training.rank_log import read_rank_logs
from tests.training.conftest import make_workspace

pytestmark = pytest.mark.parity

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = [
    "model.dim=32", "model.num_layers=2", "model.num_heads=2", "model.num_kv_heads=1", "model.head_dim=16", "model.hidden_dim=64",
    "model.max_seq_len=64", "training.steps=6", "training.batch_tokens=256", "training.micro_batch=2", "training.seq_len=32",
    "training.dtype=float32", "training.compile=off", "training.optimizer.name=adamw", "training.evaluate_every=3",
    "training.evaluate_tokens=320", "training.checkpoint_every_steps=3", "training.keep=2",
]  # fmt: skip


READER = """
import hashlib, json, os, runpy, sys
from agora.training.data import ShardBatches

take, out = ShardBatches.next, open(os.path.join(os.environ["READ_BY"], f"rank-{os.environ.get('RANK', '0')}.jsonl"), "a")

def watched(self):
    start, batch = self.position, take(self)
    tensors = (batch.tokens_BT, batch.targets_BT, batch.document_ids_BT)
    told = hashlib.sha256(b"".join(x.contiguous().numpy().tobytes() for x in tensors)).hexdigest()
    print(json.dumps([start, batch.tokens_BT.numel(), told]), file=out, flush=True)
    return batch

ShardBatches.next = watched
runpy.run_module("agora", run_name="__main__", alter_sys=True)
"""
"""`python -m agora` that writes down each micro-batch a process takes: where it starts, its tokens, and a hash of what it holds."""


def _read_together(workspace: Workspace, name: str) -> list[list[Any]]:
    """What all data ranks of a run took, in the order of the data. Stages of a pipeline are given the same; then each has all of it."""
    folder = workspace.root / "read" / name
    each = [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(folder.glob("rank-*.jsonl"))]
    if name == "stages":
        assert len(each) == 2 and each[0] == each[1]
        each = each[:1]
    return sorted(line for lines in each for line in lines)


def pretrain(workspace: Workspace, name: str, *words: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    read, reader = workspace.root / "read" / name, workspace.root / "reader.py"
    read.mkdir(parents=True, exist_ok=True)
    reader.write_text(READER)
    launcher = [sys.executable]
    if processes > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, str(reader), "train", "pretrain", "laptop", *SETTINGS, *words, "--name", name, "--workspace", str(workspace.root)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "READ_BY": str(read)}
    return subprocess.run([*command, "--json"], capture_output=True, text=True, env=environment, timeout=180, check=False)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, subprocess.CompletedProcess[str]]:
    """A workspace with the run `shards` of two processes, which both tests need."""
    workspace = make_workspace(tmp_path_factory.mktemp("launched") / "workspace")
    return workspace, pretrain(workspace, "shards", processes=2)


def test_under_torchrun_a_run_is_the_run_of_one_process(shards: tuple[Workspace, subprocess.CompletedProcess[str]]) -> None:
    workspace, first = shards
    one = pretrain(workspace, "one")
    assert one.returncode == 0, one.stderr
    expected = read_metrics(workspace.folder("runs", "one") / "metrics.jsonl")
    alone = _read_together(workspace, "one")
    assert [start for start, _, _ in alone] == list(range(0, 6 * 256, 64))  # 6 steps of 256 tokens, each taken once, none left out
    assert len({told for _, _, told in alone}) == len(alone)  # so that two batches cannot be taken for each other
    for name in ("shards", "stages"):
        two = first if name == "shards" else pretrain(workspace, name, "layout.pipeline=2", processes=2)
        assert two.returncode == 0, two.stderr
        assert json.loads(two.stdout)["state"] == "finished"  # the first rank speaks, and only it
        folder = workspace.folder("runs", name)
        for path in (folder, folder / "ranks" / "00001"):
            found = read_metrics(path / "metrics.jsonl")
            for key in ("loss", "grad_norm", "heldout_loss"):
                theirs, mine = ([line[key] for line in lines if line[key] is not None] for lines in (expected, found))
                assert mine == pytest.approx(theirs, rel=1e-5), key
        assert {path.name for path in (folder / "ranks" / "00001").iterdir()} == {"lock", "metrics.jsonl"}  # the rest is there once
        assert _read_together(workspace, name) == alone
        assert (workspace.folder("models", name) / "model.safetensors").exists()
        lines = [line for line in read_rank_logs(folder) if line["what"] == "step"]
        assert [[line["step"] for line in lines if line["rank"] == rank] for rank in (0, 1)] == [[*range(1, 7)]] * 2
        joules = sum(max(line["joules"] for line in lines if line["rank"] == rank) for rank in (0, 1))
        told = json.loads(two.stdout)
        assert "summed over 2 processes" in told["energy"] and told["joules"] == pytest.approx(joules, rel=0.2)
        assert all(0 < line["tokens_per_s"] * line["seconds"] <= 256 / 2 + 1 for line in lines)


def test_a_run_goes_on_under_another_layout_and_then_alone(shards: tuple[Workspace, subprocess.CompletedProcess[str]]) -> None:
    workspace, whole = shards
    assert whole.returncode == 0, whole.stderr
    folder = workspace.folder("runs", "cut")
    shutil.copytree(workspace.folder("runs", "shards"), folder)
    for path in sorted((folder / "checkpoints").iterdir())[-1:]:
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    again = pretrain(workspace, "cut", "layout.pipeline=2", "training.checkpoint_every_steps=5", processes=2)
    assert again.returncode == 0, again.stderr
    newest = sorted((folder / "checkpoints").iterdir())
    assert [path.name for path in newest] == ["step-00000005", "step-00000006"]
    shutil.rmtree(newest[-1])
    last = pretrain(workspace, "cut")
    assert last.returncode == 0, last.stderr
    losses = [[line["loss"] for line in read_metrics(workspace.folder("runs", name) / "metrics.jsonl")] for name in ("shards", "cut")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_layout_for_more_processes_is_refused_with_the_command(workspace: Workspace) -> None:
    done = pretrain(workspace, "alone", "layout.shard=2")
    assert done.returncode == 2 and "torchrun --nproc-per-node 2" in done.stderr
