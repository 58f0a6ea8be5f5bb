"""What a process of many sets before it joins them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agora.errors import ConfigError
from agora.training import world

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("backend", "device"), [("cpu:gloo,cuda:nccl", "cuda:3"), ("nccl", "cuda:3"), ("gloo", "cpu")])
def test_on_gpus_sums_over_all_processes_are_nccls(backend: str, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_backend", lambda: backend)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert world.World(0, 2).device == torch.device(device)


def test_several_processes_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match=r"use training\.device=cuda"), world.joined_world("cuda:0"):
        pass


_MEMBERS = """
import os, resource
import torch.distributed as dist
from agora.training import world

def sockets():
    links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
    return sum("socket" in os.readlink(link) for link in links if os.path.islink(link))

world._FEW = 2
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, most))
with world.joined_world("cpu") as here:
    before = sockets()
    groups = [dist.new_group(backend="gloo") for _ in range(6)]
    opened = sockets() - before
    assert here.sum(1.0) == (3.0,) and here.from_first(here.rank) == 0 and here.first_text(str(here.rank)) == "0"
    for group in groups:
        told = [None] * 3
        dist.all_gather_object(told, here.rank, group=group)
        assert told == [0, 1, 2]
    here.wait()
    if here.is_first:
        print(opened, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - most)
"""


@pytest.mark.slow
def test_many_processes_are_connected_only_where_they_talk(tmp_path: Path) -> None:
    """gloo connects each with every other one, in each group: with thousands there would not be files enough."""
    program = tmp_path / "members.py"
    program.write_text(_MEMBERS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", str(program)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    opened, below_most = (int(number) for number in done.stdout.split())
    assert opened < 6 * 2 and below_most == 0  # less than a connection with each of two others in six groups
