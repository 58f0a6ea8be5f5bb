"""Kills that are aimed into a write land inside of one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.write_windows import Aim, Watch, drafts, kill_inside, watch_until_end

WRITER = """
import sys, time
from pathlib import Path
from agora.files import replacing
for number in range(4):
    with replacing(Path(sys.argv[1], "inner", f"file-{number}")) as part:
        part.write_text("half")
        time.sleep(0.3)
        part.write_text("whole")
    time.sleep(0.05)
"""


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[bytes]:
    (tmp_path / "inner").mkdir()
    return subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], start_new_session=True)


def test_every_write_is_seen_with_its_duration(writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert watch_until_end(writer, watch, 30) == 0
    assert len(watch.durations_s) == 4 and all(0.05 < seconds < 5 for seconds in watch.durations_s)
    assert not list(drafts(tmp_path))


@pytest.mark.parametrize("number", [0, 2])
def test_the_kill_lands_inside_the_aimed_write(writer: subprocess.Popen[bytes], tmp_path: Path, number: int) -> None:
    assert kill_inside(writer, Watch(tmp_path), Aim(number, 0.02), 30)
    [left] = [Path(path).name for path in drafts(tmp_path)]
    landed = int(left.removeprefix(".file-").partition(".")[0])
    assert left == f".file-{landed}.{writer.pid}-{landed}.part"
    assert landed >= number  # a later one only when this machine did not look in time
    assert [path.name for path in sorted((tmp_path / "inner").glob("file-*"))] == [f"file-{whole}" for whole in range(landed)]


def test_no_kill_when_the_process_makes_fewer_writes(writer: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert not kill_inside(writer, Watch(tmp_path), Aim(7, 0.0), 30)
